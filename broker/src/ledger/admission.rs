//! Who is let in when there is too much ([`tq_core::overload`]): asked by the API before a submit has cost anything, and by
//! the ledger, which has the last word on how many tasks wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tq_core::limits::SUBMITS_BYTES_MAX;
use tq_core::overload::{Change, Gauge, Level, Overload, Pace, Resource};
use tq_core::planted::{Bug, is_planted};
use tq_core::{Tier, Timestamp};

use super::{Refused, lock};
use crate::observe::Metrics;

/// What of a request counts for whether it is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// The tier of its least urgent task: a request is let in as a whole, or not at all.
    pub tier: Tier,
    /// Its tasks.
    pub tasks: u64,
    /// The memory that it takes until it is committed.
    pub bytes: u64,
}

/// The broker's overload as it is shown.
#[derive(Clone, Debug)]
pub struct OverloadView {
    /// How much is refused.
    pub level: Level,
    /// How much is taken of what may run short.
    pub gauges: [Gauge; 2],
    /// How many tasks of each tier were refused since the broker started, the most urgent first.
    pub refused: [(Tier, u64); 3],
    /// How the level has changed, the oldest first.
    pub changes: Vec<Change>,
}

/// Decides who is let in. All of it is in memory, and begins anew with the broker.
pub struct Admission {
    waiting_max: u64,
    /// Tasks that wait, as of the last commit.
    waiting: AtomicU64,
    /// Bytes of submits that were let in and are not committed.
    bytes: AtomicU64,
    state: Mutex<State>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    overload: Overload,
    pace: Pace,
    /// Requests that were refused.
    requests: u64,
}

