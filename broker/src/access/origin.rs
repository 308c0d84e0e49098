//! Keeping web pages out of a broker that anyone on this machine may use.
//!
//! A page in a browser may send requests to loopback. One from elsewhere says so in `Origin`, and one whose name was made to point here
//! (DNS rebinding) says that name in `Host`; neither has to do with a broker on loopback. A page on loopback itself is let in.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// It is of a page that is not from here.
    #[error(
        "requests of web pages from `{0}` are refused, since this broker has no access control"
    )]
    Origin(String),
    /// It is for someone else.
    #[error(
        "requests for `{0}` are refused, since this broker has no access control; it is called by a loopback address or `localhost`"
    )]
    Host(String),
}

/// Checks where a request to an open broker comes from, and for whom it is.
pub(super) fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Foreign> {
    if let Some(origin) = headers.get(header::ORIGIN) {
        let host = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.parse::<Uri>().ok());
        let is_here = host.as_ref().and_then(Uri::host).is_some_and(is_loopback);
        if !is_here {
            return Err(Foreign::Origin(shown(origin.as_bytes())));
        }
    }
    // HTTP/2 has it in the address of the request.
    let host = match (uri.authority(), headers.get(header::HOST)) {
        (Some(authority), _) => authority.as_str().as_bytes(),
        (None, Some(host)) => host.as_bytes(),
        (None, None) => return Ok(()),
    };
    let authority = Authority::try_from(host);
    match authority.is_ok_and(|authority| is_loopback(authority.host())) {
        true => Ok(()),
        false => Err(Foreign::Host(shown(host))),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_name =
        host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    is_name
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .take(120)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is_let_in(uri: &str, headers: &[(&str, &str)], expected: bool) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        let checked = check(&uri.parse().unwrap(), &map);
        assert_eq!(checked.is_ok(), expected, "{uri} {headers:?}: {checked:?}");
    }

    #[test]
    fn pages_from_elsewhere_and_names_of_others_are_kept_out() {
        is_let_in("/x", &[], true);
        is_let_in("http://127.0.0.1:7171/x", &[], true);
        is_let_in("http://[::1]:7171/x", &[], true);
        is_let_in("http://localhost:7171/x", &[], true);
        is_let_in("http://tq.localhost:7171/x", &[], true);
        is_let_in("http://rebound.example:7171/x", &[], false);
        is_let_in("http://127.0.0.1.example:7171/x", &[], false);
        is_let_in("http://10.0.0.1:7171/x", &[], false);
        is_let_in("/x", &[("host", "127.0.0.1:7171")], true);
        is_let_in("/x", &[("host", "[::1]")], true);
        is_let_in("/x", &[("host", "LOCALHOST")], true);
        is_let_in("/x", &[("host", "evil.example")], false);
        is_let_in("/x", &[("host", "")], false);
        is_let_in("/x", &[("host", "a b")], false);
        for (origin, expected) in [
            ("http://localhost:3000", true),
            ("http://127.0.0.1", true),
            ("https://evil.example", false),
            ("http://localhost.evil.example", false),
            ("null", false),
            ("file://", false),
            ("", false),
        ] {
            let headers = [("host", "127.0.0.1:7171"), ("origin", origin)];
            is_let_in("/x", &headers, expected);
        }
    }
}
