//! Circuit breakers: whether tasks of a function start, by how its last attempts ended (Nygard, *Release It!*, 2007).
//!
//! A breaker is *closed* as long as its function works: everything starts. When too many attempts of the last minute have
//! failed it *opens*: nothing starts for a while, so that tasks wait instead of using up their attempts on what cannot
//! succeed. Then it is *half open*: one task at a time starts, as a *probe*. A few successes in a row close it; a failure
//! opens it again, for twice as long.
//!
//! Time is the ledger's, and comes in.

use std::fmt;
use std::time::Duration;

use crate::limits::{
    BREAKER_FAILURE_PERCENT, BREAKER_PAUSE_MAX, BREAKER_PAUSE_MIN, BREAKER_PROBES, BREAKER_WINDOW,
};
use crate::{Outcome, Timestamp};

/// Parts of a window. What is older than it goes a part at a time.
const PARTS: usize = 6;

/// Where a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything starts.
    Closed,
    /// Nothing starts.
    Open,
    /// One task at a time starts, as a probe.
    HalfOpen,
}

impl Phase {
    /// Its name on the wire and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What an operator makes of a breaker, whatever the attempts say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Nothing starts.
    Open,
    /// Everything starts.
    Closed,
}

impl Forced {
    /// Where the breaker is by it.
    #[must_use]
    pub fn phase(self) -> Phase {
        match self {
            Self::Open => Phase::Open,
            Self::Closed => Phase::Closed,
        }
    }
}

/// How many attempts ended, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All that ended.
    pub ended: u32,
    /// Those that failed.
    pub failed: u32,
}

impl Tally {
    /// Whether so many failed that the breaker opens, if at least `attempts_min` have ended.
    #[must_use]
    pub fn is_too_much(self, attempts_min: u32) -> bool {
        let Self { ended, failed } = self;
        ended >= attempts_min
            && u64::from(failed) * 100 >= u64::from(ended) * u64::from(BREAKER_FAILURE_PERCENT)
    }
}

/// The attempts that ended in the last [`BREAKER_WINDOW`], to a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// By the number of their part, modulo [`PARTS`].
    parts: [Tally; PARTS],
    /// The number of the newest part: of those since 1970.
    newest: u64,
}

impl Window {
    /// Counts an attempt that ended.
    fn count(&mut self, is_failure: bool, now: Timestamp) {
        let number = part(now);
        if number >= self.newest.saturating_add(PARTS as u64) {
            self.parts = [Tally::default(); PARTS];
        } else {
            (self.newest + 1..=number).for_each(|number| *self.part(number) = Tally::default());
        }
        self.newest = self.newest.max(number);
        let tally = self.part(self.newest);
        tally.ended = tally.ended.saturating_add(1);
        tally.failed = tally.failed.saturating_add(u32::from(is_failure));
    }

    fn part(&mut self, number: u64) -> &mut Tally {
        &mut self.parts[(number % PARTS as u64) as usize]
    }

    /// What is in it.
    #[must_use]
    pub fn tally(&self, now: Timestamp) -> Tally {
        let past = part(now).saturating_sub(self.newest);
        let kept = (PARTS as u64).saturating_sub(past);
        let numbers = (0..kept).map(|back| self.newest.wrapping_sub(back) % PARTS as u64);
        let tallies = numbers.map(|index| self.parts[index as usize]);
        tallies.fold(Tally::default(), |sum, tally| Tally {
            ended: sum.ended.saturating_add(tally.ended),
            failed: sum.failed.saturating_add(tally.failed),
        })
    }
}

/// The number of the part that a time is in.
fn part(at: Timestamp) -> u64 {
    at.0 / (BREAKER_WINDOW.as_millis() as u64 / PARTS as u64)
}

