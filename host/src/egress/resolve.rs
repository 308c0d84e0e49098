//! From names to addresses.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tq_core::limits::HTTP_LOOKUPS_MAX;

/// Looks names up.
pub trait Resolve: Send + Sync {
    /// All addresses of a host, the one to try first at the beginning.
    ///
    /// # Errors
    /// What the system says where it finds none.
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system.
#[derive(Debug)]
pub struct System {
    handle: Handle,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
}

impl System {
    /// A resolver that works on this runtime, in tasks of `tasks`.
    #[must_use]
    pub fn new(handle: Handle, tasks: TaskTracker) -> Self {
        Self {
            handle,
            tasks,
            permits: Arc::new(Semaphore::new(HTTP_LOOKUPS_MAX)),
        }
    }
}

impl Resolve for System {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let permits = Arc::clone(&self.permits);
        let host = host.to_owned();
        let (handle, tasks) = (self.handle.clone(), self.tasks.clone());
        Box::pin(async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            // The system cannot be told to give up, and keeps a thread until it does. So does this task with the permit,
            // when nobody waits any more.
            let looking = async move {
                let found = tokio::net::lookup_host((host, 0)).await;
                drop(permit);
                found.map(|found| found.map(|address| address.ip()).collect())
            };
            let looked = tasks.spawn_on(looking, &handle).await;
            looked.map_err(io::Error::other)?
        })
    }
}
