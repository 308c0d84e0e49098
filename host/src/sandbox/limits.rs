//! Memory: one sum over everything that an attempt's instances hold.

use wasmtime::ResourceLimiter;

use tq_core::limits::{INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};

/// What one element of a table takes.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Counts and limits the memory of one attempt.
///
/// The engine's own limiter counts each memory by itself, so that a guest with eight of them would have eight times
/// its limit.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: u64,
    used: u64,
    peak: u64,
    /// The last growth that was allowed, to be taken back if it fails.
    last: u64,
    denied: Option<u64>,
    is_host_short: bool,
}

impl Meter {
    /// At most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            peak: 0,
            last: 0,
            denied: None,
            is_host_short: false,
        }
    }

    /// The highest sum so far, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// The sum that the first refused growth asked for, in bytes, if there was one.
    pub(crate) fn denied(&self) -> Option<u64> {
        self.denied
    }

    /// Whether the machine could not give what the limit allows.
    pub(crate) fn is_host_short(&self) -> bool {
        self.is_host_short
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let sum = self.used.saturating_add(bytes);
        if sum > self.limit {
            self.denied.get_or_insert(sum);
            return false;
        }
        self.used = sum;
        self.last = bytes;
        self.peak = self.peak.max(sum);
        true
    }

    fn take_back(&mut self) {
        self.used = self.used.saturating_sub(self.last);
        self.last = 0;
        self.is_host_short = true;
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let added = desired.saturating_sub(current);
        // A growth beyond the memory's own maximum fails in any case, and is no doing of ours unless it is also beyond
        // the limit.
        if maximum.is_some_and(|maximum| desired > maximum)
            && self.used.saturating_add(added as u64) <= self.limit
        {
            return Ok(false);
        }
        Ok(self.grow(added))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::warn!(
            error = format!("{error:#}"),
            "no memory for a guest within its limit"
        );
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) && desired <= TABLE_ELEMENTS_MAX {
            return Ok(false);
        }
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        let added = bytes(desired).saturating_sub(bytes(current));
        if desired > TABLE_ELEMENTS_MAX {
            self.denied
                .get_or_insert(self.used.saturating_add(added as u64));
            return Ok(false);
        }
        Ok(self.grow(added))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 1 << 16;

    #[test]
    fn memories_and_tables_are_one_sum() {
        let mut meter = Meter::new(4 * PAGE as u64);
        assert!(meter.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(meter.memory_growing(0, PAGE, None).unwrap());
        assert!(meter.table_growing(0, PAGE / 8, None).unwrap());
        assert_eq!(meter.denied(), None);
        assert!(!meter.memory_growing(PAGE, 2 * PAGE, None).unwrap());
        assert_eq!(meter.denied(), Some(5 * PAGE as u64));
        assert_eq!(meter.peak(), 4 * PAGE as u64);
    }

    #[test]
    fn maximum_that_a_memory_declares_is_no_denial() {
        let mut meter = Meter::new(8 * PAGE as u64);
        assert!(
            !meter
                .memory_growing(PAGE, 3 * PAGE, Some(2 * PAGE))
                .unwrap()
        );
        assert_eq!(meter.denied(), None);
        assert!(
            !meter
                .memory_growing(PAGE, 30 * PAGE, Some(2 * PAGE))
                .unwrap()
        );
        assert_eq!(meter.denied(), Some(29 * PAGE as u64));
    }

    #[test]
    fn growth_that_failed_is_not_counted() {
        let mut meter = Meter::new(2 * PAGE as u64);
        assert!(meter.memory_growing(0, 2 * PAGE, None).unwrap());
        meter
            .memory_grow_failed(wasmtime::format_err!("no memory"))
            .unwrap();
        assert!(meter.is_host_short());
        assert!(meter.memory_growing(0, 2 * PAGE, None).unwrap());
    }
}
