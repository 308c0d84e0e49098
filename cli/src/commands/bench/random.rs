//! A random sequence that depends on its seed alone, so that a run can be repeated.

use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood: Fast splittable pseudorandom number generators, 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Draws the next number.
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// The time to the next of events that come independently of each other, so many a second (a Poisson process).
    pub(crate) fn interval(&mut self, per_second: f64) -> Duration {
        // In (0, 1], so that its logarithm exists.
        let uniform = ((self.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() / per_second)
    }

    /// So many bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.draw().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_have_the_rate_and_the_seed_decides_them() {
        let mut random = Random::new(7);
        let all: Duration = (0..100_000).map(|_| random.interval(1_000.0)).sum();
        assert!((95.0..105.0).contains(&all.as_secs_f64()), "{all:?}");
        assert_eq!(Random::new(7).bytes(11), Random::new(7).bytes(11));
        assert_ne!(Random::new(7).bytes(11), Random::new(8).bytes(11));
    }
}
