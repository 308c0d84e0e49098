use super::report::lost;
use super::{Rejected, Transition, record, stop_outcome, stopped};
use crate::outcome::{Outcome, Usage};
use crate::planted::{Bug, is_planted};
use crate::task::{Report, State, Task};
use crate::{Epoch, Timestamp};

/// Takes an attempt back from a host that went away with it. The task is ready again, unless it was told to stop.
///
/// # Errors
/// [`Rejected::Fenced`] if the attempt is not the task's any more.
pub fn lose(task: &Task, epoch: Epoch, now: Timestamp) -> Result<Transition, Rejected> {
    take_back(task, epoch, Outcome::HostLost, now)
}

/// Takes an attempt back from a host that is to be empty. The task is ready again, unless it was told to stop; it counts
/// as no loss, since nothing went wrong.
///
/// # Errors
/// [`Rejected::Fenced`] if the attempt is not the task's any more.
pub fn hand_back(task: &Task, epoch: Epoch, now: Timestamp) -> Result<Transition, Rejected> {
    take_back(task, epoch, Outcome::HostDrained, now)
}

fn take_back(
    task: &Task,
    epoch: Epoch,
    outcome: Outcome,
    now: Timestamp,
) -> Result<Transition, Rejected> {
    match &task.state {
        State::Running { lease, stop } if lease.epoch == epoch => {
            let mut next = task.clone();
            let mut report = Report {
                epoch,
                outcome,
                result: None,
                failure: None,
                retry_after: None,
                usage: Usage::default(),
            };
            let state = match stop {
                Some(stop) if !is_planted(Bug::StopForgotten) => {
                    report.outcome = stop_outcome(*stop);
                    stopped(*stop, now)
                }
                Some(_) | None => lost(&mut next, &mut report, now),
            };
            record(&mut next, lease, &report, now);
            Ok(Transition::to(&next, state))
        }
        State::Running { .. }
        | State::Blocked { .. }
        | State::Scheduled { .. }
        | State::Ready { .. }
        | State::Succeeded { .. }
        | State::Dead { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => Err(Rejected::Fenced { offered: epoch }),
    }
}
