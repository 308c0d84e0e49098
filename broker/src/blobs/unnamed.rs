//! Blobs that may have become of no use.

use std::sync::Mutex;

use tokio::sync::Notify;
use tq_core::Digest;

use crate::ledger::lock;

/// How many may wait. More are found by the next sweep over all files.
const WAITING_MAX: usize = 65_536;

/// Blobs that a row has ceased to name, or that somebody has let go of, so that maybe none names them. What is told here may
/// be wrong in either way: whoever takes it asks the rows.
#[derive(Debug, Default)]
pub struct Unnamed {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    digests: Vec<Digest>,
    has_overflowed: bool,
}

impl Unnamed {
    /// Tells of blobs, once what has become of them is committed.
    pub fn push(&self, digests: Vec<Digest>) {
        if digests.is_empty() {
            return;
        }
        let mut waiting = lock(&self.waiting);
        let room = WAITING_MAX - waiting.digests.len();
        waiting.has_overflowed |= digests.len() > room;
        waiting.digests.extend(digests.into_iter().take(room));
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Takes at most `max` of those that wait.
    pub fn take(&self, max: usize) -> Vec<Digest> {
        let mut waiting = lock(&self.waiting);
        let left = waiting.digests.len().saturating_sub(max);
        waiting.digests.split_off(left)
    }

    /// Whether some were not taken note of since this was asked last.
    pub(super) fn has_overflowed(&self) -> bool {
        std::mem::take(&mut lock(&self.waiting).has_overflowed)
    }

    /// Waits until some may have come.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_so_many_wait_and_it_is_told_that_there_were_more() {
        let unnamed = Unnamed::default();
        unnamed.push(vec![Digest([1; 32]); WAITING_MAX]);
        assert!(!unnamed.has_overflowed());
        unnamed.push(vec![Digest([2; 32])]);
        assert!(unnamed.has_overflowed() && !unnamed.has_overflowed());
        assert_eq!(unnamed.take(5).len(), 5);
        assert_eq!(unnamed.take(usize::MAX).len(), WAITING_MAX - 5);
        assert!(unnamed.take(1).is_empty());
    }
}
