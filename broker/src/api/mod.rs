//! What the broker is asked over the network: thin code that decodes, calls and encodes.

mod grpc;
mod peer;
mod rest;
mod serve;
mod status;

pub(crate) use grpc::routes;
#[cfg(feature = "simulation")]
pub use grpc::simulation;
pub(crate) use peer::Peer;
pub(crate) use rest::TaskJson;
pub use rest::{CorsOrigin, NoOrigin};
pub(crate) use serve::{Listening, Server, serve};
pub(crate) use status::ApiError;
