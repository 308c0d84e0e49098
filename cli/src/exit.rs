//! How `tq` ends: exit codes, and the errors that carry one.

use std::error::Error;
use std::fmt;
use std::io;

use tq_client::Code;

/// An exit code. Scripts rely on them; they are listed in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// What was asked for was done; a task that was waited for has succeeded.
    Succeeded = 0,
    /// A task that was waited for ended otherwise, or the command failed.
    Ended = 1,
    /// The command line, a configuration file or a manifest is wrong.
    Usage = 2,
    /// There is no such task, module, function or file.
    NotFound = 3,
    /// The broker refused.
    Refused = 4,
    /// The broker cannot be reached.
    Unreachable = 5,
    /// Interrupted while waiting. The task goes on.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that knows its exit code and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Something that the user gave is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something that the user named is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// An error with any exit code.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

/// What to do about a key that may not go where it is to.
const HOW_TO_SEND: &str = "write `https://…`; where the network is private or a proxy on the way speaks TLS, --plaintext (or TQ_PLAINTEXT=true) lets it go";

/// What an error means for the exit code. A reader of our output that went away is no failure.
pub(crate) fn code(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(error) = cause.downcast_ref::<tq_client::Error>() {
            return match error {
                tq_client::Error::Address { .. }
                | tq_client::Error::Tls(_)
                | tq_client::Error::InTheClear(_)
                | tq_client::Error::ComponentTooLarge { .. } => Exit::Usage,
                tq_client::Error::Unreachable { .. } => Exit::Unreachable,
                tq_client::Error::Refused { code, .. } => match code {
                    Code::Unavailable => Exit::Unreachable,
                    _ => Exit::Refused,
                },
                tq_client::Error::Overloaded { .. } => Exit::Refused,
                tq_client::Error::NotFound { .. } => Exit::NotFound,
                tq_client::Error::File { source, .. } => match source.kind() {
                    io::ErrorKind::NotFound => Exit::NotFound,
                    _ => Exit::Ended,
                },
                tq_client::Error::Protocol { .. } | tq_client::Error::Thread { .. } => Exit::Ended,
            };
        }
        if let Some(tq_host::Error::InTheClear(_)) = cause.downcast_ref() {
            return Exit::Usage;
        }
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return Exit::Succeeded;
        }
    }
    Exit::Ended
}

/// The error as it is printed: what was wrong, with its causes, and what to do on a line of its own.
pub(crate) fn text(error: &anyhow::Error) -> String {
    let hint = error.chain().find_map(|cause| {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.hint.clone();
        }
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::AddrInUse
        {
            let hint =
                "another program listens there, perhaps another tq; choose a port with --listen";
            return Some(hint.to_owned());
        }
        if let Some(tq_host::Error::InTheClear(_)) = cause.downcast_ref() {
            return Some(HOW_TO_SEND.to_owned());
        }
        let error = cause.downcast_ref::<tq_client::Error>()?;
        let hint = match error {
            tq_client::Error::Unreachable { hint: None, .. } => {
                "start one with `tq dev`, or name another with --broker URL or TQ_BROKER"
            }
            tq_client::Error::InTheClear(_) => HOW_TO_SEND,
            tq_client::Error::Address { .. } => "write it like `http://127.0.0.1:7171`",
            _ => error.hint()?,
        };
        Some(hint.to_owned())
    });
    match hint {
        Some(hint) => format!("error: {error:#}\nhint: {hint}"),
        None => format!("error: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[track_caller]
    fn check(error: impl Into<anyhow::Error>, expected_exit: Exit, expected_text: &str) {
        let error = error.into();
        assert_eq!(
            (code(&error), text(&error).as_str()),
            (expected_exit, expected_text)
        );
    }

    #[test]
    fn errors_say_what_to_do_and_have_their_exit_code() {
        check(
            Failure::usage("no such limit").hint("try another"),
            Exit::Usage,
            "error: no such limit\nhint: try another",
        );
        let refused = tq_client::Error::Refused {
            code: Code::InvalidArgument,
            message: "payload has 9 bytes".into(),
            hint: Some("send less".into()),
        };
        check(
            anyhow::Error::from(refused).context("submit failed"),
            Exit::Refused,
            "error: submit failed: payload has 9 bytes\nhint: send less",
        );
        let unreachable = tq_client::Error::Unreachable {
            url: "http://b:1".into(),
            reason: "connection refused".into(),
            hint: None,
        };
        check(
            unreachable,
            Exit::Unreachable,
            "error: broker at `http://b:1` cannot be reached: connection refused\n\
             hint: start one with `tq dev`, or name another with --broker URL or TQ_BROKER",
        );
        let address = tq_client::Error::Address {
            url: "nonsense".into(),
            reason: "it names no port".into(),
        };
        check(
            address,
            Exit::Usage,
            "error: broker address `nonsense` is not valid: it names no port\n\
             hint: write it like `http://127.0.0.1:7171`",
        );
        let gone: Result<(), _> = Err(io::Error::from(io::ErrorKind::BrokenPipe));
        check(
            gone.context("failed to print").expect_err("it is an error"),
            Exit::Succeeded,
            "error: failed to print: broken pipe",
        );
    }
}
