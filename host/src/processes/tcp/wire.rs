//! What is said about connections.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::egress::tcp::{Code, Failure};
use crate::processes::wire::Violation;

/// From a runner process, about what it calls by a number.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::processes) struct Ask {
    /// Counted from 1.
    #[prost(uint64, tag = "1")]
    pub(in crate::processes) id: u64,
    #[prost(oneof = "Asked", tags = "2, 3, 4, 5, 6, 7")]
    pub(in crate::processes) asked: Option<Asked>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(in crate::processes) enum Asked {
    /// Look a name up. Answered by [`Answered::Addresses`] or [`Answered::Failed`], after which it is over.
    #[prost(message, tag = "2")]
    Resolve(Resolve),
    /// Connect. Answered by [`Answered::Connected`], or by [`Answered::Failed`], after which it is over. A connection is over when it
    /// is given up.
    #[prost(message, tag = "3")]
    Connect(Connect),
    /// The next bytes that are to be sent.
    #[prost(bytes = "bytes", tag = "4")]
    Data(Bytes),
    /// That was all that is to be sent.
    #[prost(message, tag = "5")]
    End(()),
    /// One more part of what came was taken.
    #[prost(message, tag = "6")]
    Taken(()),
    /// Nobody wants it any more.
    #[prost(message, tag = "7")]
    GivenUp(()),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::processes) struct Resolve {
    #[prost(uint64, tag = "1")]
    pub(in crate::processes) epoch: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::processes) struct Connect {
    #[prost(uint64, tag = "1")]
    pub(in crate::processes) epoch: u64,
    #[prost(bytes = "bytes", tag = "2")]
    address: Bytes,
    #[prost(uint32, tag = "3")]
    port: u32,
}

/// From the agent.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::processes) struct Answer {
    /// As the runner process called it.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(oneof = "Answered", tags = "2, 3, 4, 5, 6, 7, 8")]
    pub(super) answered: Option<Answered>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Answered {
    /// Where the name leads.
    #[prost(message, tag = "2")]
    Addresses(Addresses),
    /// There is a connection.
    #[prost(message, tag = "3")]
    Connected(()),
    /// The next bytes that came.
    #[prost(bytes = "bytes", tag = "4")]
    Data(Bytes),
    /// That was all that came.
    #[prost(message, tag = "5")]
    End(()),
    /// There is no address, no connection, or nothing more that comes.
    #[prost(message, tag = "6")]
    Failed(TcpFailure),
    /// One more part of what was to be sent was taken.
    #[prost(message, tag = "7")]
    Room(()),
    /// Nothing more of what is to be sent is taken.
    #[prost(message, tag = "8")]
    Broken(TcpFailure),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Addresses {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    addresses: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TcpFailure {
    /// Its place in [`Code::ALL`].
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(bool, tag = "2")]
    is_refusal: bool,
    #[prost(string, tag = "3")]
    message: String,
}

impl Answer {
    /// How many bytes of data it has.
    pub(in crate::processes) fn len(&self) -> usize {
        match &self.answered {
            Some(Answered::Data(data)) => data.len(),
            _ => 0,
        }
    }
}

impl Connect {
    pub(super) fn new(epoch: u64, address: SocketAddr) -> Self {
        Self {
            epoch,
            address: bytes_of(address.ip()),
            port: u32::from(address.port()),
        }
    }

    /// # Errors
    /// It is no address.
    pub(super) fn address(&self) -> Result<SocketAddr, Violation> {
        let port = u16::try_from(self.port).ok();
        let address = address_of(&self.address).zip(port);
        let address = address.ok_or(Violation::OutOfPlace("it connects to what is no address"));
        address.map(SocketAddr::from)
    }
}

impl Addresses {
    pub(super) fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses: addresses.into_iter().map(bytes_of).collect(),
        }
    }

    pub(super) fn read(&self) -> Vec<IpAddr> {
        let addresses = self.addresses.iter();
        addresses.filter_map(|bytes| address_of(bytes)).collect()
    }
}

fn bytes_of(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

impl TcpFailure {
    pub(super) fn new(failure: &Failure) -> Self {
        let place = Code::ALL.iter().position(|code| *code == failure.code());
        Self {
            code: place.and_then(|at| u32::try_from(at).ok()).unwrap_or(0),
            is_refusal: failure.is_refusal(),
            message: failure.to_string(),
        }
    }

    pub(super) fn read(self) -> Failure {
        let code = Code::ALL.get(self.code as usize);
        Failure::Told {
            code: code.copied().unwrap_or(Code::Unknown),
            is_refusal: self.is_refusal,
            message: self.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_were_written() {
        for text in ["10.1.2.3:80", "[fd00::1]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Connect::new(1, address).address().unwrap(), address);
            let addresses = Addresses::new(vec![address.ip()]);
            assert_eq!(addresses.read(), [address.ip()]);
        }
        for connect in [
            Connect {
                epoch: 1,
                address: Bytes::from_static(&[1; 5]),
                port: 80,
            },
            Connect {
                epoch: 1,
                address: Bytes::from_static(&[1; 4]),
                port: 65_536,
            },
        ] {
            assert!(connect.address().is_err(), "{connect:?}");
        }
    }

    #[test]
    fn codes_lead_back() {
        for code in Code::ALL {
            let message = "words".to_owned();
            let failure = Failure::Io {
                code: *code,
                message,
            };
            let told = TcpFailure::new(&failure).read();
            assert_eq!((told.code(), told.is_refusal()), (*code, false));
            assert_eq!(told.to_string(), "words");
        }
    }
}
