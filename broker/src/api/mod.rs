//! What the broker is asked over the network: thin code that decodes, calls and encodes.

mod grpc;
mod peer;
mod rest;
mod serve;
mod status;

#[cfg(feature = "simulation")]
pub use grpc::simulation;
pub(crate) use grpc::{Context, routes};
pub(crate) use peer::Peer;
pub(crate) use rest::TaskJson;
pub use rest::{CorsOrigin, NoOrigin};
pub(crate) use serve::{Listening, Server, serve};
pub(crate) use status::ApiError;
