//! How many connections each address has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the connections of each address.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max: Option<usize>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    addresses: Addresses,
    /// `None` if its address is not counted.
    key: Option<IpAddr>,
}

impl Addresses {
    /// At most `max` connections for each address, or as many as come.
    pub(super) fn new(max: Option<usize>) -> Self {
        Self {
            open: Arc::default(),
            max,
        }
    }

    /// Counts a connection, unless its address has as many as it may.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Counted> {
        let address = address.to_canonical();
        let Some(max) = self.max.filter(|_| !address.is_loopback()) else {
            return Some(Counted {
                addresses: self.clone(),
                key: None,
            });
        };
        let key = key(address);
        self.with(|open| {
            let count = open.entry(key).or_default();
            if *count >= max {
                return None;
            }
            *count += 1;
            Some(Counted {
                addresses: self.clone(),
                key: Some(key),
            })
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut HashMap<IpAddr, usize>) -> R) -> R {
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(key) = self.key else {
            return;
        };
        self.addresses.with(|open| {
            // Those who are gone are not remembered.
            if let Some(count) = open.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    open.remove(&key);
                }
            }
        });
    }
}

/// One machine has a network /64 of IPv6 to choose its addresses from.
fn key(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(addresses: &Addresses, address: &str) -> Option<Counted> {
        addresses.enter(address.parse().unwrap())
    }

    #[test]
    fn an_address_has_so_many_connections_and_others_have_theirs() {
        let addresses = Addresses::new(Some(2));
        let first = enter(&addresses, "192.0.2.1").unwrap();
        let _second = enter(&addresses, "::ffff:192.0.2.1").unwrap();
        assert!(enter(&addresses, "192.0.2.1").is_none());
        let _other = enter(&addresses, "192.0.2.2").unwrap();
        drop(first);
        let _third = enter(&addresses, "192.0.2.1").unwrap();

        let network = [
            enter(&addresses, "2001:db8::1"),
            enter(&addresses, "2001:db8::2:1"),
        ];
        assert!(network.iter().all(Option::is_some));
        assert!(enter(&addresses, "2001:db8::3").is_none());
        assert!(enter(&addresses, "2001:db8:0:1::1").is_some());
        drop(network);
        assert_eq!(addresses.with(|open| open.len()), 2);
    }

    #[test]
    fn loopback_is_not_counted_and_nobody_is_behind_a_proxy() {
        let held: Vec<_> = ["127.0.0.1", "127.0.0.1", "::1", "::1", "::ffff:127.0.0.1"]
            .map(|address| enter(&Addresses::new(Some(1)), address))
            .into();
        assert!(held.iter().all(Option::is_some));
        let proxied = Addresses::new(None);
        let held: Vec<_> = (0..9).map(|_| enter(&proxied, "192.0.2.1")).collect();
        assert!(held.iter().all(Option::is_some));
    }
}
