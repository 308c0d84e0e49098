//! Whether a host is fit for work: what it does through its own fault, and what follows from that.
//!
//! A host that fails again and again takes task after task down with it, and the faster it fails the more it gets. So it
//! is *quarantined*: it gets nothing for a while, then one attempt as a *probe*. A success makes it fit again; a probe
//! that fails makes the next pause twice as long.

use std::collections::VecDeque;
use std::time::Duration;

use tq_core::Timestamp;
use tq_core::history::History;
use tq_core::limits::{
    HOST_CHANGES_MAX, QUARANTINE_FAILURES, QUARANTINE_PAUSE_MAX, QUARANTINE_PAUSE_MIN,
    QUARANTINE_WINDOW,
};

/// What a host did through its own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It reported that it could not run an attempt.
    HostError,
    /// Its session ended, without a word, while it had attempts.
    SessionLost,
}

impl Fault {
    /// It, for a person to read.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::HostError => "it could not run an attempt (`host_error`)",
            Self::SessionLost => "its session ended while it had attempts",
        }
    }
}

/// What a host may be given, as far as its health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// What its credits and slots allow.
    All,
    /// One attempt, when it has no other.
    Probe,
    /// Nothing.
    Nothing,
}

/// Whether a host is fit for work. Time is the ledger's, and comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is.
    Fit {
        /// When it failed since its last success, the oldest first; fewer than [`QUARANTINE_FAILURES`].
        faults: VecDeque<Timestamp>,
    },
    /// It gets nothing for a while.
    Quarantined {
        /// What it did last.
        fault: Fault,
        /// When it gets a probe.
        until: Timestamp,
        /// How long the pause is.
        pause: Duration,
    },
    /// The pause is over: its next attempt is a probe.
    Probing {
        /// What it did last.
        fault: Fault,
        /// Since when.
        since: Timestamp,
        /// How long the last pause was.
        pause: Duration,
    },
}

impl Default for Health {
    fn default() -> Self {
        Self::Fit {
            faults: VecDeque::new(),
        }
    }
}

impl Health {
    /// Takes note of a failure. Returns whether a quarantine begins with it, or begins anew.
    pub fn failed(&mut self, fault: Fault, now: Timestamp) -> bool {
        let pause = match self {
            Self::Fit { faults } => {
                faults.push_back(now);
                faults.retain(|at| now.since(*at) < QUARANTINE_WINDOW);
                if faults.len() < QUARANTINE_FAILURES {
                    return false;
                }
                QUARANTINE_PAUSE_MIN
            }
            // Attempts that it got before may fail as well, and tell nothing new.
            Self::Quarantined { fault: last, .. } => {
                *last = fault;
                return false;
            }
            Self::Probing { pause, .. } => pause.saturating_mul(2).min(QUARANTINE_PAUSE_MAX),
        };
        *self = Self::Quarantined {
            fault,
            until: now.after(pause),
            pause,
        };
        true
    }

    /// Takes note of an attempt that the host ran to its end, whatever the task made of it. Returns whether a quarantine
    /// ends with it.
    pub fn succeeded(&mut self) -> bool {
        match self {
            Self::Fit { faults } => {
                faults.clear();
                false
            }
            Self::Quarantined { .. } | Self::Probing { .. } => {
                *self = Self::default();
                true
            }
        }
    }

    /// Ends a pause that is over.
    pub fn tick(&mut self, now: Timestamp) {
        match *self {
            Self::Quarantined {
                fault,
                until,
                pause,
            } if until <= now => {
                *self = Self::Probing {
                    fault,
                    since: until,
                    pause,
                };
            }
            Self::Quarantined { .. } | Self::Fit { .. } | Self::Probing { .. } => {}
        }
    }

    /// When [`Health::tick`] changes anything.
    #[must_use]
    pub fn changes_at(&self) -> Option<Timestamp> {
        match self {
            Self::Quarantined { until, .. } => Some(*until),
            Self::Fit { .. } | Self::Probing { .. } => None,
        }
    }

