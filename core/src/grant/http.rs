//! Which HTTP requests a function may send: to whom, and with which methods.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A name of the domain name system.
const NAME_BYTES_MAX: usize = 253;
/// One part of it, between dots.
const LABEL_BYTES_MAX: usize = 63;
/// A method. Those that are registered have up to 17.
const METHOD_BYTES_MAX: usize = 24;
/// Methods that nobody may use: one makes a tunnel of a connection, the other has requests with their credentials sent back.
const METHODS_NEVER: [&str; 2] = ["CONNECT", "TRACE"];

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of a URL that names none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A host in its one form: names in lower case, addresses as numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name, which has to be resolved.
    Name(String),
    /// An address. One of version 6 is no address of version 4 in disguise.
    Address(IpAddr),
}

/// Where a request goes. What grants say and what guests ask for is read by this one parser, so that there is no text that
/// means one host here and another there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// How.
    pub scheme: Scheme,
    /// To whom.
    pub host: Host,
    /// At which port, from 1.
    pub port: u16,
}

/// Leave to send requests: `[METHOD,... ]SCHEME://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpGrant {
    scheme: Scheme,
    hosts: Hosts,
    port: u16,
    /// In upper case. Empty: all.
    methods: BTreeSet<String>,
}

/// Whom a grant is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hosts {
    One(Host),
    /// All names that end with this one and have more labels before it.
    Under(String),
}

/// A text that is no [`HttpGrant`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be granted: {reason}")]
pub struct HttpGrantError {
    text: String,
    reason: GrantReason,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum GrantReason {
    #[error("it has no scheme; write it like `https://api.example.com`")]
    NoScheme,
    #[error("only `http` and `https` can be granted")]
    Scheme,
    #[error("`{0}` is not a method; write methods like `GET,POST https://api.example.com`")]
    Method(String),
    #[error("`{0}` is a method that nobody may use")]
    MethodNever(String),
    #[error("a host is granted as a whole; leave out what comes behind it")]
    Path,
    #[error("`*` stands for whole labels before a domain of two or more, as in `*.example.com`")]
    Wildcard,
    #[error(transparent)]
    Destination(#[from] DestinationError),
}

/// A text that names no host and port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// There is no text.
    #[error("it names no host")]
    Empty,
    /// There is a user before the host.
    #[error("it has a user name; credentials belong into a header")]
    UserInfo,
    /// What is behind the colon is no port.
    #[error("its port is none; a port is a number from 1 to 65535")]
    Port,
    /// It is no name.
    #[error(
        "its host has characters that a name cannot have; write a name in its ASCII form (`xn--…`), and an IPv6 address in brackets"
    )]
    Characters,
    /// A label is empty, too long, or begins or ends with a hyphen.
    #[error(
        "its host has a label that is empty, longer than {LABEL_BYTES_MAX} bytes, or begins or ends with `-`"
    )]
    Label,
    /// The name is too long.
    #[error("its host is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// It would be a number to some, and a name to others.
    #[error(
        "its host ends with a number; write an IPv4 address as four decimal numbers, such as `10.1.2.3`"
    )]
    Number,
    /// What is in brackets is no address.
    #[error("what is in brackets is not an IPv6 address, such as `[fd00::1]`")]
    V6,
    /// An address of version 4 in the form of one of version 6.
    #[error("it is an IPv4 address in the form of an IPv6 one; write `{0}`")]
    Mapped(Ipv4Addr),
}

