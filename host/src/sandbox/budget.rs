//! What a guest makes its host do: it costs the host time that fuel does not count.

use std::sync::atomic::{AtomicU64, Ordering};

use tq_core::{Limits, Outcome};

/// Counts the calls of one attempt and the random bytes that it gets. Whoever goes beyond a limit is interrupted where its
/// code goes on: the host's functions have no error of their own for it.
pub(crate) struct Budget {
    engine: wasmtime::Engine,
    limits: Limits,
    calls: AtomicU64,
    random_bytes: AtomicU64,
}

/// A budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exceeded {
    #[error("it called the host more than {0} times, which is the limit")]
    HostCalls(u64),
    #[error("it asked for {asked} random bytes in all, over the limit of {limit}")]
    Random { asked: u64, limit: u64 },
}

impl Exceeded {
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::HostCalls(_) => Outcome::HostCallLimit,
            Self::Random { .. } => Outcome::RandomLimit,
        }
    }
}

impl Budget {
    pub(crate) fn new(engine: &wasmtime::Engine, limits: Limits) -> Self {
        Self {
            engine: engine.clone(),
            limits,
            calls: AtomicU64::new(0),
            random_bytes: AtomicU64::new(0),
        }
    }

    /// The guest calls the host.
    pub(crate) fn count_call(&self) {
        self.count(&self.calls, 1, self.limits.host_calls);
    }

    /// The guest gets random bytes.
    pub(crate) fn count_random(&self, bytes: usize) {
        self.count(&self.random_bytes, bytes as u64, self.limits.random_bytes);
    }

    /// What is used up, if anything is.
    pub(crate) fn exceeded(&self) -> Option<Exceeded> {
        let Limits {
            host_calls,
            random_bytes,
            ..
        } = self.limits;
        let asked = self.random_bytes.load(Ordering::Relaxed);
        if asked > random_bytes {
            let limit = random_bytes;
            return Some(Exceeded::Random { asked, limit });
        }
        (self.calls.load(Ordering::Relaxed) > host_calls).then_some(Exceeded::HostCalls(host_calls))
    }

    fn count(&self, counter: &AtomicU64, more: u64, limit: u64) {
        // One thread at a time counts.
        let before = counter.load(Ordering::Relaxed);
        let after = before.saturating_add(more);
        counter.store(after, Ordering::Relaxed);
        if before <= limit && after > limit {
            // The guest is asked at its next step whether it may go on. So are all others, to whom that means nothing.
            self.engine.increment_epoch();
        }
    }
}
