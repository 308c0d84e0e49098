use super::{Rejected, Transition, claim};
use crate::task::{Lease, State, Task};

/// Restores an attempt whose claim was lost with an unclean stop of the broker: its host still has it, and has shown a
/// valid token of the broker's last generation.
///
/// A claim is not synced before it is dispatched, so that a power loss can forget one. Nothing was settled by it then,
/// and unless a newer attempt was made, letting it go on saves its work.
///
/// # Errors
/// [`Rejected::Fenced`] if the task has moved on to a newer attempt or ended.
pub fn adopt(task: &Task, lease: Lease) -> Result<Transition, Rejected> {
    match &task.state {
        State::Running { lease: held, .. } if held.epoch == lease.epoch => {
            Ok(Transition::unchanged(task))
        }
        State::Ready { .. } => claim(task, lease),
        State::Blocked { .. }
        | State::Scheduled { .. }
        | State::Running { .. }
        | State::Succeeded { .. }
        | State::Dead { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => Err(Rejected::Fenced {
            offered: lease.epoch,
        }),
    }
}
