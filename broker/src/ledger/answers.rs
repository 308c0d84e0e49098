//! What a step has to say, once what it rests on is on disk.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Ended, Shared, lock};
use crate::dispatch::hosts::ToSay;

/// What a step has to say: its answers, its messages to hosts and the ends of tasks. If it needs the disk, nothing of it
/// may be said before a sync that began after the step has succeeded; a step that was not synced is never spoken of.
/// Steps are spoken of in their order.
#[must_use = "whoever asked waits for it"]
pub struct Answers {
    pub(super) shared: Arc<Shared>,
    /// Which step, from 1.
    pub(super) step: u64,
    pub(super) needs_disk: bool,
    pub(super) replies: Vec<Box<dyn FnOnce() + Send>>,
    pub(super) to_hosts: Vec<ToSay>,
    pub(super) ends: Option<Ends>,
}

/// The tasks that ended in a step.
pub(super) struct Ends {
    /// The sequence of the step's commit.
    pub(super) seq: u64,
    /// None if nobody watches.
    pub(super) ended: Option<Vec<Arc<Ended>>>,
    /// Who watches which of them.
    pub(super) watched: Vec<(mpsc::UnboundedSender<Arc<Ended>>, Arc<Ended>)>,
}

impl Answers {
    /// Whether what it says has to outlive a loss of power first.
    #[must_use]
    pub fn need_disk(&self) -> bool {
        self.needs_disk
    }

    /// Whether nobody waits for it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Whoever reads waits for a step that needs the disk, though there is nothing else to say.
        !self.needs_disk
            && self.replies.is_empty()
            && self.to_hosts.is_empty()
            && self.ends.is_none()
    }

    /// Says it. `durable_seq` is the sequence of the last commit that outlives a loss of power.
    pub fn give(self, durable_seq: u64) {
        let Self {
            shared,
            step,
            needs_disk: _,
            replies,
            to_hosts,
            ends,
        } = self;
        if let Some(ends) = ends {
            ends.tell(&shared);
        }
        for reply in replies {
            reply();
        }
        for message in to_hosts {
            message.say(durable_seq);
        }
        shared.said.send_replace(step);
    }
}

impl Ends {
    fn tell(self, shared: &Shared) {
        let Self {
            seq,
            ended,
            watched,
        } = self;
        match ended {
            Some(ended) => lock(&shared.recent).push(seq, ended),
            None => lock(&shared.recent).forget(seq),
        }
        for (watcher, ended) in watched {
            // A watch that nobody listens to any more is removed by its Unwatch.
            let _gone = watcher.send(ended).is_err();
        }
        shared.settled.send_replace(seq);
    }
}
