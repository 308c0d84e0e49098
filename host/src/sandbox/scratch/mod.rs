//! The directory `/scratch` of one attempt, in memory, in place of the engine's file systems.
//!
//! No guest reaches a file of the host through it, whatever it is called and however it is raced for: there is none. What a guest
//! makes the host hold is counted, and limited by [`tq_core::Limits::scratch_bytes`].

mod contents;
mod fault;
mod space;
mod streams;
mod tree;
mod wasi;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime_wasi::HostWallClock;

use tq_core::Outcome;

use self::tree::{NodeId, Tree};
pub(super) use self::wasi::{View, add_to_linker};
use super::Refused;

/// What guests find the directory under.
const PATH: &str = "/scratch";

/// The files of one attempt.
pub(crate) struct Scratch {
    tree: Mutex<Tree>,
    /// The attempt's own, so that times are the same in every attempt where that was asked for.
    clock: Box<dyn HostWallClock + Sync>,
}

impl Scratch {
    /// An empty directory in which everything together may take `limit` bytes.
    pub(super) fn new(limit: u64, clock: Box<dyn HostWallClock + Sync>) -> Arc<Self> {
        Arc::new(Self {
            tree: Mutex::new(Tree::new(limit, clock.now())),
            clock,
        })
    }

    /// What did not fit, if anything ever did not.
    pub(super) fn refused(&self) -> Option<Refused> {
        let tree = self.tree();
        let asked = tree.denied()?;
        let limit = tree.limit();
        Some(Refused {
            outcome: Outcome::ScratchLimit,
            message: format!(
                "`{PATH}` is limited to {limit} bytes by `scratch`, and {asked} were asked for"
            ),
        })
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }
}

/// A file or directory that is held open: it stays while this lives, also without a name.
struct Handle {
    scratch: Arc<Scratch>,
    node: NodeId,
}

impl Handle {
    fn new(scratch: &Arc<Scratch>, node: NodeId) -> Self {
        scratch.tree().hold(node);
        Self {
            scratch: Arc::clone(scratch),
            node,
        }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self::new(&self.scratch, self.node)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.scratch.tree().let_go(self.node);
    }
}
