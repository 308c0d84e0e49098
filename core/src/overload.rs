//! Overload: which work is refused first when more comes than can be taken in, and what is said of that.
//!
//! What may run short is shared between the tiers by *partial buffer sharing* (Kröner, *Comparative performance study of
//! space priority mechanisms for ATM networks*, INFOCOM 1990): a tier is let in while less than its share of the whole is
//! taken, so that the last part is kept for what is more urgent. Nothing has to be tuned to how fast the machine is: as much
//! is let in as is taken out again, and what there is to do never runs out through it.
//!
//! Time is the broker's, and comes in.

use std::time::Duration;

use crate::history::History;
use crate::limits::{
    OVERLOAD_CALM, OVERLOAD_CHANGES_MAX, OVERLOAD_LOW_PERCENT, OVERLOAD_NORMAL_PERCENT,
    OVERLOAD_RETRY_MAX, OVERLOAD_RETRY_MIN,
};
use crate::planted::{Bug, is_planted};
use crate::{Tier, Timestamp};

/// How long ends are counted before they say how many there are in a second.
const PACE_SPAN: Duration = Duration::from_secs(5);

/// What may run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Places for tasks that wait, in tasks.
    Waiting,
    /// Memory for submits that are being taken in, in bytes.
    Memory,
}

impl Resource {
    /// Its name on the wire and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting_tasks",
            Self::Memory => "submit_bytes",
        }
    }
}

/// How much of something is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// What it is.
    pub resource: Resource,
    /// How much of it is taken.
    pub taken: u64,
    /// How much of it there is.
    pub limit: u64,
}

impl Gauge {
    /// A tier is let in while less than this is taken; at least 1, so that every tier has something.
    #[must_use]
    pub fn share(self, tier: Tier) -> u64 {
        let percent = match tier {
            Tier::Low => OVERLOAD_LOW_PERCENT,
            Tier::Normal => OVERLOAD_NORMAL_PERCENT,
            Tier::High => 100,
        };
        let share = u128::from(self.limit) * u128::from(percent) / 100;
        u64::try_from(share).unwrap_or(u64::MAX).max(1)
    }

    /// Whether a tier is let in. One request may then go beyond the share, so that none is too large to be ever taken.
    #[must_use]
    pub fn admits(self, tier: Tier) -> bool {
        self.taken < self.share(tier) || is_planted(Bug::OverloadIgnored)
    }

    /// How long whoever was refused should wait: until there is room again, at the pace at which it becomes free, between
    /// [`OVERLOAD_RETRY_MIN`] and [`OVERLOAD_RETRY_MAX`]. Nothing may be known of the pace.
    #[must_use]
    pub fn retry_after(self, tier: Tier, freed_per_second: Option<f64>) -> Duration {
        let Some(freed_per_second) = freed_per_second else {
            return OVERLOAD_RETRY_MIN;
        };
        let excess = self
            .taken
            .saturating_add(1)
            .saturating_sub(self.share(tier));
        let seconds = excess as f64 / freed_per_second;
        // Nothing becomes free at all: not a number that a span could have.
        let span = Duration::try_from_secs_f64(seconds).unwrap_or(OVERLOAD_RETRY_MAX);
        span.clamp(OVERLOAD_RETRY_MIN, OVERLOAD_RETRY_MAX)
    }

    /// What a tier would have to find, for a person to read. It says nothing of how much is taken: whoever is refused may not
    /// see the namespaces that took it.
    #[must_use]
    pub fn rule(self, tier: Tier) -> String {
        let share = self.share(tier);
        match self.resource {
            Resource::Waiting => {
                format!("tasks of {tier} priority are taken in while fewer than {share} tasks wait")
            }
            Resource::Memory => format!(
                "submits of {tier} priority are taken in while fewer than {share} bytes are being taken in"
            ),
        }
    }

    /// Why a tier is refused, for an operator to read.
    #[must_use]
    pub fn reason(self, tier: Tier) -> String {
        let (taken, rule) = (self.taken, self.rule(tier));
        match self.resource {
            Resource::Waiting => format!("{taken} tasks wait: {rule}"),
            Resource::Memory => format!("{taken} bytes are being taken in: {rule}"),
        }
    }
}

/// How much is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(Option<Tier>);

impl Level {
    /// 0 if nothing is refused, 1 if the low tier is, 2 if the normal one is too, 3 if everything is.
    #[must_use]
    pub fn number(self) -> u8 {
        match self.0 {
            None => 0,
            Some(Tier::Low) => 1,
            Some(Tier::Normal) => 2,
            Some(Tier::High) => 3,
        }
    }

