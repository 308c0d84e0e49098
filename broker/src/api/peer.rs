//! Who is at the other end of a connection.

use std::net::SocketAddr;

/// The other end of the connection that a request came by; every request has it among its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
}
