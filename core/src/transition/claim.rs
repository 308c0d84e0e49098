use super::{Rejected, Transition};
use crate::task::{Lease, State, Task};

/// Hands a ready task to a host, as the attempt `lease.epoch`.
///
/// # Errors
/// [`Rejected::WrongState`] unless it is ready, and [`Rejected::Fenced`] if the epoch is not above every earlier one.
pub fn claim(task: &Task, lease: Lease) -> Result<Transition, Rejected> {
    match &task.state {
        State::Ready { .. } if task.last_epoch.is_some_and(|last| last >= lease.epoch) => {
            Err(Rejected::Fenced {
                offered: lease.epoch,
            })
        }
        State::Ready { .. } => {
            let epoch = lease.epoch;
            let mut transition = Transition::to(task, State::Running { lease, stop: None });
            transition.next.started += 1;
            transition.next.last_epoch = Some(epoch);
            Ok(transition)
        }
        State::Blocked { .. }
        | State::Scheduled { .. }
        | State::Running { .. }
        | State::Succeeded { .. }
        | State::Dead { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => Err(Rejected::WrongState {
            state: task.state.name(),
            expected: "ready",
        }),
    }
}
