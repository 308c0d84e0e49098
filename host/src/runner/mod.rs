//! Runs attempts.
//!
//! A [`Pool`] takes attempts and is told to stop them; what becomes of them comes out as [`Event`]s.

mod attempt;
pub(crate) mod checkpoint;
mod failure;
mod outbox;
mod pool;
mod timing;
mod typed;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use tq_core::name::DEFAULT_NAMESPACE;
use tq_core::outcome::Usage;
use tq_core::{Epoch, Grants, Limits, Outcome, TaskId, Timestamp};

use crate::component::Ready;

pub use attempt::Slot;
pub(crate) use failure::cut;
pub(crate) use outbox::Outbox;
pub use pool::{Config, Pool, Refused};
pub(crate) use timing::{Interrupt, Timing};

/// Why an attempt is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The task was cancelled. The guest is told, and interrupted after
    /// [`CANCEL_GRACE`](tq_core::limits::CANCEL_GRACE).
    Cancelled,
    /// The task's deadline passed; likewise.
    DeadlineExceeded,
    /// Nobody waits for its outcome any more. It is interrupted at once and ends as [`Outcome::Cancelled`].
    Abandoned,
    /// The host stops. It is interrupted at once and ends as [`Outcome::HostLost`].
    Shutdown,
}

/// One execution of a task.
#[derive(Debug)]
pub struct Attempt {
    /// Its identity.
    pub epoch: Epoch,
    /// The task, which is also the guest's idempotency token.
    pub task_id: TaskId,
    /// The tenant.
    pub namespace: String,
    /// What to run.
    pub component: Arc<Ready>,
    /// Which function of it. A plain program has one only, and takes no notice.
    pub function: String,
    /// The function's payload, or the program's standard input.
    pub payload: Bytes,
    /// The payload's media type; empty if unknown.
    pub content_type: String,
    /// A program's arguments, without its name, which is `function`.
    pub arguments: Vec<String>,
    /// What it may use.
    pub limits: Limits,
    /// When the task expires. The attempt is stopped then without a command.
    pub deadline: Option<Timestamp>,
    /// The submitter's W3C trace context.
    pub traceparent: Option<String>,
    /// Its number, from 1.
    pub attempt: u32,
    /// How many the task has at most.
    pub max_attempts: u32,
    /// The newest state that an earlier attempt saved, as it is kept.
    pub checkpoint: Option<Bytes>,
    /// It may have crashed a runner before. Where runners are processes, it gets one of its own.
    pub is_alone: bool,
    /// What it may do beside computing.
    pub grants: Grants,
}

/// What the runner tells the agent. Events of one attempt come in order, its end last.
#[derive(Debug)]
pub enum Event {
    /// The next part of an attempt's log: whole lines where possible, not always UTF-8.
    Log {
        /// Which attempt.
        epoch: Epoch,
        /// The bytes; never empty.
        text: Bytes,
    },
    /// How far an attempt is. Only the newest report of every
    /// [`FLUSH_INTERVAL`](tq_core::limits::FLUSH_INTERVAL) is passed on.
    Progress {
        /// Which attempt.
        epoch: Epoch,
        /// From 0 to 1.
        fraction: f64,
        /// A short text, perhaps empty.
        note: String,
    },
    /// The state that the next attempt is to begin with; likewise only the newest.
    Checkpoint {
        /// Which attempt.
        epoch: Epoch,
        /// The state.
        state: Bytes,
    },
    /// The attempt has ended.
    Finished(Box<Finished>),
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Which attempt.
    pub epoch: Epoch,
    /// Its end.
    pub outcome: Outcome,
    /// What it returned, if and only if it succeeded.
    pub result: Option<Bytes>,
    /// What went wrong, if and only if it did not.
    pub failure: Option<Failure>,
    /// When the guest wants to be tried again, if it said so.
    pub retry_after: Option<Duration>,
    /// What it used. Zero if it never ran.
    pub usage: Usage,
}

/// What went wrong, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The cause: the guest's own words where it has some, else the limit that it met. Text of the guest's making is
    /// not escaped. At most [`ERROR_MESSAGE_BYTES_MAX`](tq_core::limits::ERROR_MESSAGE_BYTES_MAX).
    pub message: String,
    /// Where it was in the guest's code: innermost function first, with file and line where the component carries them.
    /// At most [`BACKTRACE_BYTES_MAX`](tq_core::limits::BACKTRACE_BYTES_MAX).
    pub backtrace: Option<String>,
}

impl Attempt {
    /// The first attempt of a task of which nothing more was said: in the default namespace, without a payload, with the
    /// default limits and no grants.
    #[must_use]
    pub fn new(epoch: Epoch, task_id: TaskId, component: Arc<Ready>, function: &str) -> Self {
        Self {
            epoch,
            task_id,
            namespace: DEFAULT_NAMESPACE.to_owned(),
            component,
            function: function.to_owned(),
            payload: Bytes::new(),
            content_type: String::new(),
            arguments: Vec::new(),
            limits: Limits::DEFAULT,
            deadline: None,
            traceparent: None,
            attempt: 1,
            max_attempts: 3,
            checkpoint: None,
            is_alone: false,
            grants: Grants::default(),
        }
    }
}

impl Finished {
    /// The end of an attempt that was stopped before it ran.
    pub(crate) fn stopped(epoch: Epoch, why: StopReason) -> Self {
        Self::unrun(epoch, why.outcome(), why.message())
    }

    /// The end of an attempt that is given back before it ran, for others to run.
    pub(crate) fn handed_back(epoch: Epoch) -> Self {
        let message = "the host is to be empty, and had not begun the attempt";
        Self::unrun(epoch, Outcome::HostDrained, message)
    }

    /// The end of an attempt that never ran.
    pub(crate) fn unrun(epoch: Epoch, outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            epoch,
            outcome,
            result: None,
            failure: Some(Failure {
                message: message.into(),
                backtrace: None,
            }),
            retry_after: None,
            usage: Usage::default(),
        }
    }
}

impl StopReason {
    fn outcome(self) -> Outcome {
        match self {
            Self::Cancelled | Self::Abandoned => Outcome::Cancelled,
            Self::DeadlineExceeded => Outcome::DeadlineExceeded,
            Self::Shutdown => Outcome::HostLost,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Cancelled => "the task was cancelled",
            Self::DeadlineExceeded => "the task's deadline passed",
            Self::Abandoned => "the attempt was given to another host",
            Self::Shutdown => "the host stopped",
        }
    }

    /// Whether the guest is told and given time to return by itself.
    fn has_grace(self) -> bool {
        match self {
            Self::Cancelled | Self::DeadlineExceeded => true,
            Self::Abandoned | Self::Shutdown => false,
        }
    }
}
