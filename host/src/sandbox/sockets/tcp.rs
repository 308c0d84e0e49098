//! TCP sockets that connect to somewhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Pollable, subscribe};

use super::bindings::wasi::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use super::bindings::wasi::sockets::tcp::{self, ShutdownType};
use super::bindings::wasi::sockets::tcp_create_socket;
use super::stream::{Input, Line, Output};
use super::{Error, Network, View};
use crate::egress::tcp::{Connection, Failure};

/// A socket of a guest.
#[expect(unreachable_pub, reason = "generated code exports it")]
pub struct TcpSocket {
    family: IpAddressFamily,
    options: Options,
    state: State,
}

enum State {
    New,
    Connecting(SocketAddr, Connecting),
    Connected(SocketAddr, Arc<Line>),
    /// It could not connect, and is of no use any more.
    Failed,
}

enum Connecting {
    /// The answer is dropped before its place.
    Waiting(
        BoxFuture<'static, Result<Connection, Failure>>,
        OwnedSemaphorePermit,
    ),
    Done(Result<Arc<Line>, Failure>),
    /// Between the two.
    Changing,
}

/// What a guest may set. Nanoseconds are as on Linux by default.
struct Options {
    keeps_alive: bool,
    keep_alive_idle_ns: u64,
    keep_alive_interval_ns: u64,
    keep_alive_count: u32,
    hop_limit: u8,
    receive_buffer_bytes: u64,
    send_buffer_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        const SECOND: u64 = 1_000_000_000;
        Self {
            keeps_alive: false,
            keep_alive_idle_ns: 7_200 * SECOND,
            keep_alive_interval_ns: 75 * SECOND,
            keep_alive_count: 9,
            hop_limit: 64,
            receive_buffer_bytes: 128 << 10,
            send_buffer_bytes: 128 << 10,
        }
    }
}

impl Connecting {
    fn done(&mut self, connected: Result<Connection, Failure>) {
        let before = std::mem::replace(self, Self::Changing);
        if let Self::Waiting(answer, place) = before {
            drop(answer);
            *self = Self::Done(connected.map(|connection| Line::new(connection, place)));
        }
    }
}

#[async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        if let State::Connecting(_, connecting) = &mut self.state
            && let Connecting::Waiting(answer, _) = connecting
        {
            let connected = answer.await;
            connecting.done(connected);
        }
    }
}

impl TcpSocket {
    fn line(&self) -> Result<(SocketAddr, &Arc<Line>), ErrorCode> {
        match &self.state {
            State::Connected(remote, line) => Ok((*remote, line)),
            State::New | State::Connecting(..) | State::Failed => Err(ErrorCode::InvalidState),
        }
    }

    /// Whether a connection could lead there, by what WASI says.
    fn can_reach(&self, remote: &SocketAddr) -> bool {
        let is_of_family = match remote.ip() {
            IpAddr::V4(_) => self.family == IpAddressFamily::Ipv4,
            IpAddr::V6(address) => {
                self.family == IpAddressFamily::Ipv6 && address.to_ipv4_mapped().is_none()
            }
        };
        is_of_family
            && remote.port() != 0
            && !remote.ip().is_unspecified()
            && !remote.ip().is_multicast()
    }
}

impl tcp_create_socket::Host for View<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Result<Resource<TcpSocket>, Error> {
        let permitted = self.sockets.permitted();
        permitted.map_err(|failure| self.sockets.tell("a TCP socket", &failure))?;
        let socket = TcpSocket {
            family,
            options: Options::default(),
            state: State::New,
        };
        Ok(self.table.push(socket)?)
    }
}

impl View<'_> {
    fn socket(&mut self, socket: &Resource<TcpSocket>) -> Result<&mut TcpSocket, Error> {
        Ok(self.table.get_mut(socket)?)
    }

    /// Sets an option that cannot be nothing.
    fn set<T: PartialEq + From<u8>>(
        &mut self,
        socket: &Resource<TcpSocket>,
        option: impl FnOnce(&mut Options) -> &mut T,
        value: T,
    ) -> Result<(), Error> {
        let options = &mut self.socket(socket)?.options;
        if value == T::from(0) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        *option(options) = value;
        Ok(())
    }
}