    /// What it may be given.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        match self {
            Self::Fit { .. } => Allowance::All,
            Self::Quarantined { .. } => Allowance::Nothing,
            Self::Probing { .. } => Allowance::Probe,
        }
    }

    /// Whether it is fit, with or without failures.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        match self {
            Self::Fit { .. } => true,
            Self::Quarantined { .. } | Self::Probing { .. } => false,
        }
    }

    /// In a word.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match self {
            Self::Fit { .. } => Condition::Fit,
            Self::Quarantined { .. } => Condition::Quarantined,
            Self::Probing { .. } => Condition::Probing,
        }
    }

    /// Whether nothing speaks for remembering it, if the host is not there.
    #[must_use]
    pub fn is_forgettable(&self, now: Timestamp) -> bool {
        match self {
            Self::Fit { faults } => faults.iter().all(|at| now.since(*at) >= QUARANTINE_WINDOW),
            Self::Quarantined { .. } => false,
            // As long as the longest pause, so that a host that fails at every start is known again.
            Self::Probing { since, .. } => now.since(*since) >= QUARANTINE_PAUSE_MAX,
        }
    }

    /// Why it gets less than it could, for a person to read.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Fit { .. } => None,
            Self::Quarantined { fault, pause, .. } => Some(format!(
                "it kept failing, last because {}; after a pause of {pause:?} it gets one attempt as a probe",
                fault.text()
            )),
            Self::Probing { fault, .. } => Some(format!(
                "it kept failing, last because {}; its next attempt is a probe",
                fault.text()
            )),
        }
    }
}

/// How a host is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It gets what it has room for.
    Fit,
    /// It gets nothing for a while.
    Quarantined,
    /// It gets one attempt, as a probe.
    Probing,
}

/// Something that became of a host's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// How it was from then on.
    pub condition: Condition,
    /// Why, for a person to read.
    pub reason: String,
}

/// A host's health, and what has become of it.
#[derive(Clone, Debug, Default)]
pub struct Record {
    health: Health,
    changes: History<Change, HOST_CHANGES_MAX>,
}

impl Record {
    /// As [`Health::failed`].
    pub fn failed(&mut self, fault: Fault, now: Timestamp) -> bool {
        let begins = self.health.failed(fault, now);
        if begins {
            let reason = self.health.reason().unwrap_or_default();
            self.note(now, reason);
        }
        begins
    }

    /// As [`Health::succeeded`].
    pub fn succeeded(&mut self, now: Timestamp) -> bool {
        let ends = self.health.succeeded();
        if ends {
            self.note(now, "it ran an attempt to its end".to_owned());
        }
        ends
    }

    /// As [`Health::tick`].
    pub fn tick(&mut self, now: Timestamp) {
        let before = self.health.condition();
        let until = self.health.changes_at();
        self.health.tick(now);
        if self.health.condition() != before {
            let reason = "the pause is over; it gets one attempt as a probe";
            self.note(until.unwrap_or(now), reason.to_owned());
        }
    }

    /// Somebody says that it is fit.
    pub fn resume(&mut self, now: Timestamp) {
        let is_news = !self.health.is_fit();
        self.health = Health::default();
        if is_news {
            self.note(now, "it was resumed".to_owned());
        }
    }

    /// How it is now.
    #[must_use]
    pub fn now(&self) -> &Health {
        &self.health
    }

    /// What has become of it, the oldest first.
    pub fn changes(&self) -> impl DoubleEndedIterator<Item = &Change> + ExactSizeIterator {
        self.changes.iter()
    }

