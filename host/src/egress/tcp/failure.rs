//! Why there is no connection.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tq_core::TaskId;
use tq_core::grant::DestinationError;
use tq_core::limits::{
    HTTP_LOOKUP_TIME, TCP_CONNECT_TIME, TCP_LOOKUPS_MAX, TCP_OPEN_HOST_MAX, TCP_OPEN_MAX,
};

use crate::egress::Forbidden;

/// Why there is no connection, or no more of it. Written for the author of the task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// What was to be looked up is no name.
    #[error("it is not the name of a host: {0}")]
    Name(#[from] DestinationError),
    /// Nothing was granted of that host.
    #[error("its module is not granted that host; `[capabilities] tcp` in tq.toml grants it")]
    HostNotGranted,
    /// Neither was the address granted, nor has a granted name led to it.
    #[error(
        "its module is not granted that address and port, and no name that it is granted has led there; `[capabilities] tcp` in tq.toml grants them"
    )]
    NotGranted,
    /// The module has no grant for TCP at all.
    #[error("its module is granted no TCP connection; `[capabilities] tcp` in tq.toml grants some")]
    NothingGranted,
    /// An address that is not on the internet, and in no network that was opened.
    #[error("its host has the address {address}, which may not be reached: {why}")]
    AddressForbidden {
        /// The address.
        address: IpAddr,
        /// What it is.
        why: Forbidden,
    },
    /// A socket that is not for a connection to somewhere else.
    #[error("tasks cannot listen, bind a socket to an address, or use UDP")]
    Kind,
    /// As many connections of the attempt are open as may be.
    #[error("{TCP_OPEN_MAX} of its connections are open, which is the limit")]
    Open,
    /// As many of its names are being looked up as may be.
    #[error("{TCP_LOOKUPS_MAX} of its names are being looked up, which is the limit")]
    Lookups,
    /// As many connections of the host are open as may be.
    #[error("{TCP_OPEN_HOST_MAX} connections of this host are open, which is the limit")]
    HostOpen,
    /// The host offers no network.
    #[error("this host makes no connections")]
    NoNetwork,
    /// The name was not found.
    #[error("its host was not found: {0}")]
    Unresolved(String),
    /// Looking the name up took too long.
    #[error("looking its host up took longer than {}", seconds(HTTP_LOOKUP_TIME))]
    LookupTime,
    /// Connecting took too long.
    #[error("connecting took longer than {}", seconds(TCP_CONNECT_TIME))]
    ConnectTime,
    /// The system could not connect, or the connection broke.
    #[error("{message}")]
    Io {
        /// What it is to the guest.
        code: Code,
        /// The system's words.
        message: String,
    },
    /// The guest did not want it any more.
    #[error("it was given up")]
    Abandoned,
    /// The host stops.
    #[error("the host stopped")]
    Stopped,
    /// Any of these, as another process tells of it.
    #[error("{message}")]
    Told {
        /// What it is to the guest.
        code: Code,
        /// As of [`Failure::is_refusal`].
        is_refusal: bool,
        /// Its words.
        message: String,
    },
}

macro_rules! codes {
    ($($(#[$doc:meta])+ $name:ident)+) => {
        /// What a failure is to the guest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])+ $name,)+
        }

        impl Code {
            /// Every code, in an order that holds within one build.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

codes! {
    /// None of the others.
    Unknown
    /// It is not allowed.
    Denied
    /// It is not what can be asked for.
    Invalid
    /// It took too long.
    Timeout
    /// There are too many.
    Limit
    /// There is no way there.
    Unreachable
    /// Nobody listens there.
    Refused
    /// The other end has thrown the connection away.
    Reset
    /// The connection is gone.
    Aborted
    /// There is no such name.
    Unresolved
    /// Names cannot be looked up now.
    Resolver
}

fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs())
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::ConnectionRefused => Code::Refused,
            io::ErrorKind::ConnectionReset => Code::Reset,
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => Code::Aborted,
            io::ErrorKind::TimedOut => Code::Timeout,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Code::Unreachable,
            // A filter of the host's.
            io::ErrorKind::PermissionDenied => Code::Denied,
            _ => Code::Unknown,
        };
        Self::Io {
            code,
            message: error.to_string(),
        }
    }
}

impl Failure {
    /// Whether the connection was kept from being made, rather than tried in vain.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Name(_)
            | Self::HostNotGranted
            | Self::NotGranted
            | Self::NothingGranted
            | Self::AddressForbidden { .. }
            | Self::Kind
            | Self::Open
            | Self::Lookups
            | Self::NoNetwork => true,
            Self::Told { is_refusal, .. } => *is_refusal,
            Self::HostOpen
            | Self::Unresolved(_)
            | Self::LookupTime
            | Self::ConnectTime
            | Self::Io { .. }
            | Self::Abandoned
            | Self::Stopped => false,
        }
    }

    /// What it is counted as.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Name(_) => "invalid",
            Self::HostNotGranted
            | Self::NotGranted
            | Self::NothingGranted
            | Self::Kind
            | Self::NoNetwork => "not_granted",
            Self::AddressForbidden { .. } => "address_forbidden",
            Self::Open | Self::Lookups | Self::HostOpen => "too_much",
            Self::Unresolved(_) => "unresolved",
            Self::LookupTime | Self::ConnectTime => "timeout",
            Self::Io { .. } => "connect_failed",
            Self::Abandoned | Self::Stopped => "abandoned",
            // Counted where it was made.
            Self::Told { .. } => "told",
        }
    }

    /// What it is to the guest.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Name(_) => Code::Invalid,
            Self::HostNotGranted
            | Self::NotGranted
            | Self::NothingGranted
            | Self::AddressForbidden { .. }
            | Self::Kind
            | Self::NoNetwork => Code::Denied,
            Self::Open | Self::HostOpen => Code::Limit,
            Self::Unresolved(_) => Code::Unresolved,
            Self::Lookups | Self::LookupTime => Code::Resolver,
            Self::ConnectTime => Code::Timeout,
            Self::Abandoned | Self::Stopped => Code::Aborted,
            Self::Io { code, .. } | Self::Told { code, .. } => *code,
        }
    }

    /// Tells the host's operator that a connection of a guest was kept from being made.
    pub(super) fn warn(&self, task_id: TaskId, namespace: &str, destination: &str) {
        tracing::warn!(
            %task_id,
            namespace,
            destination,
            reason = %self,
            "refused a connection of a guest"
        );
    }
}
