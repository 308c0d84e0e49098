//! What the simulation puts between its hosts and the ledger, and what fuzzers try: the conversions between wire and domain.

use tonic::Status;
use tq_proto::v1;

use super::{convert, dead_letters, tasks};
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

/// Which dead letters a client asks for.
///
/// # Errors
/// As the client would get it.
pub fn dead_letters_in(filter: v1::DeadLetterFilter) -> Result<(), Status> {
    dead_letters::Filter::new(filter).map(drop)
}

/// Which ended tasks a client wants to be deleted.
///
/// # Errors
/// As the client would get it.
pub fn ended_in(request: &v1::DeleteTasksRequest) -> Result<(), Status> {
    let (state, function) = (request.state(), request.function.clone());
    tasks::delete::Filter::new(state, function, request.ended_before_ms).map(drop)
}

/// Texts in requests that have a form: where lists go on.
pub fn texts_in(text: &str) {
    dead_letters::cursor_in(text).ok();
}
