//! Queues: what a queue allows, and in which order it gives.

use std::time::Duration;

use crate::Timestamp;
use crate::limits::{CONCURRENCY_MAX, RATE_MAX, RATE_SPAN_MAX};

/// In which order the tasks of a queue run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The higher priority first, and the first in of those that have the same.
    #[default]
    Priority,
    /// The first in first, whatever its priority.
    Fifo,
}

impl Order {
    /// Its name on the wire and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Fifo => "fifo",
        }
    }
}

/// So many starts in a span of time, as a token bucket: `burst` may come at once, and what was spent comes back evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Starts in one span: 1 to [`RATE_MAX`].
    pub tasks: u32,
    /// The span: 1 ms to [`RATE_SPAN_MAX`].
    pub per: Duration,
    /// Starts at once after a pause: 1 to [`RATE_MAX`].
    pub burst: u32,
}

impl Rate {
    /// So many in a second, and as many at once.
    #[must_use]
    pub fn per_second(tasks: u32) -> Self {
        Self {
            tasks,
            per: Duration::from_secs(1),
            burst: tasks,
        }
    }
}

/// What a queue is set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// In which order its tasks run.
    pub order: Order,
    /// How many of its tasks run at once: 1 to [`CONCURRENCY_MAX`]; no limit if none.
    pub concurrency: Option<u32>,
    /// How many of its tasks start; no limit if none.
    pub rate: Option<Rate>,
    /// Nothing of it starts. What runs goes on.
    pub is_paused: bool,
}

/// Why something is no [`Settings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The concurrency limit is out of its range.
    #[error("concurrency is {0}; it may be 1 to {CONCURRENCY_MAX}; to stop a queue, pause it")]
    Concurrency(u32),
    /// A number of the rate is out of its range.
    #[error("{what} is {value}; it may be 1 to {RATE_MAX}; to stop a queue, pause it")]
    Rate {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// The span of the rate is out of its range.
    #[error("the span of the rate is {0:?}; it may be 1 ms to {RATE_SPAN_MAX:?}")]
    Span(Duration),
}

impl Settings {
    /// Checks each number against its range.
    ///
    /// # Errors
    /// [`SettingsError`] names the first that is outside.
    pub fn check(&self) -> Result<(), SettingsError> {
        if let Some(limit) = self
            .concurrency
            .filter(|limit| !(1..=CONCURRENCY_MAX).contains(limit))
        {
            return Err(SettingsError::Concurrency(limit));
        }
        let Some(rate) = self.rate else {
            return Ok(());
        };
        for (what, value) in [("rate", rate.tasks), ("burst", rate.burst)] {
            if !(1..=RATE_MAX).contains(&value) {
                return Err(SettingsError::Rate { what, value });
            }
        }
        if rate.per < Duration::from_millis(1) || rate.per > RATE_SPAN_MAX {
            return Err(SettingsError::Span(rate.per));
        }
        Ok(())
    }
}

