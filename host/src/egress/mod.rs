//! Requests and connections of guests to the world outside: what was granted, to addresses that may be reached, and nothing else.
//!
//! [`Egress`] is the seam. What crosses it is plain data, since one day the guests run in a process that has no network, and
//! this end of the seam stays in the one that has. So nothing that comes through it is trusted: every check is on this side,
//! in [`Sender`], and the grants are those of the task's module, whatever a guest says.

mod connect;
mod failure;
mod own;
mod pool;
mod recorded;
mod request;
mod resolve;
mod sender;
pub mod tcp;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::Receiver;
use tq_core::grant::{HttpGrant, Scheme};
use tq_core::{Epoch, TaskId};

pub(crate) use failure::shown;
pub use failure::{Failure, HeaderFault, Kind, Wait};
pub use recorded::{Answer, AnswerError, Asking, Recorded};
pub use resolve::{Resolve, System};
pub use sender::{Config, Sender, Traffic};
pub use tq_core::network::{Forbidden, Network, NetworkError};

/// Sends requests of guests, and makes their connections.
pub trait Egress: Send + Sync {
    /// Sends one request. The future is ready with the head of the response; the body follows through [`Response::body`].
    ///
    /// # Errors
    /// [`Failure`] says exactly why there is no response.
    ///
    /// # Cancel safety
    /// Dropping the future, or the body, ends the request.
    fn send(&self, scope: Scope, request: Request)
    -> BoxFuture<'static, Result<Response, Failure>>;

    /// What connects for one attempt. It remembers where names have led, so that there is one for all connections of the attempt.
    fn dial(&self, scope: tcp::Scope) -> Arc<dyn tcp::Dial>;
}

/// For whom a request is sent, and within what.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The attempt.
    pub epoch: Epoch,
    /// The tenant: connections are shared within it, and never beyond.
    pub namespace: String,
    /// The task.
    pub task_id: TaskId,
    /// What its module was granted.
    pub grants: Arc<BTreeSet<HttpGrant>>,
    /// How long each part of it may take.
    pub timeouts: Timeouts,
    /// What the response may have in head and body.
    pub response_bytes: u64,
}

/// How long a request may take. What is `None` is bounded by the whole alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To make a connection.
    pub connect: Option<Duration>,
    /// From the request to the head of its response.
    pub first_byte: Option<Duration>,
    /// Between parts of the body.
    pub between_bytes: Option<Duration>,
    /// From the beginning to the end of the response.
    pub total: Duration,
}

/// A request as a guest wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// How it travels.
    pub scheme: Scheme,
    /// `HOST[:PORT]`, as the guest wrote it.
    pub authority: String,
    /// Path and query, as the guest wrote them.
    pub path: String,
    /// Names and values, in order.
    pub headers: Vec<(String, Bytes)>,
    /// The whole body.
    pub body: Bytes,
}

/// The head of a response, and the way to its body.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Names and values, in order.
    pub headers: Vec<(String, Bytes)>,
    /// The body in parts: data, and in the end exactly one that is not. Bounded; whoever takes none holds the server up. Closed
    /// without an end, the response is incomplete.
    pub body: Receiver<Part>,
    /// Told of each part of data that was taken, and dropped with the body, where whoever sends it cannot see that by the
    /// channel.
    pub flow: Option<Box<dyn Flow>>,
}

/// Hears how a body is taken.
pub trait Flow: fmt::Debug + Send + Sync {
    /// A part of data was taken.
    fn taken(&self);
}

/// A part of a response's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The next bytes; never empty.
    Data(Bytes),
    /// That was all of it.
    End,
    /// There is more of it, which does not come.
    Failed(Failure),
}

/// What the head of a message counts as: its names and values, and what separates them.
pub(crate) fn head_bytes(headers: &[(String, Bytes)]) -> u64 {
    const SEPARATORS: usize = ": \r\n".len();
    let lens = headers
        .iter()
        .map(|(name, value)| (name.len() + value.len() + SEPARATORS) as u64);
    lens.sum()
}
