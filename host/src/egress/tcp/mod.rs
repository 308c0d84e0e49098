//! TCP connections of guests: to what was granted, at addresses that were checked, and nothing else.
//!
//! As for requests, what crosses the seam is plain data, and every decision is on the side that has a network, in [`Dialler`].
//! There is one for each attempt, since it knows which addresses this attempt's look-ups of granted names have led to: to others
//! nobody connects, whatever a guest asks for.

mod dialler;
mod failure;
mod window;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::Receiver;
use tq_core::grant::TcpGrant;
use tq_core::{Epoch, TaskId};

use super::Flow;

pub use dialler::Dialler;
pub use failure::{Code, Failure};
pub use window::Window;

/// Looks names up and connects, for one attempt.
pub trait Dial: Send + Sync {
    /// The addresses of a host that the attempt may connect to, the one to try first at the beginning; at least one.
    ///
    /// # Errors
    /// [`Failure`] says why there is none.
    ///
    /// # Cancel safety
    /// Dropping the future gives the answer up.
    fn resolve(&self, name: String) -> BoxFuture<'static, Result<Vec<IpAddr>, Failure>>;

    /// Connects to an address that was granted, or that a granted name has led to.
    ///
    /// # Errors
    /// [`Failure`] says why there is no connection.
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt to connect.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, Result<Connection, Failure>>;
}

/// For whom connections are made.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The attempt.
    pub epoch: Epoch,
    /// The tenant.
    pub namespace: String,
    /// The task.
    pub task_id: TaskId,
    /// What its module was granted.
    pub grants: Arc<BTreeSet<TcpGrant>>,
}

/// A connection, in both directions. It is closed when all of it was dropped, after what was sent is on its way; it is not waited
/// for longer than [`TCP_LINGER_TIME`](tq_core::limits::TCP_LINGER_TIME).
pub struct Connection {
    /// What comes: data, and in the end exactly one part that is not. Bounded; whoever takes none holds the other end up. To drop it
    /// is to read no more.
    pub incoming: Receiver<Part>,
    /// Where data goes. To drop it is to say that there is no more.
    pub outgoing: Box<dyn Outgoing>,
    /// How much may go there.
    pub window: Arc<Window>,
    /// Told of each part of data that was taken from `incoming`. Dropped, nobody wants the connection any more.
    pub flow: Box<dyn Flow>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Takes what a guest sends.
pub trait Outgoing: Send + Sync {
    /// Takes one part, of at most [`TCP_PART_BYTES`](tq_core::limits::TCP_PART_BYTES), for which [`Window::take`] has found room.
    /// Never waits; what becomes of it is told to the window.
    fn send(&self, data: Bytes);
}

/// A part of what comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The next bytes; never empty.
    Data(Bytes),
    /// The other end sends no more.
    End,
    /// The connection is broken.
    Failed(Failure),
}
