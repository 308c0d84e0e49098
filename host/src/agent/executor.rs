//! Where attempts run.

use tq_core::id::Epoch;

use crate::agent::convert::{self, Resolved};
use crate::component::Load;
use crate::runner::{Finished, Pool, StopReason};
use crate::sandbox::Engine;

/// Runs what is assigned, and tells by [`Event`](crate::runner::Event)s what becomes of it.
pub(crate) trait Executor: Send + Sync + 'static {
    /// How it has components loaded.
    type Loader: Load;

    /// Runs it when there is a slot for it, in order of arrival. Does not block.
    ///
    /// # Errors
    /// The text says why it does not run; no event tells of it then.
    fn run(&self, resolved: Resolved<<Self::Loader as Load>::Loaded>) -> Result<(), String>;

    /// Stops an attempt, whether it runs or waits; one that does neither is nobody's. Returns the end of one that waited, of
    /// which no event tells then. Does not block.
    fn stop(&self, epoch: Epoch, why: StopReason) -> Option<Finished>;

    /// Takes every attempt back that has not begun. No event tells of those that are returned; others may yet end so by an
    /// event, with [`Outcome::HostDrained`](tq_core::Outcome::HostDrained). Does not block.
    fn take_back(&self) -> Vec<Epoch>;

    /// Ends what runs and what waits. Blocks, for at most [`SHUTDOWN_WAIT`](tq_core::limits::SHUTDOWN_WAIT). Returns how much
    /// did not end.
    fn shutdown(self) -> usize;
}

/// In threads of this process.
impl Executor for Pool {
    type Loader = Engine;

    fn run(&self, resolved: Resolved<crate::component::Ready>) -> Result<(), String> {
        let attempt = Box::new(convert::attempt(resolved)?);
        Pool::run(self, attempt).map_err(|refused| refused.to_string())
    }

    fn stop(&self, epoch: Epoch, why: StopReason) -> Option<Finished> {
        Pool::stop(self, epoch, why)
    }

    fn take_back(&self) -> Vec<Epoch> {
        Pool::take_back(self)
    }

    fn shutdown(self) -> usize {
        Pool::shutdown(self)
    }
}
