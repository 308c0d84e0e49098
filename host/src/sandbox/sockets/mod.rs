//! `wasi:sockets` of one attempt, over the seam to whoever connects.
//!
//! It is all our own: a guest's call reaches no socket of this process, which in a runner process may not have any. What there is
//! is outgoing TCP; to listen, to bind and UDP are refused. The options of a socket are kept and answered, so that clients that
//! set some go on, and change nothing of the connection.

mod lookup;
mod stream;
mod tcp;
mod udp;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};

use tq_core::limits::{TCP_LINES_MAX, TCP_LOOKUPS_MAX, TCP_OPEN_MAX};

use super::Guest;
use crate::egress::Egress;
use crate::egress::tcp::{Code, Dial, Failure, Scope};
use crate::runner::{Attempt, Outbox};
use bindings::wasi::sockets::network::{self, ErrorCode};
use bindings::wasi::sockets::{
    instance_network, ip_name_lookup, tcp as tcp_sockets, tcp_create_socket, udp as udp_sockets,
    udp_create_socket,
};

pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "wasi:sockets/imports",
        imports: { default: trappable },
        // Those of `wasi:io` wait.
        require_store_data_send: true,
        trappable_error_type: { "wasi:sockets/network.error-code" => super::Error },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:sockets/network.network": super::Network,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": super::lookup::Lookup,
            "wasi:sockets/tcp.tcp-socket": super::tcp::TcpSocket,
            "wasi:sockets/udp.udp-socket": super::udp::UdpSocket,
            "wasi:sockets/udp.incoming-datagram-stream": super::udp::Datagrams,
            "wasi:sockets/udp.outgoing-datagram-stream": super::udp::Datagrams,
        },
    });
}

/// Guests get these interfaces, whatever is granted.
///
/// # Errors
/// If they are there already.
pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let view: fn(&mut Guest) -> View<'_> = Guest::sockets;
    // Functions that WASI calls unstable are not offered.
    let options = network::LinkOptions::default();
    network::add_to_linker::<_, InView>(linker, &options, view)?;
    instance_network::add_to_linker::<_, InView>(linker, view)?;
    ip_name_lookup::add_to_linker::<_, InView>(linker, view)?;
    tcp_sockets::add_to_linker::<_, InView>(linker, view)?;
    tcp_create_socket::add_to_linker::<_, InView>(linker, view)?;
    udp_sockets::add_to_linker::<_, InView>(linker, view)?;
    udp_create_socket::add_to_linker::<_, InView>(linker, view)
}

struct InView;

impl HasData for InView {
    type Data<'a> = View<'a>;
}

/// What a call of a guest works on.
pub(super) struct View<'a> {
    pub(super) sockets: Sockets<'a>,
    pub(super) table: &'a mut ResourceTable,
}

/// What a guest shows when it wants to use the network. It says nothing: what may be used is decided for the attempt.
#[expect(unreachable_pub, reason = "generated code exports it")]
pub struct Network;

/// The sockets of one attempt, if it may have any.
pub(super) struct Sockets<'a> {
    pub(super) egress: Option<&'a Arc<dyn Egress>>,
    pub(super) attempt: &'a Attempt,
    pub(super) outbox: &'a Outbox,
    /// Made with the first use: most attempts have none.
    pub(super) session: &'a mut Option<Session>,
}

/// What all sockets of an attempt have in common.
pub(super) struct Session {
    dial: Option<Arc<dyn Dial>>,
    open: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    /// Lines that are in the task's log already.
    told: BTreeSet<String>,
}

impl Sockets<'_> {
    fn session(&mut self) -> &mut Session {
        self.session.get_or_insert_with(|| {
            let Attempt {
                epoch,
                namespace,
                task_id,
                grants,
                ..
            } = self.attempt;
            let scope = || Scope {
                epoch: *epoch,
                namespace: namespace.clone(),
                task_id: *task_id,
                grants: Arc::new(grants.tcp.clone()),
            };
            Session {
                dial: self.egress.map(|egress| egress.dial(scope())),
                open: Arc::new(Semaphore::new(TCP_OPEN_MAX)),
                lookups: Arc::new(Semaphore::new(TCP_LOOKUPS_MAX)),
                told: BTreeSet::new(),
            }
        })
    }

    /// Whether the attempt may connect to anything at all.
    fn permitted(&self) -> Result<(), Failure> {
        if self.attempt.grants.tcp.is_empty() {
            return Err(Failure::NothingGranted);
        }
        Ok(())
    }

    fn dial(&mut self) -> Result<Arc<dyn Dial>, Failure> {
        self.session().dial.clone().ok_or(Failure::NoNetwork)
    }

    /// A place among the connections that are open, until it is dropped.
    fn place(&mut self) -> Result<OwnedSemaphorePermit, Failure> {
        let open = Arc::clone(&self.session().open);
        open.try_acquire_owned().map_err(|_| Failure::Open)
    }

    /// A place among the names that are looked up.
    fn lookup_place(&mut self) -> Result<OwnedSemaphorePermit, Failure> {
        let lookups = Arc::clone(&self.session().lookups);
        lookups.try_acquire_owned().map_err(|_| Failure::Lookups)
    }

    /// Tells the task's author, since the interface has only a code for it, and returns that.
    fn tell(&mut self, what: &str, failure: &Failure) -> Error {
        let how = if failure.is_refusal() {
            "was refused"
        } else {
            "failed"
        };
        let line = format!("tq: {what} {how}: {failure}\n");
        let outbox = self.outbox;
        let told = &mut self.session().told;
        // A guest may try the same again and again, and its own words are to be found in its log too.
        if told.len() < TCP_LINES_MAX && !told.contains(&line) {
            outbox.log(line.as_bytes());
            told.insert(line);
        }
        ErrorCode::from(failure.code()).into()
    }
}

/// What a call ends with that does not end well.
pub(super) enum Error {
    /// The guest is told.
    Code(ErrorCode),
    /// The guest has done what ends it.
    Trap(wasmtime::Error),
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<ResourceTableError> for Error {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<Code> for ErrorCode {
    fn from(code: Code) -> Self {
        match code {
            Code::Unknown => Self::Unknown,
            Code::Denied => Self::AccessDenied,
            Code::Invalid => Self::InvalidArgument,
            Code::Timeout => Self::Timeout,
            Code::Limit => Self::NewSocketLimit,
            Code::Unreachable => Self::RemoteUnreachable,
            Code::Refused => Self::ConnectionRefused,
            Code::Reset => Self::ConnectionReset,
            Code::Aborted => Self::ConnectionAborted,
            Code::Unresolved => Self::NameUnresolvable,
            Code::Resolver => Self::TemporaryResolverFailure,
        }
    }
}

impl network::Host for View<'_> {
    fn convert_error_code(&mut self, error: Error) -> wasmtime::Result<ErrorCode> {
        match error {
            Error::Code(code) => Ok(code),
            Error::Trap(error) => Err(error),
        }
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let failure = self.table.get(&error)?.downcast_ref::<Failure>();
        Ok(failure.map(|failure| failure.code().into()))
    }
}

impl network::HostNetwork for View<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl instance_network::Host for View<'_> {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        Ok(self.table.push(Network)?)
    }
}
