use std::fmt;
use std::time::Duration;

use crate::CheckpointError;

/// What a task returns; the error defaults to [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a task did not succeed, which decides whether it is tried again.
///
/// # From other errors
/// `?` turns any [`std::error::Error`] into one of these, its sources joined into the message:
/// - **fatal** if it says that bytes cannot be understood, since they will be the same next time: a [`serde_json::Error`] that
///   is not about reading or writing, the parse errors of numbers, UTF-8 errors, an [`std::io::Error`] of the kind `InvalidData`,
///   `InvalidInput` or `Unsupported`, a checkpoint that is too large;
/// - **retryable** otherwise. Attempts are bounded, so that retrying a lasting fault costs a little time, while
///   giving up on a passing one loses the task.
///
/// Where that is not what you want, say so: `.map_err(Error::fatal)?`. That also fits types which are not
/// [`std::error::Error`], such as `String` and `anyhow::Error`.
///
/// It is not a [`std::error::Error`] itself: the compiler would then not tell that conversion from the one of a type to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    InvalidInput,
    Retryable { after: Option<Duration> },
    Fatal,
}

impl Error {
    /// The payload is wrong: the task is dead at once, since no retry can help.
    #[must_use]
    pub fn invalid_input(message: impl fmt::Display) -> Self {
        Self {
            kind: Kind::InvalidInput,
            message: message.to_string(),
        }
    }

    /// Try again after the task's backoff, or [`after`](Self::after) a time of your choice, as long as attempts are left.
    #[must_use]
    pub fn retryable(message: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Retryable { after: None },
            message: message.to_string(),
        }
    }

    /// Do not try again.
    #[must_use]
    pub fn fatal(message: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Fatal,
            message: message.to_string(),
        }
    }

    /// Tries again after `delay`, to the millisecond, instead of the task's backoff. This makes the error retryable, whatever it was.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.kind = Kind::Retryable { after: Some(delay) };
        self
    }

    /// Whether the task may be tried again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            Kind::Retryable { .. } => true,
            Kind::InvalidInput | Kind::Fatal => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            message.push_str(": ");
            message.push_str(&error.to_string());
            source = error.source();
        }
        if is_lasting(&error) {
            Self::fatal(message)
        } else {
            Self::retryable(message)
        }
    }
}

/// Whether the same bytes will fail in the same way.
fn is_lasting(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<serde_json::Error>() {
        return !error.is_io();
    }
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        use std::io::ErrorKind::{InvalidData, InvalidInput, Unsupported};
        return matches!(error.kind(), InvalidData | InvalidInput | Unsupported);
    }
    if let Some(error) = error.downcast_ref::<CheckpointError>() {
        return matches!(error, CheckpointError::TooLarge { .. });
    }
    error.is::<std::str::Utf8Error>()
        || error.is::<std::string::FromUtf8Error>()
        || error.is::<std::num::ParseIntError>()
        || error.is::<std::num::ParseFloatError>()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::{Error, Kind};
    use crate::CheckpointError;

    #[track_caller]
    fn check(error: impl Into<Error>, retryable: bool, message: &str) {
        let error = error.into();
        assert_eq!(
            (error.is_retryable(), error.to_string().as_str()),
            (retryable, message)
        );
    }

    #[test]
    fn errors_of_others_are_retryable_unless_the_bytes_are_at_fault() {
        let json = serde_json::from_str::<u8>("[").expect_err("an array is no number");
        check(
            json,
            false,
            "invalid type: sequence, expected u8 at line 1 column 0",
        );
        check(
            "x".parse::<u8>().expect_err("x is no number"),
            false,
            "invalid digit found in string",
        );
        check(
            io::Error::new(io::ErrorKind::InvalidData, "not a picture"),
            false,
            "not a picture",
        );
        check(
            io::Error::new(io::ErrorKind::ConnectionReset, "reset"),
            true,
            "reset",
        );
        check(
            std::fmt::Error,
            true,
            "an error occurred when formatting an argument",
        );
        check(
            CheckpointError::TooLarge { limit: 4 },
            false,
            "checkpoint is over the limit of 4 bytes",
        );
        check(
            CheckpointError::Unavailable {
                reason: "disk full".into(),
            },
            true,
            "checkpoint was not kept: disk full",
        );
    }

    #[test]
    fn message_of_a_converted_error_names_its_sources() {
        #[derive(Debug)]
        struct Outer(io::Error);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("failed to fetch")
            }
        }
        impl std::error::Error for Outer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        check(
            Outer(io::Error::other("refused")),
            true,
            "failed to fetch: refused",
        );
    }

    #[test]
    fn a_delay_makes_an_error_retryable() {
        let error = Error::fatal("busy").after(Duration::from_secs(2));
        assert_eq!(
            error.kind,
            Kind::Retryable {
                after: Some(Duration::from_secs(2))
            }
        );
    }
}
