//! When a failed task is tried again.

use std::time::Duration;

use crate::limits::ATTEMPTS_MAX;
use crate::{TaskId, Timestamp};

/// How often and how soon a task is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included: 1 to [`ATTEMPTS_MAX`].
    pub max_attempts: u32,
    /// The longest pause before the second attempt; each further one may be twice as long.
    pub backoff: Duration,
    /// The longest pause of all.
    pub cap: Duration,
}

impl RetryPolicy {
    /// Three attempts, with pauses of up to 1 s and 2 s.
    pub const DEFAULT: Self = Self {
        max_attempts: 3,
        backoff: Duration::from_secs(1),
        cap: Duration::from_secs(300),
    };

    /// Checks that it allows at least one attempt and at most [`ATTEMPTS_MAX`].
    ///
    /// # Errors
    /// [`AttemptsOutOfRange`] with the number that it has.
    pub fn check(&self) -> Result<(), AttemptsOutOfRange> {
        if (1..=ATTEMPTS_MAX).contains(&self.max_attempts) {
            Ok(())
        } else {
            Err(AttemptsOutOfRange(self.max_attempts))
        }
    }

    /// When the next attempt may start after `made` of them failed, or none if they are used up.
    ///
    /// The pause is drawn evenly from zero to `min(cap, backoff × 2^(made − 1))` ("full jitter", Brooker, *Exponential
    /// Backoff and Jitter*, 2015), from the task's id and `made` alone, so that a replay draws the same. A guest that
    /// named its own pause gets that instead, but not beyond a day.
    #[must_use]
    pub fn retry_at(
        &self,
        id: TaskId,
        made: u32,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
        if made >= self.max_attempts {
            return None;
        }
        let pause = retry_after.map_or_else(
            || {
                let doublings = made.saturating_sub(1).min(31);
                let longest = self.backoff.saturating_mul(1 << doublings).min(self.cap);
                longest.mul_f64(unit(id, made).min(1.0))
            },
            |asked| asked.min(RETRY_AFTER_MAX),
        );
        Some(now.after(pause))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A retry policy of which only some is named. What is not is inherited: a task from its function, a function from its
/// module, a module from its namespace, a namespace from [`RetryPolicy::DEFAULT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOverrides {
    /// As [`RetryPolicy::max_attempts`].
    pub max_attempts: Option<u32>,
    /// As [`RetryPolicy::backoff`].
    pub backoff: Option<Duration>,
    /// As [`RetryPolicy::cap`].
    pub cap: Option<Duration>,
}

impl RetryOverrides {
    /// What is named here in place of what is inherited.
    #[must_use]
    pub fn over(self, inherited: RetryPolicy) -> RetryPolicy {
        let Self {
            max_attempts,
            backoff,
            cap,
        } = self;
        RetryPolicy {
            max_attempts: max_attempts.unwrap_or(inherited.max_attempts),
            backoff: backoff.unwrap_or(inherited.backoff),
            cap: cap.unwrap_or(inherited.cap),
        }
    }

    /// What is named here, and what `below` names beside it.
    #[must_use]
    pub fn or(self, below: Self) -> Self {
        Self {
            max_attempts: self.max_attempts.or(below.max_attempts),
            backoff: self.backoff.or(below.backoff),
            cap: self.cap.or(below.cap),
        }
    }

    /// Checks what is named as [`RetryPolicy::check`] does.
    ///
    /// # Errors
    /// [`AttemptsOutOfRange`] with the number that it has.
    pub fn check(self) -> Result<(), AttemptsOutOfRange> {
        self.over(RetryPolicy::DEFAULT).check()
    }
}

/// A number of attempts that no policy may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("max_attempts is {0}; it may be 1 to {ATTEMPTS_MAX}")]
pub struct AttemptsOutOfRange(u32);

/// A number from 0 to 1, even over ids: the finalizer of splitmix64 (Steele, Lea, Flood 2014) over the id's random half.
fn unit(id: TaskId, made: u32) -> f64 {
    let mut seed = [0; 8];
    seed.copy_from_slice(&id.0[8..]);
    let mut x =
        u64::from_be_bytes(seed).wrapping_add(u64::from(made).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    // The upper 53 bits are what a double holds exactly.
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    proptest! {
        #[test]
        fn pauses_stay_under_their_bound(id: [u8; 16], made in 1_u32..200, backoff in 0_u64..100_000, cap in 0_u64..1_000_000) {
            let policy = RetryPolicy { max_attempts: 300, backoff: Duration::from_millis(backoff), cap: Duration::from_millis(cap) };
            let at = policy.retry_at(TaskId(id), made, None, NOW).expect("attempts are left");
            prop_assert!(at >= NOW);
            let bound = policy.backoff.saturating_mul(1 << (made - 1).min(31)).min(policy.cap);
            prop_assert!(at <= NOW.after(bound));
        }
    }

    #[test]
    fn jitter_spreads_over_the_whole_pause() {
        let pauses: Vec<_> = (0..1000_u64)
            .map(|n| {
                let mut id = [0; 16];
                id[8..].copy_from_slice(&n.to_be_bytes());
                RetryPolicy::DEFAULT
                    .retry_at(TaskId(id), 1, None, NOW)
                    .expect("attempts are left")
                    .since(NOW)
                    .as_millis()
            })
            .collect();
        let below = |bound| pauses.iter().filter(|pause| **pause < bound).count();
        assert!(
            (150..350).contains(&below(250)),
            "{} of 1000 in the first quarter",
            below(250)
        );
        assert!(
            (650..850).contains(&below(750)),
            "{} of 1000 in the first three quarters",
            below(750)
        );
    }

    #[test]
    fn attempts_are_used_up_at_their_number() {
        let policy = RetryPolicy {
            max_attempts: 2,
            ..RetryPolicy::DEFAULT
        };
        assert!(policy.retry_at(TaskId([0; 16]), 1, None, NOW).is_some());
        assert_eq!(policy.retry_at(TaskId([0; 16]), 2, None, NOW), None);
    }

    #[test]
    fn what_is_named_nearest_to_the_task_wins() {
        let named = |max_attempts, backoff_s: Option<u64>| RetryOverrides {
            max_attempts,
            backoff: backoff_s.map(Duration::from_secs),
            cap: None,
        };
        let (task, function, namespace) = (
            named(Some(9), None),
            named(Some(5), Some(7)),
            named(Some(2), Some(3)),
        );
        let policy = task.or(function).or(namespace).over(RetryPolicy::DEFAULT);
        let expected = RetryPolicy {
            max_attempts: 9,
            backoff: Duration::from_secs(7),
            cap: RetryPolicy::DEFAULT.cap,
        };
        assert_eq!(policy, expected);
        assert!(named(Some(0), None).check().is_err());
        assert!(RetryOverrides::default().check().is_ok());
    }

    #[test]
    fn a_guest_may_name_its_own_pause() {
        let pause = Duration::from_secs(7);
        assert_eq!(
            RetryPolicy::DEFAULT.retry_at(TaskId([0; 16]), 1, Some(pause), NOW),
            Some(NOW.after(pause))
        );
    }
}
