//! What a call to the broker may end with, other than its answer.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

pub use tonic::Code;
use tonic::Status;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none that a broker could have.
    #[error("broker address `{url}` is not valid: {reason}")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] tq_tls::Error),
    /// The credential may not go to the broker's address.
    #[error(transparent)]
    InTheClear(#[from] tq_proto::InTheClear),
    /// No connection could be made, or it was lost before the answer came. Whether the broker acted is not known.
    #[error("broker at `{url}` cannot be reached: {reason}")]
    Unreachable {
        /// The broker's address.
        url: String,
        /// The innermost cause, such as `Connection refused`.
        reason: String,
        /// What to do about it, if that is more than to wait.
        hint: Option<&'static str>,
    },
    /// The broker said no. Nothing was changed.
    #[error("{message}")]
    Refused {
        /// The kind of refusal.
        code: Code,
        /// What was wrong, with the limit and the value.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The broker has too much to do, and takes in only what is more urgent; or the namespace has used up a quota that comes back
    /// with time. Nothing was changed.
    #[error("{message}")]
    Overloaded {
        /// What is short.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// How long from now there may be room.
        retry_after: Duration,
    },
    /// There is no such task, module or function.
    #[error("{message}")]
    NotFound {
        /// What there is not.
        message: String,
        /// What to do about it, such as names that are near.
        hint: Option<String>,
    },
    /// A file that was to be uploaded cannot be read.
    #[error("failed to read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that was to be uploaded is larger than a module may be.
    #[error("component has {len} bytes, over the limit of {max} bytes")]
    ComponentTooLarge {
        /// Its size in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The broker's answer lacks what it must have: it speaks another version of the protocol.
    #[error(
        "answer of the broker at `{url}` has no {lacking}; broker and client are of versions that do not match"
    )]
    Protocol {
        /// The broker's address.
        url: String,
        /// The missing part.
        lacking: &'static str,
    },
    /// The thread of a [blocking client](crate::blocking) cannot be started.
    #[error("failed to start the client's thread")]
    Thread {
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the same call may succeed later, without anything being done about it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Overloaded { .. } => true,
            Self::Refused { code, .. } => matches!(code, Code::Unavailable | Code::Aborted),
            Self::Address { .. }
            | Self::Tls(_)
            | Self::InTheClear(_)
            | Self::NotFound { .. }
            | Self::File { .. }
            | Self::ComponentTooLarge { .. }
            | Self::Protocol { .. }
            | Self::Thread { .. } => false,
        }
    }

    /// What to do about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. }
            | Self::Overloaded { hint, .. }
            | Self::NotFound { hint, .. } => hint.as_deref(),
            Self::Unreachable { hint, .. } => *hint,
            Self::Address { .. }
            | Self::Tls(_)
            | Self::InTheClear(_)
            | Self::File { .. }
            | Self::ComponentTooLarge { .. }
            | Self::Protocol { .. }
            | Self::Thread { .. } => None,
        }
    }

    /// The broker is not there, or not to be trusted.
    pub(crate) fn unreachable(url: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let tq_tls::Reason { text, hint } = tq_tls::reason(error);
        Self::Unreachable {
            url: url.to_owned(),
            reason: text,
            hint,
        }
    }

    /// Reads a status. One that the server sent has no source; one that the transport made up has.
    pub(crate) fn from_status(url: &str, status: &Status) -> Self {
        if let Some(source) = status.source() {
            return Self::unreachable(url, source);
        }
        let (message, hint) = split(status.message());
        let pushback = status.metadata().get(tq_proto::RETRY_PUSHBACK_MS);
        let pushback = pushback.and_then(|ms| ms.to_str().ok()?.parse().ok());
        if let (Code::ResourceExhausted, Some(ms)) = (status.code(), pushback) {
            return Self::Overloaded {
                message,
                hint,
                retry_after: Duration::from_millis(ms),
            };
        }
        match status.code() {
            Code::NotFound => Self::NotFound { message, hint },
            code => Self::Refused {
                code,
                message: if message.is_empty() {
                    format!("broker refused without a reason ({code})")
                } else {
                    message
                },
                hint,
            },
        }
    }
}

/// A status text is a message, or a message and a hint on a line of its own.
fn split(text: &str) -> (String, Option<String>) {
    match text.split_once("\nhint: ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.trim_end().to_owned())),
        None => (text.to_owned(), None),
    }
}

/// The last error of a chain: the outer ones only say `transport error`.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_is_split_from_the_message() {
        assert_eq!(split("no function `a`"), ("no function `a`".into(), None));
        assert_eq!(
            split("no function `a`\nhint: did you mean `b`?\n"),
            ("no function `a`".into(), Some("did you mean `b`?".into()))
        );
    }

    #[test]
    fn statuses_of_the_server_and_of_the_transport_are_told_apart() {
        let not_found = Error::from_status("u", &Status::not_found("no task `x`"));
        assert!(matches!(not_found, Error::NotFound { .. }), "{not_found:?}");
        let refused = Error::from_status("u", &Status::resource_exhausted("disk is full"));
        assert!(!refused.is_retryable(), "{refused:?}");
        assert_eq!(refused.to_string(), "disk is full");

        let mut overloaded = Status::resource_exhausted("too much\nhint: wait");
        let pushback = overloaded.metadata_mut();
        pushback.insert(tq_proto::RETRY_PUSHBACK_MS, 1_500.into());
        let overloaded = Error::from_status("u", &overloaded);
        assert!(overloaded.is_retryable(), "{overloaded:?}");
        assert_eq!(overloaded.hint(), Some("wait"));
        assert!(
            matches!(overloaded, Error::Overloaded { retry_after, .. } if retry_after.as_millis() == 1_500),
            "{overloaded:?}"
        );

        let lost = Status::from_error(Box::new(std::io::Error::other("connection reset")));
        let lost = Error::from_status("http://b", &lost);
        assert!(lost.is_retryable(), "{lost:?}");
        assert_eq!(
            lost.to_string(),
            "broker at `http://b` cannot be reached: connection reset"
        );
    }
}
