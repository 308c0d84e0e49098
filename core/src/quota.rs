//! Quotas: how much a namespace may have, and what follows when it has that.
//!
//! What a submit would make too much of is refused ([`Quotas::admit`]). What runs is not refused but waits
//! ([`Quotas::is_full`], [`Quotas::fuel_for`]): a task that was taken in is never lost for a quota, and neither is its result.
//!
//! Fuel is a budget of each [`Day`]. An attempt counts with all that it may use while it runs, and with what it has used when
//! it has ended, so that a day never has more than its budget, however attempts end.

use crate::limits::{CONCURRENCY_MAX, RATE_MAX};
use crate::planted::{Bug, is_planted};
use crate::{Day, Timestamp};

macro_rules! quotas {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        /// What a quota counts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Quota {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Quota {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name on the wire and in metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

quotas! {
    /// Tasks that wait, for whatever it is.
    Waiting = "waiting";
    /// Attempts at once.
    Running = "running";
    /// Bytes that are kept.
    Stored = "stored";
    /// Tasks that are submitted in a second.
    SubmitRate = "submit_rate";
    /// Fuel that is used in a day.
    FuelPerDay = "fuel_per_day";
}

/// The quotas of a namespace. What is none has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Tasks that wait: at least 1.
    pub waiting: Option<u64>,
    /// Attempts at once: 1 to [`CONCURRENCY_MAX`].
    pub running: Option<u32>,
    /// Bytes that are kept: at least 1.
    pub stored_bytes: Option<u64>,
    /// Tasks submitted in a second, and at once after a pause: 1 to [`RATE_MAX`].
    pub submits_per_second: Option<u32>,
    /// Fuel in a day: at least 1.
    pub fuel_per_day: Option<u64>,
}

/// A quota is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quota `{name}` is {value}; it may be 1 to {max}; without it there is no limit", name = .quota.name())]
pub struct OutOfRange {
    /// Which one.
    pub quota: Quota,
    /// Its value.
    pub value: u64,
    /// The highest that it may have.
    pub max: u64,
}

/// What a namespace has of what quotas count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Tasks that wait.
    pub waiting: u64,
    /// Attempts that run.
    pub running: u32,
    /// Bytes that are kept.
    pub stored_bytes: u64,
    /// Fuel that attempts used which ended today.
    pub fuel: u64,
    /// Fuel that attempts may use which run.
    pub fuel_reserved: u64,
}

/// What a submit asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// New tasks.
    pub tasks: u64,
    /// What they would have to be kept of them.
    pub bytes: u64,
    /// The most fuel that an attempt of any of them may use.
    pub fuel: u64,
}

/// What a namespace would have too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// Tasks that wait.
    #[error("its quota of {limit} waiting tasks: {waiting} wait, and this would add {asked}{}", never(*.asked > *.limit))]
    Waiting {
        /// The quota.
        limit: u64,
        /// What waits.
        waiting: u64,
        /// What was asked for.
        asked: u64,
    },
    /// Bytes that are kept.
    #[error("its quota of {limit} stored bytes: {stored} are stored, and this would add {asked}{}", never(*.asked > *.limit))]
    Stored {
        /// The quota.
        limit: u64,
        /// What is kept.
        stored: u64,
        /// What was asked for.
        asked: u64,
    },
    /// Tasks submitted in a second.
    #[error("its quota of {limit} submitted tasks a second: {}", when(*.asked, *.ready_at))]
    SubmitRate {
        /// The quota.
        limit: u32,
        /// What was asked for.
        asked: u64,
        /// When so many may come; none if that is never.
        ready_at: Option<Timestamp>,
    },
    /// The fuel of a day.
    #[error(
        "its budget of {limit} fuel for {day}: {used} are used; it resets at {}T00:00:00Z",
        .day.next()
    )]
    Fuel {
        /// The quota.
        limit: u64,
        /// What was used.
        used: u64,
        /// Which day it is.
        day: Day,
    },
    /// The fuel of one attempt.
    #[error(
        "its budget of {limit} fuel a day: an attempt of the task may use {asked}, so that it could never start"
    )]
    FuelOfTask {
        /// The quota.
        limit: u64,
        /// What an attempt may use.
        asked: u64,
    },
}

fn never(is_never: bool) -> &'static str {
    match is_never {
        true => ", which never fits",
        false => "",
    }
}

fn when(asked: u64, ready_at: Option<Timestamp>) -> String {
    match ready_at {
        Some(Timestamp(_)) => format!("it is used up for the moment, and this would add {asked}"),
        None => format!("this would add {asked} at once, which never fits"),
    }
}

impl Exceeded {
    /// Which quota it is.
    #[must_use]
    pub fn quota(&self) -> Quota {
        match self {
            Self::Waiting { .. } => Quota::Waiting,
            Self::Stored { .. } => Quota::Stored,
            Self::SubmitRate { .. } => Quota::SubmitRate,
            Self::Fuel { .. } | Self::FuelOfTask { .. } => Quota::FuelPerDay,
        }
    }

