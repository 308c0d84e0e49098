//! What attempts cost: the sum of what they used.

use crate::outcome::Usage;

/// What attempts have used, all together. Sums stay at their highest value rather than begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How many have ended, those included of which nobody knows what they used because their host was lost.
    pub attempts: u64,
    /// Fuel.
    pub fuel: u64,
    /// The highest sum of the memories of each, times how long it ran: in bytes times microseconds, so that what is short and
    /// small counts too.
    pub memory_byte_us: u128,
    /// Wall time, in nanoseconds.
    pub wall_ns: u64,
    /// Time on a processor, in nanoseconds.
    pub cpu_ns: u64,
    /// Bytes of their payloads.
    pub bytes_in: u64,
    /// Bytes of their results.
    pub bytes_out: u64,
}

impl Cost {
    /// What one attempt cost. `fuel_limit` is what it was given: no host can charge more than that.
    #[must_use]
    pub fn of(usage: &Usage, fuel_limit: u64, bytes_in: u64, bytes_out: u64) -> Self {
        let Usage {
            fuel,
            memory_bytes_peak,
            wall_ns,
            cpu_ns,
            log_bytes: _,
        } = *usage;
        Self {
            attempts: 1,
            fuel: fuel.min(fuel_limit),
            memory_byte_us: u128::from(memory_bytes_peak) * u128::from(wall_ns) / 1_000,
            wall_ns,
            cpu_ns,
            bytes_in,
            bytes_out,
        }
    }

    /// Adds what others cost.
    pub fn add(&mut self, other: &Self) {
        let Self {
            attempts,
            fuel,
            memory_byte_us,
            wall_ns,
            cpu_ns,
            bytes_in,
            bytes_out,
        } = other;
        self.attempts = self.attempts.saturating_add(*attempts);
        self.fuel = self.fuel.saturating_add(*fuel);
        self.memory_byte_us = self.memory_byte_us.saturating_add(*memory_byte_us);
        self.wall_ns = self.wall_ns.saturating_add(*wall_ns);
        self.cpu_ns = self.cpu_ns.saturating_add(*cpu_ns);
        self.bytes_in = self.bytes_in.saturating_add(*bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(*bytes_out);
    }

    /// Memory in bytes times seconds, rounded down.
    #[must_use]
    pub fn memory_byte_seconds(&self) -> u64 {
        u64::try_from(self.memory_byte_us / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_attempts_cost_what_they_cost() {
        let usage = Usage {
            fuel: 7,
            memory_bytes_peak: 64 << 10,
            wall_ns: 100_000,
            cpu_ns: 90_000,
            log_bytes: 5,
        };
        let mut sum = Cost::default();
        (0..1_000_000).for_each(|_| sum.add(&Cost::of(&usage, 10, 2, 3)));
        assert_eq!((sum.attempts, sum.fuel), (1_000_000, 7_000_000));
        assert_eq!(sum.memory_byte_seconds(), 100 * (64 << 10));
        assert_eq!((sum.bytes_in, sum.bytes_out), (2_000_000, 3_000_000));
        assert_eq!(
            Cost::of(&usage, 5, 0, 0).fuel,
            5,
            "no more than it was given"
        );
    }

    #[test]
    fn sums_do_not_begin_anew() {
        let mut sum = Cost {
            fuel: u64::MAX - 1,
            memory_byte_us: u128::MAX,
            ..Cost::default()
        };
        let most = Usage {
            fuel: u64::MAX,
            memory_bytes_peak: u64::MAX,
            wall_ns: u64::MAX,
            ..Usage::default()
        };
        sum.add(&Cost::of(&most, u64::MAX, 0, 0));
        assert_eq!((sum.fuel, sum.memory_byte_us), (u64::MAX, u128::MAX));
        assert_eq!(sum.memory_byte_seconds(), u64::MAX);
    }
}
