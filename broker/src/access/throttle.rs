//! Slows down who tries credentials, by address.
//!
//! A key cannot be guessed, and a token not be made without its issuer's secret. What is kept in bounds are the lines that tries leave in
//! the log, and how fast one who tries learns anything: an address has some failures, which come back with time, and waits when they
//! are used up. A credential that holds is let in meanwhile: checking one takes no longer than the rest of a call.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tq_core::limits::{ACCESS_ADDRESSES_MAX, ACCESS_FAILURE_EVERY, ACCESS_FAILURES_MAX};

use crate::ledger::lock;

/// Failures by address. Times are by a clock that only advances.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<IpAddr, Duration>>);

impl Throttle {
    /// How long an address has to wait before it is told anything of a credential that is none.
    pub(super) fn wait(&self, address: IpAddr, now: Duration) -> Option<Duration> {
        let debts = lock(&self.0);
        let paid_at = debts.get(&network(address))?;
        let allowed = ACCESS_FAILURE_EVERY * ACCESS_FAILURES_MAX;
        let wait = paid_at.saturating_sub(now).saturating_sub(allowed);
        (!wait.is_zero()).then_some(wait)
    }

    /// An address has tried a credential that is none. Says whether that is worth a line in the log.
    pub(super) fn failed(&self, address: IpAddr, now: Duration) -> bool {
        let mut debts = lock(&self.0);
        if debts.len() >= ACCESS_ADDRESSES_MAX {
            debts.retain(|_, paid_at| *paid_at > now);
        }
        if debts.len() >= ACCESS_ADDRESSES_MAX {
            // So many addresses at once are one attacker: what they have tried is forgotten, and they begin anew.
            debts.clear();
        }
        let paid_at = debts.entry(network(address)).or_default();
        // One more than is allowed, so that it waits as long as one failure takes to come back.
        let most = now + ACCESS_FAILURE_EVERY * (ACCESS_FAILURES_MAX + 1);
        *paid_at = ((*paid_at).max(now) + ACCESS_FAILURE_EVERY).min(most);
        *paid_at < most
    }
}

/// Whose an address is: an IPv4 address itself, and of an IPv6 address the /64, which is the least that anyone is given.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let host = u128::from(u64::MAX);
            IpAddr::V6((address.to_bits() & !host).into())
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn failures_are_used_up_and_come_back() {
        let throttle = Throttle::default();
        let now = Duration::from_secs(1_000);
        for _ in 0..ACCESS_FAILURES_MAX {
            assert_eq!(throttle.wait(address(1), now), None);
            assert!(throttle.failed(address(1), now));
        }
        assert_eq!(throttle.wait(address(1), now), None);
        assert!(!throttle.failed(address(1), now), "one too many");
        assert_eq!(throttle.wait(address(1), now), Some(ACCESS_FAILURE_EVERY));
        assert_eq!(throttle.wait(address(2), now), None, "it is another's");
        let later = now + ACCESS_FAILURE_EVERY;
        assert_eq!(throttle.wait(address(1), later), None);
        for _ in 0..1_000 {
            throttle.failed(address(1), later);
        }
        let wait = throttle.wait(address(1), later);
        assert_eq!(
            wait,
            Some(ACCESS_FAILURE_EVERY),
            "nobody is locked out for long"
        );
    }

    #[test]
    fn neighbours_in_a_network_are_one() {
        let throttle = Throttle::default();
        let now = Duration::from_secs(1);
        for host in 0..=ACCESS_FAILURES_MAX {
            let address: IpAddr = format!("2001:db8::{host:x}").parse().unwrap();
            throttle.failed(address, now);
        }
        assert!(
            throttle
                .wait("2001:db8::ffff".parse().unwrap(), now)
                .is_some()
        );
        assert!(
            throttle
                .wait("2001:db8:0:1::1".parse().unwrap(), now)
                .is_none()
        );
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        for _ in 0..=ACCESS_FAILURES_MAX {
            throttle.failed(mapped, now);
        }
        assert!(throttle.wait(address(1), now).is_some(), "it is the same");
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        for number in 0..3 * ACCESS_ADDRESSES_MAX as u32 {
            throttle.failed(IpAddr::V4(number.into()), Duration::from_secs(1));
        }
        assert!(lock(&throttle.0).len() <= ACCESS_ADDRESSES_MAX);
    }
}