impl FromStr for Host {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        if let Some(inside) = text.strip_prefix('[') {
            let inside = inside.strip_suffix(']').ok_or(DestinationError::V6)?;
            let address: Ipv6Addr = inside.parse().map_err(|_| DestinationError::V6)?;
            return match address.to_ipv4_mapped() {
                Some(mapped) => Err(DestinationError::Mapped(mapped)),
                None => Ok(Self::Address(address.into())),
            };
        }
        let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() {
            return Err(DestinationError::Empty);
        }
        if !text.bytes().all(is_of_names) {
            return Err(DestinationError::Characters);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(DestinationError::TooLong);
        }
        if ends_with_number(text) {
            // The parser takes four decimal numbers without zeros before them, and nothing else.
            let address: Ipv4Addr = text.parse().map_err(|_| DestinationError::Number)?;
            return Ok(Self::Address(address.into()));
        }
        let is_label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !text.split('.').all(is_label) {
            return Err(DestinationError::Label);
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

/// Whether a resolver might take the text for an address: its last label is a number, decimal or hexadecimal.
fn ends_with_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    digits(last) || hexadecimal
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl Destination {
    /// Reads the authority of a URL, `HOST[:PORT]`.
    ///
    /// # Errors
    /// [`DestinationError`] says what is wrong with it.
    pub fn parse(scheme: Scheme, authority: &str) -> Result<Self, DestinationError> {
        if authority.contains('@') {
            return Err(DestinationError::UserInfo);
        }
        let (host, port) = split(authority)?;
        Ok(Self {
            scheme,
            host: host.parse()?,
            port: port.unwrap_or(scheme.default_port()),
        })
    }

    /// `HOST[:PORT]`, without a port that the scheme has anyway: what the `Host` header says.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { scheme, host, port } = self;
        if *port == scheme.default_port() {
            return host.to_string();
        }
        format!("{host}:{port}")
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

/// Host and port, if there is one.
pub(super) fn split(authority: &str) -> Result<(&str, Option<u16>), DestinationError> {
    // The colons of an address of version 6 are inside its brackets.
    let end_of_host = match (authority.starts_with('['), authority.rfind(']')) {
        (true, None) => return Err(DestinationError::V6),
        (_, end) => end.map_or(0, |at| at + 1),
    };
    let Some(colon) = authority[end_of_host..].find(':') else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(end_of_host + colon);
    let port = &port[1..];
    if port.contains(':') {
        return Err(DestinationError::Characters);
    }
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| is_number && *port > 0);
    Ok((host, Some(port.ok_or(DestinationError::Port)?)))
}

impl HttpGrant {
    /// Whether this grant is about the destination, with whatever method.
    #[must_use]
    pub fn is_about(&self, destination: &Destination) -> bool {
        let Destination { scheme, host, port } = destination;
        self.scheme == *scheme && self.port == *port && self.hosts.have(host)
    }

    /// Whether it lets a request with this method pass, which is compared as it stands: methods are case-sensitive.
    #[must_use]
    pub fn allows(&self, method: &str, destination: &Destination) -> bool {
        self.is_about(destination) && (self.methods.is_empty() || self.methods.contains(method))
    }

    /// Whether everything that `other` lets pass passes here.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let has_methods = self.methods.is_empty()
            || (!other.methods.is_empty() && other.methods.is_subset(&self.methods));
        let has_hosts = match (&self.hosts, &other.hosts) {
            (hosts, Hosts::One(host)) => hosts.have(host),
            (Hosts::Under(domain), Hosts::Under(other)) => {
                domain == other || is_under(other, domain)
            }
            (Hosts::One(_), Hosts::Under(_)) => false,
        };
        self.scheme == other.scheme && self.port == other.port && has_hosts && has_methods
    }
}

impl Hosts {
    fn have(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::One(one), host) => one == host,
            (Self::Under(domain), Host::Name(name)) => is_under(name, domain),
            (Self::Under(_), Host::Address(_)) => false,
        }
    }
}

/// Whether `name` has labels before `domain`.
fn is_under(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain)
        .is_some_and(|labels| labels.ends_with('.'))
}

impl FromStr for HttpGrant {
    type Err = HttpGrantError;

