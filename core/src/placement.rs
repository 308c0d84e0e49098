//! Where a task may run, and beside what: its queue, the hosts that suit it, and its concurrency key.

use crate::label::Labels;
use crate::limits::{CONCURRENCY_KEY_BYTES_MAX, CONCURRENCY_MAX};

/// The queue of everything that names none.
pub const DEFAULT_QUEUE: &str = "default";

/// Whether a name is that of the queue which every namespace has.
#[must_use]
pub fn is_default_queue(name: &str) -> bool {
    name.is_empty() || name == DEFAULT_QUEUE
}

/// Under which conditions a task may run, beside its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Its queue; empty is [`DEFAULT_QUEUE`].
    pub queue: String,
    /// Labels that a host has to have.
    pub required: Labels,
    /// Labels of hosts that are taken first.
    pub preferred: Labels,
    /// Tasks that it does not run beside.
    pub concurrency: Option<Concurrency>,
}

/// At most so many tasks of one key run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// What they have in common, in their namespace: 1 to [`CONCURRENCY_KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// How many of them run: 1 to [`CONCURRENCY_MAX`].
    pub limit: u32,
}

/// Why something is no [`Placement`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A concurrency key is too long or empty.
    #[error("concurrency key has {0} bytes; it may have 1 to {CONCURRENCY_KEY_BYTES_MAX}")]
    Key(usize),
    /// A concurrency limit is out of its range.
    #[error("concurrency limit is {0}; it may be 1 to {CONCURRENCY_MAX}")]
    Limit(u32),
}

impl Placement {
    /// The name of its queue.
    #[must_use]
    pub fn queue(&self) -> &str {
        if self.queue.is_empty() {
            DEFAULT_QUEUE
        } else {
            &self.queue
        }
    }
}

impl Concurrency {
    /// Checks a key and its limit.
    ///
    /// # Errors
    /// [`PlacementError`] names what is out of its range.
    pub fn new(key: String, limit: u32) -> Result<Self, PlacementError> {
        if key.is_empty() || key.len() > CONCURRENCY_KEY_BYTES_MAX {
            return Err(PlacementError::Key(key.len()));
        }
        if !(1..=CONCURRENCY_MAX).contains(&limit) {
            return Err(PlacementError::Limit(limit));
        }
        Ok(Self { key, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named() {
        assert_eq!(
            Concurrency::new(String::new(), 1),
            Err(PlacementError::Key(0))
        );
        assert_eq!(
            Concurrency::new("k".into(), 0).map_err(|error| error.to_string()),
            Err("concurrency limit is 0; it may be 1 to 1000000".to_owned())
        );
    }
}
