use std::fmt;
use std::time::{Duration, SystemTime};

use crate::host;

/// What a task knows of its call, and may ask of its host.
///
/// It holds nothing itself, so that it can be copied and passed around freely.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// A context comes from tq, or from [`Context::current`].
    _private: (),
}

impl Context {
    /// The context of the call that this instance runs, for code too deep to be handed one, and for tests.
    ///
    /// Off WebAssembly it is a stand-in: attempt 1 of 1 of the task `local`, in the namespace `default`, without a deadline and
    /// never cancelled. A checkpoint is kept for the thread; progress and logs go nowhere. The secret `stripe-key` is what the variable
    /// `TQ_SECRET_STRIPE_KEY` has.
    #[must_use]
    pub fn current() -> Self {
        Self { _private: () }
    }

    /// The task's id, the same in every attempt: the idempotency token for effects outside of tq.
    #[must_use]
    pub fn task_id(&self) -> String {
        host::task_id()
    }

    /// The number of this attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        host::attempt()
    }

    /// How many attempts the task has at most.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        host::max_attempts()
    }

    /// The namespace that the task belongs to.
    #[must_use]
    pub fn namespace(&self) -> String {
        host::namespace()
    }

    /// The media type of the payload, such as `application/json`, if the submitter gave one.
    #[must_use]
    pub fn content_type(&self) -> Option<String> {
        Some(host::content_type()).filter(|content_type| !content_type.is_empty())
    }

    /// When the task expires, to the millisecond; none without a deadline.
    #[must_use]
    pub fn deadline(&self) -> Option<SystemTime> {
        // A time that the clock's type cannot hold is as good as none.
        host::deadline_ms()
            .and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)))
    }

    /// The W3C trace context of the submitter, to be passed on in outgoing calls.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        host::traceparent()
    }

    /// Whether the task is to stop, because it was cancelled or its deadline passed. It is interrupted a little later.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        host::is_cancelled()
    }

    /// Reports progress: a fraction from 0 to 1 (others are clamped) and a short note. Best effort.
    pub fn progress(&self, fraction: f64, note: impl AsRef<str>) {
        host::progress(fraction, note.as_ref());
    }

    /// Keeps a state for the next attempt; the newest one wins. The host holds it when this returns; a host that dies loses what
    /// it had not passed on yet.
    ///
    /// # Errors
    /// [`CheckpointError`] if the host does not keep it. The state that was kept before stays.
    pub fn save_checkpoint(&self, state: &[u8]) -> Result<(), CheckpointError> {
        host::checkpoint_save(state)
    }

    /// The newest state that an attempt of this task kept, this one included.
    #[must_use]
    pub fn load_checkpoint(&self) -> Option<Vec<u8>> {
        host::checkpoint_load()
    }

    /// A secret of the task's namespace that the function is granted to read (`[capabilities] secrets` in `tq.toml`). It has the
    /// same value for the whole attempt.
    ///
    /// # Errors
    /// [`SecretError`] says why there is none.
    pub fn secret(&self, name: &str) -> Result<Secret, SecretError> {
        host::secret(name).map(Secret)
    }

    /// Writes a line to the task's log. Best effort and bounded: a long message is cut. [`info!`](crate::info) and its
    /// siblings format one.
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        host::log(level, message.as_ref());
    }
}

/// A value that does not show itself: its `Debug` is `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes as they were set.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text as it was set.
    ///
    /// # Errors
    /// [`Utf8Error`](std::str::Utf8Error) if it is no UTF-8.
    pub fn as_str(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why there is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretError {
    /// The function was not granted to read it.
    NotGranted {
        /// What would have to be granted.
        reason: String,
    },
    /// The namespace has no such secret.
    Missing {
        /// The host's words.
        reason: String,
    },
    /// It cannot be had now.
    Unavailable {
        /// The host's words.
        reason: String,
    },
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NotGranted { reason } | Self::Missing { reason } | Self::Unavailable { reason }) =
            self;
        f.write_str(reason)
    }
}

impl std::error::Error for SecretError {}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step.
    Trace,
    /// For the one who looks for a fault.
    Debug,
    /// The course of things.
    Info,
    /// Recovered, yet worth a look.
    Warn,
    /// Failed.
    Error,
}

/// Why a checkpoint was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The state is larger than the host keeps.
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The host cannot keep checkpoints now.
    Unavailable {
        /// Its words.
        reason: String,
    },
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "checkpoint is over the limit of {limit} bytes"),
            Self::Unavailable { reason } => write!(f, "checkpoint was not kept: {reason}"),
        }
    }
}

impl std::error::Error for CheckpointError {}

#[cfg(test)]
mod tests {
    use super::Context;

    #[test]
    fn stand_in_keeps_the_newest_checkpoint() {
        let cx = Context::current();
        assert_eq!(cx.load_checkpoint(), None);
        cx.save_checkpoint(b"one")
            .expect("the stand-in keeps every checkpoint");
        cx.save_checkpoint(b"two")
            .expect("the stand-in keeps every checkpoint");
        assert_eq!(
            Context::current().load_checkpoint().as_deref(),
            Some(&b"two"[..])
        );
    }

    #[test]
    fn stand_in_is_a_first_attempt_without_a_deadline() {
        let cx = Context::current();
        assert_eq!(
            (cx.attempt(), cx.max_attempts(), cx.is_cancelled()),
            (1, 1, false)
        );
        assert_eq!(
            (cx.deadline(), cx.traceparent(), cx.content_type()),
            (None, None, None)
        );
    }
}
