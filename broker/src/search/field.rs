//! What a filter can ask of a task, and what its rows and the index of ended tasks say to it.

use tq_core::Timestamp;
use tq_core::task::{State, Task};

use crate::tables::row::{End, Finished, Hash};

/// A set of states, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u8);

impl States {
    /// Waits for other tasks.
    pub const BLOCKED: Self = Self(1);
    /// Waits for a time.
    pub const SCHEDULED: Self = Self(1 << 1);
    /// Waits for a host.
    pub const READY: Self = Self(1 << 2);
    /// Is on a host.
    pub const RUNNING: Self = Self(1 << 3);
    /// Ended with a result.
    pub const SUCCEEDED: Self = Self(1 << 4);
    /// Ended without one, by its own doing.
    pub const DEAD: Self = Self(1 << 5);
    /// Ended because someone asked.
    pub const CANCELLED: Self = Self(1 << 6);
    /// Ended by its deadline.
    pub const EXPIRED: Self = Self(1 << 7);
    /// All of them.
    pub const ALL: Self = Self(u8::MAX);
    /// Those of tasks that have not ended.
    pub const OPEN: Self = Self(0x0f);
    /// Those of tasks that have ended.
    pub const ENDED: Self = Self(0xf0);
    const FAILED: Self = Self(Self::DEAD.0 | Self::EXPIRED.0);
    /// Those of tasks that have ended without success.
    pub const UNSUCCESSFUL: Self = Self(Self::FAILED.0 | Self::CANCELLED.0);

    /// What a filter calls them: each alone, and some together.
    pub(super) const NAMES: [(&'static str, Self); 11] = [
        ("blocked", Self::BLOCKED),
        ("scheduled", Self::SCHEDULED),
        ("ready", Self::READY),
        ("running", Self::RUNNING),
        ("succeeded", Self::SUCCEEDED),
        ("dead", Self::DEAD),
        ("cancelled", Self::CANCELLED),
        ("expired", Self::EXPIRED),
        ("open", Self::OPEN),
        ("ended", Self::ENDED),
        ("failed", Self::FAILED),
    ];

    /// The one that a task is in.
    pub fn of(state: &State) -> Self {
        match state {
            State::Blocked { .. } => Self::BLOCKED,
            State::Scheduled { .. } => Self::SCHEDULED,
            State::Ready { .. } => Self::READY,
            State::Running { .. } => Self::RUNNING,
            State::Succeeded { .. } => Self::SUCCEEDED,
            State::Dead { .. } => Self::DEAD,
            State::Cancelled { .. } => Self::CANCELLED,
            State::Expired { .. } => Self::EXPIRED,
        }
    }

    pub(super) fn of_end(end: End) -> Self {
        match end {
            End::Succeeded => Self::SUCCEEDED,
            End::Dead => Self::DEAD,
            End::Cancelled => Self::CANCELLED,
            End::Expired => Self::EXPIRED,
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn not(self) -> Self {
        Self(!self.0)
    }

    /// Whether each of them is one of the others too.
    pub fn is_within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }
}

/// A field with texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Id,
    Function,
    Module,
    Queue,
    Outcome,
    Host,
    Error,
    IdempotencyKey,
    UniqueKey,
    ConcurrencyKey,
    /// The label of this name.
    Label(String),
}

impl Text {
    pub(super) const NAMES: [(&'static str, Self); 10] = [
        ("id", Self::Id),
        ("function", Self::Function),
        ("module", Self::Module),
        ("queue", Self::Queue),
        ("outcome", Self::Outcome),
        ("host", Self::Host),
        ("error", Self::Error),
        ("idempotency_key", Self::IdempotencyKey),
        ("unique_key", Self::UniqueKey),
        ("concurrency_key", Self::ConcurrencyKey),
    ];

    /// What a task has there. What it has not is empty.
    pub(super) fn of<R>(&self, task: &Task, look: impl FnOnce(&str) -> R) -> R {
        let spec = &task.spec;
        let last = task.attempts.last();
        match self {
            Self::Id => look(&task.id.to_string()),
            Self::Function => look(&format!("{}/{}", spec.module, spec.function)),
            Self::Module => look(&spec.module),
            Self::Queue => look(spec.placement.queue()),
            Self::Outcome => look(task.outcome().map_or("", |outcome| outcome.name())),
            Self::Host => {
                let runs_on = task.lease().map(|lease| &lease.host);
                look(
                    runs_on
                        .or(last.map(|last| &last.host))
                        .map_or("", |host| host),
                )
            }
            Self::Error => {
                let failure = last.and_then(|last| last.failure.as_ref());
                look(failure.map_or("", |failure| &failure.message))
            }
            Self::IdempotencyKey => look(&spec.idempotency_key),
            Self::UniqueKey => look(&spec.unique_key),
            Self::ConcurrencyKey => {
                let concurrency = spec.placement.concurrency.as_ref();
                look(concurrency.map_or("", |concurrency| &concurrency.key))
            }
            Self::Label(name) => look(spec.labels.get(name.as_str()).map_or("", |value| value)),
        }
    }

    /// Whether the index says of a task that it has not this text. What it does not know it does not say.
    pub(super) fn differs(&self, finished: &Finished<'_>, value: &str, hash: Hash) -> bool {
        match self {
            Self::Id => finished.id.to_string() != value,
            Self::Function => finished.function != hash,
            Self::Module => finished.module != hash,
            Self::Queue => finished.queue != hash,
            Self::Outcome => finished.outcome != hash,
            Self::Host => finished.host != hash,
            Self::Error => !value.is_empty() && !finished.has_failure,
            Self::Label(_) => !value.is_empty() && !finished.may_have(hash),
            Self::IdempotencyKey | Self::UniqueKey | Self::ConcurrencyKey => false,
        }
    }

    /// The hash that [`Text::differs`] wants of a value.
    pub(super) fn hash(&self, value: &str) -> Hash {
        match self {
            Self::Label(name) => Hash::of_label(name, value),
            Self::Function => match value.split_once('/') {
                Some((module, function)) => Hash::of_function(module, function),
                // No function is called so.
                None => Hash::of(value),
            },
            _ => Hash::of(value),
        }
    }
}

/// A field with numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Submitted,
    Ended,
    Started,
    RunAt,
    Duration,
    Fuel,
    Memory,
    Priority,
    Attempts,
    Round,
    Version,
    PayloadBytes,
    ResultBytes,
}

/// How the values of a field are written, and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A point in time, in milliseconds.
    Time,
    /// A span of time, in nanoseconds.
    Span,
    /// A size, in bytes.
    Size,
    /// So many.
    Count,
}