/// The breaker of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// The function works, as far as is known.
    Closed {
        /// What is known.
        window: Window,
    },
    /// It does not.
    Open {
        /// When it is tried again.
        until: Timestamp,
        /// How long the pause is.
        pause: Duration,
    },
    /// It is tried again.
    HalfOpen {
        /// Probes that succeeded, one after the other; fewer than [`BREAKER_PROBES`].
        successes: u32,
        /// How long the last pause was.
        pause: Duration,
    },
}

/// What became of a breaker by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Too many attempts failed.
    Opened {
        /// The attempts of the window.
        tally: Tally,
        /// How the last of them failed.
        last: Outcome,
        /// How long nothing starts.
        pause: Duration,
    },
    /// The pause is over.
    HalfOpened,
    /// A probe failed.
    Reopened {
        /// How.
        last: Outcome,
        /// How long nothing starts.
        pause: Duration,
    },
    /// Enough probes succeeded.
    Closed,
}

impl fmt::Display for Change {
    /// Why, for a person to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened {
                tally: Tally { ended, failed },
                last,
                pause,
            } => write!(
                f,
                "{failed} of {ended} attempts failed within {BREAKER_WINDOW:?}, the last with `{last}`; nothing starts for {pause:?}"
            ),
            Self::HalfOpened => {
                f.write_str("the pause is over; one task at a time starts, as a probe")
            }
            Self::Reopened { last, pause } => {
                write!(
                    f,
                    "a probe failed with `{last}`; nothing starts for {pause:?}"
                )
            }
            Self::Closed => write!(f, "{BREAKER_PROBES} probes in a row succeeded"),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed {
            window: Window::default(),
        }
    }
}

impl Breaker {
    /// One whose next attempt is a probe. It knows of no pause before.
    #[must_use]
    pub fn half_open() -> Self {
        Self::HalfOpen {
            successes: 0,
            pause: BREAKER_PAUSE_MIN / 2,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::Closed { .. } => Phase::Closed,
            Self::Open { .. } => Phase::Open,
            Self::HalfOpen { .. } => Phase::HalfOpen,
        }
    }

    /// Takes note of an attempt that ended and was no probe; `failure` is how it failed, if it did. The breaker does not
    /// open before `attempts_min` have ended.
    pub fn ended(
        &mut self,
        failure: Option<Outcome>,
        attempts_min: u32,
        now: Timestamp,
    ) -> Option<Change> {
        let Self::Closed { window } = self else {
            return None;
        };
        window.count(failure.is_some(), now);
        let last = failure?;
        let tally = window.tally(now);
        tally.is_too_much(attempts_min).then(|| {
            let pause = BREAKER_PAUSE_MIN;
            self.open(pause, now);
            Change::Opened { tally, last, pause }
        })
    }

    /// Takes note of a probe that ended; `failure` is how it failed, if it did.
    pub fn probed(&mut self, failure: Option<Outcome>, now: Timestamp) -> Option<Change> {
        let Self::HalfOpen { successes, pause } = self else {
            return None;
        };
        if let Some(last) = failure {
            let pause = pause.saturating_mul(2).min(BREAKER_PAUSE_MAX);
            self.open(pause, now);
            return Some(Change::Reopened { last, pause });
        }
        *successes += 1;
        (*successes >= BREAKER_PROBES).then(|| {
            *self = Self::default();
            Change::Closed
        })
    }

    fn open(&mut self, pause: Duration, now: Timestamp) {
        *self = Self::Open {
            until: now.after(pause),
            pause,
        };
    }

    /// Ends a pause that is over.
    pub fn tick(&mut self, now: Timestamp) -> Option<Change> {
        match *self {
            Self::Open { until, pause } if until <= now => {
                *self = Self::HalfOpen {
                    successes: 0,
                    pause,
                };
                Some(Change::HalfOpened)
            }
            Self::Open { .. } | Self::Closed { .. } | Self::HalfOpen { .. } => None,
        }
    }

