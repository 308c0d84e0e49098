//! What may change a task: one pure function a command, `(task, command, now) -> Transition | Rejected`. Every API,
//! timer and backend goes through these; nothing else changes a state.

mod adopt;
mod amend;
mod cancel;
mod claim;
mod expire;
mod lose;
mod redrive;
mod report;
mod resolve;
mod submit;
mod wake;

pub use adopt::adopt;
pub use amend::{Amendment, amend};
pub use cancel::cancel;
pub use claim::claim;
pub use expire::expire;
pub use lose::{hand_back, lose};
pub use redrive::redrive;
pub use report::report;
pub use resolve::{Dependency, resolve};
pub use submit::submit;
pub use wake::wake;

use std::sync::Arc;

use crate::limits::ATTEMPTS_KEPT;
use crate::outcome::Outcome;
use crate::task::{Attempt, Lease, Report, State, Stop, Task};
use crate::{Epoch, Timestamp};

/// What a command makes of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The task from now on.
    pub next: Task,
    /// What follows from it once it is committed. Lost ones can be derived from the state again.
    pub effect: Effect,
}

/// What follows from a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// It waits for a host.
    Enqueue,
    /// It waits for a time: wake it then.
    SetTimer(Timestamp),
    /// Its attempt is to stop.
    StopAttempt {
        /// The host that has it.
        host: Arc<str>,
        /// Which attempt.
        epoch: Epoch,
        /// Why.
        stop: Stop,
    },
    /// It ended: whoever waits for it is told.
    End,
}

/// A command that does not fit the task's state. The task is left as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Another attempt superseded the reporter's.
    #[error("attempt {offered} is fenced: the task has moved on")]
    Fenced {
        /// The epoch of the report.
        offered: Epoch,
    },
    /// The task is not in a state in which the command makes sense.
    #[error("the task is {state}, not {expected}")]
    WrongState {
        /// The state's name.
        state: &'static str,
        /// What it would have to be.
        expected: &'static str,
    },
    /// The task ended already.
    #[error("the task has ended: it is {state}")]
    Ended {
        /// The state's name.
        state: &'static str,
    },
    /// It is too early for the command.
    #[error("it is not due before {at} ms")]
    TooEarly {
        /// When it is.
        at: u64,
    },
    /// The deadline lies before the submit.
    #[error("the deadline {deadline} ms has passed already; it is {now} ms")]
    DeadlinePassed {
        /// The deadline, in milliseconds since the Unix epoch.
        deadline: u64,
        /// The broker's time.
        now: u64,
    },
}

impl Transition {
    /// Nothing changes: the command was done before.
    fn unchanged(task: &Task) -> Self {
        Self {
            next: task.clone(),
            effect: Effect::None,
        }
    }

    /// Only the state changes.
    fn to(task: &Task, state: State) -> Self {
        let next = Task {
            state,
            ..task.clone()
        };
        let effect = match &next.state {
            State::Ready { .. } => Effect::Enqueue,
            State::Scheduled { run_at } => Effect::SetTimer(*run_at),
            State::Blocked { .. } | State::Running { .. } => Effect::None,
            State::Succeeded { .. }
            | State::Dead { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => Effect::End,
        };
        Self { next, effect }
    }
}

/// Where a task goes that waits for nothing else any more.
fn runnable(run_at: Option<Timestamp>, now: Timestamp) -> State {
    match run_at {
        Some(run_at) if run_at > now => State::Scheduled { run_at },
        Some(_) | None => State::Ready { since: now },
    }
}

/// Writes the end of an attempt into the task's record of attempts.
fn record(task: &mut Task, lease: &Lease, report: &Report, now: Timestamp) {
    if task.attempts.len() >= ATTEMPTS_KEPT {
        task.attempts.remove(0);
    }
    task.attempts.push(Attempt {
        number: task.started,
        round: task.round,
        host: Arc::clone(&lease.host),
        epoch: lease.epoch,
        outcome: report.outcome,
        failure: report.failure.clone(),
        usage: report.usage,
        started_at: lease.started_at,
        ended_at: now,
    });
}

/// The end of a task whose attempt was told to stop and ended without success.
fn stopped(stop: Stop, now: Timestamp) -> State {
    match stop {
        Stop::Cancel => State::Cancelled { ended_at: now },
        Stop::Deadline => State::Expired { ended_at: now },
    }
}

/// The outcome of an attempt that ended because it was told to stop.
fn stop_outcome(stop: Stop) -> Outcome {
    match stop {
        Stop::Cancel => Outcome::Cancelled,
        Stop::Deadline => Outcome::DeadlineExceeded,
    }
}

#[cfg(test)]
mod tests;
