//! TLS of nodes and clients. Broker, host and client use the same, and do not know each other.
//!
//! Certificates and keys are files in PEM. They are read again when they change, by whoever accepts and by whoever dials, so that
//! neither has to be restarted when a certificate is renewed.

mod accept;
mod certificate;
mod dial;
mod error;
mod files;
mod reload;

pub use accept::{AcceptError, Accepted, Acceptor, HANDSHAKE_TIME, Protocols, ServerFiles};
pub use certificate::Identity;
pub use dial::{CERTIFICATE_REFUSED, ClientFiles, Dialer, Reason, reason};
pub use error::Error;
pub use files::{KeyPair, PEM_BYTES_MAX};
pub use reload::LOOK_EVERY;
