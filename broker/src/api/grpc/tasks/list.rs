//! Listing tasks, page by page.

use tq_core::TaskId;
use tq_core::limits::LIST_SCAN_MAX;
use tq_proto::v1;

use crate::api::grpc::convert;
use crate::api::grpc::reads::Reads;
use crate::api::status::ApiError;
use crate::store::{Direction, Space};
use crate::tables::{key, row};

impl Reads {
    /// A page of tasks, the newest first, and where the next one begins. It looks at a bounded number of rows.
    pub(super) fn list(
        &self,
        state: v1::TaskState,
        limit: usize,
        before: Option<TaskId>,
    ) -> Result<(Vec<v1::Task>, Option<TaskId>), ApiError> {
        let Some(namespace) = self.namespace else {
            return Ok((Vec::new(), None));
        };
        let mut from = match before {
            // The cursor is the last task of the page before, so that this one begins after it.
            Some(id) => match u128::from_be_bytes(id.0).checked_sub(1) {
                Some(id) => key::call(namespace, TaskId(id.to_be_bytes())).bytes,
                None => return Ok((Vec::new(), None)),
            },
            None => key::call(namespace, TaskId([u8::MAX; 16])).bytes,
        };
        let mut tasks = Vec::new();
        let mut last = None;
        let mut looked = 0;
        while looked < LIST_SCAN_MAX {
            let page = (limit - tasks.len()).clamp(16, 1_000);
            let pairs = self.store.scan(
                Space::Calls,
                &key::tasks(namespace),
                &from,
                Direction::Descending,
                page,
            )?;
            let claims: Vec<_> = pairs
                .iter()
                .map(|pair| self.shared.claim(key::task_of(&pair.key)?.1))
                .collect();
            let records = row::with_states::<ApiError>(&*self.store, &pairs)?;
            for (record, claim) in records.into_iter().zip(claims) {
                let record = record.claimed(claim);
                let (task, gone) = (record.task, record.beside.result_gone);
                last = Some(task.id);
                if state == v1::TaskState::Unspecified || state == convert::state_out(&task.state) {
                    tasks.push(v1::Task {
                        result_expired_ms: gone.map_or(0, |at| at.0),
                        ..convert::task_out(&task)
                    });
                    if tasks.len() == limit {
                        return Ok((tasks, last));
                    }
                }
            }
            looked += pairs.len();
            let next = last.and_then(|id| u128::from_be_bytes(id.0).checked_sub(1));
            match next {
                Some(next) if pairs.len() == page => {
                    from = key::call(namespace, TaskId(next.to_be_bytes())).bytes
                }
                Some(_) | None => return Ok((tasks, None)),
            }
        }
        Ok((tasks, last))
    }
}
