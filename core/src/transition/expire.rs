use std::sync::Arc;

use super::{Effect, Rejected, Transition};
use crate::Timestamp;
use crate::task::{State, Stop, Task};

/// Ends a task whose deadline has passed. One that runs is told to stop, and a success that comes first wins.
///
/// # Errors
/// [`Rejected::TooEarly`] before the deadline, [`Rejected::WrongState`] without one, [`Rejected::Ended`] if it ended.
pub fn expire(task: &Task, now: Timestamp) -> Result<Transition, Rejected> {
    let Some(deadline) = task.spec.deadline else {
        return Err(Rejected::WrongState {
            state: task.state.name(),
            expected: "one with a deadline",
        });
    };
    if now < deadline {
        return Err(Rejected::TooEarly { at: deadline.0 });
    }
    match &task.state {
        State::Blocked { .. } | State::Scheduled { .. } | State::Ready { .. } => {
            Ok(Transition::to(task, State::Expired { ended_at: now }))
        }
        State::Running { lease, stop: None } => {
            let effect = Effect::StopAttempt {
                host: Arc::clone(&lease.host),
                epoch: lease.epoch,
                stop: Stop::Deadline,
            };
            let state = State::Running {
                lease: lease.clone(),
                stop: Some(Stop::Deadline),
            };
            Ok(Transition {
                next: Task {
                    state,
                    ..task.clone()
                },
                effect,
            })
        }
        State::Running { stop: Some(_), .. } => Ok(Transition::unchanged(task)),
        State::Succeeded { .. }
        | State::Dead { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => Err(Rejected::Ended {
            state: task.state.name(),
        }),
    }
}
