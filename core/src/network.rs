//! Which addresses may be reached: one judgement for whoever sends something to where a tenant says.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: an address and how many of its first bits all addresses in it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a network: {reason}")]
pub struct NetworkError {
    text: String,
    reason: NetworkReason,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum NetworkReason {
    #[error("write it like `10.0.0.0/8`, `127.0.0.1/32` or `fd00::/8`")]
    Form,
    #[error("an address of its kind has {0} bits")]
    Prefix(u8),
    #[error("its address has bits behind the first {prefix}; write `{whole}`")]
    Bits { prefix: u8, whole: Network },
    #[error("it is an IPv4 address in the form of an IPv6 one; write `{0}`")]
    Mapped(Ipv4Addr),
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        parse(text).map_err(|reason| NetworkError {
            text: text.chars().take(80).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Network, NetworkReason> {
    let (address, prefix) = text.split_once('/').ok_or(NetworkReason::Form)?;
    let address: IpAddr = address.parse().map_err(|_| NetworkReason::Form)?;
    let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.parse::<u8>().ok().filter(|_| is_number);
    let prefix = prefix.ok_or(NetworkReason::Form)?;
    if let IpAddr::V6(address) = address
        && let Some(mapped) = address.to_ipv4_mapped()
    {
        return Err(NetworkReason::Mapped(mapped));
    }
    let bits = bits(address);
    if prefix > bits {
        return Err(NetworkReason::Prefix(bits));
    }
    let whole = Network {
        address: masked(address, prefix),
        prefix,
    };
    if whole.address != address {
        return Err(NetworkReason::Bits { prefix, whole });
    }
    Ok(whole)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Network {
    /// Whether the address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.prefix) == self.address
    }

    /// Whether it is this address and no other.
    fn is_only(&self, address: IpAddr) -> bool {
        self.prefix == bits(address) && self.address == address
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with all bits behind the first `prefix` zero.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let behind = u32::from(bits(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// Why an address may not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// A cloud tells its machines there who they are and what they may do.
    #[error("it is a metadata service")]
    Metadata,
    /// The host has it itself.
    #[error("it is an address of this machine")]
    Own,
    /// It is loopback.
    #[error("it is loopback")]
    Loopback,
    /// It is of a private network.
    #[error("it is private")]
    Private,
    /// It is of one link, or of a carrier's own network.
    #[error("it is local to a link or a carrier")]
    Local,
    /// It reaches many.
    #[error("it is multicast or broadcast")]
    Multicast,
    /// It is in nobody's network: reserved, for tests, for documents, or for what carries IPv4 in IPv6.
    #[error("it is reserved")]
    Reserved,
}

/// Networks of IPv4 that are not the internet (IANA IPv4 Special-Purpose Address Registry).
const SPECIAL_V4: &[([u8; 4], u8, Forbidden)] = &[
    ([0, 0, 0, 0], 8, Forbidden::Reserved),
    ([10, 0, 0, 0], 8, Forbidden::Private),
    ([100, 64, 0, 0], 10, Forbidden::Local),
    ([127, 0, 0, 0], 8, Forbidden::Loopback),
    ([169, 254, 0, 0], 16, Forbidden::Local),
    ([172, 16, 0, 0], 12, Forbidden::Private),
    ([192, 0, 0, 0], 24, Forbidden::Reserved),
    ([192, 0, 2, 0], 24, Forbidden::Reserved),
    ([192, 88, 99, 0], 24, Forbidden::Reserved),
    ([192, 168, 0, 0], 16, Forbidden::Private),
    ([198, 18, 0, 0], 15, Forbidden::Reserved),
    ([198, 51, 100, 0], 24, Forbidden::Reserved),
    ([203, 0, 113, 0], 24, Forbidden::Reserved),
    ([224, 0, 0, 0], 4, Forbidden::Multicast),
    ([255, 255, 255, 255], 32, Forbidden::Multicast),
    ([240, 0, 0, 0], 4, Forbidden::Reserved),
];

/// Networks of IPv6 outside of global unicast that have a name for what they are.
const LOCAL_V6: &[([u16; 2], u8, Forbidden)] = &[
    ([0xfc00, 0], 7, Forbidden::Private),
    ([0xfe80, 0], 10, Forbidden::Local),
    ([0xff00, 0], 8, Forbidden::Multicast),
];

/// What is global unicast of IPv6, of which [`SPECIAL_V6`] are no part.
const GLOBAL_V6: ([u16; 2], u8) = ([0x2000, 0], 3);
const SPECIAL_V6: &[([u16; 2], u8)] = &[
    // Teredo, ORCHID and benchmarks, among others.
    ([0x2001, 0], 23),
    ([0x2001, 0x0db8], 32),
    // 6to4.
    ([0x2002, 0], 16),
    ([0x3fff, 0], 20),
];

/// Where clouds tell their machines secrets: link-local, with Alibaba, Azure, Oracle, AWS and Google having others beside it.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0023)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
];

/// What an address is other than the internet; `None` if it is that.
fn special(address: IpAddr) -> Option<Forbidden> {
    match address {
        IpAddr::V4(address) => SPECIAL_V4
            .iter()
            .find(|(of, prefix, _)| is_in_v4(address, (*of).into(), *prefix))
            .map(|(_, _, what)| *what),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(Forbidden::Loopback),
        IpAddr::V6(address) => {
            let is_global = is_in_v6(address, GLOBAL_V6.0, GLOBAL_V6.1)
                && !SPECIAL_V6
                    .iter()
                    .any(|(of, prefix)| is_in_v6(address, *of, *prefix));
            let local = LOCAL_V6
                .iter()
                .find(|(of, prefix, _)| is_in_v6(address, *of, *prefix));
            let what = local.map_or(Forbidden::Reserved, |(_, _, what)| *what);
            (!is_global).then_some(what)
        }
    }
}

fn is_in_v4(address: Ipv4Addr, of: Ipv4Addr, prefix: u8) -> bool {
    masked(address.into(), prefix) == IpAddr::V4(of)
}

fn is_in_v6(address: Ipv6Addr, [first, second]: [u16; 2], prefix: u8) -> bool {
    let of = Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0);
    masked(address.into(), prefix) == IpAddr::V6(of)
}

/// The address as it is to be dialled, if it may be reached. `allowed` are networks that an operator opened,
/// `is_own` says whether this machine has an address.
///
/// # Errors
/// [`Forbidden`] says what it is.
pub fn judge(
    address: IpAddr,
    allowed: &[Network],
    is_own: impl FnOnce(IpAddr) -> bool,
) -> Result<IpAddr, Forbidden> {
    // An address of version 4 in the form of one of version 6 is dialled as what it is.
    let address = address.to_canonical();
    if METADATA.contains(&address) {
        // Nobody opens it by a network that happens to have it.
        let is_named = allowed.iter().any(|network| network.is_only(address));
        return if is_named {
            Ok(address)
        } else {
            Err(Forbidden::Metadata)
        };
    }
    if allowed.iter().any(|network| network.contains(address)) {
        return Ok(address);
    }
    match special(address) {
        Some(what) => Err(what),
        None if is_own(address) => Err(Forbidden::Own),
        None => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 17, 0, 1));

    #[track_caller]
    fn check(address: &str, allowed: &[&str], expected: Result<&str, Forbidden>) {
        let allowed: Vec<Network> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        let got = judge(address.parse().unwrap(), &allowed, |address| address == OWN);
        let got = got.map(|address| address.to_string());
        assert_eq!(got, expected.map(str::to_owned), "{address}");
    }

    #[test]
    fn only_the_internet_is_reached() {
        use Forbidden::{Local, Loopback, Metadata, Multicast, Private, Reserved};
        for (address, what) in [
            ("0.0.0.0", Reserved),
            ("0.255.255.255", Reserved),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("100.64.0.0", Local),
            ("100.127.255.255", Local),
            ("127.0.0.1", Loopback),
            ("127.255.255.255", Loopback),
            ("169.254.0.1", Local),
            ("169.254.169.254", Metadata),
            ("100.100.100.200", Metadata),
            ("168.63.129.16", Metadata),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("192.0.0.8", Reserved),
            ("192.0.0.192", Metadata),
            ("192.0.2.1", Reserved),
            ("192.88.99.1", Reserved),
            ("192.168.0.0", Private),
            ("192.168.255.255", Private),
            ("198.18.0.0", Reserved),
            ("198.19.255.255", Reserved),
            ("198.51.100.1", Reserved),
            ("203.0.113.1", Reserved),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.1", Reserved),
            ("255.255.255.255", Multicast),
            ("::", Reserved),
            ("::1", Loopback),
            ("::7f00:1", Reserved),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:a9fe:a9fe", Metadata),
            ("::ffff:10.0.0.1", Private),
            ("64:ff9b::a9fe:a9fe", Reserved),
            ("64:ff9b:1::1", Reserved),
            ("100::1", Reserved),
            ("2001::1", Reserved),
            ("2001:10::1", Reserved),
            ("2001:1ff:ffff::1", Reserved),
            ("2001:db8::1", Reserved),
            ("2002:7f00:1::", Reserved),
            ("3fff:fff::1", Reserved),
            ("4000::1", Reserved),
            ("5f00::1", Reserved),
            ("fc00::1", Private),
            ("fdff::1", Private),
            ("fd00:ec2::254", Metadata),
            ("fe80::1", Local),
            ("fec0::1", Reserved),
            ("ff02::1", Multicast),
        ] {
            check(address, &[], Err(what));
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700::1111",
            "3ffe::1",
        ] {
            check(address, &[], Ok(address));
        }
        check("::ffff:1.1.1.1", &[], Ok("1.1.1.1"));
    }

    #[test]
    fn operator_opens_networks_and_metadata_only_by_its_name() {
        check("10.1.2.3", &["10.0.0.0/8"], Ok("10.1.2.3"));
        check("::ffff:10.1.2.3", &["10.0.0.0/8"], Ok("10.1.2.3"));
        check("11.1.2.3", &["10.0.0.0/8"], Ok("11.1.2.3"));
        check("fd00::1", &["fd00::/8"], Ok("fd00::1"));
        check("fd00::1", &["10.0.0.0/8"], Err(Forbidden::Private));
        check("127.0.0.2", &["127.0.0.1/32"], Err(Forbidden::Loopback));
        let metadata = "169.254.169.254";
        let all = ["0.0.0.0/0", "169.254.0.0/16", "169.254.169.254/31", "::/0"];
        check(metadata, &all, Err(Forbidden::Metadata));
        check("fd00:ec2::254", &all, Err(Forbidden::Metadata));
        check(metadata, &["169.254.169.254/32"], Ok(metadata));
        check("fd00:ec2::254", &["fd00:ec2::254/128"], Ok("fd00:ec2::254"));
    }

    #[test]
    fn own_addresses_are_not_reached() {
        check("198.17.0.1", &[], Err(Forbidden::Own));
        check("198.17.0.1", &["198.17.0.0/16"], Ok("198.17.0.1"));
    }

    #[track_caller]
    fn check_text(text: &str, expected: Result<(), &str>) {
        let got = text.parse::<Network>();
        if let Ok(network) = got {
            assert_eq!(network.to_string(), text);
        }
        let got = got.map(|_| ()).map_err(|error| error.to_string());
        let expected = expected.map_err(|why| format!("`{text}` is not a network: {why}"));
        assert_eq!(got, expected);
    }

    #[test]
    fn networks_are_written_as_they_are() {
        check_text("127.0.0.1/32", Ok(()));
        check_text("0.0.0.0/0", Ok(()));
        check_text("fd00::/8", Ok(()));
        let form = "write it like `10.0.0.0/8`, `127.0.0.1/32` or `fd00::/8`";
        for text in [
            "10.0.0.0",
            "10/8",
            "a/8",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "010.0.0.0/8",
        ] {
            check_text(text, Err(form));
        }
        check_text("10.0.0.0/33", Err("an address of its kind has 32 bits"));
        check_text(
            "10.1.2.3/8",
            Err("its address has bits behind the first 8; write `10.0.0.0/8`"),
        );
        check_text(
            "::ffff:10.0.0.0/104",
            Err("it is an IPv4 address in the form of an IPv6 one; write `10.0.0.0`"),
        );
    }
}
