//! Why there is no response.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use tq_core::TaskId;
use tq_core::grant::DestinationError;
use tq_core::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_FIELDS_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_PATH_BYTES_MAX,
};

use super::Forbidden;

/// Why there is no response, or no more of it. Written for the author of the task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The request names no destination.
    #[error("it has no destination: {0}")]
    Destination(#[from] DestinationError),
    /// The method is none, or one that nobody may use.
    #[error("its method cannot be sent")]
    Method,
    /// Path and query are none.
    #[error("its path is not one: it has to begin with `/`, and to be percent-encoded")]
    Path,
    /// Path and query are too long.
    #[error("its path has {len} bytes, over the limit of {HTTP_PATH_BYTES_MAX}")]
    PathTooLong {
        /// How long.
        len: usize,
    },
    /// A header that is none, or one by which messages could be taken apart in two ways.
    #[error("its header `{name}` {why}")]
    Header {
        /// The header, cut.
        name: String,
        /// What is wrong with it.
        why: HeaderFault,
    },
    /// Too many headers, or too long ones.
    #[error(
        "its headers are more than {HTTP_HEADERS_MAX}, or have more than {HTTP_FIELDS_BYTES_MAX} bytes"
    )]
    Headers,
    /// The body is too long.
    #[error("its body is over the limit of {HTTP_BODY_BYTES_MAX} bytes")]
    Body,
    /// Nothing was granted of that destination.
    #[error(
        "its module is not granted that destination; `[capabilities] http` in tq.toml grants it"
    )]
    NotGranted,
    /// The destination was granted with other methods.
    #[error("its module is granted that destination, but not the method `{0}`")]
    MethodNotGranted(String),
    /// An address that is not on the internet, and in no network that was opened.
    #[error("its host has the address {address}, which may not be reached: {why}")]
    AddressForbidden {
        /// The address.
        address: IpAddr,
        /// What it is.
        why: Forbidden,
    },
    /// As many requests were sent as may be.
    #[error("it has sent {0} requests, which is the limit `http_requests`")]
    Requests(u64),
    /// Requests and responses had as many bytes as they may.
    #[error("requests and responses have more than {0} bytes, which is the limit `http_bytes`")]
    Bytes(u64),
    /// A header names a secret that is not for there.
    #[error("its header `{header}` names a secret: {message}")]
    SecretNotGranted {
        /// The header, cut.
        header: String,
        /// What would have to be granted.
        message: String,
    },
    /// A header names a secret that cannot be had.
    #[error("its header `{header}` names a secret: {message}")]
    SecretUnavailable {
        /// The header, cut.
        header: String,
        /// Why not.
        message: String,
    },
    /// The host offers no network.
    #[error("this host sends no requests")]
    NoNetwork,
    /// The name was not found.
    #[error("its host was not found: {0}")]
    Unresolved(String),
    /// No connection came about.
    #[error("no connection to {address}: {message}")]
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// The system's words.
        message: String,
    },
    /// The other end is not who it should be.
    #[error("its certificate is not valid: {0}")]
    Certificate(String),
    /// TLS did not come about for another reason.
    #[error("no TLS: {0}")]
    Tls(String),
    /// Something took too long.
    #[error("{0} took too long")]
    Timeout(Wait),
    /// The other end did not speak HTTP, or not in a way that can be taken.
    #[error("the response is not one: {0}")]
    Protocol(String),
    /// The connection ended in the middle.
    #[error("the connection ended before the response did")]
    CutOff,
    /// The guest did not want to know the rest.
    #[error("it was given up")]
    Abandoned,
    /// The host stops.
    #[error("the host stopped")]
    Stopped,
    /// Any of these, as another process tells of it.
    #[error("{message}")]
    Told {
        /// Which it was.
        kind: Kind,
        /// As of [`Failure::is_refusal`].
        is_refusal: bool,
        /// Its words.
        message: String,
    },
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident)+) => {
        /// What a failure is to the guest, and to the limits that have outcomes of their own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])+ $name,)+
        }

        impl Kind {
            /// Every kind, in an order that holds within one build.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

kinds! {
    /// The destination or the path is none.
    Uri
    /// The method is none.
    Method
    /// The path is too long.
    UriTooLong
    /// A header is none.
    Header
    /// There are too many headers.
    Headers
    /// The body of the request is too long.
    Body
    /// It was not granted.
    Denied
    /// The address may not be reached.
    Address
    /// The limit of requests is reached.
    Requests
    /// The limit of bytes is reached.
    Bytes
    /// The name was not found.
    Dns
    /// Looking the name up took too long.
    DnsTimeout
    /// No connection.
    Connect
    /// Connecting took too long.
    ConnectTimeout
    /// The certificate is not valid.
    Certificate
    /// No TLS.
    Tls
    /// Waiting for the response, or for more of it, took too long.
    ReadTimeout
    /// The whole took too long.
    TotalTimeout
    /// The response is none.
    Protocol
    /// The response is not complete.
    CutOff
    /// Nobody sends or waits any more.
    Gone
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// Characters that would end it.
    #[error("has characters that a header cannot have")]
    Characters,
    /// It is about the connection, which is the host's.
    #[error("is about the connection, which is not the guest's")]
    HopByHop,
    /// It is another host's.
    #[error("names another host than the request")]
    OtherHost,
    /// It is not the length of the body, or there are two.
    #[error("is not the length of the body")]
    Length,
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// To look the name up.
    Lookup,
    /// To connect.
    Connect,
    /// For the head of the response.
    FirstByte,
    /// For the next bytes.
    BetweenBytes,
    /// All of it.
    Total,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lookup => "looking its host up",
            Self::Connect => "connecting",
            Self::FirstByte => "the response",
            Self::BetweenBytes => "the rest of the response",
            Self::Total => "the request",
        })
    }
}

