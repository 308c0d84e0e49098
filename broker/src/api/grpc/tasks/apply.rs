//! Doing one thing to all tasks that a search finds.
//!
//! Which they are is settled when it begins: what is submitted or ends afterwards is not among them. So whoever lost an
//! answer makes the same call again, and nothing is done twice: what was done to a task took it out of the filter.

use tonic::Status;
use tq_core::limits::APPLY_BATCH_MAX;
use tq_core::task::Task;
use tq_core::transition::Amendment;
use tq_core::{Priority, Timestamp};
use tq_proto::v1;

use super::Tasks;
use super::list::read;
use crate::access::Caller;
use crate::api::grpc::convert;
use crate::api::status::invalid;
use crate::ledger::{Command, Doomed, Seen, Target};
use crate::search::{Asked, Filter, States};

/// What is done to tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// To one after the other.
    Each(Change),
    /// They are removed, many at once.
    Delete,
}

/// What is done to one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Cancel,
    Retry,
    Redrive,
    Reprioritise(Priority),
}

impl Action {
    fn of(request: &v1::ApplyToTasksRequest) -> Result<Self, Status> {
        let action = v1::TaskAction::try_from(request.action)
            .map_err(|_| invalid(format_args!("action {} is not one", request.action)))?;
        let change = match (action, request.priority) {
            (v1::TaskAction::Reprioritise, Some(priority)) => {
                Change::Reprioritise(convert::priority(priority)?)
            }
            (v1::TaskAction::Reprioritise, None) => {
                return Err(invalid("priority is absent; it is 0 to 255"));
            }
            (v1::TaskAction::Unspecified, _) => {
                return Err(invalid(
                    "action is absent; it is cancel, retry, redrive, reprioritise or delete",
                ));
            }
            (_, Some(_)) => {
                return Err(invalid(
                    "priority is given for an action that takes none; it goes with reprioritise",
                ));
            }
            (v1::TaskAction::Cancel, None) => Change::Cancel,
            (v1::TaskAction::Retry, None) => Change::Retry,
            (v1::TaskAction::Redrive, None) => Change::Redrive,
            (v1::TaskAction::Delete, None) => return Ok(Self::Delete),
        };
        Ok(Self::Each(change))
    }

    /// The states of tasks that it can be done to.
    fn states(self) -> States {
        match self {
            Self::Each(Change::Cancel | Change::Reprioritise(_)) => States::OPEN,
            Self::Each(Change::Retry) => States::SCHEDULED,
            Self::Each(Change::Redrive) => States::UNSUCCESSFUL,
            Self::Delete => States::ENDED,
        }
    }

    /// Whether something is left to do to a task that is in such a state: it may have been done to it already.
    fn is_due(self, task: &Task, begun: Timestamp) -> bool {
        match self {
            Self::Each(Change::Reprioritise(priority)) => task.spec.priority != priority,
            // It may have failed once more since.
            Self::Each(Change::Retry) => {
                let last = task.attempts.last();
                last.is_none_or(|last| last.ended_at < begun)
            }
            Self::Each(Change::Cancel | Change::Redrive) | Self::Delete => true,
        }
    }
}

impl Change {
    /// Whether a task that it was done to may soon be in such a state again, where the same call, made again meanwhile, would find
    /// it. A task that only began to run is still to be cancelled.
    fn is_once(self) -> bool {
        match self {
            Self::Retry | Self::Redrive => true,
            Self::Cancel | Self::Reprioritise(_) => false,
        }
    }

    fn command(self, begun: Timestamp, target: Target) -> Command {
        let amendment = match self {
            Self::Cancel => return Command::Cancel(target),
            Self::Redrive => return Command::Redrive(target),
            Self::Retry => Amendment {
                // What is over is at once.
                run_at: Some(begun),
                ..Amendment::default()
            },
            Self::Reprioritise(priority) => Amendment {
                priority: Some(priority),
                ..Amendment::default()
            },
        };
        Command::Amend(Box::new(amendment), target)
    }
}

impl Tasks {
    /// Does it to as many as one request may, or only counts them.
    pub(super) async fn apply(
        &self,
        caller: &Caller,
        request: v1::ApplyToTasksRequest,
    ) -> Result<v1::ApplyToTasksResponse, Status> {
        let namespace = caller.namespace(request.namespace.clone())?;
        let action = Action::of(&request)?;
        let v1::ApplyToTasksRequest {
            namespace: _,
            filter,
            preset,
            action: named,
            priority: _,
            dry_run,
            cursor,
            as_of_ms,
        } = request;
        if filter.trim().is_empty() && preset.is_empty() {
            return Err(invalid(
                "filter and preset are both empty; name the tasks, such as `module = mail`, or all of them by `state IN (open, ended)`",
            ));
        }
        let has_ended = action.states().is_within(States::ENDED);
        let asked = Asked {
            filter: &filter,
            preset: &preset,
            // Not the preset's, which may need a pass over all that there is.
            sort: if has_ended { "ended" } else { "submitted" },
            action: named,
        };
        let narrow = |begun| {
            let bound = match has_ended {
                true => Filter::ended_before(begun),
                false => Filter::submitted_before(begun),
            };
            Filter::of_states(action.states()).and(bound)
        };
        let now = self.now();
        let as_of = as_of_ms.map_or(now, |ms| now.min(Timestamp(ms)));
        let (search, cursor) = read(&asked, narrow, &cursor, as_of)?;
        let begun = search.now();
        let page = self
            .0
            .search(&namespace, search, cursor, APPLY_BATCH_MAX, |page| page);
        let page = page.await?;
        let tasks = page.found.into_iter().map(|found| found.task);
        let due: Vec<_> = tasks.filter(|task| action.is_due(task, begun)).collect();
        let found = due.len();
        let applied = match (dry_run, action) {
            (true, _) => found,
            (false, Action::Delete) => {
                let doomed = due.into_iter().map(|task| (task.id, task.state));
                let doomed = doomed.collect::<Vec<_>>();
                match doomed.is_empty() {
                    true => 0,
                    false => self.delete(namespace, Doomed::As(doomed)).await?,
                }
            }
            (false, Action::Each(change)) => {
                let due = due.into_iter().map(|task| {
                    let seen = change.is_once().then(|| Seen::of(&task));
                    (task.id, seen)
                });
                let command = |target| change.command(begun, target);
                self.change_each(&namespace, due, command).await?.len()
            }
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(v1::ApplyToTasksResponse {
            applied: count(applied),
            skipped: count(found.saturating_sub(applied)),
            next: page.next.map(|next| next.encode()).unwrap_or_default(),
            as_of_ms: begun.0,
        })
    }
}
