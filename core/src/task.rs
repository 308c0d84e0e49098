//! What a task is and where it can be.

use std::sync::Arc;
use std::time::Duration;

use crate::label::Labels;
use crate::outcome::{Outcome, Usage};
use crate::{Digest, Epoch, Limits, Placement, Priority, RetryPolicy, TaskId, Timestamp};

/// One call of a function with a payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its identity.
    pub id: TaskId,
    /// What was asked for. Shared, since it stays the same while the state changes; a redrive may replace it.
    pub spec: Arc<Spec>,
    /// Where it is.
    pub state: State,
    /// From 1; each redrive begins a new one. What counts attempts and losses counts those of this round.
    pub round: u32,
    /// Attempts of this round that ended by the task's own doing.
    pub failures: u32,
    /// Times in this round that a host, or a runner of one, was lost with it.
    pub losses: u32,
    /// None unless a runner crashed with it in this round, and it saved no checkpoint since: it is suspected then and runs
    /// alone, and this is how often its runner crashed all the same.
    pub strikes: Option<u32>,
    /// Attempts ever started.
    pub started: u32,
    /// Attempts that ended, the newest last; at most [`crate::limits::ATTEMPTS_KEPT`].
    pub attempts: Vec<Attempt>,
    /// The highest epoch that an attempt of it had. None before the first claim.
    pub last_epoch: Option<Epoch>,
    /// The epoch whose report was settled last, so that the same report again gets the same answer.
    pub settled: Option<Epoch>,
    /// What it returned, once it succeeded.
    pub result: Option<DataRef>,
}

/// What was asked for at submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The tenant.
    pub namespace: String,
    /// The module's name at submit.
    pub module: String,
    /// The module's version at submit.
    pub version: u32,
    /// The module's bytes: pinned, so that a later deploy changes nothing.
    pub digest: Digest,
    /// The function's name inside the module.
    pub function: String,
    /// Where the payload is.
    pub payload: DataRef,
    /// Media type of the payload; empty if none was given.
    pub content_type: String,
    /// Arguments of a plain program.
    pub arguments: Vec<String>,
    /// What one attempt may use.
    pub limits: Limits,
    /// How often and how soon it is tried again.
    pub retry: RetryPolicy,
    /// How urgent it is.
    pub priority: Priority,
    /// Where it may run, and beside what.
    pub placement: Placement,
    /// Not before this time.
    pub run_at: Option<Timestamp>,
    /// It expires when this time has passed.
    pub deadline: Option<Timestamp>,
    /// Its result goes so long after its end, if that is before the task itself goes. None leaves it to the namespace.
    pub result_ttl: Option<Duration>,
    /// What its submitter calls it by: tasks are found by it, and nothing else comes of it.
    pub labels: Labels,
    /// Empty if none was given.
    pub idempotency_key: String,
    /// Of the tasks that have it, one at a time waits for its first start. Empty if none was given.
    pub unique_key: String,
    /// W3C trace context of the submitter; empty if there is none.
    pub traceparent: String,
    /// When the broker received it.
    pub submitted_at: Timestamp,
    /// The dead task whose call this is again, with another payload.
    pub redriven_from: Option<TaskId>,
}

/// Where bytes are: beside the task's row, or in a file of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataRef {
    /// In a row of the task's, of this many bytes.
    Row {
        /// Its size in bytes.
        len: u64,
    },
    /// A file named by its digest.
    Blob {
        /// SHA-256 of the bytes.
        digest: Digest,
        /// Their number.
        len: u64,
    },
}

