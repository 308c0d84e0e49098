//! Clocks and randomness, as guests see them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use blake3::OutputReader;
use rand::{Rng as _, TryRng};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

use tq_core::TaskId;
use tq_core::limits::CLOCK_RESOLUTION;

use super::budget::Budget;
use crate::clock;

/// Random bytes, counted.
pub(crate) struct Random {
    /// None takes them from this thread's generator, which the operating system seeds.
    of_task: Option<OutputReader>,
    budget: Arc<Budget>,
}

impl Random {
    pub(crate) fn real(budget: &Arc<Budget>) -> Self {
        Self {
            of_task: None,
            budget: Arc::clone(budget),
        }
    }

    /// The same for every attempt of a task, in every version of tq: BLAKE3's output, extended.
    pub(crate) fn of_task(id: TaskId, use_: Use, budget: &Arc<Budget>) -> Self {
        Self {
            of_task: Some(output(id, use_)),
            budget: Arc::clone(budget),
        }
    }
}

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        match &mut self.of_task {
            Some(of_task) => of_task.fill(bytes),
            None => rand::rng().fill_bytes(bytes),
        }
    }
}

/// What random bytes are for: one does not tell of the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    Secure,
    Insecure,
    Seed,
}

/// The seed of everything else that a guest wants to be random.
pub(crate) fn seed_of_task(id: TaskId) -> u128 {
    let mut seed = [0; 16];
    output(id, Use::Seed).fill(&mut seed);
    u128::from_le_bytes(seed)
}

fn output(id: TaskId, use_: Use) -> OutputReader {
    let mut hasher =
        blake3::Hasher::new_derive_key("tq 2026-11 randomness of a deterministic task");
    hasher.update(&id.0).update(&[use_ as u8]);
    hasher.finalize_xof()
}

impl TryRng for Random {
    type Error = Infallible;

    /// One byte for the guest: the engine makes each from a word of its own.
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.budget.count_random(1);
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.budget.count_random(bytes.len());
        self.fill(bytes);
        Ok(())
    }
}

/// The clocks of the machine, too coarse to tell how a neighbour's code runs.
pub(crate) struct Coarse {
    started: Instant,
}

impl Coarse {
    pub(crate) fn new(started: Instant) -> Self {
        Self { started }
    }
}

fn coarse(span: Duration) -> Duration {
    let step = CLOCK_RESOLUTION.as_nanos();
    let nanos = span.as_nanos() / step * step;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl HostWallClock for Coarse {
    fn resolution(&self) -> Duration {
        CLOCK_RESOLUTION
    }

    fn now(&self) -> Duration {
        coarse(clock::since_epoch())
    }
}

impl HostMonotonicClock for Coarse {
    fn resolution(&self) -> u64 {
        nanos(CLOCK_RESOLUTION)
    }

    fn now(&self) -> u64 {
        nanos(coarse(self.started.elapsed()))
    }
}

/// Clocks that go on by themselves with each look at them, from the time that is in the task's id: the same in every
/// attempt.
#[derive(Clone)]
pub(crate) struct Stepping {
    started: Duration,
    looks: Arc<AtomicU64>,
}

impl Stepping {
    pub(crate) fn of_task(id: TaskId) -> Self {
        Self {
            started: Duration::from_millis(id.made_at().0),
            looks: Arc::default(),
        }
    }

    fn elapsed(&self) -> Duration {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        CLOCK_RESOLUTION.saturating_mul(u32::try_from(looks).unwrap_or(u32::MAX))
    }
}

impl HostWallClock for Stepping {
    fn resolution(&self) -> Duration {
        CLOCK_RESOLUTION
    }

    fn now(&self) -> Duration {
        self.started + self.elapsed()
    }
}

impl HostMonotonicClock for Stepping {
    fn resolution(&self) -> u64 {
        nanos(CLOCK_RESOLUTION)
    }

    fn now(&self) -> u64 {
        nanos(self.elapsed())
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stepping_clocks_begin_with_the_task_and_never_stand_still() {
        let id: TaskId = "0198c9a4-7f1e-7c3a-b1de-5a0e6f2d9c41".parse().unwrap();
        let clock = Stepping::of_task(id);
        let (wall, monotonic) = (
            HostWallClock::now(&clock),
            HostMonotonicClock::now(&clock.clone()),
        );
        assert_eq!(wall.as_millis(), 0x0198_c9a4_7f1e);
        assert_eq!(u128::from(monotonic), CLOCK_RESOLUTION.as_nanos());
        assert!(HostWallClock::now(&clock) > wall);
    }

    #[test]
    fn real_clocks_are_coarse() {
        let span = Duration::from_nanos(1_234_567_891);
        assert_eq!(coarse(span), Duration::from_micros(1_234_500));
        let clock = Coarse::new(clock::now());
        assert_eq!(HostMonotonicClock::now(&clock) % 100_000, 0);
    }
}