    /// The tiers that are refused, the least urgent first.
    pub fn refuses(self) -> impl Iterator<Item = Tier> {
        let tiers = Tier::ALL.into_iter().rev();
        tiers.take_while(move |tier| self.0.is_some_and(|highest| *tier <= highest))
    }
}

/// A change of the level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// The level from then on.
    pub level: Level,
    /// Why, for a person to read.
    pub reason: String,
}

/// What was refused, and what follows from that for the level: a tier counts as refused until none of it was for
/// [`OVERLOAD_CALM`].
#[derive(Clone, Debug, Default)]
pub struct Overload {
    level: Level,
    /// When a tier was refused last, as [`index`] has them.
    last: [Option<Timestamp>; 3],
    /// Tasks that were refused, likewise.
    refused: [u64; 3],
    changes: History<Change, OVERLOAD_CHANGES_MAX>,
}

fn index(tier: Tier) -> usize {
    match tier {
        Tier::Low => 0,
        Tier::Normal => 1,
        Tier::High => 2,
    }
}

impl Overload {
    /// Takes note that tasks of a tier were refused. `reason` is asked for if the level rises with it.
    pub fn refused(
        &mut self,
        tier: Tier,
        tasks: u64,
        reason: impl FnOnce() -> String,
        now: Timestamp,
    ) -> Option<&Change> {
        let last = &mut self.last[index(tier)];
        *last = (*last).max(Some(now));
        let refused = &mut self.refused[index(tier)];
        *refused = refused.saturating_add(tasks);
        let level = Level(Some(tier));
        (level > self.level).then_some(())?;
        self.change(now, level, reason())
    }

    /// Lets the level fall if nothing was refused for long enough: by one change, until there is none.
    pub fn tend(&mut self, now: Timestamp) -> Option<&Change> {
        let at = self.changes_at().filter(|at| *at <= now)?;
        let is_refused = |tier: &Tier| self.calm_at(*tier).is_some_and(|calm| calm > at);
        // A tier that is refused is so however calm it is about the more urgent ones, and not the other way round.
        let level = Level(Tier::ALL.into_iter().find(is_refused));
        let seconds = OVERLOAD_CALM.as_secs();
        let reason = match self.level.0 {
            Some(tier) => format!("no task of {tier} priority was refused for {seconds} s"),
            None => String::new(),
        };
        self.change(at, level, reason)
    }

    /// When [`Overload::tend`] changes anything.
    #[must_use]
    pub fn changes_at(&self) -> Option<Timestamp> {
        self.calm_at(self.level.0?)
    }

    /// The level, as of the last time that it was tended.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// How many tasks of a tier were refused so far.
    #[must_use]
    pub fn refused_of(&self, tier: Tier) -> u64 {
        self.refused[index(tier)]
    }

    /// How the level has changed, the oldest first.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = &Change> {
        self.changes.iter()
    }

    fn calm_at(&self, tier: Tier) -> Option<Timestamp> {
        self.last[index(tier)].map(|last| last.after(OVERLOAD_CALM))
    }

    fn change(&mut self, at: Timestamp, level: Level, reason: String) -> Option<&Change> {
        self.level = level;
        self.changes.push(Change { at, level, reason });
        self.changes.last()
    }
}

/// How many tasks end in a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    since: Option<Timestamp>,
    ended: u64,
    per_second: Option<f64>,
}

impl Pace {
    /// Takes note of tasks that ended.
    pub fn note(&mut self, ended: u64, now: Timestamp) {
        self.ended += ended;
        let span = now.since(*self.since.get_or_insert(now));
        if span >= PACE_SPAN {
            self.per_second = Some(self.ended as f64 / span.as_secs_f64());
            (self.since, self.ended) = (Some(now), 0);
        }
    }

