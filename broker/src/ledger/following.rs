//! Who follows a task: told when something of it may have changed, to read it then.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::watch;
use tq_core::TaskId;

use super::{Shared, lock};

/// The tasks that somebody follows.
pub(super) type Followed = FxHashMap<TaskId, watch::Sender<()>>;

/// Follows one task, until it is dropped.
pub struct Following {
    shared: Arc<Shared>,
    id: TaskId,
    changes: watch::Receiver<()>,
}

impl Following {
    /// Follows a task from now on. There need not be one.
    pub fn new(shared: &Arc<Shared>, id: TaskId) -> Self {
        let mut followed = lock(&shared.followed);
        let changes = followed.entry(id).or_default().subscribe();
        Self {
            shared: Arc::clone(shared),
            id,
            changes,
        }
    }

    /// Waits until the task, its progress or its log may have changed since this returned last, or since it is followed.
    ///
    /// # Cancel safety
    /// Dropped before it returns, it misses nothing.
    pub async fn changed(&mut self) {
        // The sender goes with the last that follows.
        self.changes.changed().await.ok();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = lock(&self.shared.followed);
        // This one is counted too.
        if followed
            .get(&self.id)
            .is_some_and(|changes| changes.receiver_count() <= 1)
        {
            followed.remove(&self.id);
        }
    }
}

impl Shared {
    /// Tells those who follow these tasks that something of them can be read anew.
    pub(super) fn tell_followers<'a>(&self, ids: impl Iterator<Item = &'a TaskId>) {
        let followed = lock(&self.followed);
        if followed.is_empty() {
            return;
        }
        for id in ids {
            if let Some(changes) = followed.get(id) {
                changes.send_replace(());
            }
        }
    }
}