impl Number {
    pub(super) const NAMES: [(&'static str, Self); 13] = [
        ("submitted", Self::Submitted),
        ("ended", Self::Ended),
        ("started", Self::Started),
        ("run_at", Self::RunAt),
        ("duration", Self::Duration),
        ("fuel", Self::Fuel),
        ("memory", Self::Memory),
        ("priority", Self::Priority),
        ("attempts", Self::Attempts),
        ("round", Self::Round),
        ("version", Self::Version),
        ("payload_bytes", Self::PayloadBytes),
        ("result_bytes", Self::ResultBytes),
    ];

    pub(super) fn unit(self) -> Unit {
        match self {
            Self::Submitted | Self::Ended | Self::Started | Self::RunAt => Unit::Time,
            Self::Duration => Unit::Span,
            Self::Memory | Self::PayloadBytes | Self::ResultBytes => Unit::Size,
            Self::Fuel | Self::Priority | Self::Attempts | Self::Round | Self::Version => {
                Unit::Count
            }
        }
    }

    /// What a task has there. None if it has none: it has not ended, or no attempt has.
    pub(super) fn of(self, task: &Task) -> Option<u64> {
        let spec = &task.spec;
        let last = task.attempts.last();
        match self {
            Self::Submitted => Some(spec.submitted_at.0),
            Self::Ended => task.state.ended_at().map(|at| at.0),
            Self::Started => {
                let runs_since = task.lease().map(|lease| lease.started_at);
                runs_since
                    .or(last.map(|last| last.started_at))
                    .map(|at| at.0)
            }
            Self::RunAt => match task.state {
                State::Scheduled { run_at } => Some(run_at.0),
                _ => spec.run_at.map(|at| at.0),
            },
            Self::Duration => last.map(|last| last.usage.wall_ns),
            Self::Fuel => last.map(|last| last.usage.fuel),
            Self::Memory => last.map(|last| last.usage.memory_bytes_peak),
            Self::Priority => Some(spec.priority.0.into()),
            Self::Attempts => Some(task.started.into()),
            Self::Round => Some(task.round.into()),
            Self::Version => Some(spec.version.into()),
            Self::PayloadBytes => Some(spec.payload.len()),
            Self::ResultBytes => task.result.map(|data| data.len()),
        }
    }

    /// What the index says of it, where a number that a task does not have is 0. None if it does not know.
    pub(super) fn of_finished(self, finished: &Finished<'_>, ended_at: Timestamp) -> Option<u64> {
        match self {
            Self::Submitted => Some(finished.submitted_at.0),
            Self::Ended => Some(ended_at.0),
            Self::Duration => Some(finished.wall_ns),
            Self::Fuel => Some(finished.fuel),
            Self::Memory => Some(finished.memory_bytes),
            Self::Priority => Some(finished.priority.0.into()),
            Self::Attempts => Some(finished.attempts.into()),
            Self::Started
            | Self::RunAt
            | Self::Round
            | Self::Version
            | Self::PayloadBytes
            | Self::ResultBytes => None,
        }
    }
}