impl tcp::Host for View<'_> {}

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

impl tcp::HostTcpSocket for View<'_> {
    fn start_bind(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        _local: IpSocketAddress,
    ) -> Result<(), Error> {
        self.table.get(&network)?;
        self.socket(&socket)?;
        Err(self.sockets.tell("binding a socket", &Failure::Kind))
    }

    fn finish_bind(&mut self, socket: Resource<TcpSocket>) -> Result<(), Error> {
        self.socket(&socket)?;
        Err(ErrorCode::NotInProgress.into())
    }

    fn start_connect(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        remote: IpSocketAddress,
    ) -> Result<(), Error> {
        self.table.get(&network)?;
        let remote = address_in(remote);
        let before = self.socket(&socket)?;
        match before.state {
            State::New => {}
            State::Connecting(..) => return Err(ErrorCode::ConcurrencyConflict.into()),
            State::Connected(..) | State::Failed => return Err(ErrorCode::InvalidState.into()),
        }
        if !before.can_reach(&remote) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let begun = self.sockets.place().and_then(|place| {
            let dial = self.sockets.dial()?;
            Ok(Connecting::Waiting(dial.connect(remote), place))
        });
        // Told when the guest asks what became of it, as for all other reasons.
        let begun = begun.unwrap_or_else(|failure| Connecting::Done(Err(failure)));
        self.socket(&socket)?.state = State::Connecting(remote, begun);
        Ok(())
    }

    fn finish_connect(&mut self, socket: Resource<TcpSocket>) -> Result<Streams, Error> {
        let connecting = self.socket(&socket)?;
        let State::Connecting(remote, state) = &mut connecting.state else {
            return Err(ErrorCode::NotInProgress.into());
        };
        let remote = *remote;
        if let Connecting::Waiting(answer, _) = state
            && let Some(connected) = answer.now_or_never()
        {
            state.done(connected);
        }
        let Connecting::Done(connected) = state else {
            return Err(ErrorCode::WouldBlock.into());
        };
        let connected = connected.clone();
        connecting.state = match &connected {
            Ok(line) => State::Connected(remote, Arc::clone(line)),
            Err(_) => State::Failed,
        };
        let line = connected.map_err(|failure| {
            self.sockets
                .tell(&format!("connection to {remote}"), &failure)
        })?;
        let input: DynInputStream = Box::new(Input(Arc::clone(&line)));
        let output: DynOutputStream = Box::new(Output::new(line));
        let input = self.table.push_child(input, &socket)?;
        let output = self.table.push_child(output, &socket)?;
        Ok((input, output))
    }

    fn start_listen(&mut self, socket: Resource<TcpSocket>) -> Result<(), Error> {
        self.socket(&socket)?;
        Err(self.sockets.tell("listening", &Failure::Kind))
    }

    fn finish_listen(&mut self, socket: Resource<TcpSocket>) -> Result<(), Error> {
        self.socket(&socket)?;
        Err(ErrorCode::NotInProgress.into())
    }

    fn accept(
        &mut self,
        socket: Resource<TcpSocket>,
    ) -> Result<
        (
            Resource<TcpSocket>,
            Resource<DynInputStream>,
            Resource<DynOutputStream>,
        ),
        Error,
    > {
        self.socket(&socket)?;
        Err(ErrorCode::InvalidState.into())
    }

    /// The one that stands for any: which address of this host a connection leaves from is not the guest's to know.
    fn local_address(&mut self, socket: Resource<TcpSocket>) -> Result<IpSocketAddress, Error> {
        let (remote, _) = self.socket(&socket)?.line()?;
        Ok(address_out(match remote {
            SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        }))
    }

    fn remote_address(&mut self, socket: Resource<TcpSocket>) -> Result<IpSocketAddress, Error> {
        let (remote, _) = self.socket(&socket)?.line()?;
        Ok(address_out(remote))
    }

    fn is_listening(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        self.table.get(&socket)?;
        Ok(false)
    }

    fn address_family(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&socket)?.family)
    }

    fn set_listen_backlog_size(
        &mut self,
        socket: Resource<TcpSocket>,
        _value: u64,
    ) -> Result<(), Error> {
        self.socket(&socket)?;
        Err(ErrorCode::NotSupported.into())
    }

    fn keep_alive_enabled(&mut self, socket: Resource<TcpSocket>) -> Result<bool, Error> {
        Ok(self.socket(&socket)?.options.keeps_alive)
    }

    fn set_keep_alive_enabled(
        &mut self,
        socket: Resource<TcpSocket>,
        value: bool,
    ) -> Result<(), Error> {
        self.socket(&socket)?.options.keeps_alive = value;
        Ok(())
    }

    fn keep_alive_idle_time(&mut self, socket: Resource<TcpSocket>) -> Result<u64, Error> {
        Ok(self.socket(&socket)?.options.keep_alive_idle_ns)
    }

    fn set_keep_alive_idle_time(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> Result<(), Error> {
        self.set(&socket, |options| &mut options.keep_alive_idle_ns, value)
    }

    fn keep_alive_interval(&mut self, socket: Resource<TcpSocket>) -> Result<u64, Error> {
        Ok(self.socket(&socket)?.options.keep_alive_interval_ns)
    }

    fn set_keep_alive_interval(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> Result<(), Error> {
        self.set(
            &socket,
            |options| &mut options.keep_alive_interval_ns,
            value,
        )
    }

    fn keep_alive_count(&mut self, socket: Resource<TcpSocket>) -> Result<u32, Error> {
        Ok(self.socket(&socket)?.options.keep_alive_count)
    }

    fn set_keep_alive_count(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u32,
    ) -> Result<(), Error> {
        self.set(&socket, |options| &mut options.keep_alive_count, value)
    }

    fn hop_limit(&mut self, socket: Resource<TcpSocket>) -> Result<u8, Error> {
        Ok(self.socket(&socket)?.options.hop_limit)
    }

    fn set_hop_limit(&mut self, socket: Resource<TcpSocket>, value: u8) -> Result<(), Error> {
        self.set(&socket, |options| &mut options.hop_limit, value)
    }

    fn receive_buffer_size(&mut self, socket: Resource<TcpSocket>) -> Result<u64, Error> {
        Ok(self.socket(&socket)?.options.receive_buffer_bytes)
    }

    fn set_receive_buffer_size(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> Result<(), Error> {
        self.set(&socket, |options| &mut options.receive_buffer_bytes, value)
    }

    fn send_buffer_size(&mut self, socket: Resource<TcpSocket>) -> Result<u64, Error> {
        Ok(self.socket(&socket)?.options.send_buffer_bytes)
    }

    fn set_send_buffer_size(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> Result<(), Error> {
        self.set(&socket, |options| &mut options.send_buffer_bytes, value)
    }

    fn subscribe(
        &mut self,
        socket: Resource<TcpSocket>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, socket)
    }

    fn shutdown(
        &mut self,
        socket: Resource<TcpSocket>,
        direction: ShutdownType,
    ) -> Result<(), Error> {
        let (_, line) = self.socket(&socket)?.line()?;
        if matches!(direction, ShutdownType::Receive | ShutdownType::Both) {
            line.close_incoming();
        }
        if matches!(direction, ShutdownType::Send | ShutdownType::Both) {
            line.close_outgoing();
        }
        Ok(())
    }

    fn drop(&mut self, socket: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(socket)?;
        Ok(())
    }
}

/// The label and the scope that an address of version 6 can have are not for connections that leave a host.
fn address_in(address: IpSocketAddress) -> SocketAddr {
    match address {
        IpSocketAddress::Ipv4(Ipv4SocketAddress {
            port,
            address: (a, b, c, d),
        }) => SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port),
        IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port,
            flow_info: _,
            address,
            scope_id: _,
        }) => SocketAddr::new(Ipv6Addr::from(<[u16; 8]>::from(address)).into(), port),
    }
}

fn address_out(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(address) => IpSocketAddress::Ipv4(Ipv4SocketAddress {
            port: address.port(),
            address: address.ip().octets().into(),
        }),
        SocketAddr::V6(address) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port: address.port(),
            flow_info: address.flowinfo(),
            address: address.ip().segments().into(),
            scope_id: address.scope_id(),
        }),
    }
}
