//! Times that were measured, and what is said of many of them.

use std::time::{Duration, Instant};

/// A watch that was started. The one clock of the measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a measurement is about real time"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Times of many equal things.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that half of them do not exceed.
    pub(crate) fn p50(&mut self) -> Duration {
        self.percentile(0.5)
    }

    /// The time that 99 of 100 do not exceed.
    pub(crate) fn p99(&mut self) -> Duration {
        self.percentile(0.99)
    }

    /// The sample that this share of the samples does not exceed; zero without samples.
    fn percentile(&mut self, share: f64) -> Duration {
        self.0.sort_unstable();
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(samples: &[u64], share: f64, expected: u64) {
        let mut samples: Samples = samples.iter().copied().map(Duration::from_nanos).collect();
        assert_eq!(samples.percentile(share), Duration::from_nanos(expected));
    }

    #[test]
    fn percentiles_are_samples() {
        check(&[], 0.5, 0);
        check(&[7], 0.99, 7);
        check(&[4, 1, 3, 2], 0.5, 2);
        check(&[4, 1, 3, 2], 1.0, 4);
        let hundred: Vec<u64> = (1..=100).collect();
        check(&hundred, 0.99, 99);
    }
}
