use super::{Rejected, Transition, record, stop_outcome, stopped};
use crate::Timestamp;
use crate::limits::{ERROR_MESSAGE_BYTES_MAX, LOSSES_MAX, STRIKES_MAX};
use crate::outcome::{Class, Outcome};
use crate::planted::{Bug, is_planted};
use crate::task::{Failure, Report, State, Task};

/// Settles an attempt: the first valid report of it decides, the same one again changes nothing.
///
/// # Errors
/// [`Rejected::Fenced`] if the attempt is not the task's any more.
pub fn report(task: &Task, report: &Report, now: Timestamp) -> Result<Transition, Rejected> {
    if task.settled == Some(report.epoch) {
        // Our first answer was lost and the host asks again.
        return Ok(Transition::unchanged(task));
    }
    // Otherwise the attempt was given away; its late report must not win.
    let fenced = Rejected::Fenced {
        offered: report.epoch,
    };
    let State::Running { lease, stop } = &task.state else {
        return Err(fenced);
    };
    if lease.epoch != report.epoch && !is_planted(Bug::StaleReportWins) {
        return Err(fenced);
    }
    let mut next = task.clone();
    let mut report = report.clone();
    let state = match (report.outcome.class(), stop) {
        (Class::Success, _) => {
            next.result = report.result;
            State::Succeeded { ended_at: now }
        }
        (
            Class::Retryable | Class::Permanent | Class::Stopped | Class::HostLost | Class::Crash,
            Some(stop),
        ) => {
            report.outcome = stop_outcome(*stop);
            stopped(*stop, now)
        }
        (Class::Retryable, None) => {
            next.failures += 1;
            let mut retry = task.spec.retry;
            retry.max_attempts += u32::from(is_planted(Bug::AttemptTooMany));
            match retry.retry_at(task.id, next.failures, report.retry_after, now) {
                Some(run_at) => State::Scheduled { run_at },
                None => State::Dead { ended_at: now },
            }
        }
        (Class::Permanent, None) => {
            next.failures += 1;
            State::Dead { ended_at: now }
        }
        // A host that stopped an attempt which nobody asked to stop could not run it.
        (Class::Stopped | Class::HostLost, None) => lost(&mut next, &mut report, now),
        (Class::Crash, None) => crashed(&mut next, &mut report, now),
    };
    next.settled = Some(lease.epoch);
    record(&mut next, lease, &report, now);
    Ok(Transition::to(&next, state))
}

/// A runner came to its end with the task. The first time, any of those that ran there may be the cause, so that each of
/// them runs alone from then on; whoever crashes a runner of its own is the cause. It counts as a loss too, so that a task
/// that saves a checkpoint before each crash is not run for ever.
fn crashed(next: &mut Task, report: &mut Report, now: Timestamp) -> State {
    let strikes = next.strikes.map_or(0, |strikes| strikes + 1);
    next.strikes = Some(strikes);
    if strikes < STRIKES_MAX {
        return lost(next, report, now);
    }
    next.losses += 1;
    let failure = report.failure.get_or_insert_default();
    failure.message = format!(
        "the process that ran it crashed {STRIKES_MAX} times while it ran there alone, which is the limit; the last time: {}",
        failure.message
    );
    failure
        .message
        .truncate(failure.message.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX));
    State::Dead { ended_at: now }
}

/// Counts a loss of the host or of its runner, and decides where the task goes.
pub(super) fn lost(next: &mut Task, report: &mut Report, now: Timestamp) -> State {
    if report.outcome == Outcome::HostDrained {
        // Someone wanted the host empty. However often that is, it says nothing of the task.
        return State::Ready { since: now };
    }
    next.losses += 1;
    next.failures += u32::from(is_planted(Bug::LossIsFailure));
    if next.losses < LOSSES_MAX {
        return State::Ready { since: now };
    }
    if report.outcome.class() == Class::Stopped {
        report.outcome = Outcome::HostLost;
    }
    report.failure = Some(Failure {
        message: format!(
            "a host or a runner was lost with the task {LOSSES_MAX} times, which is the limit; redrive it if the task is not the cause"
        ),
        backtrace: String::new(),
    });
    State::Dead { ended_at: now }
}