impl DataRef {
    /// The size in bytes.
    #[must_use]
    pub fn len(self) -> u64 {
        match self {
            Self::Row { len } | Self::Blob { len, .. } => len,
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Where a task is. A variant carries exactly the data that exists in that state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for other tasks.
    Blocked {
        /// How many of them have not ended yet; at least 1.
        pending: u32,
    },
    /// Waits for a time: its own, or the end of a backoff.
    Scheduled {
        /// When it becomes ready.
        run_at: Timestamp,
    },
    /// Waits for a host.
    Ready {
        /// Since when.
        since: Timestamp,
    },
    /// A host has it.
    Running {
        /// Which one, and as which attempt.
        lease: Lease,
        /// It was told to stop, and why.
        stop: Option<Stop>,
    },
    /// It returned a result.
    Succeeded {
        /// When.
        ended_at: Timestamp,
    },
    /// It will not be tried again until someone asks.
    Dead {
        /// When that was found.
        ended_at: Timestamp,
    },
    /// Someone did not want it any more.
    Cancelled {
        /// When it ended.
        ended_at: Timestamp,
    },
    /// Its deadline passed.
    Expired {
        /// When it ended.
        ended_at: Timestamp,
    },
}

impl State {
    /// Its name on the wire, on disk and on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Blocked { .. } => "blocked",
            Self::Scheduled { .. } => "scheduled",
            Self::Ready { .. } => "ready",
            Self::Running { .. } => "running",
            Self::Succeeded { .. } => "succeeded",
            Self::Dead { .. } => "dead",
            Self::Cancelled { .. } => "cancelled",
            Self::Expired { .. } => "expired",
        }
    }

    /// When it ended, if it did.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        match self {
            Self::Succeeded { ended_at }
            | Self::Dead { ended_at }
            | Self::Cancelled { ended_at }
            | Self::Expired { ended_at } => Some(*ended_at),
            Self::Blocked { .. }
            | Self::Scheduled { .. }
            | Self::Ready { .. }
            | Self::Running { .. } => None,
        }
    }

    /// Whether it ended.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.ended_at().is_some()
    }

    /// The lease of a task that runs.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Running { lease, .. } => Some(lease),
            Self::Blocked { .. }
            | Self::Scheduled { .. }
            | Self::Ready { .. }
            | Self::Succeeded { .. }
            | Self::Dead { .. }
            | Self::Cancelled { .. }
            | Self::Expired { .. } => None,
        }
    }
}

/// A host's time-bounded, fenced ownership of an attempt. Its time is the host's liveness, which the broker keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The attempt's identity.
    pub epoch: Epoch,
    /// The host's name.
    pub host: Arc<str>,
    /// When the attempt was handed out.
    pub started_at: Timestamp,
}

/// Why a running attempt is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Someone cancelled the task.
    Cancel,
    /// The task's deadline passed.
    Deadline,
}

/// An attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From 1, over all rounds.
    pub number: u32,
    /// The round that it was made in.
    pub round: u32,
    /// The host that had it.
    pub host: Arc<str>,
    /// Its identity.
    pub epoch: Epoch,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// What it used.
    pub usage: Usage,
    /// When it was handed out.
    pub started_at: Timestamp,
    /// When its end was settled.
    pub ended_at: Timestamp,
}

/// Why an attempt failed, for a person to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// At most [`crate::limits::ERROR_MESSAGE_BYTES_MAX`].
    pub message: String,
    /// The guest's frames, innermost first; at most [`crate::limits::BACKTRACE_BYTES_MAX`].
    pub backtrace: String,
}

/// What a host says of an attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which attempt.
    pub epoch: Epoch,
    /// How it ended.
    pub outcome: Outcome,
    /// What it returned, if it succeeded.
    pub result: Option<DataRef>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// When the guest wants its next attempt.
    pub retry_after: Option<Duration>,
    /// What it used.
    pub usage: Usage,
}

impl Task {
    /// The number of the attempt that runs or comes next, counted against the retry policy: from 1 in each round.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.failures + 1
    }

    /// The named outcome of the attempt that ended last.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.attempts.last().map(|attempt| attempt.outcome)
    }

    /// It saved a checkpoint: it gets on, so that whatever crashed before is behind it.
    pub fn gets_on(&mut self) {
        self.strikes = None;
    }

    /// Whether it may have crashed a runner, so that it is to run in one of its own.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.strikes.is_some()
    }

    /// The lease, while it runs.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.state.lease()
    }

    /// The key that no other task may have, since this one waits for its first start.
    #[must_use]
    pub fn holds_unique_key(&self) -> Option<&str> {
        let waits = match self.state {
            State::Blocked { .. } | State::Scheduled { .. } | State::Ready { .. } => true,
            State::Running { .. }
            | State::Succeeded { .. }
            | State::Dead { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => false,
        };
        let key = &*self.spec.unique_key;
        // One that is redriven was given up before: its key may be another's by now.
        let is_first = self.started == 0 && self.round == 1;
        (waits && is_first && !key.is_empty()).then_some(key)
    }
}
