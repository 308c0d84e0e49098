use super::{Rejected, Transition, runnable};
use crate::Timestamp;
use crate::task::{State, Task};

/// What became of a task that another one waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// It ended as the waiting task needs it.
    Met,
    /// It ended otherwise, so that the waiting task can never run.
    Failed,
}

/// Tells a blocked task that one of those it waits for has ended. With the last one it can run; if one failed it is
/// cancelled.
///
/// # Errors
/// [`Rejected::WrongState`] if it waits for none.
pub fn resolve(
    task: &Task,
    dependency: Dependency,
    now: Timestamp,
) -> Result<Transition, Rejected> {
    match (&task.state, dependency) {
        (State::Blocked { .. }, Dependency::Failed) => {
            Ok(Transition::to(task, State::Cancelled { ended_at: now }))
        }
        (State::Blocked { pending: 0 | 1 }, Dependency::Met) => {
            Ok(Transition::to(task, runnable(task.spec.run_at, now)))
        }
        (State::Blocked { pending }, Dependency::Met) => Ok(Transition::to(
            task,
            State::Blocked {
                pending: pending - 1,
            },
        )),
        (
            State::Scheduled { .. }
            | State::Ready { .. }
            | State::Running { .. }
            | State::Succeeded { .. }
            | State::Dead { .. }
            | State::Cancelled { .. }
            | State::Expired { .. },
            Dependency::Met | Dependency::Failed,
        ) => Err(Rejected::WrongState {
            state: task.state.name(),
            expected: "blocked",
        }),
    }
}
