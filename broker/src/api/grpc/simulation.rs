//! What the simulation puts between its hosts and the ledger: the conversions between wire and domain.

use tonic::Status;
use tq_proto::v1;

use super::convert;
use crate::dispatch::message::{FromHost, Hello, ToHost};

/// The first words of a host.
///
/// # Errors
/// As the host would get it.
pub fn hello_in(hello: v1::Hello) -> Result<Hello, Status> {
    convert::hello_in(hello)
}

/// What a host says after its hello.
///
/// # Errors
/// As the host would get it.
pub fn from_host_in(message: v1::HostMessage) -> Result<FromHost, Status> {
    convert::from_host_in(message)
}

/// What a host is told.
pub fn to_host_out(message: ToHost) -> v1::BrokerMessage {
    convert::to_host_out(message)
}