/// What is left of a [`Rate`]: a token bucket (Turner, *New directions in communications*, 1986). It counts in
/// milliseconds times tasks, so that nothing is lost to rounding.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    /// Tokens times the span of the rate in milliseconds.
    level: u64,
    at: Timestamp,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn full(rate: Rate, now: Timestamp) -> Self {
        let mut bucket = Self::empty(rate, now);
        bucket.level = bucket.brim();
        bucket
    }

    /// An empty one: what was spent before is not known.
    #[must_use]
    pub fn empty(rate: Rate, now: Timestamp) -> Self {
        Self {
            rate,
            level: 0,
            at: now,
        }
    }

    /// The same under another rate. What was saved stays, as far as the new rate allows.
    #[must_use]
    pub fn at_rate(self, rate: Rate, now: Timestamp) -> Self {
        let mut before = self;
        before.fill(now);
        let tokens = before.level / before.span();
        let mut after = Self::empty(rate, now);
        after.level = tokens.saturating_mul(after.span()).min(after.brim());
        after
    }

    /// When the next task may start: now, or later.
    pub fn ready_at(&mut self, now: Timestamp) -> Timestamp {
        self.ready_after(self.span(), now)
    }

    /// When so many tasks may come at once: now, or later; none if they are more than the burst, so that they never may.
    pub fn ready_for(&mut self, tasks: u64, now: Timestamp) -> Option<Timestamp> {
        let wanted = tasks.saturating_mul(self.span());
        (tasks <= u64::from(self.rate.burst)).then(|| self.ready_after(wanted, now))
    }

    /// Counts a start.
    pub fn take(&mut self, now: Timestamp) {
        self.take_many(1, now);
    }

    /// Counts so many.
    pub fn take_many(&mut self, tasks: u64, now: Timestamp) {
        self.fill(now);
        self.level = self.level.saturating_sub(tasks.saturating_mul(self.span()));
    }

    fn ready_after(&mut self, wanted: u64, now: Timestamp) -> Timestamp {
        self.fill(now);
        let missing = wanted.saturating_sub(self.level);
        now.after(Duration::from_millis(
            missing.div_ceil(u64::from(self.rate.tasks)),
        ))
    }

    fn fill(&mut self, now: Timestamp) {
        let gone = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let more = gone.saturating_mul(u64::from(self.rate.tasks));
        self.level = self.level.saturating_add(more).min(self.brim());
        self.at = self.at.max(now);
    }

    fn span(&self) -> u64 {
        u64::try_from(self.rate.per.as_millis()).unwrap_or(u64::MAX)
    }

    fn brim(&self) -> u64 {
        u64::from(self.rate.burst).saturating_mul(self.span())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_span_has_more_starts_than_rate_and_burst(
            tasks in 1_u32..50, per in 1_u64..5_000, burst in 1_u32..20,
            steps in prop::collection::vec(0_u64..700, 1..200),
        ) {
            let rate = Rate { tasks, per: Duration::from_millis(per), burst };
            let mut bucket = Bucket::full(rate, Timestamp(0));
            let (mut now, mut starts) = (Timestamp(0), Vec::new());
            for step in steps {
                now.0 += step;
                while bucket.ready_at(now) == now {
                    bucket.take(now);
                    starts.push(now.0);
                }
                let next = bucket.ready_at(now);
                prop_assert!(next > now);
                prop_assert_eq!(bucket.ready_at(next), next, "it is ready when it says so");
                now = next;
            }
            for (index, first) in starts.iter().enumerate() {
                for (further, last) in starts[index..].iter().enumerate() {
                    let allowed = u64::from(burst) + (last - first) * u64::from(tasks) / per;
                    prop_assert!(further as u64 <= allowed, "{} starts in {} ms", further + 1, last - first);
                }
            }
        }
    }

    #[test]
    fn many_at_once_come_when_as_many_are_saved_up_or_never() {
        let mut bucket = Bucket::full(Rate::per_second(10), Timestamp(0));
        assert_eq!(bucket.ready_for(11, Timestamp(0)), None);
        assert_eq!(bucket.ready_for(10, Timestamp(0)), Some(Timestamp(0)));
        bucket.take_many(7, Timestamp(0));
        assert_eq!(bucket.ready_for(3, Timestamp(0)), Some(Timestamp(0)));
        assert_eq!(bucket.ready_for(5, Timestamp(0)), Some(Timestamp(200)));
        assert_eq!(bucket.ready_for(5, Timestamp(200)), Some(Timestamp(200)));
        assert_eq!(bucket.ready_for(0, Timestamp(200)), Some(Timestamp(200)));
    }

    #[test]
    fn a_changed_rate_gives_nothing_for_free() {
        let slow = Rate {
            tasks: 1,
            per: Duration::from_secs(1),
            burst: 5,
        };
        let fast = Rate {
            tasks: 100,
            per: Duration::from_secs(1),
            burst: 100,
        };
        let mut bucket = Bucket::full(slow, Timestamp(0));
        (0..4).for_each(|_| bucket.take(Timestamp(0)));
        let mut bucket = bucket.at_rate(fast, Timestamp(0));
        assert_eq!(bucket.ready_at(Timestamp(0)), Timestamp(0));
        bucket.take(Timestamp(0));
        assert_eq!(bucket.ready_at(Timestamp(0)), Timestamp(10));
    }

    #[test]
    fn settings_say_what_is_out_of_range() {
        let rate = |tasks, ms, burst| Settings {
            rate: Some(Rate {
                tasks,
                per: Duration::from_millis(ms),
                burst,
            }),
            ..Settings::default()
        };
        let said = |settings: Settings| settings.check().map_err(|error| error.to_string());
        assert_eq!(said(rate(10, 1_000, 1)), Ok(()));
        assert_eq!(
            said(rate(0, 1_000, 1)),
            Err("rate is 0; it may be 1 to 1000000; to stop a queue, pause it".to_owned())
        );
        assert_eq!(
            said(rate(1, 0, 1)),
            Err("the span of the rate is 0ns; it may be 1 ms to 86400s".to_owned())
        );
        let none = Settings {
            concurrency: Some(0),
            ..Settings::default()
        };
        assert_eq!(
            said(none),
            Err("concurrency is 0; it may be 1 to 1000000; to stop a queue, pause it".to_owned())
        );
    }
}
