//! How long what has ended is kept.

use std::time::Duration;

use crate::Timestamp;
use crate::limits::{self, OutOfRange, RETENTION_MAX, RETENTION_MIN};
use crate::task::{State, Task};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a namespace keeps tasks after their end, and what they leave without use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Those that succeeded.
    pub succeeded: Duration,
    /// Those that died: long enough for somebody to look, mend and redrive.
    pub dead: Duration,
    /// Those that were cancelled.
    pub cancelled: Duration,
    /// Those that expired.
    pub expired: Duration,
    /// Results, if they go before their tasks do. A task may say otherwise for itself.
    pub results: Option<Duration>,
    /// Versions of modules that no task needs, from their upload on or from when another became current.
    pub modules: Duration,
}

/// What is to happen to a task that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its result goes, and the task stays.
    DropResult,
    /// It goes, with everything that is its own.
    Remove,
}

impl Retention {
    /// What a namespace has that sets nothing: a week to read what came of a task, over any weekend; a month for what
    /// needs somebody's attention.
    pub const DEFAULT: Self = Self {
        succeeded: DAY.saturating_mul(7),
        dead: DAY.saturating_mul(30),
        cancelled: DAY.saturating_mul(7),
        expired: DAY.saturating_mul(7),
        results: None,
        modules: DAY.saturating_mul(30),
    };

    /// Checks each span against [`RETENTION_MIN`] and [`RETENTION_MAX`].
    ///
    /// # Errors
    /// [`OutOfRange`] names the first that is outside.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let Self {
            succeeded,
            dead,
            cancelled,
            expired,
            results,
            modules,
        } = *self;
        let spans = [
            ("retention of succeeded tasks", Some(succeeded)),
            ("retention of dead tasks", Some(dead)),
            ("retention of cancelled tasks", Some(cancelled)),
            ("retention of expired tasks", Some(expired)),
            ("retention of results", results),
            ("retention of modules", Some(modules)),
        ];
        spans
            .into_iter()
            .filter_map(|(what, span)| span.map(|span| (what, span)))
            .try_for_each(|(what, span)| check_span(what, span))
    }

    /// The shortest time after which anything of an ended task may be due, if the task does not say otherwise.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        let Self {
            succeeded,
            dead,
            cancelled,
            expired,
            results,
            modules: _,
        } = *self;
        [succeeded, dead, cancelled, expired]
            .into_iter()
            .chain(results)
            .fold(Duration::MAX, Duration::min)
    }

    /// Whether anything of an ended task goes earlier under this than under `other`.
    #[must_use]
    pub fn is_shorter_than(&self, other: &Self) -> bool {
        self.succeeded < other.succeeded
            || self.dead < other.dead
            || self.cancelled < other.cancelled
            || self.expired < other.expired
            || match (self.results, other.results) {
                (Some(ours), Some(theirs)) => ours < theirs,
                (Some(_), None) => true,
                (None, _) => false,
            }
    }

    /// What is next for a task, and when. None if it has not ended. `has_result` is false when its result is gone already.
    #[must_use]
    pub fn next(&self, task: &Task, has_result: bool) -> Option<(Timestamp, Due)> {
        let (ended_at, keep) = match task.state {
            State::Succeeded { ended_at } => (ended_at, self.succeeded),
            State::Dead { ended_at } => (ended_at, self.dead),
            State::Cancelled { ended_at } => (ended_at, self.cancelled),
            State::Expired { ended_at } => (ended_at, self.expired),
            State::Blocked { .. }
            | State::Scheduled { .. }
            | State::Ready { .. }
            | State::Running { .. } => return None,
        };
        let result = task.spec.result_ttl.or(self.results);
        let result = result.filter(|ttl| has_result && task.result.is_some() && *ttl < keep);
        Some(match result {
            Some(ttl) => (ended_at.after(ttl), Due::DropResult),
            None => (ended_at.after(keep), Due::Remove),
        })
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Checks how long something is to be kept.
///
/// # Errors
/// [`OutOfRange`] names `what`, if it is shorter than [`RETENTION_MIN`] or longer than [`RETENTION_MAX`].
pub fn check_span(what: &'static str, span: Duration) -> Result<(), OutOfRange> {
    limits::check_span(what, span, RETENTION_MIN, RETENTION_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(retention: Retention, expected: Result<(), &str>) {
        let got = retention.check().map_err(|error| error.to_string());
        assert_eq!(got.as_ref().copied().map_err(String::as_str), expected);
    }

    #[test]
    fn spans_say_which_one_is_out_of_range() {
        check(Retention::DEFAULT, Ok(()));
        check(
            Retention {
                dead: Duration::ZERO,
                ..Retention::DEFAULT
            },
            Err("retention of dead tasks is 0 ms; it may be 1000 to 316224000000 ms"),
        );
        check(
            Retention {
                results: Some(Duration::MAX),
                ..Retention::DEFAULT
            },
            Err(
                "retention of results is 18446744073709551615 ms; it may be 1000 to 316224000000 ms",
            ),
        );
    }

    #[test]
    fn shorter_is_what_lets_something_go_earlier() {
        let day = Retention {
            results: Some(DAY),
            ..Retention::DEFAULT
        };
        assert!(day.is_shorter_than(&Retention::DEFAULT));
        assert!(!Retention::DEFAULT.is_shorter_than(&day));
        assert!(!day.is_shorter_than(&day));
        assert_eq!(day.shortest(), DAY);
        assert_eq!(Retention::DEFAULT.shortest(), DAY * 7);
    }
}