    /// When the same may be asked for again, if that is known.
    #[must_use]
    pub fn resets_at(&self) -> Option<Timestamp> {
        match self {
            Self::Waiting { .. } | Self::Stored { .. } | Self::FuelOfTask { .. } => None,
            Self::SubmitRate { ready_at, .. } => *ready_at,
            Self::Fuel { day, .. } => Some(day.next().begins_at()),
        }
    }
}

/// Whether there is fuel for an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fuel {
    /// There is.
    Enough,
    /// When another one has used less than it might, or the day is over.
    Later,
    /// Not under this budget.
    Never,
}

impl Quotas {
    /// Checks each against its range.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first that is outside.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let Self {
            waiting,
            running,
            stored_bytes,
            submits_per_second,
            fuel_per_day,
        } = *self;
        [
            (Quota::Waiting, waiting, u64::MAX),
            (
                Quota::Running,
                running.map(u64::from),
                u64::from(CONCURRENCY_MAX),
            ),
            (Quota::Stored, stored_bytes, u64::MAX),
            (
                Quota::SubmitRate,
                submits_per_second.map(u64::from),
                u64::from(RATE_MAX),
            ),
            (Quota::FuelPerDay, fuel_per_day, u64::MAX),
        ]
        .into_iter()
        .try_for_each(|(quota, value, max)| match value {
            Some(value) if !(1..=max).contains(&value) => Err(OutOfRange { quota, value, max }),
            Some(_) | None => Ok(()),
        })
    }

    /// Those that are set here, and `other`'s where none is.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            waiting: self.waiting.or(other.waiting),
            running: self.running.or(other.running),
            stored_bytes: self.stored_bytes.or(other.stored_bytes),
            submits_per_second: self.submits_per_second.or(other.submits_per_second),
            fuel_per_day: self.fuel_per_day.or(other.fuel_per_day),
        }
    }

    /// The same without some.
    #[must_use]
    pub fn without(self, gone: &[Quota]) -> Self {
        let is_kept = |quota| !gone.contains(&quota);
        Self {
            waiting: self.waiting.filter(|_| is_kept(Quota::Waiting)),
            running: self.running.filter(|_| is_kept(Quota::Running)),
            stored_bytes: self.stored_bytes.filter(|_| is_kept(Quota::Stored)),
            submits_per_second: self
                .submits_per_second
                .filter(|_| is_kept(Quota::SubmitRate)),
            fuel_per_day: self.fuel_per_day.filter(|_| is_kept(Quota::FuelPerDay)),
        }
    }

    /// Whether a quota is set.
    #[must_use]
    pub fn has(&self, quota: Quota) -> bool {
        match quota {
            Quota::Waiting => self.waiting.is_some(),
            Quota::Running => self.running.is_some(),
            Quota::Stored => self.stored_bytes.is_some(),
            Quota::SubmitRate => self.submits_per_second.is_some(),
            Quota::FuelPerDay => self.fuel_per_day.is_some(),
        }
    }

    /// Whether what is asked for fits beside what is used, but for the rate, which has a memory of its own.
    ///
    /// # Errors
    /// [`Exceeded`] says what of it does not.
    pub fn admit(&self, used: &Used, asked: &Asked, day: Day) -> Result<(), Exceeded> {
        let Used { waiting, fuel, .. } = *used;
        if let Some(limit) = self.waiting
            && waiting.saturating_add(asked.tasks) > limit
            && asked.tasks > 0
            && !is_planted(Bug::WaitingQuotaIgnored)
        {
            return Err(Exceeded::Waiting {
                limit,
                waiting,
                asked: asked.tasks,
            });
        }
        self.store(used, asked.bytes)?;
        if let Some(limit) = self.fuel_per_day
            && asked.tasks > 0
        {
            if asked.fuel > limit {
                let asked = asked.fuel;
                return Err(Exceeded::FuelOfTask { limit, asked });
            }
            // What is only reserved may come back at any moment: for that, tasks wait.
            if fuel >= limit {
                let used = fuel;
                return Err(Exceeded::Fuel { limit, used, day });
            }
        }
        Ok(())
    }

    /// Whether so many bytes more may be kept. What adds none always may.
    ///
    /// # Errors
    /// [`Exceeded::Stored`] if not.
    pub fn store(&self, used: &Used, bytes: u64) -> Result<(), Exceeded> {
        match self.stored_bytes {
            Some(limit) if bytes > 0 && used.stored_bytes.saturating_add(bytes) > limit => {
                Err(Exceeded::Stored {
                    limit,
                    stored: used.stored_bytes,
                    asked: bytes,
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether there is fuel for an attempt that may use so much.
    #[must_use]
    pub fn fuel_for(&self, used: &Used, fuel: u64) -> Fuel {
        let Some(budget) = self.fuel_per_day else {
            return Fuel::Enough;
        };
        let reserved = match is_planted(Bug::FuelUnreserved) {
            true => 0,
            false => used.fuel_reserved,
        };
        let taken = used.fuel.saturating_add(reserved);
        if fuel > budget {
            Fuel::Never
        } else if taken.saturating_add(fuel) > budget {
            Fuel::Later
        } else {
            Fuel::Enough
        }
    }

    /// Whether as much runs as may.
    #[must_use]
    pub fn is_full(&self, used: &Used) -> bool {
        let off_by_one = u32::from(is_planted(Bug::RunningQuotaOffByOne));
        self.running
            .is_some_and(|limit| used.running >= limit.saturating_add(off_by_one))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_too_much_is_said_with_limit_and_use_and_when_it_resets() {
        let quotas = Quotas {
            waiting: Some(1_000),
            stored_bytes: Some(100),
            fuel_per_day: Some(500),
            ..Quotas::default()
        };
        let said = |used: Used, asked: Asked| {
            let refused = quotas.admit(&used, &asked, Day(20_785));
            refused.map_err(|exceeded| (exceeded.to_string(), exceeded.resets_at()))
        };
        let one = Asked {
            tasks: 1,
            bytes: 10,
            fuel: 100,
        };
        let used = Used::default();
        assert_eq!(said(used, one), Ok(()));
        let refused = |text: &str| Err((text.to_owned(), None));
        assert_eq!(
            said(
                Used {
                    waiting: 1_000,
                    ..used
                },
                one
            ),
            refused("its quota of 1000 waiting tasks: 1000 wait, and this would add 1")
        );
        assert_eq!(
            said(
                used,
                Asked {
                    tasks: 1_001,
                    ..one
                }
            ),
            refused(
                "its quota of 1000 waiting tasks: 0 wait, and this would add 1001, which never fits"
            )
        );
        assert_eq!(
            said(
                Used {
                    stored_bytes: 91,
                    ..used
                },
                one
            ),
            refused("its quota of 100 stored bytes: 91 are stored, and this would add 10")
        );
        assert_eq!(
            said(
                Used {
                    fuel: 450,
                    fuel_reserved: 50,
                    ..used
                },
                one
            ),
            Ok(()),
            "what is reserved may come back"
        );
        assert_eq!(
            said(Used { fuel: 500, ..used }, one),
            Err((
                "its budget of 500 fuel for 2026-11-28: 500 are used; it resets at 2026-11-29T00:00:00Z".to_owned(),
                Some(Day(20_786).begins_at())
            ))
        );
        assert_eq!(
            said(used, Asked { fuel: 501, ..one }),
            refused(
                "its budget of 500 fuel a day: an attempt of the task may use 501, so that it could never start"
            )
        );
        // What is there already adds nothing, and is answered with.
        let full = Used {
            waiting: 2_000,
            stored_bytes: 200,
            fuel: 500,
            ..used
        };
        assert_eq!(said(full, Asked::default()), Ok(()));
    }

    #[test]
    fn quotas_out_of_range_are_named() {
        let none = Quotas {
            running: Some(0),
            ..Quotas::default()
        };
        assert_eq!(
            none.check().map_err(|error| error.to_string()),
            Err(
                "quota `running` is 0; it may be 1 to 1000000; without it there is no limit"
                    .to_owned()
            )
        );
        assert_eq!(Quotas::default().check(), Ok(()));
    }

    #[test]
    fn a_quota_is_set_and_reset_by_itself() {
        let all = Quotas {
            waiting: Some(1),
            running: Some(2),
            stored_bytes: Some(3),
            submits_per_second: Some(4),
            fuel_per_day: Some(5),
        };
        for quota in Quota::ALL {
            let without = all.without(&[*quota]);
            for other in Quota::ALL {
                assert_eq!(without.has(*other), other != quota);
            }
            assert_eq!(without.or(all), all);
        }
    }

    proptest! {
        /// Attempts that start only when they may, and end with any use, on any day.
        #[test]
        fn no_day_has_more_fuel_than_its_budget(
            budget in 1_u64..1_000, limits in prop::collection::vec(1_u64..400, 1..8), running in 1_u32..5,
            steps in prop::collection::vec((0_u8..10, 0_usize..8, 0_u64..400), 1..300),
        ) {
            let quotas = Quotas { fuel_per_day: Some(budget), running: Some(running), ..Quotas::default() };
            let (mut used, mut run) = (Used::default(), Vec::<u64>::new());
            for (what, which, fuel) in steps {
                match what {
                    0 => used.fuel = 0,
                    1..5 if !run.is_empty() => {
                        let limit = run.swap_remove(which % run.len());
                        used.running -= 1;
                        used.fuel_reserved -= limit;
                        used.fuel += fuel.min(limit);
                    }
                    _ => {
                        let limit = limits[which % limits.len()];
                        prop_assert_eq!(quotas.is_full(&used), used.running == running);
                        let there = quotas.fuel_for(&used, limit);
                        if there == Fuel::Enough && !quotas.is_full(&used) {
                            run.push(limit);
                            used.running += 1;
                            used.fuel_reserved += limit;
                        } else if there == Fuel::Later {
                            prop_assert!(used.fuel + used.fuel_reserved + limit > budget && limit <= budget);
                        }
                    }
                }
                prop_assert!(used.fuel + used.fuel_reserved <= budget);
                prop_assert!(used.running <= running);
            }
        }
    }
}
