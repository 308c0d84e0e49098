//! What changes a task that is there, or gives it another round.

use futures_util::StreamExt as _;
use tonic::{Response, Status};
use tq_core::label::Labels;
use tq_core::limits::CHANGES_AT_ONCE;
use tq_core::task::Task;
use tq_core::transition::Amendment;
use tq_core::{TaskId, Timestamp};
use tq_proto::v1;

use super::Tasks;
use super::times::{not_too_far, run_at};
use crate::access::Caller;
use crate::api::grpc::convert;
use crate::api::status::{ApiError, invalid};
use crate::ledger::{Command, Refused, Seen, Target, wall};

impl Tasks {
    /// Changes what a request names: a priority, a time, a deadline or labels.
    pub(super) async fn amend(
        &self,
        caller: &Caller,
        request: v1::UpdateTaskRequest,
    ) -> Result<Response<v1::Task>, Status> {
        let v1::UpdateTaskRequest {
            namespace,
            id,
            priority,
            run_at_ms,
            delay_ms,
            deadline_ms,
            required_labels,
            preferred_labels,
        } = request;
        let namespace = caller.namespace(namespace)?;
        let now = wall();
        let deadline = deadline_ms.map(|at| (at > 0).then_some(Timestamp(at)));
        not_too_far("deadline", deadline.flatten(), now)?;
        let labels = |labels: Option<v1::Labels>| {
            let labels = labels.map(|it| convert::labels(&Labels::default(), &it.labels));
            labels.transpose()
        };
        let amendment = Amendment {
            priority: priority.map(convert::priority).transpose()?,
            run_at: run_at(run_at_ms, delay_ms, now)?,
            deadline,
            required: labels(required_labels)?,
            preferred: labels(preferred_labels)?,
        };
        if amendment == Amendment::default() {
            return Err(invalid(
                "nothing is to be changed; name a priority, a time, a deadline or labels",
            ));
        }
        let command = |target| Command::Amend(Box::new(amendment), target);
        self.change(caller, namespace, &id, command).await
    }

    /// Gives the ledger a command for each of some tasks, and returns what became of those for which it could be done. Others, which
    /// changed since they were found, stay as they are.
    pub(super) async fn change_each(
        &self,
        namespace: &str,
        tasks: impl IntoIterator<Item = (TaskId, Option<Seen>)>,
        command: impl Fn(Target) -> Command,
    ) -> Result<Vec<Task>, Status> {
        let command = &command;
        let changes = tasks.into_iter().map(|(id, seen)| {
            self.0.ledger.ask(move |reply| {
                command(Target {
                    namespace: namespace.to_owned(),
                    id,
                    seen,
                    reply,
                })
            })
        });
        let mut changing = futures_util::stream::iter(changes).buffer_unordered(CHANGES_AT_ONCE);
        let mut changed = Vec::new();
        while let Some(task) = changing.next().await {
            match task.map_err(ApiError::from)? {
                Ok(task) => changed.push(task),
                Err(refused) if is_of_task(&refused) => {
                    tracing::debug!(%refused, "a task stays as it is");
                }
                Err(refused) => return Err(ApiError::from(refused).into()),
            }
        }
        Ok(changed)
    }

    /// Gives the ledger a command for one task, and returns what became of the task.
    pub(super) async fn change(
        &self,
        caller: &Caller,
        namespace: String,
        id: &str,
        command: impl FnOnce(Target) -> Command,
    ) -> Result<Response<v1::Task>, Status> {
        caller.is_about("task", id);
        let id = convert::task_id(id)?;
        let task = self
            .0
            .ledger
            .ask(|reply| {
                command(Target {
                    namespace,
                    id,
                    seen: None,
                    reply,
                })
            })
            .await
            .map_err(ApiError::from)?;
        Ok(Response::new(convert::task_out(
            &task.map_err(ApiError::from)?,
        )))
    }
}

/// Whether it concerns one task, and says nothing of the others.
fn is_of_task(refused: &Refused) -> bool {
    matches!(
        refused,
        Refused::Rejected(_)
            | Refused::NoTask { .. }
            | Refused::Unknown(_)
            | Refused::NotEnded { .. }
            | Refused::NoQueue { .. }
    )
}
