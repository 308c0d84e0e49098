//! What a guest runs in: the engine, the limits, and a WASI in which nothing is granted.

mod ambient;
mod budget;
mod engine;
mod limits;
mod link;
mod requests;
mod scratch;
mod sockets;
mod stdio;
mod wasi;

pub(crate) use budget::Exceeded;
pub use engine::{Engine, EngineError, Layout};
pub(crate) use engine::{compiler, engine_key};
pub(crate) use stdio::{Log, OutputLimit};
pub(crate) use wasi::{Guest, Refused};
