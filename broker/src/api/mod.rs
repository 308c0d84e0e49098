//! What the broker is asked over the network: thin code that decodes, calls and encodes.

mod grpc;
mod serve;
mod status;

pub use grpc::routes;
pub use serve::{Server, serve};
