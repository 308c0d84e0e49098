//! UDP, of which there is none: no socket is ever made, so that nothing can be asked of one.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynPollable;

use super::bindings::wasi::sockets::network::{IpAddressFamily, IpSocketAddress};
use super::bindings::wasi::sockets::{udp, udp_create_socket};
use super::{Error, Network, View};
use crate::egress::tcp::Failure;

/// A socket that nobody has.
#[expect(unreachable_pub, reason = "generated code exports it")]
pub enum UdpSocket {}

/// What would come from it or go to it.
#[expect(unreachable_pub, reason = "generated code exports it")]
pub enum Datagrams {}

impl udp_create_socket::Host for View<'_> {
    fn create_udp_socket(
        &mut self,
        _family: IpAddressFamily,
    ) -> Result<Resource<UdpSocket>, Error> {
        Err(self.sockets.tell("a UDP socket", &Failure::Kind))
    }
}

impl udp::Host for View<'_> {}

/// Functions of what nobody has: the table knows none of them.
macro_rules! of_nothing {
    ($($name:ident($this:ident: $of:ty $(, $argument:ident: $type:ty)*) -> $returns:ty;)+) => {
        $(fn $name(&mut self, $this: Resource<$of> $(, $argument: $type)*) -> $returns {
            $(let _ = $argument;)*
            match *self.table.get(&$this)? {}
        })+
    };
}

impl udp::HostUdpSocket for View<'_> {
    of_nothing! {
        start_bind(this: UdpSocket, network: Resource<Network>, local: IpSocketAddress) -> Result<(), Error>;
        finish_bind(this: UdpSocket) -> Result<(), Error>;
        stream(this: UdpSocket, remote: Option<IpSocketAddress>)
            -> Result<(Resource<Datagrams>, Resource<Datagrams>), Error>;
        local_address(this: UdpSocket) -> Result<IpSocketAddress, Error>;
        remote_address(this: UdpSocket) -> Result<IpSocketAddress, Error>;
        address_family(this: UdpSocket) -> wasmtime::Result<IpAddressFamily>;
        unicast_hop_limit(this: UdpSocket) -> Result<u8, Error>;
        set_unicast_hop_limit(this: UdpSocket, value: u8) -> Result<(), Error>;
        receive_buffer_size(this: UdpSocket) -> Result<u64, Error>;
        set_receive_buffer_size(this: UdpSocket, value: u64) -> Result<(), Error>;
        send_buffer_size(this: UdpSocket) -> Result<u64, Error>;
        set_send_buffer_size(this: UdpSocket, value: u64) -> Result<(), Error>;
        subscribe(this: UdpSocket) -> wasmtime::Result<Resource<DynPollable>>;
        drop(this: UdpSocket) -> wasmtime::Result<()>;
    }
}

impl udp::HostIncomingDatagramStream for View<'_> {
    of_nothing! {
        receive(this: Datagrams, most: u64) -> Result<Vec<udp::IncomingDatagram>, Error>;
        subscribe(this: Datagrams) -> wasmtime::Result<Resource<DynPollable>>;
        drop(this: Datagrams) -> wasmtime::Result<()>;
    }
}

impl udp::HostOutgoingDatagramStream for View<'_> {
    of_nothing! {
        check_send(this: Datagrams) -> Result<u64, Error>;
        send(this: Datagrams, datagrams: Vec<udp::OutgoingDatagram>) -> Result<u64, Error>;
        subscribe(this: Datagrams) -> wasmtime::Result<Resource<DynPollable>>;
        drop(this: Datagrams) -> wasmtime::Result<()>;
    }
}
