//! The ends of the last commits, for those who watch: they need not read what the ledger has just had in its hands.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tq_core::task::Task;

use crate::tables::Namespace;

/// Ends that are kept. A watch that is further behind reads the store.
const RECENT_MAX: usize = 4_096;

/// A task that ended, as it is on disk.
#[derive(Debug)]
pub struct Ended {
    /// Its tenant.
    pub namespace: Namespace,
    /// The task.
    pub task: Task,
    /// Its result, if that is in the task's own rows; empty otherwise.
    pub result: Bytes,
}

/// The tasks that ended in the last commits.
#[derive(Debug)]
pub struct Recent {
    /// The sequence of each commit, and who ended in it; the newest last.
    commits: VecDeque<(u64, Vec<Arc<Ended>>)>,
    tasks: usize,
    /// Ends of commits up to this one are in the store alone.
    forgotten: u64,
}

impl Recent {
    /// Nothing yet: what ended up to `seq` is in the store.
    pub(super) fn new(seq: u64) -> Self {
        Self {
            commits: VecDeque::new(),
            tasks: 0,
            forgotten: seq,
        }
    }

    /// Keeps the ends of a commit, and forgets the oldest ones.
    pub(super) fn push(&mut self, seq: u64, ended: Vec<Arc<Ended>>) {
        self.tasks += ended.len();
        self.commits.push_back((seq, ended));
        while self.tasks > RECENT_MAX
            && let Some((seq, ended)) = self.commits.pop_front()
        {
            self.tasks -= ended.len();
            self.forgotten = seq;
        }
    }

    /// Forgets everything up to the commit `seq`, which nobody waits for.
    pub(super) fn forget(&mut self, seq: u64) {
        *self = Self::new(seq);
    }

    /// The ends after the commit `seq`, and the sequence of the last of their commits, which is `seq` if there are none.
    /// `None` if some of them are in the store alone.
    pub fn after(&self, seq: u64) -> Option<(Vec<Arc<Ended>>, u64)> {
        if seq < self.forgotten {
            return None;
        }
        let newer = self.commits.partition_point(|(commit, _)| *commit <= seq);
        let ended = self.commits.range(newer..).flat_map(|(_, ended)| ended);
        let last = self.commits.back().map_or(seq, |(last, _)| seq.max(*last));
        Some((ended.cloned().collect(), last))
    }
}