/// A submit that was let in. The memory that it takes is free again when this is dropped.
pub struct Permit {
    admission: Arc<Admission>,
    bytes: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission
            .bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Admission {
    pub(super) fn new(waiting_max: u64, metrics: Metrics) -> Self {
        Self {
            waiting_max,
            waiting: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            state: Mutex::default(),
            metrics,
        }
    }

    /// Lets a submit in, for as long as the permit is there.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if there is no room for its tier.
    pub fn enter(self: &Arc<Self>, submit: Weight, now: Timestamp) -> Result<Permit, Refused> {
        self.check_waiting(submit, 0, now)?;
        let taken = self.bytes.fetch_add(submit.bytes, Ordering::Relaxed);
        // Made first: it gives back what was taken, also if it is refused.
        let permit = Permit {
            admission: Arc::clone(self),
            bytes: submit.bytes,
        };
        self.check(memory(taken), submit, now)?;
        Ok(permit)
    }

    /// Whether so many tasks wait that a submit is refused, with `further` tasks that the step under way has taken in.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] if it is.
    pub(super) fn check_waiting(
        &self,
        submit: Weight,
        further: u64,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        self.check(self.waiting(waiting.saturating_add(further)), submit, now)
    }

    fn check(&self, gauge: Gauge, submit: Weight, now: Timestamp) -> Result<(), Refused> {
        let Weight { tier, tasks, .. } = submit;
        if gauge.admits(tier) {
            return Ok(());
        }
        let mut state = lock(&self.state);
        self.tend_state(&mut state, now);
        state.requests += 1;
        let per_second = match gauge.resource {
            Resource::Waiting => state.pace.per_second(),
            // It is free again as soon as the ledger has answered.
            Resource::Memory => None,
        };
        let retry_after = spread(gauge.retry_after(tier, per_second), state.requests);
        let reason = || gauge.reason(tier);
        if let Some(change) = state.overload.refused(tier, tasks, reason, now) {
            let level = self.show_level(change);
            tracing::warn!(level, reason = change.reason, "overload: tasks are refused");
        }
        self.metrics.tasks_refused(tier, tasks);
        Err(Refused::Overloaded {
            rule: gauge.rule(tier),
            retry_after,
        })
    }

    /// Takes note of how many tasks wait after a commit, and how many ended in it.
    pub(super) fn publish(&self, waiting: u64, ended: u64, now: Timestamp) {
        let waiting = match is_planted(Bug::WaitingDrifts) {
            true => waiting.max(self.waiting.load(Ordering::Relaxed)),
            false => waiting,
        };
        self.waiting.store(waiting, Ordering::Relaxed);
        if ended > 0 {
            lock(&self.state).pace.note(ended, now);
        }
    }

    /// Lets the level fall when nothing was refused for long enough.
    pub fn tend(&self, now: Timestamp) {
        self.tend_state(&mut lock(&self.state), now);
    }

    fn tend_state(&self, state: &mut State, now: Timestamp) {
        while let Some(change) = state.overload.tend(now) {
            let level = self.show_level(change);
            tracing::info!(level, reason = change.reason, "overload: less is refused");
        }
    }

    fn show_level(&self, change: &Change) -> u8 {
        let level = change.level.number();
        self.metrics.overload_level.set(i64::from(level));
        level
    }

    /// How it is.
    pub fn view(&self, now: Timestamp) -> OverloadView {
        let mut state = lock(&self.state);
        self.tend_state(&mut state, now);
        let State { overload, .. } = &*state;
        OverloadView {
            level: overload.level(),
            gauges: [
                self.waiting(self.waiting.load(Ordering::Relaxed)),
                memory(self.bytes.load(Ordering::Relaxed)),
            ],
            refused: Tier::ALL.map(|tier| (tier, overload.refused_of(tier))),
            changes: overload.changes().cloned().collect(),
        }
    }

    fn waiting(&self, taken: u64) -> Gauge {
        Gauge {
            resource: Resource::Waiting,
            taken,
            limit: self.waiting_max,
        }
    }
}

fn memory(taken: u64) -> Gauge {
    Gauge {
        resource: Resource::Memory,
        taken,
        limit: SUBMITS_BYTES_MAX,
    }
}

/// Up to half as long again, so that clients which are refused together do not come back together.
fn spread(span: Duration, number: u64) -> Duration {
    const PARTS: u32 = 16;
    let part = u32::try_from(number % u64::from(PARTS)).unwrap_or(0);
    span + span * part / (2 * PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn submit(tier: Tier, bytes: u64) -> Weight {
        Weight {
            tier,
            tasks: 1,
            bytes,
        }
    }

    fn admission(waiting_max: u64) -> Arc<Admission> {
        Arc::new(Admission::new(waiting_max, Metrics::default()))
    }

    #[test]
    fn memory_is_given_back_however_a_submit_ends() {
        let admission = admission(u64::MAX);
        let low = admission.enter(submit(Tier::Low, SUBMITS_BYTES_MAX * 9 / 10), NOW);
        let low = low.expect("nothing is taken yet");
        for tier in [Tier::Low, Tier::Normal] {
            let refused = admission.enter(submit(tier, 1), NOW).err();
            let refused = refused.expect("its share is taken");
            assert!(matches!(refused, Refused::Overloaded { .. }), "{refused}");
        }
        let high = admission.enter(submit(Tier::High, SUBMITS_BYTES_MAX), NOW);
        let high = high.expect("one request may go beyond");
        assert!(admission.enter(submit(Tier::High, 0), NOW).is_err());
        drop((low, high));
        let [_, memory] = admission.view(NOW).gauges;
        assert_eq!(memory.taken, 0, "refused ones give it back too");
        assert_eq!(admission.view(NOW).level.number(), 3);
    }

    #[test]
    fn clients_are_told_to_come_back_when_there_will_be_room_and_not_together() {
        let admission = admission(1_000);
        admission.publish(900, 0, NOW);
        for second in 0..=6 {
            admission.publish(900, 20, NOW.after(Duration::from_secs(second)));
        }
        let told = (0..16).map(|_| match admission.enter(submit(Tier::Low, 1), NOW) {
            Err(Refused::Overloaded { retry_after, .. }) => retry_after,
            Err(refused) => panic!("{refused}"),
            Ok(_) => panic!("its share is taken"),
        });
        let told: Vec<_> = told.collect();
        // 101 have to end, at 20 to 24 a second.
        let (first, last) = (told.iter().min(), told.iter().max());
        let bounds = Duration::from_secs(4)..Duration::from_secs(8);
        assert!(told.iter().all(|span| bounds.contains(span)), "{told:?}");
        assert!(first < last, "{told:?}");
    }
}
