use std::sync::Arc;

use super::{Effect, Rejected, Transition};
use crate::Timestamp;
use crate::task::{State, Stop, Task};

/// Cancels a task. One that waits ends at once; one that runs is told to stop, and a success that comes first wins.
///
/// # Errors
/// [`Rejected::Ended`] if it ended otherwise. Cancelling a cancelled task changes nothing.
pub fn cancel(task: &Task, now: Timestamp) -> Result<Transition, Rejected> {
    match &task.state {
        State::Blocked { .. } | State::Scheduled { .. } | State::Ready { .. } => {
            Ok(Transition::to(task, State::Cancelled { ended_at: now }))
        }
        State::Running { lease, stop: None } => {
            let effect = Effect::StopAttempt {
                host: Arc::clone(&lease.host),
                epoch: lease.epoch,
                stop: Stop::Cancel,
            };
            let state = State::Running {
                lease: lease.clone(),
                stop: Some(Stop::Cancel),
            };
            Ok(Transition {
                next: Task {
                    state,
                    ..task.clone()
                },
                effect,
            })
        }
        // It is stopping already; the first reason stands.
        State::Running { stop: Some(_), .. } | State::Cancelled { .. } => {
            Ok(Transition::unchanged(task))
        }
        State::Succeeded { .. } | State::Dead { .. } | State::Expired { .. } => {
            Err(Rejected::Ended {
                state: task.state.name(),
            })
        }
    }
}
