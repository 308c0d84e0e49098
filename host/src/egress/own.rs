//! Which addresses are this machine's.

use std::net::{IpAddr, UdpSocket};

/// Whether this machine has the address. Asked of the kernel each time, since interfaces come and go: only an own address
/// can be bound to. With `ip_nonlocal_bind` every address can, and then nothing is reached.
pub(super) fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn own_addresses_are_known() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 1).into()));
    }
}
