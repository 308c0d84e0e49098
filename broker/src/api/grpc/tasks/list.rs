//! Listing tasks, page by page.

use tq_core::TaskId;
use tq_proto::v1;

use super::scan::Page;
use crate::api::grpc::convert;
use crate::api::grpc::reads::Reads;
use crate::api::status::ApiError;

impl Reads {
    /// A page of tasks, the newest first, and where the next one begins. It looks at a bounded number of rows.
    pub(super) fn list(
        &self,
        state: v1::TaskState,
        limit: usize,
        before: Option<TaskId>,
    ) -> Result<Page<v1::Task>, ApiError> {
        self.scan(before, limit, |record| {
            let (task, gone) = (record.task, record.beside.result_gone);
            convert::is_in(state, &task.state).then(|| v1::Task {
                result_expired_ms: gone.map_or(0, |at| at.0),
                ..convert::task_out(&task)
            })
        })
    }
}
