//! Removing tasks that have ended.

use tonic::{Response, Status};
use tq_core::limits::DELETE_BATCH_MAX;
use tq_core::task::{State, Task};
use tq_core::{TaskId, Timestamp};
use tq_proto::v1;

use super::Tasks;
use super::scan::{Page, until};
use crate::access::Caller;
use crate::api::grpc::blocking::blocking;
use crate::api::grpc::convert;
use crate::api::grpc::function_filter::FunctionFilter;
use crate::api::grpc::reads::Reads;
use crate::api::status::{ApiError, invalid};
use crate::ledger::{Command, Delete, Doomed};

impl Tasks {
    /// Removes those that match, as many as one request may; or only counts them.
    pub(super) async fn delete_matching(
        &self,
        caller: &Caller,
        request: v1::DeleteTasksRequest,
    ) -> Result<Response<v1::DeleteTasksResponse>, Status> {
        let v1::DeleteTasksRequest {
            namespace,
            state,
            function,
            ended_before_ms,
            dry_run,
            cursor,
        } = request;
        let namespace = caller.namespace(namespace)?;
        let state = convert::state_in(state)?;
        let filter = Filter::new(state, function, ended_before_ms)?;
        let before = convert::cursor(&cursor)?;
        let reads = self.reads(&namespace);
        let (matching, next) = blocking(move || reads.ended_like(&filter, before)).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        let deleted = match dry_run || matching.is_empty() {
            true => matching.len(),
            false => self.delete(namespace, Doomed::As(matching)).await?,
        };
        Ok(Response::new(v1::DeleteTasksResponse {
            deleted: u32::try_from(deleted).unwrap_or(u32::MAX),
            next: next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    /// Removes tasks, and returns how many.
    pub(super) async fn delete(&self, namespace: String, tasks: Doomed) -> Result<usize, Status> {
        let ask = self.0.ledger.ask(|reply| {
            Command::Delete(Delete {
                namespace,
                tasks,
                reply,
            })
        });
        let deleted = ask.await.map_err(ApiError::from)?;
        Ok(deleted.map_err(ApiError::from)?)
    }
}

/// Which ended tasks a request is about.
pub(in super::super) struct Filter {
    state: v1::TaskState,
    function: FunctionFilter,
    ended_before: Option<Timestamp>,
}

impl Filter {
    pub(in super::super) fn new(
        state: v1::TaskState,
        function: String,
        ended_before_ms: Option<u64>,
    ) -> Result<Self, Status> {
        match state {
            v1::TaskState::Unspecified
            | v1::TaskState::Succeeded
            | v1::TaskState::Dead
            | v1::TaskState::Cancelled
            | v1::TaskState::Expired => {}
            v1::TaskState::Blocked
            | v1::TaskState::Scheduled
            | v1::TaskState::Ready
            | v1::TaskState::Running => {
                return Err(invalid(format_args!(
                    "state is `{}`: only tasks that have ended can be deleted, which are succeeded, dead, cancelled \
                     or expired; cancel the others first",
                    state
                        .as_str_name()
                        .trim_start_matches("TASK_STATE_")
                        .to_lowercase()
                )));
            }
        }
        Ok(Self {
            state,
            function: FunctionFilter::new("ended tasks", &function)?,
            ended_before: ended_before_ms.map(Timestamp),
        })
    }

    fn takes(&self, task: &Task) -> bool {
        let Self {
            state,
            function,
            ended_before,
        } = self;
        task.state.ended_at().is_some_and(|at| {
            convert::is_in(*state, &task.state)
                && function.takes(task)
                && ended_before.is_none_or(|before| at < before)
        })
    }
}

impl Reads {
    /// Tasks that a filter takes, the newest first, as many as one request may remove; and where to go on. It looks at a
    /// bounded number of rows.
    fn ended_like(
        &self,
        filter: &Filter,
        before: Option<TaskId>,
    ) -> Result<Page<(TaskId, State)>, ApiError> {
        // A task's end is after its submit, so that what is newer needs no look.
        let before = until(filter.ended_before, before);
        self.scan(before, DELETE_BATCH_MAX, |record| {
            let task = record.task;
            filter.takes(&task).then_some((task.id, task.state))
        })
    }
}
