//! Stands in for the host where there is none, so that an author's tests run on their own machine.

use std::cell::RefCell;

use crate::{CheckpointError, Level, SecretError};

thread_local! {
    /// A thread of the test harness runs one test, so that tests do not see each other's checkpoints.
    static CHECKPOINT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

pub(crate) fn task_id() -> String {
    "local".to_owned()
}

pub(crate) fn attempt() -> u32 {
    1
}

pub(crate) fn max_attempts() -> u32 {
    1
}

pub(crate) fn namespace() -> String {
    "default".to_owned()
}

pub(crate) fn content_type() -> String {
    String::new()
}

pub(crate) fn deadline_ms() -> Option<u64> {
    None
}

pub(crate) fn traceparent() -> Option<String> {
    None
}

pub(crate) fn is_cancelled() -> bool {
    false
}

pub(crate) fn progress(_fraction: f64, _note: &str) {}

pub(crate) fn checkpoint_save(state: &[u8]) -> Result<(), CheckpointError> {
    CHECKPOINT.set(Some(state.to_vec()));
    Ok(())
}

pub(crate) fn checkpoint_load() -> Option<Vec<u8>> {
    CHECKPOINT.with_borrow(Clone::clone)
}

pub(crate) fn secret(name: &str) -> Result<Vec<u8>, SecretError> {
    let variable = name.to_ascii_uppercase().replace(['-', '.'], "_");
    let variable = format!("TQ_SECRET_{variable}");
    match std::env::var(&variable) {
        Ok(value) => Ok(value.into_bytes()),
        Err(_) => Err(SecretError::Missing {
            reason: format!(
                "the variable `{variable}` stands in for the secret `{name}`, and is not set"
            ),
        }),
    }
}

pub(crate) fn log(_level: Level, _message: &str) {}

/// Nothing has to be kept by the linker here.
pub(crate) fn link() {}
