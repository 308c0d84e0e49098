//! Names that a guest looks up.

use std::net::IpAddr;
use std::vec;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::bindings::wasi::sockets::ip_name_lookup;
use super::bindings::wasi::sockets::network::{ErrorCode, IpAddress};
use super::{Error, Network, View};
use crate::egress::tcp::Failure;

/// A name, and what becomes of looking it up.
#[expect(unreachable_pub, reason = "generated code exports it")]
pub struct Lookup {
    name: String,
    state: State,
}

enum State {
    /// The answer is dropped before its place.
    Waiting(
        BoxFuture<'static, Result<Vec<IpAddr>, Failure>>,
        #[expect(dead_code, reason = "held until the answer is there")] OwnedSemaphorePermit,
    ),
    Found(vec::IntoIter<IpAddr>),
    Failed(Failure),
}

impl From<Result<Vec<IpAddr>, Failure>> for State {
    fn from(found: Result<Vec<IpAddr>, Failure>) -> Self {
        match found {
            Ok(addresses) => Self::Found(addresses.into_iter()),
            Err(failure) => Self::Failed(failure),
        }
    }
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let State::Waiting(answer, _) = &mut self.state {
            self.state = answer.await.into();
        }
    }
}

impl ip_name_lookup::Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<Lookup>, Error> {
        self.table.get(&network)?;
        let begun = self.sockets.permitted().and_then(|()| {
            let place = self.sockets.lookup_place()?;
            Ok((self.sockets.dial()?, place))
        });
        let (dial, place) =
            begun.map_err(|failure| self.sockets.tell(&looking_up(&name), &failure))?;
        let state = State::Waiting(dial.resolve(name.clone()), place);
        Ok(self.table.push(Lookup { name, state })?)
    }
}

impl ip_name_lookup::HostResolveAddressStream for View<'_> {
    fn resolve_next_address(
        &mut self,
        lookup: Resource<Lookup>,
    ) -> Result<Option<IpAddress>, Error> {
        let lookup = self.table.get_mut(&lookup)?;
        if let State::Waiting(answer, _) = &mut lookup.state
            && let Some(found) = answer.now_or_never()
        {
            lookup.state = found.into();
        }
        match &mut lookup.state {
            State::Waiting(..) => Err(ErrorCode::WouldBlock.into()),
            State::Found(addresses) => Ok(addresses.next().map(address)),
            State::Failed(failure) => Err(self.sockets.tell(&looking_up(&lookup.name), failure)),
        }
    }

    fn subscribe(&mut self, lookup: Resource<Lookup>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, lookup)
    }

    fn drop(&mut self, lookup: Resource<Lookup>) -> wasmtime::Result<()> {
        self.table.delete(lookup)?;
        Ok(())
    }
}

/// A name as it is shown where it cannot be trusted to be one.
fn looking_up(name: &str) -> String {
    let name: String = name.escape_debug().take(200).collect();
    format!("looking up {name}")
}

fn address(address: IpAddr) -> IpAddress {
    match address {
        IpAddr::V4(address) => IpAddress::Ipv4(address.octets().into()),
        IpAddr::V6(address) => IpAddress::Ipv6(address.segments().into()),
    }
}
