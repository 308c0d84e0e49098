//! Looking for tasks, from the newest to the oldest.

use tq_core::limits::LIST_SCAN_MAX;
use tq_core::{TaskId, Timestamp};

use crate::api::grpc::reads::Reads;
use crate::api::status::ApiError;
use crate::search::newest_id;
use crate::store::{Direction, Space};
use crate::tables::row::Record;
use crate::tables::{key, row};

/// What was found, and where to go on.
pub(super) type Page<T> = (Vec<T>, Option<TaskId>);

impl Reads {
    /// What `take` makes of tasks, from the first one before a cursor on, at most `max`; and where to go on. It looks at a
    /// bounded number of rows.
    pub(super) fn scan<T>(
        &self,
        before: Option<TaskId>,
        max: usize,
        mut take: impl FnMut(Record) -> Option<T>,
    ) -> Result<Page<T>, ApiError> {
        let Some(namespace) = self.namespace else {
            return Ok((Vec::new(), None));
        };
        let mut last = before.unwrap_or(TaskId([u8::MAX; 16]));
        let mut found = Vec::new();
        let mut looked = 0;
        while looked < LIST_SCAN_MAX {
            let Some(from) = u128::from_be_bytes(last.0).checked_sub(1) else {
                return Ok((found, None));
            };
            let page = (max - found.len()).clamp(16, 1_000);
            let pairs = self.store.scan(
                Space::Calls,
                &key::tasks(namespace),
                &key::call(namespace, TaskId(from.to_be_bytes())).bytes,
                Direction::Descending,
                page,
            )?;
            looked += pairs.len();
            let is_last = pairs.len() < page;
            let claims: Vec<_> = pairs
                .iter()
                .map(|pair| self.shared.claim(key::task_of(&pair.key)?.1))
                .collect();
            let records = row::with_states::<ApiError>(&*self.store, &pairs)?;
            for (record, claim) in records.into_iter().zip(claims) {
                last = record.task.id;
                found.extend(take(record.claimed(claim)));
                if found.len() == max {
                    return Ok((found, Some(last)));
                }
            }
            if is_last {
                return Ok((found, None));
            }
        }
        Ok((found, Some(last)))
    }
}

/// A cursor that leaves out what was submitted after a time, if one is given.
pub(super) fn until(at: Option<Timestamp>, cursor: Option<TaskId>) -> Option<TaskId> {
    cursor.into_iter().chain(at.map(newest_id)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id is given when the ledger takes a task in, which may be a while after it was received.
    #[test]
    fn what_was_submitted_before_a_time_is_behind_its_cursor() {
        let at = Timestamp(1_900_000_000_000);
        let taken_in = Timestamp(at.0 + 59_000);
        let mut id = [0; 16];
        id[..6].copy_from_slice(&taken_in.0.to_be_bytes()[2..]);
        let cursor = until(Some(at), None).expect("there is one");
        assert!(TaskId(id) < cursor);
        assert_eq!(until(Some(at), Some(TaskId(id))), Some(TaskId(id)));
        assert_eq!(until(None, None), None);
    }
}
