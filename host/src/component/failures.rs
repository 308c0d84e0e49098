//! What is known of modules that were not made ready, so that one which cannot be does not cost a compilation each time
//! that somebody asks for it.
//!
//! In memory: a restart may bring another engine, another machine or other limits, and costs one more try at most.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tq_core::Digest;
use tq_core::limits::{COMPILE_RETRY_AFTER, FAILED_MODULES_MAX};

use super::PrepareError;
use super::compile::Error as Compile;

/// Whether another try would end alike.
enum Verdict {
    /// It would, here and everywhere.
    Never,
    /// It would, unless this machine changes.
    NotSoon,
    /// It would if it has happened twice: the machine may have been busy or short of memory.
    NotSoonIfAgain,
    /// It may well go better: this was not the module's doing.
    AtOnce,
}

fn verdict(error: &PrepareError) -> Verdict {
    match error {
        PrepareError::Precompiled
        | PrepareError::Link(_)
        | PrepareError::Compile(Compile::Invalid(_)) => Verdict::Never,
        PrepareError::Compile(
            Compile::Cpu { .. }
            | Compile::Memory { .. }
            | Compile::TooLarge { .. }
            | Compile::Forbidden,
        ) => Verdict::NotSoon,
        PrepareError::Compile(Compile::Wall { .. } | Compile::Crashed(_)) => {
            Verdict::NotSoonIfAgain
        }
        PrepareError::Compile(Compile::Process(_))
        | PrepareError::Digest { .. }
        | PrepareError::Known { .. }
        | PrepareError::Store(_)
        | PrepareError::Load(_) => Verdict::AtOnce,
    }
}

/// The failures of modules. At most [`FAILED_MODULES_MAX`] are kept; the oldest is forgotten first.
#[derive(Default)]
pub(super) struct Failures(HashMap<Digest, Failure>);

struct Failure {
    message: String,
    at: Instant,
    waits: Waits,
}

/// Until when a module is not tried again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    ForGood,
    Until(Instant),
    /// It is tried: it has happened once.
    Not,
}

impl Failures {
    /// Why a module is not tried now, if that is so.
    pub(super) fn recall(&self, digest: &Digest, now: Instant) -> Option<PrepareError> {
        let Failure { message, waits, .. } = self.0.get(digest)?;
        let again = match waits {
            Waits::ForGood => None,
            Waits::Until(until) if now < *until => Some(*until - now),
            Waits::Until(_) | Waits::Not => return None,
        };
        Some(PrepareError::Known {
            message: message.clone(),
            again,
        })
    }

    pub(super) fn note(&mut self, digest: Digest, error: &PrepareError, now: Instant) {
        let until = Waits::Until(now + COMPILE_RETRY_AFTER);
        let waits = match verdict(error) {
            Verdict::Never => Waits::ForGood,
            Verdict::NotSoon => until,
            Verdict::NotSoonIfAgain if self.0.contains_key(&digest) => until,
            Verdict::NotSoonIfAgain => Waits::Not,
            Verdict::AtOnce => return,
        };
        if self.0.len() >= FAILED_MODULES_MAX && !self.0.contains_key(&digest) {
            let oldest = self.0.iter().min_by_key(|(_, failure)| failure.at);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                self.0.remove(&oldest);
            }
        }
        let message = error.to_string();
        let failure = Failure {
            message,
            at: now,
            waits,
        };
        self.0.insert(digest, failure);
    }

    /// A module was made ready after all.
    pub(super) fn forget(&mut self, digest: &Digest) {
        self.0.remove(digest);
    }
}

/// How long until a module is tried again, as it is told.
pub(super) fn again(again: Option<Duration>) -> String {
    again.map_or_else(String::new, |again| {
        let minutes = again.as_secs().div_ceil(60);
        format!("; this host tries again in {minutes} min")
    })
}

#[cfg(test)]
mod tests {
    use crate::clock;

    use super::*;

    const MODULE: Digest = Digest([1; 32]);

    /// How a module's failures are answered: after the first, after the second, and when the time is over.
    #[track_caller]
    fn check(error: impl Fn() -> PrepareError, expected: [Option<&str>; 3]) {
        let (mut failures, now) = (Failures::default(), clock::now());
        let mut answers = Vec::new();
        for _ in 0..2 {
            failures.note(MODULE, &error(), now);
            answers.push(failures.recall(&MODULE, now));
        }
        answers.push(failures.recall(&MODULE, now + COMPILE_RETRY_AFTER));
        let permanent = answers
            .iter()
            .flatten()
            .map(PrepareError::is_permanent)
            .all(|is_permanent| is_permanent == error().is_permanent());
        assert!(permanent, "another answer than at first");
        let texts: Vec<_> = answers
            .iter()
            .map(|answer| answer.as_ref().map(ToString::to_string))
            .collect();
        let texts: Vec<_> = texts.iter().map(Option::as_deref).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn what_would_end_alike_is_not_tried_again() {
        check(
            || PrepareError::Compile(Compile::Invalid("bad magic".to_owned())),
            [Some("bad magic"); 3],
        );
        let memory =
            "compiling it took more than 5 bytes of memory; this host tries again in 60 min";
        check(
            || PrepareError::Compile(Compile::Memory { limit: 5 }),
            [Some(memory), Some(memory), None],
        );
        let wall = "compiling it took more than 7 s; this host tries again in 60 min";
        let limit = Duration::from_secs(7);
        check(
            || PrepareError::Compile(Compile::Wall { limit }),
            [None, Some(wall), None],
        );
        let full = || std::io::Error::other("disk full");
        check(|| PrepareError::Store(full()), [None; 3]);
        check(
            || PrepareError::Compile(Compile::Process(full())),
            [None; 3],
        );
    }

    #[test]
    fn success_wipes_the_slate() {
        let (mut failures, now) = (Failures::default(), clock::now());
        let crash = PrepareError::Compile(Compile::Crashed("signal".to_owned()));
        failures.note(MODULE, &crash, now);
        failures.forget(&MODULE);
        failures.note(MODULE, &crash, now);
        assert!(failures.recall(&MODULE, now).is_none());
    }

    #[test]
    fn oldest_failure_is_forgotten_when_there_are_too_many() {
        let (mut failures, start) = (Failures::default(), clock::now());
        let invalid = PrepareError::Compile(Compile::Invalid("no".to_owned()));
        let module = |n: usize| {
            let mut digest = Digest([0; 32]);
            digest.0[..8].copy_from_slice(&n.to_le_bytes());
            digest
        };
        for n in 0..=FAILED_MODULES_MAX {
            failures.note(module(n), &invalid, start + Duration::from_secs(n as u64));
        }
        assert!(failures.recall(&module(0), start).is_none());
        assert!(failures.recall(&module(1), start).is_some());
        assert_eq!(failures.0.len(), FAILED_MODULES_MAX);
    }
}
