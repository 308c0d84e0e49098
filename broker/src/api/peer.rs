//! Who is at the other end of a connection.

use std::net::SocketAddr;

use tq_tls::Identity;

/// The other end of the connection that a request came by; every request has it among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Whom the certificate names that it has shown, and that an authority of `tls_client_ca` has signed. `None` without one.
    pub(crate) certificate: Option<Identity>,
}
