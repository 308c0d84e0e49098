//! Circuit breakers.

use serde::Serialize;
use tq_client::{Breaker, BreakerChange, BreakerState};

use super::known;

/// All breakers of which there is something to say.
#[derive(Debug, Serialize)]
pub(crate) struct BreakerList<'a> {
    breakers: Vec<BreakerInfo<'a>>,
}

/// A breaker.
#[derive(Debug, Serialize)]
pub(crate) struct BreakerInfo<'a> {
    function: &'a str,
    namespace: &'a str,
    digest: &'a str,
    state: &'static str,
    forced: bool,
    until_ms: Option<u64>,
    ended: u32,
    failed: u32,
    changes: Vec<ChangeInfo<'a>>,
}

#[derive(Debug, Serialize)]
struct ChangeInfo<'a> {
    at_ms: u64,
    state: &'static str,
    reason: &'a str,
}

impl<'a> BreakerList<'a> {
    /// In the order given.
    pub(crate) fn new(breakers: &'a [Breaker]) -> Self {
        Self {
            breakers: breakers.iter().map(BreakerInfo::from).collect(),
        }
    }
}

impl<'a> From<&'a Breaker> for BreakerInfo<'a> {
    fn from(breaker: &'a Breaker) -> Self {
        let Breaker {
            namespace,
            function,
            digest,
            state: _,
            forced,
            until_ms,
            ended,
            failed,
            changes,
        } = breaker;
        Self {
            function,
            namespace,
            digest,
            state: breaker_state(breaker.state()),
            forced: *forced,
            until_ms: known(*until_ms),
            ended: *ended,
            failed: *failed,
            changes: changes.iter().map(ChangeInfo::from).collect(),
        }
    }
}

impl<'a> From<&'a BreakerChange> for ChangeInfo<'a> {
    fn from(change: &'a BreakerChange) -> Self {
        let BreakerChange {
            at_ms,
            state: _,
            reason,
        } = change;
        Self {
            at_ms: *at_ms,
            state: breaker_state(change.state()),
            reason,
        }
    }
}

/// A breaker's state's name.
pub(crate) fn breaker_state(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Unspecified => "unknown",
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half_open",
    }
}
