//! How much of its limit a scratch directory takes.

use super::fault::Fault;

/// Counts bytes up to a limit.
#[derive(Debug)]
pub(super) struct Space {
    limit: u64,
    used: u64,
    denied: Option<u64>,
}

impl Space {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            denied: None,
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// The sum that was asked for when it first was too much.
    pub(super) fn denied(&self) -> Option<u64> {
        self.denied
    }

    /// Takes as many bytes, or none.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Fault> {
        self.exchange(0, bytes)
    }

    /// Gives some bytes back and takes others, or does neither.
    pub(super) fn exchange(&mut self, given: u64, taken: u64) -> Result<(), Fault> {
        let sum = self.without(given).saturating_add(taken);
        if sum > self.limit {
            self.denied.get_or_insert(sum);
            return Err(Fault::Full);
        }
        self.used = sum;
        Ok(())
    }

    /// Gives back what was taken.
    pub(super) fn give(&mut self, bytes: u64) {
        self.used = self.without(bytes);
    }

    fn without(&self, bytes: u64) -> u64 {
        debug_assert!(bytes <= self.used, "more is given back than was taken");
        self.used.saturating_sub(bytes)
    }
}
