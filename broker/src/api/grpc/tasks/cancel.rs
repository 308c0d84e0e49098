//! Cancelling tasks that match a filter.

use tonic::{Response, Status};
use tq_core::limits::{CANCEL_BATCH_MAX, NAME_BYTES_MAX};
use tq_core::task::Task;
use tq_core::{TaskId, Timestamp};
use tq_proto::v1;

use super::Tasks;
use super::scan::until;
use crate::access::Caller;
use crate::api::grpc::blocking::blocking;
use crate::api::grpc::convert;
use crate::api::grpc::function_filter::FunctionFilter;
use crate::api::grpc::request::over;
use crate::api::status::{ApiError, invalid};
use crate::ledger::Command;

/// Which tasks are to be cancelled.
struct Filter {
    state: v1::TaskState,
    function: FunctionFilter,
    queue: String,
    submitted_before: Option<Timestamp>,
}

impl Filter {
    fn takes(&self, task: &Task) -> bool {
        let Self {
            state,
            function,
            queue,
            submitted_before,
        } = self;
        !task.state.is_terminal()
            && convert::is_in(*state, &task.state)
            && function.takes(task)
            && (queue.is_empty() || queue == task.spec.placement.queue())
            && submitted_before.is_none_or(|before| task.spec.submitted_at < before)
    }
}

impl Tasks {
    /// Cancels those that match, as many as one request may; or only counts them.
    pub(super) async fn cancel_matching(
        &self,
        caller: &Caller,
        request: v1::CancelTasksRequest,
    ) -> Result<Response<v1::CancelTasksResponse>, Status> {
        let v1::CancelTasksRequest {
            namespace,
            state,
            function,
            queue,
            submitted_before_ms,
            dry_run,
            cursor,
        } = request;
        let namespace = caller.namespace(namespace)?;
        let state = convert::state_in(state)?;
        if matches!(
            state,
            v1::TaskState::Succeeded
                | v1::TaskState::Dead
                | v1::TaskState::Cancelled
                | v1::TaskState::Expired
        ) {
            return Err(invalid(
                "only tasks that have not ended can be cancelled: blocked, scheduled, ready or running ones",
            ));
        }
        over("queue", queue.len(), NAME_BYTES_MAX)?;
        let filter = Filter {
            state,
            function: FunctionFilter::new("tasks", &function)?,
            queue,
            submitted_before: submitted_before_ms.map(Timestamp),
        };
        let before = until(filter.submitted_before, convert::cursor(&cursor)?);
        let reads = self.reads(&namespace);
        let found = move || {
            reads.scan(before, CANCEL_BATCH_MAX, |record| {
                let task = record.task;
                filter
                    .takes(&task)
                    .then(|| (task.id, task.lease().is_some()))
            })
        };
        let (matching, next) = blocking(found).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        let runs = match dry_run {
            true => matching.into_iter().map(|(_, runs)| runs).collect(),
            false => self.cancel_all(&namespace, matching).await?,
        };
        let count = |which: bool| runs.iter().filter(|runs| **runs == which).count();
        Ok(Response::new(v1::CancelTasksResponse {
            cancelled: u32::try_from(count(false)).unwrap_or(u32::MAX),
            stopping: u32::try_from(count(true)).unwrap_or(u32::MAX),
            next: next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    /// Cancels tasks, and returns of each that had not ended whether it runs.
    async fn cancel_all(
        &self,
        namespace: &str,
        tasks: Vec<(TaskId, bool)>,
    ) -> Result<Vec<bool>, Status> {
        let ids = tasks.into_iter().map(|(id, _)| (id, None));
        let cancelled = self.change_each(namespace, ids, Command::Cancel).await?;
        Ok(cancelled
            .iter()
            .map(|task| task.lease().is_some())
            .collect())
    }
}
