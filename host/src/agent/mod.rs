//! The host's end of its session with the broker.
//!
//! [`session`] decides: it is a state machine without a clock or a socket. [`Agent`] drives it: it holds the control
//! connection, hands attempts to an [`Executor`], and has blobs and modules fetched.

mod backoff;
mod bulk;
pub(crate) mod convert;
mod credits;
mod disk;
mod driver;
mod executor;
pub(crate) mod link;
pub mod session;

pub(crate) use backoff::Backoff;
pub(crate) use credits::queue_max;
pub(crate) use driver::{Agent, Parts, Status, Stored};
pub(crate) use executor::Executor;
