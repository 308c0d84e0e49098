use std::sync::Arc;

use super::{Rejected, Transition};
use crate::Timestamp;
use crate::task::{Spec, State, Task};

/// Gives a task that ended without success a new round of attempts, with `spec`: the old one, or one that points at the
/// module's current version. A deadline that has passed is dropped, since it would end the round before it began.
///
/// # Errors
/// [`Rejected::WrongState`] if it succeeded or has not ended.
pub fn redrive(task: &Task, mut spec: Spec, now: Timestamp) -> Result<Transition, Rejected> {
    match &task.state {
        State::Dead { .. } | State::Cancelled { .. } | State::Expired { .. } => {
            spec.deadline = spec.deadline.filter(|deadline| *deadline > now);
            let renewed = Task {
                spec: Arc::new(spec),
                round: task.round + 1,
                failures: 0,
                losses: 0,
                strikes: None,
                ..task.clone()
            };
            Ok(Transition::to(&renewed, State::Ready { since: now }))
        }
        State::Blocked { .. }
        | State::Scheduled { .. }
        | State::Ready { .. }
        | State::Running { .. }
        | State::Succeeded { .. } => Err(Rejected::WrongState {
            state: task.state.name(),
            expected: "dead, cancelled or expired",
        }),
    }
}
