//! Days, by which budgets and costs are counted.

use std::fmt;
use std::str::FromStr;

use crate::Timestamp;

/// The length of a day in milliseconds: those of UTC have no leap seconds here, as in Unix time.
const DAY_MS: u64 = 24 * 3600 * 1000;
/// After so many years the calendar repeats.
const CYCLE_YEARS: u32 = 400;
/// The days of that many years.
const CYCLE_DAYS: u32 = 146_097;
/// The year in which day 0 is, on the first of January.
const FIRST_YEAR: u32 = 1970;
/// The last year that is read: four digits.
const LAST_YEAR: u32 = 9999;

/// A day in UTC: so many after the first of January 1970. It is written like `2026-11-28`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

/// Why something is no [`Day`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a day is written like `2026-11-28`, from 1970 to {LAST_YEAR}")]
pub struct NoDay;

impl Day {
    /// The day of a time.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.0 / DAY_MS).unwrap_or(u32::MAX))
    }

    /// Its first moment.
    #[must_use]
    pub fn begins_at(self) -> Timestamp {
        Timestamp(u64::from(self.0) * DAY_MS)
    }

    /// The day after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The day so many days before it; the first one if that is earlier.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut year =
            u64::from(FIRST_YEAR) + u64::from(CYCLE_YEARS) * u64::from(self.0 / CYCLE_DAYS);
        let mut left = self.0 % CYCLE_DAYS;
        while left >= days_of_year(year) {
            left -= days_of_year(year);
            year += 1;
        }
        let mut month = 1;
        while left >= days_of_month(year, month) {
            left -= days_of_month(year, month);
            month += 1;
        }
        write!(f, "{year:04}-{month:02}-{:02}", left + 1)
    }
}

impl FromStr for Day {
    type Err = NoDay;

    fn from_str(text: &str) -> Result<Self, NoDay> {
        let mut parts = text.split('-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits);
            let part = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            part.and_then(|part| part.parse::<u32>().ok()).ok_or(NoDay)
        };
        let (year, month, day) = (number(4)?, number(2)?, number(2)?);
        let is_one = (FIRST_YEAR..=LAST_YEAR).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_of_month(u64::from(year), month)).contains(&day);
        if parts.next().is_some() || !is_one {
            return Err(NoDay);
        }
        let years: u32 = (FIRST_YEAR..year)
            .map(|year| days_of_year(u64::from(year)))
            .sum();
        let months: u32 = (1..month)
            .map(|month| days_of_month(u64::from(year), month))
            .sum();
        Ok(Self(years + months + day - 1))
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u64) -> u32 {
    365 + u32::from(is_leap(year))
}

fn days_of_month(year: u64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(is_leap(year)),
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_are_written_as_people_write_them() {
        for (day, text) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (20_785, "2026-11-28"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(Day(day).to_string(), text);
            assert_eq!(text.parse(), Ok(Day(day)));
        }
        assert_eq!(
            Day(u32::MAX).to_string().len(),
            14,
            "the last one has a name too"
        );
        for text in [
            "",
            "2026",
            "2026-11",
            "2026-13-01",
            "2026-02-29",
            "2026-11-31",
            "2026-1-1",
            "1969-12-31",
            "2026-11-28-1",
            "+026-11-28",
            "tomorrow",
        ] {
            assert_eq!(text.parse::<Day>(), Err(NoDay), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_day_is_read_as_it_is_written(day in 0_u32..2_932_897) {
            let day = Day(day);
            prop_assert_eq!(day.to_string().parse(), Ok(day));
            prop_assert!(day.to_string() < day.next().to_string());
            prop_assert_eq!(Day::of(day.begins_at()), day);
            prop_assert_eq!(Day::of(Timestamp(day.next().begins_at().0 - 1)), day);
        }
    }
}
