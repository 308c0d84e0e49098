use super::{Rejected, Transition};
use crate::Timestamp;
use crate::planted::{Bug, is_planted};
use crate::task::{State, Task};

/// Makes a scheduled task ready when its time has come.
///
/// # Errors
/// [`Rejected::TooEarly`] before its time, [`Rejected::WrongState`] if it is not scheduled.
pub fn wake(task: &Task, now: Timestamp) -> Result<Transition, Rejected> {
    match &task.state {
        State::Scheduled { run_at } if *run_at > now && !is_planted(Bug::WakesEarly) => {
            Err(Rejected::TooEarly { at: run_at.0 })
        }
        State::Scheduled { .. } => Ok(Transition::to(task, State::Ready { since: now })),
        State::Blocked { .. }
        | State::Ready { .. }
        | State::Running { .. }
        | State::Succeeded { .. }
        | State::Dead { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => Err(Rejected::WrongState {
            state: task.state.name(),
            expected: "scheduled",
        }),
    }
}