    /// When [`Breaker::tick`] changes anything.
    #[must_use]
    pub fn changes_at(&self) -> Option<Timestamp> {
        match self {
            Self::Open { until, .. } => Some(*until),
            Self::Closed { .. } | Self::HalfOpen { .. } => None,
        }
    }

    /// The attempts that speak for and against the function; none counts while it is not closed.
    #[must_use]
    pub fn tally(&self, now: Timestamp) -> Tally {
        match self {
            Self::Closed { window } => window.tally(now),
            Self::Open { .. } | Self::HalfOpen { .. } => Tally::default(),
        }
    }

    /// Whether it is as one that was never asked for.
    #[must_use]
    pub fn is_quiet(&self, now: Timestamp) -> bool {
        match self {
            Self::Closed { window } => window.tally(now).failed == 0,
            Self::Open { .. } | Self::HalfOpen { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::BREAKER_ATTEMPTS_MIN;

    const LAST: Outcome = Outcome::RetryableError;
    const START: Timestamp = Timestamp(1_700_000_000_000);

    /// Counts failures and successes in turn as the pattern says, and returns how many it took to open the breaker.
    #[track_caller]
    fn check(pattern: &[bool], pause: Duration, expected: Option<u32>) {
        let (mut breaker, mut now, mut count) = (Breaker::default(), START, 0);
        let opened = pattern.iter().cycle().take(10_000).find_map(|is_failure| {
            now = now.after(pause);
            count += 1;
            breaker.ended(is_failure.then_some(LAST), BREAKER_ATTEMPTS_MIN, now)
        });
        assert_eq!(opened.is_some(), expected.is_some());
        if let Some(expected) = expected {
            assert_eq!(count, expected);
            assert_eq!(breaker.phase(), Phase::Open);
        }
    }

    #[test]
    fn half_of_twenty_failures_open_it() {
        let quick = Duration::from_millis(10);
        check(&[true], quick, Some(BREAKER_ATTEMPTS_MIN));
        check(&[false, true], quick, Some(BREAKER_ATTEMPTS_MIN));
        check(&[false, false, true], quick, None);
        // So rare that fewer than twenty fall into the window.
        check(&[true], BREAKER_WINDOW / 10, None);
    }

    fn opened() -> (Breaker, Timestamp) {
        let mut breaker = Breaker::default();
        let changes: Vec<_> = (0..BREAKER_ATTEMPTS_MIN)
            .filter_map(|_| breaker.ended(Some(LAST), BREAKER_ATTEMPTS_MIN, START))
            .collect();
        let tally = Tally {
            ended: BREAKER_ATTEMPTS_MIN,
            failed: BREAKER_ATTEMPTS_MIN,
        };
        let pause = BREAKER_PAUSE_MIN;
        assert_eq!(
            changes,
            [Change::Opened {
                tally,
                last: LAST,
                pause
            }]
        );
        assert_eq!(
            changes[0].to_string(),
            "20 of 20 attempts failed within 60s, the last with `retryable_error`; nothing starts for 5s"
        );
        (breaker, START)
    }

    #[test]
    fn what_was_handed_out_before_says_nothing_new() {
        let (mut breaker, now) = opened();
        let before = breaker.clone();
        assert_eq!(breaker.ended(Some(LAST), BREAKER_ATTEMPTS_MIN, now), None);
        assert_eq!(breaker.ended(None, BREAKER_ATTEMPTS_MIN, now), None);
        assert_eq!(breaker.probed(None, now), None);
        assert_eq!(breaker, before);
    }

    #[test]
    fn probes_in_a_row_close_it_and_it_begins_anew() {
        let (mut breaker, now) = opened();
        assert_eq!(breaker.tick(Timestamp(now.0 + 4_999)), None);
        let now = breaker.changes_at().expect("the pause ends");
        assert_eq!(now, START.after(BREAKER_PAUSE_MIN));
        assert_eq!(breaker.tick(now), Some(Change::HalfOpened));
        assert_eq!(breaker.changes_at(), None);
        for probe in 1..=BREAKER_PROBES {
            let closes = (probe == BREAKER_PROBES).then_some(Change::Closed);
            assert_eq!(breaker.probed(None, now), closes);
        }
        assert_eq!(breaker, Breaker::default());
        assert!(breaker.is_quiet(now));
    }

    #[test]
    fn probes_that_fail_double_the_pause_up_to_its_cap() {
        let (mut breaker, mut now) = opened();
        let mut expected = BREAKER_PAUSE_MIN;
        for _ in 0..10 {
            assert_eq!(breaker.changes_at(), Some(now.after(expected)));
            now = now.after(expected);
            assert_eq!(breaker.tick(now), Some(Change::HalfOpened));
            assert_eq!(breaker.probed(None, now), None, "one alone closes nothing");
            expected = (expected * 2).min(BREAKER_PAUSE_MAX);
            let reopened = Change::Reopened {
                last: LAST,
                pause: expected,
            };
            assert_eq!(breaker.probed(Some(LAST), now), Some(reopened));
        }
        assert_eq!(expected, BREAKER_PAUSE_MAX);
    }

    #[test]
    fn one_that_begins_half_open_pauses_as_one_that_opens_if_its_probe_fails() {
        let mut breaker = Breaker::half_open();
        let pause = BREAKER_PAUSE_MIN;
        let reopened = Some(Change::Reopened { last: LAST, pause });
        assert_eq!(breaker.probed(Some(LAST), START), reopened);
    }

    proptest! {
        /// The window counts what is in it, to a part: everything of the last five parts, and nothing that is older than six.
        #[test]
        fn window_forgets_what_is_old(steps in prop::collection::vec((0_u64..20_000, any::<bool>()), 1..100)) {
            let (mut window, mut now, mut all) = (Window::default(), START, Vec::new());
            let part_ms = BREAKER_WINDOW.as_millis() as u64 / PARTS as u64;
            for (pause_ms, is_failure) in steps {
                now = Timestamp(now.0 + pause_ms);
                window.count(is_failure, now);
                all.push((now, is_failure));
                let later = Timestamp(now.0 + pause_ms);
                let newer_than = |ms| {
                    let of_window = all.iter().filter(move |(at, _)| later.0 - at.0 < ms);
                    of_window.fold(Tally::default(), |sum, (_, is_failure)| Tally {
                        ended: sum.ended + 1,
                        failed: sum.failed + u32::from(*is_failure),
                    })
                };
                let least = newer_than(part_ms * (PARTS as u64 - 1));
                let most = newer_than(part_ms * PARTS as u64);
                let tally = window.tally(later);
                prop_assert!((least.ended..=most.ended).contains(&tally.ended));
                prop_assert!((least.failed..=most.failed).contains(&tally.failed));
            }
        }

        /// Whatever happens, a breaker comes to a probe, and successes close it.
        #[test]
        fn every_breaker_comes_to_its_end(steps in prop::collection::vec((0_u8..5, 0_u64..100_000), 0..300)) {
            let (mut breaker, mut now) = (Breaker::default(), START);
            for (what, pause_ms) in steps {
                now = Timestamp(now.0 + pause_ms);
                let _change: Option<Change> = match what {
                    0 => breaker.tick(now),
                    1 => breaker.ended(None, BREAKER_ATTEMPTS_MIN, now),
                    2 | 3 => breaker.ended(Some(LAST), BREAKER_ATTEMPTS_MIN, now),
                    _ => breaker.probed((pause_ms % 2 == 0).then_some(LAST), now),
                };
                let (mut later, then) = (breaker.clone(), now.after(BREAKER_PAUSE_MAX));
                later.tick(then);
                prop_assert_ne!(later.phase(), Phase::Open);
                for _ in 0..BREAKER_PROBES {
                    later.probed(None, then);
                }
                prop_assert_eq!(later.phase(), Phase::Closed);
            }
        }
    }
}
