//! The host, and the one export through which it calls.
#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "`export!` writes them; there are no others here"
)]

use crate::bindings::exports::tq::task::handler;
use crate::bindings::tq::task::{runtime, secrets, types};
use crate::error::Kind;
use crate::{CheckpointError, Context, Error, Level, SecretError, registry};

pub(crate) use runtime::{
    attempt, checkpoint_load, content_type, deadline_ms, is_cancelled, max_attempts, namespace,
    progress, task_id, traceparent,
};

pub(crate) fn checkpoint_save(state: &[u8]) -> Result<(), CheckpointError> {
    runtime::checkpoint_save(state).map_err(|error| match error {
        types::CheckpointError::TooLarge(limit) => CheckpointError::TooLarge { limit },
        types::CheckpointError::Unavailable(reason) => CheckpointError::Unavailable { reason },
    })
}

pub(crate) fn secret(name: &str) -> Result<Vec<u8>, SecretError> {
    secrets::get(name).map_err(|error| match error {
        secrets::SecretError::NotGranted(reason) => SecretError::NotGranted { reason },
        secrets::SecretError::Missing(reason) => SecretError::Missing { reason },
        secrets::SecretError::Unavailable(reason) => SecretError::Unavailable { reason },
    })
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => types::Level::Trace,
        Level::Debug => types::Level::Debug,
        Level::Info => types::Level::Info,
        Level::Warn => types::Level::Warn,
        Level::Error => types::Level::Error,
    };
    runtime::log(level, message);
}

impl From<Error> for types::TaskError {
    fn from(Error { kind, message }: Error) -> Self {
        match kind {
            Kind::InvalidInput => Self::InvalidInput(message),
            Kind::Retryable { after } => Self::Retryable(types::Retry {
                message,
                after_ms: after.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            }),
            Kind::Fatal => Self::Fatal(message),
        }
    }
}

struct Handler;

impl handler::Guest for Handler {
    fn run(function: String, payload: Vec<u8>) -> Result<Vec<u8>, types::TaskError> {
        registry::run(&function, Context::current(), payload).map_err(Into::into)
    }
}

crate::bindings::export!(Handler with_types_in crate::bindings);

/// Every registration calls this, so that the linker takes this object file, with the exports above, out of the library.
#[inline(never)]
pub(crate) fn link() {
    std::hint::black_box(());
}