    fn from_str(text: &str) -> Result<Self, HttpGrantError> {
        parse(text).map_err(|reason| HttpGrantError {
            text: text.chars().take(120).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<HttpGrant, GrantReason> {
    let (methods, url) = match text.split_once(' ') {
        Some((methods, url)) => (
            methods.split(',').map(method).collect::<Result<_, _>>()?,
            url,
        ),
        None => (BTreeSet::new(), text),
    };
    let (scheme, authority) = url.split_once("://").ok_or(GrantReason::NoScheme)?;
    let scheme = [Scheme::Http, Scheme::Https]
        .into_iter()
        .find(|known| scheme.eq_ignore_ascii_case(known.name()))
        .ok_or(GrantReason::Scheme)?;
    if authority.contains(['/', '?', '#']) {
        return Err(GrantReason::Path);
    }
    let domain = authority.strip_prefix("*.");
    let Destination { host, port, .. } = match domain.unwrap_or(authority) {
        rest if rest.contains('*') => return Err(GrantReason::Wildcard),
        rest => Destination::parse(scheme, rest)?,
    };
    let hosts = match host {
        host if domain.is_none() => Hosts::One(host),
        Host::Name(name) if name.contains('.') => Hosts::Under(name),
        Host::Name(_) | Host::Address(_) => return Err(GrantReason::Wildcard),
    };
    Ok(HttpGrant {
        scheme,
        hosts,
        port,
        methods,
    })
}

fn method(text: &str) -> Result<String, GrantReason> {
    let method = text.to_ascii_uppercase();
    if !is_method(&method) {
        return Err(GrantReason::Method(text.chars().take(40).collect()));
    }
    if is_never_allowed(&method) {
        return Err(GrantReason::MethodNever(method));
    }
    Ok(method)
}

/// Whether a request can have this method: capital letters and hyphens, as all methods have that are registered. Others would
/// be taken for the same by some servers and not by others.
#[must_use]
pub fn is_method(text: &str) -> bool {
    (1..=METHOD_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

/// Whether nobody may use this method.
#[must_use]
pub fn is_never_allowed(method: &str) -> bool {
    METHODS_NEVER.contains(&method)
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scheme,
            hosts,
            port,
            methods,
        } = self;
        for (index, method) in methods.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{method}")?;
        }
        if !methods.is_empty() {
            f.write_str(" ")?;
        }
        write!(f, "{}://", scheme.name())?;
        match hosts {
            Hosts::One(host) => host.fmt(f)?,
            Hosts::Under(domain) => write!(f, "*.{domain}")?,
        }
        if *port != scheme.default_port() {
            write!(f, ":{port}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> HttpGrant {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let got = text.parse::<HttpGrant>().map(|grant| grant.to_string());
        let got = got.map_err(|error| error.to_string());
        let expected = expected.map(str::to_owned);
        assert_eq!(
            got,
            expected.map_err(|why| format!("`{text}` cannot be granted: {why}"))
        );
        if let Ok(shown) = &got {
            assert_eq!(grant(shown).to_string(), *shown, "it is its own form");
        }
    }

    #[test]
    fn each_grant_has_one_form() {
        check("https://api.stripe.com", Ok("https://api.stripe.com"));
        check("HTTPS://API.Stripe.com:443", Ok("https://api.stripe.com"));
        check("https://a.example:80", Ok("https://a.example:80"));
        check("http://a.example:80", Ok("http://a.example"));
        check("http://a_b", Ok("http://a_b"));
        check(
            "post,GET,get https://a.example:8443",
            Ok("GET,POST https://a.example:8443"),
        );
        check("https://*.Example.com", Ok("https://*.example.com"));
        check("http://10.1.2.3:8080", Ok("http://10.1.2.3:8080"));
        check("http://[FD00:0::1]:80", Ok("http://[fd00::1]"));
        check("http://[::1]:8080", Ok("http://[::1]:8080"));
    }

    #[test]
    fn what_cannot_be_granted_says_why() {
        let number = "its host ends with a number; write an IPv4 address as four decimal numbers, such as `10.1.2.3`";
        for host in [
            "0x7f000001",
            "127.1",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.0x1",
            "1.2.3.256",
            "1.2.3.4.5",
            "a.0x",
        ] {
            check(&format!("http://{host}"), Err(number));
        }
        let wildcard =
            "`*` stands for whole labels before a domain of two or more, as in `*.example.com`";
        for host in [
            "*",
            "*.com",
            "a*.example.com",
            "*.*.example.com",
            "a.*.com",
            "*.10.1.2.3",
            "*.[fd00::1]",
        ] {
            check(&format!("https://{host}"), Err(wildcard));
        }
        let characters = "its host has characters that a name cannot have; write a name in its ASCII form (`xn--…`), and an IPv6 address in brackets";
        for host in [
            "bücher.example",
            "a b.example",
            "fd00::1",
            "a%2e.example",
            "a\\b",
            "a\r\nb",
        ] {
            check(&format!("GET https://{host}"), Err(characters));
        }
        let label =
            "its host has a label that is empty, longer than 63 bytes, or begins or ends with `-`";
        for host in ["a..b", ".a", "a.", "-a.example", &"a".repeat(64)] {
            check(&format!("https://{host}"), Err(label));
        }
        let long = "a.".repeat(130).parse::<Host>();
        assert_eq!(long, Err(DestinationError::TooLong));
        let path = "a host is granted as a whole; leave out what comes behind it";
        for end in ["/", "/a", "?a", "#a"] {
            check(&format!("https://a.example{end}"), Err(path));
        }
        let port = "its port is none; a port is a number from 1 to 65535";
        for end in [":", ":0", ":65536", ":+80", ":a"] {
            check(&format!("https://a.example{end}"), Err(port));
        }
        check(
            "https://u:p@a.example",
            Err("it has a user name; credentials belong into a header"),
        );
        check(
            "http://[::ffff:10.0.0.1]",
            Err("it is an IPv4 address in the form of an IPv6 one; write `10.0.0.1`"),
        );
        let v6 = "what is in brackets is not an IPv6 address, such as `[fd00::1]`";
        for host in ["[fe80::1%eth0]", "[::1", "[1.2.3.4]", "[]"] {
            check(&format!("http://{host}"), Err(v6));
        }
        check("https://", Err("it names no host"));
        check(
            "a.example",
            Err("it has no scheme; write it like `https://api.example.com`"),
        );
        check(
            "ftp://a.example",
            Err("only `http` and `https` can be granted"),
        );
        check(
            "G=T https://a.example",
            Err("`G=T` is not a method; write methods like `GET,POST https://api.example.com`"),
        );
        check(
            "GET,trace https://a.example",
            Err("`TRACE` is a method that nobody may use"),
        );
    }

    #[track_caller]
    fn check_allowed(text: &str, method: &str, scheme: Scheme, authority: &str, expected: bool) {
        let destination = Destination::parse(scheme, authority);
        let destination = destination.unwrap_or_else(|error| panic!("{authority}: {error}"));
        assert_eq!(
            grant(text).allows(method, &destination),
            expected,
            "{text}: {method} {destination}"
        );
    }

    #[test]
    fn grants_allow_what_they_name_and_nothing_else() {
        use Scheme::{Http, Https};
        let one = "https://api.example.com";
        check_allowed(one, "DELETE", Https, "API.example.com:443", true);
        check_allowed(one, "GET", Http, "api.example.com:443", false);
        check_allowed(one, "GET", Https, "api.example.com:444", false);
        check_allowed(one, "GET", Https, "example.com", false);
        check_allowed(one, "GET", Https, "x.api.example.com", false);
        check_allowed("GET https://a.example", "GET", Https, "a.example", true);
        check_allowed("GET https://a.example", "POST", Https, "a.example", false);
        check_allowed("GET https://a.example", "get", Https, "a.example", false);
        let under = "https://*.example.com";
        check_allowed(under, "GET", Https, "a.example.com", true);
        check_allowed(under, "GET", Https, "b.a.example.com", true);
        check_allowed(under, "GET", Https, "example.com", false);
        check_allowed(under, "GET", Https, "badexample.com", false);
        check_allowed("http://10.1.2.3:8080", "GET", Http, "10.1.2.3:8080", true);
        check_allowed("http://[fd00::1]", "GET", Http, "[FD00:0:0::1]", true);
    }

    #[test]
    fn wider_grants_cover_narrower_ones() {
        let covers = |wide: &str, narrow: &str| grant(wide).covers(&grant(narrow));
        assert!(covers("https://a.example", "GET https://a.example"));
        assert!(covers("GET,PUT https://a.example", "PUT https://a.example"));
        assert!(covers("https://*.example.com", "https://*.a.example.com"));
        assert!(covers("https://*.example.com", "https://a.example.com"));
        assert!(!covers("GET https://a.example", "https://a.example"));
        assert!(!covers("https://a.example.com", "https://*.example.com"));
        assert!(!covers("https://*.example.com", "https://example.com"));
        assert!(!covers("https://a.example", "http://a.example"));
    }
}
