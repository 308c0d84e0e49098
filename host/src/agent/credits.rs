//! How much work the host asks for.

use std::time::Duration;

/// Work that should be waiting on the host, so that a slot never waits for the network and the broker's commit.
const QUEUED_WORK: Duration = Duration::from_millis(5);
/// Assignments that wait on the host at most: what waits here cannot go to a less busy host.
const QUEUED_MAX: u64 = 512;
/// The newest duration counts for one part in so many of the mean.
const MEAN_OF: u64 = 16;

/// Attempts that the runner lets wait. Twice what is granted, since attempts that were abandoned make room for others
/// before they have ended.
pub(crate) fn queue_max(slots: u32) -> usize {
    2 * (slots as usize + QUEUED_MAX as usize)
}

/// The credits of one session: how many assignments the host takes in all since its hello.
///
/// It grants what its slots take, and a queue worth 5 ms of work by the mean of recent attempts: hundreds of tiny ones,
/// none of those that take seconds.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    slots: u64,
    mean_ns: Option<u64>,
    received: u64,
    granted: u64,
}

impl Window {
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            slots: u64::from(slots),
            mean_ns: None,
            received: 0,
            granted: 0,
        }
    }

    /// A new session begins: nothing is granted. What attempts take is remembered.
    pub(crate) fn reset(&mut self) {
        self.received = 0;
        self.granted = 0;
    }

    /// Counts an assignment; false if it was not granted.
    pub(crate) fn take(&mut self) -> bool {
        self.received += 1;
        self.received <= self.granted
    }

    /// An attempt took so long.
    pub(crate) fn ran(&mut self, wall: Duration) {
        let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        self.mean_ns = Some(match self.mean_ns {
            Some(mean) => mean - mean / MEAN_OF + wall_ns / MEAN_OF,
            None => wall_ns,
        });
    }

    /// Grants what there is place for beside `held` attempts, at most `room`. `None` if nothing is to be said: the
    /// broker has most of its credits yet, so that a message would change nothing.
    pub(crate) fn raise(&mut self, held: usize, room: usize) -> Option<u64> {
        let target = self.slots + self.queued();
        let free = target.saturating_sub(held as u64).min(room as u64);
        let granted = self.received + free;
        let rise = granted.checked_sub(self.granted).filter(|rise| *rise > 0)?;
        let left = self.granted - self.received;
        if rise * 4 < target && left * 2 >= target {
            return None;
        }
        self.granted = granted;
        Some(granted)
    }

    /// Assignments that should wait on the host. Until the first attempt has ended, one for each slot.
    fn queued(&self) -> u64 {
        let Some(mean_ns) = self.mean_ns else {
            return self.slots.min(QUEUED_MAX);
        };
        let slots_ns = self.slots * QUEUED_WORK.as_nanos() as u64;
        (slots_ns / mean_ns.max(1)).min(QUEUED_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(wall: Duration, expected: Option<u64>) {
        let mut window = Window::new(4);
        window.ran(wall);
        assert_eq!(window.raise(0, usize::MAX), expected);
    }

    #[test]
    fn the_queue_holds_five_milliseconds_of_work() {
        check(Duration::from_secs(30), Some(4));
        check(Duration::from_millis(5), Some(4 + 4));
        check(Duration::from_micros(100), Some(4 + 200));
        check(Duration::ZERO, Some(4 + 512));
    }

    #[test]
    fn first_credits_are_a_slot_and_a_place_in_the_queue_each() {
        assert_eq!(Window::new(4).raise(0, usize::MAX), Some(8));
    }

    #[test]
    fn credits_are_raised_when_they_matter() {
        let mut window = Window::new(8);
        window.ran(Duration::from_secs(1));
        assert_eq!(window.raise(0, usize::MAX), Some(8));
        (0..3).for_each(|_| assert!(window.take()));
        assert_eq!(window.raise(2, usize::MAX), None, "5 of 8 credits are left");
        (0..5).for_each(|_| assert!(window.take()));
        assert_eq!(
            window.raise(7, usize::MAX),
            Some(9),
            "a slot is free and no credit is left"
        );
    }

    #[test]
    fn full_host_grants_nothing() {
        let mut window = Window::new(2);
        window.ran(Duration::from_secs(1));
        assert_eq!(window.raise(0, usize::MAX), Some(2));
        assert!(window.take() && window.take());
        assert_eq!(window.raise(2, usize::MAX), None);
        assert_eq!(window.raise(1, 0), None, "no room for outcomes");
        assert!(!window.take(), "a third was not granted");
    }

    proptest! {
        /// Whatever happens, credits never fall, and never exceed slots and queue.
        #[test]
        fn credits_only_rise(steps in prop::collection::vec((0_u64..20_000_000, 0_usize..600), 0..200)) {
            let mut window = Window::new(4);
            let mut highest = 0;
            for (wall_ns, held) in steps {
                window.ran(Duration::from_nanos(wall_ns));
                if let Some(granted) = window.raise(held, usize::MAX) {
                    prop_assert!(granted > highest);
                    prop_assert!(granted - window.received <= 4 + QUEUED_MAX);
                    highest = granted;
                }
                if window.received < window.granted {
                    prop_assert!(window.take());
                }
            }
        }
    }
}