    fn note(&mut self, at: Timestamp, reason: String) {
        let condition = self.health.condition();
        self.changes.push(Change {
            at,
            condition,
            reason,
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Fails as often as it takes, a second apart, and returns the time of the last failure.
    fn quarantined() -> (Health, Timestamp) {
        let (mut health, mut now) = (Health::default(), Timestamp(1_000_000));
        for number in 1..=QUARANTINE_FAILURES {
            now = now.after(SECOND);
            assert_eq!(health.allowance(), Allowance::All, "failure {number}");
            let begins = health.failed(Fault::HostError, now);
            assert_eq!(begins, number == QUARANTINE_FAILURES);
        }
        (health, now)
    }

    #[test]
    fn failures_in_a_row_end_in_a_pause_and_a_success_clears_it() {
        let (mut health, now) = quarantined();
        assert_eq!(health.allowance(), Allowance::Nothing);
        let until = now.after(QUARANTINE_PAUSE_MIN);
        assert_eq!(health.changes_at(), Some(until));
        health.tick(Timestamp(until.0 - 1));
        assert_eq!(health.allowance(), Allowance::Nothing);
        health.tick(until);
        assert_eq!(health.allowance(), Allowance::Probe);
        assert!(health.succeeded());
        assert_eq!(health, Health::default());
    }

    #[test]
    fn probes_that_fail_double_the_pause_up_to_its_cap() {
        let (mut health, mut now) = quarantined();
        let mut expected = QUARANTINE_PAUSE_MIN;
        for _ in 0..12 {
            assert_eq!(health.changes_at(), Some(now.after(expected)));
            // What it had besides tells nothing new.
            assert!(!health.failed(Fault::SessionLost, now));
            now = now.after(expected);
            health.tick(now);
            assert!(health.failed(Fault::SessionLost, now), "the probe fails");
            expected = (expected * 2).min(QUARANTINE_PAUSE_MAX);
        }
        assert_eq!(expected, QUARANTINE_PAUSE_MAX);
    }

    #[test]
    fn failures_that_are_far_apart_or_have_a_success_among_them_are_forgiven() {
        let (mut health, mut now) = (Health::default(), Timestamp(0));
        for _ in 0..100 {
            now = now.after(QUARANTINE_WINDOW / 4);
            assert!(!health.failed(Fault::HostError, now));
        }
        assert!(!health.is_forgettable(now));
        assert!(health.is_forgettable(now.after(QUARANTINE_WINDOW)));
        for _ in 0..100 {
            for _ in 1..QUARANTINE_FAILURES {
                health.succeeded();
                assert!(!health.failed(Fault::HostError, now));
            }
        }
    }

    #[test]
    fn what_has_become_of_a_host_is_remembered_and_bounded() {
        let (mut record, mut now) = (Record::default(), Timestamp(1_000_000));
        for _ in 0..QUARANTINE_FAILURES {
            record.failed(Fault::HostError, now);
        }
        let until = now.after(QUARANTINE_PAUSE_MIN);
        record.tick(until.after(SECOND));
        assert!(record.succeeded(until.after(SECOND)));
        let seen = record.changes().map(|change| (change.condition, change.at));
        let expected = [
            (Condition::Quarantined, now),
            (Condition::Probing, until),
            (Condition::Fit, until.after(SECOND)),
        ];
        assert_eq!(seen.collect::<Vec<_>>(), expected);
        record.resume(now);
        assert_eq!(record.changes().len(), 3, "it was fit already");
        for _ in 0..HOST_CHANGES_MAX {
            now = now.after(QUARANTINE_PAUSE_MAX);
            record.tick(now);
            for _ in 0..QUARANTINE_FAILURES {
                record.failed(Fault::SessionLost, now);
            }
        }
        assert_eq!(record.changes().len(), HOST_CHANGES_MAX);
        record.resume(now);
        let last = record.changes().next_back();
        assert_eq!(last.map(|change| change.condition), Some(Condition::Fit));
    }

    proptest! {
        /// Whatever happens, a host is never out of work for longer than the longest pause without a probe.
        #[test]
        fn every_quarantine_comes_to_a_probe(steps in prop::collection::vec((0_u8..3, 0_u64..400_000), 0..100)) {
            let (mut health, mut now) = (Health::default(), Timestamp(0));
            for (what, pause_ms) in steps {
                now = Timestamp(now.0 + pause_ms);
                health.tick(now);
                let _changes: bool = match what {
                    0 => health.succeeded(),
                    1 => health.failed(Fault::HostError, now),
                    _ => health.failed(Fault::SessionLost, now),
                };
                let mut later = health.clone();
                later.tick(now.after(QUARANTINE_PAUSE_MAX));
                prop_assert_ne!(later.allowance(), Allowance::Nothing);
                prop_assert_eq!(health.reason().is_some(), health.allowance() != Allowance::All);
            }
        }
    }
}
