//! Ids of tasks: UUIDv7 (RFC 9562, section 5.7) that rise strictly, over restarts and clocks that go back.

use tq_core::{TaskId, Timestamp};

/// Makes ids. Pure: the same seed and times give the same ids.
#[derive(Debug)]
pub(super) struct Ids {
    millis: u64,
    /// Counts within a millisecond: the 12 bits of `rand_a` and the first 14 of `rand_b`.
    count: u32,
    random: u64,
}

const COUNT_MAX: u32 = (1 << 26) - 1;

impl Ids {
    /// Begins after `last`, the id that was given last.
    pub(super) fn new(last: TaskId, seed: u64) -> Self {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&last.0[..6]);
        Self {
            millis: u64::from_be_bytes(millis),
            count: COUNT_MAX,
            random: seed,
        }
    }

    /// Makes the next id.
    pub(super) fn next(&mut self, now: Timestamp) -> TaskId {
        if now.0 > self.millis {
            (self.millis, self.count) = (now.0, 0);
        } else if self.count < COUNT_MAX {
            self.count += 1;
        } else {
            // The clock went back, or more came in a millisecond than it can count: take the next one ahead of time.
            (self.millis, self.count) = (self.millis + 1, 0);
        }
        // splitmix64 (Steele, Lea, Flood 2014): ids need to be distinct and spread, not secret.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let high = self.millis << 16 | 0x7000 | u64::from(self.count >> 14);
        let low = 0b10 << 62 | u64::from(self.count & 0x3fff) << 48 | x >> 16;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        TaskId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_rise_whatever_the_clock_does(times in prop::collection::vec(0_u64..5, 1..200), seed: u64) {
            let mut ids = Ids::new(TaskId([0; 16]), seed);
            let made: Vec<_> = times.into_iter().map(|time| ids.next(Timestamp(time))).collect();
            prop_assert!(made.is_sorted_by(|a, b| a < b));
            let last = made[made.len() - 1];
            prop_assert!(Ids::new(last, seed).next(Timestamp(0)) > last);
            for id in made {
                let uuid = uuid::Uuid::from_bytes(id.0);
                prop_assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
            }
        }
    }
}