    /// How many it was, as of the last few seconds that were counted; none before there were some.
    #[must_use]
    pub fn per_second(self) -> Option<f64> {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(taken: u64, limit: u64) -> Gauge {
        Gauge {
            resource: Resource::Waiting,
            taken,
            limit,
        }
    }

    #[track_caller]
    fn check(limit: u64, low: u64, normal: u64) {
        let shares = [
            (Tier::Low, low),
            (Tier::Normal, normal),
            (Tier::High, limit),
        ];
        for (tier, share) in shares {
            assert!(waiting(share - 1, limit).admits(tier), "{tier} of {limit}");
            assert!(!waiting(share, limit).admits(tier), "{tier} of {limit}");
        }
    }

    #[test]
    fn the_last_part_is_kept_for_what_is_more_urgent() {
        check(100, 80, 90);
        check(1_000_000, 800_000, 900_000);
        check(1, 1, 1);
        check(2, 1, 1);
        check(u64::MAX, u64::MAX / 5 * 4, 16_602_069_666_338_596_453);
    }

    #[test]
    fn whoever_is_refused_is_told_when_there_will_be_room() {
        let after = |taken, pace| waiting(taken, 100_000).retry_after(Tier::Low, Some(pace));
        assert_eq!(after(80_000, 1_000.0), OVERLOAD_RETRY_MIN);
        assert_eq!(after(90_000, 2_000.0), Duration::from_micros(5_000_500));
        assert_eq!(after(90_000, 1.0), OVERLOAD_RETRY_MAX);
        assert_eq!(after(90_000, 0.0), OVERLOAD_RETRY_MAX);
        let unknown = waiting(90_000, 100_000).retry_after(Tier::Low, None);
        assert_eq!(unknown, OVERLOAD_RETRY_MIN);
    }

    #[test]
    fn the_level_is_that_of_the_most_urgent_tier_that_was_refused_lately() {
        let mut overload = Overload::default();
        let second = |seconds: u64| Timestamp(seconds * 1_000);
        let numbers = |overload: &Overload| -> Vec<(u64, u8)> {
            let changes = overload.changes();
            changes
                .map(|change| (change.at.0 / 1_000, change.level.number()))
                .collect()
        };
        let why = || "too many".to_owned();
        overload.refused(Tier::Low, 5, why, second(1));
        overload.refused(Tier::High, 1, why, second(2));
        overload.refused(Tier::Normal, 1, why, second(5));
        overload.refused(Tier::Low, 5, why, second(14));
        assert_eq!(overload.tend(second(11)), None);
        assert_eq!(overload.changes_at(), Some(second(12)));
        while overload.tend(second(100)).is_some() {}
        let calm = OVERLOAD_CALM.as_secs();
        let expected = [(1, 1), (2, 3), (2 + calm, 2), (5 + calm, 1), (14 + calm, 0)];
        assert_eq!(numbers(&overload), expected);
        assert_eq!(overload.refused_of(Tier::Low), 10);
        assert_eq!(overload.changes_at(), None);
    }

    #[test]
    fn a_level_refuses_what_is_less_urgent_too() {
        let refuses = |tier| Level(tier).refuses().collect::<Vec<_>>();
        assert_eq!(refuses(None), []);
        assert_eq!(refuses(Some(Tier::Normal)), [Tier::Low, Tier::Normal]);
        assert_eq!(refuses(Some(Tier::High)).len(), 3);
    }

    #[test]
    fn a_pace_is_that_of_some_seconds() {
        let mut pace = Pace::default();
        let start = Timestamp(1_000_000);
        pace.note(0, start);
        assert_eq!(pace.per_second(), None);
        for second in 1..=5 {
            pace.note(300, start.after(Duration::from_secs(second)));
        }
        assert_eq!(pace.per_second(), Some(300.0));
    }

    proptest! {
        /// Who is refused is refused by no more than what would refuse the less urgent too.
        #[test]
        fn the_more_urgent_is_let_in_where_the_less_urgent_is(taken: u64, limit in 1_u64..) {
            let gauge = waiting(taken, limit);
            prop_assert!(!gauge.admits(Tier::Low) || gauge.admits(Tier::Normal));
            prop_assert!(!gauge.admits(Tier::Normal) || gauge.admits(Tier::High));
            prop_assert!(!gauge.admits(Tier::High) || taken < limit);
        }

        /// Whatever is refused, the level is 0 again when nothing was for a while.
        #[test]
        fn every_overload_ends(refusals in prop::collection::vec((0_usize..3, 0_u64..30_000), 0..60)) {
            let (mut overload, mut now) = (Overload::default(), Timestamp(1_000));
            for (tier, pause) in refusals {
                now = Timestamp(now.0 + pause);
                while overload.tend(now).is_some() {}
                overload.refused(Tier::ALL[tier], 1, String::new, now);
                prop_assert!(overload.level() >= Level(Some(Tier::ALL[tier])));
            }
            while overload.tend(now.after(OVERLOAD_CALM)).is_some() {}
            prop_assert_eq!(overload.level(), Level::default());
            prop_assert!(overload.changes().len() <= OVERLOAD_CHANGES_MAX);
            let levels: Vec<_> = overload.changes().map(|change| change.level).collect();
            prop_assert!(levels.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", levels);
        }
    }
}
