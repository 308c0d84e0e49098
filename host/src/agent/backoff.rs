//! Pauses between tries.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses of up to 50 ms, doubled with every try up to 2 s, each drawn from the whole span (*full jitter*), so that hosts
/// that lost one broker at one time come back evenly spread. Two seconds leave room for several tries within a lease.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    tries: u32,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            tries: 0,
            random: seed,
        }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        whole.mul_f64(mixed as f64 / u64::MAX as f64)
    }

    /// The last try went well.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_two_seconds_and_are_spread_over_the_whole_span() {
        for (tries, whole_ms) in [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]
            .into_iter()
            .enumerate()
        {
            let whole = Duration::from_millis(whole_ms);
            let pauses: Vec<_> = (0..400)
                .map(|seed| {
                    let mut backoff = Backoff::new(seed);
                    (0..tries).for_each(|_| _ = backoff.pause());
                    backoff.pause()
                })
                .collect();
            assert!(pauses.iter().all(|pause| *pause <= whole));
            // A quarter of the hosts in each quarter of the span, give or take.
            for quarter in 0..4 {
                let part = |pause: &&Duration| pause.as_secs_f64() * 4.0 / whole.as_secs_f64();
                let count = pauses
                    .iter()
                    .filter(|pause| part(pause) as u32 == quarter)
                    .count();
                assert!(
                    (70..130).contains(&count),
                    "{count} in quarter {quarter} of {whole:?}"
                );
            }
        }
        let mut backoff = Backoff::new(1);
        (0..8).for_each(|_| _ = backoff.pause());
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }

    #[test]
    fn pauses_follow_from_the_seed() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(seed);
            std::array::from_fn::<_, 5, _>(|_| backoff.pause())
        };
        assert_eq!(pauses(7), pauses(7));
    }

    #[test]
    fn hosts_do_not_come_back_together() {
        assert_ne!(Backoff::new(1).pause(), Backoff::new(2).pause());
    }
}