impl Failure {
    /// Whether the request was kept back, rather than tried in vain.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Destination(_)
            | Self::Method
            | Self::Path
            | Self::PathTooLong { .. }
            | Self::Header { .. }
            | Self::Headers
            | Self::Body
            | Self::NotGranted
            | Self::MethodNotGranted(_)
            | Self::AddressForbidden { .. }
            | Self::Requests(_)
            | Self::Bytes(_)
            | Self::SecretNotGranted { .. }
            | Self::SecretUnavailable { .. }
            | Self::NoNetwork => true,
            Self::Told { is_refusal, .. } => *is_refusal,
            Self::Unresolved(_)
            | Self::Connect { .. }
            | Self::Certificate(_)
            | Self::Tls(_)
            | Self::Timeout(_)
            | Self::Protocol(_)
            | Self::CutOff
            | Self::Abandoned
            | Self::Stopped => false,
        }
    }

    /// What it is counted as.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Destination(_)
            | Self::Method
            | Self::Path
            | Self::PathTooLong { .. }
            | Self::Header { .. } => "invalid",
            Self::Headers | Self::Body | Self::Requests(_) | Self::Bytes(_) => "too_much",
            Self::NotGranted
            | Self::MethodNotGranted(_)
            | Self::SecretNotGranted { .. }
            | Self::NoNetwork => "not_granted",
            Self::SecretUnavailable { .. } => "no_secret",
            Self::AddressForbidden { .. } => "address_forbidden",
            Self::Unresolved(_) => "unresolved",
            Self::Connect { .. } => "connect_failed",
            Self::Certificate(_) | Self::Tls(_) => "tls_failed",
            Self::Timeout(_) => "timeout",
            Self::Protocol(_) | Self::CutOff => "protocol_error",
            Self::Abandoned | Self::Stopped => "abandoned",
            // Counted where it was made.
            Self::Told { .. } => "told",
        }
    }

    /// What it is to the guest.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Destination(_) | Self::Path => Kind::Uri,
            Self::Method => Kind::Method,
            Self::PathTooLong { .. } => Kind::UriTooLong,
            Self::Header { .. } => Kind::Header,
            Self::Headers => Kind::Headers,
            Self::Body => Kind::Body,
            Self::NotGranted
            | Self::MethodNotGranted(_)
            | Self::SecretNotGranted { .. }
            | Self::SecretUnavailable { .. }
            | Self::NoNetwork => Kind::Denied,
            Self::AddressForbidden { .. } => Kind::Address,
            Self::Requests(_) => Kind::Requests,
            Self::Bytes(_) => Kind::Bytes,
            Self::Unresolved(_) => Kind::Dns,
            Self::Connect { .. } => Kind::Connect,
            Self::Certificate(_) => Kind::Certificate,
            Self::Tls(_) => Kind::Tls,
            Self::Timeout(wait) => match wait {
                Wait::Lookup => Kind::DnsTimeout,
                Wait::Connect => Kind::ConnectTimeout,
                Wait::FirstByte | Wait::BetweenBytes => Kind::ReadTimeout,
                Wait::Total => Kind::TotalTimeout,
            },
            Self::Protocol(_) => Kind::Protocol,
            Self::CutOff => Kind::CutOff,
            Self::Abandoned | Self::Stopped => Kind::Gone,
            Self::Told { kind, .. } => *kind,
        }
    }

    /// Tells the host's operator that a request of a guest was kept back.
    pub(crate) fn warn(&self, task_id: TaskId, namespace: &str, destination: &str) {
        tracing::warn!(
            %task_id,
            namespace,
            destination,
            reason = %self,
            "refused a request of a guest"
        );
    }

    pub(super) fn header(name: &str, why: HeaderFault) -> Self {
        let name = name.escape_debug().take(60).collect();
        Self::Header { name, why }
    }
}

/// A destination as it is shown where its host cannot be trusted to be one.
pub(crate) fn shown(scheme: &str, authority: &str) -> String {
    let whole = format!("{scheme}://{authority}");
    whole.escape_debug().take(200).collect()
}
