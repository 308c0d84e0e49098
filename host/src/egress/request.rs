//! What a guest wants sent, read anew and checked.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use http_body_util::Full;
use tq_core::grant::{Destination, HttpGrant, Scheme, is_method, is_never_allowed};
use tq_core::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_FIELDS_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_PATH_BYTES_MAX,
};

use super::failure::HeaderFault;
use super::{Failure, Request, head_bytes};

/// A request that may be sent, if its destination may be reached.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) destination: Destination,
    /// In origin form: its URI is path and query only.
    pub(super) message: http::Request<Full<Bytes>>,
}

/// Checks a request against what was granted.
///
/// # Errors
/// [`Failure`] says what is wrong with it.
pub(super) fn check(request: Request, grants: &BTreeSet<HttpGrant>) -> Result<Checked, Failure> {
    let Request {
        method,
        scheme,
        authority,
        path,
        headers,
        body,
    } = request;
    if !is_method(&method) || is_never_allowed(&method) {
        return Err(Failure::Method);
    }
    let destination = Destination::parse(scheme, &authority)?;
    if !grants.iter().any(|grant| grant.is_about(&destination)) {
        return Err(Failure::NotGranted);
    }
    if !grants
        .iter()
        .any(|grant| grant.allows(&method, &destination))
    {
        return Err(Failure::MethodNotGranted(method));
    }
    if body.len() > HTTP_BODY_BYTES_MAX {
        return Err(Failure::Body);
    }
    let mut message = http::Request::new(Full::new(body.clone()));
    *message.method_mut() = method.parse().map_err(|_| Failure::Method)?;
    *message.uri_mut() = origin_form(path)?;
    *message.headers_mut() = self::headers(scheme, &destination, &headers, body.len())?;
    Ok(Checked {
        destination,
        message,
    })
}

/// Path and query as they stand in a request.
///
/// # Errors
/// [`Failure`] says what is wrong with them.
pub(super) fn origin_form(path: String) -> Result<Uri, Failure> {
    let path = match path.as_bytes().first() {
        None => "/".to_owned(),
        Some(b'?') => format!("/{path}"),
        Some(b'/') => path,
        // A whole URL here would go to another host than the one it is sent to, if that is a proxy.
        Some(_) => return Err(Failure::Path),
    };
    if path.len() > HTTP_PATH_BYTES_MAX {
        return Err(Failure::PathTooLong { len: path.len() });
    }
    if !path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    {
        return Err(Failure::Path);
    }
    let parts = http::uri::PathAndQuery::try_from(path).map_err(|_| Failure::Path)?;
    Ok(Uri::from(parts))
}

/// The headers as they are sent: the guest's, without those that say how a message is framed or who it is for. These are the
/// host's to say, so that there is one of each and it is true.
fn headers(
    scheme: Scheme,
    destination: &Destination,
    given: &[(String, Bytes)],
    body_len: usize,
) -> Result<HeaderMap, Failure> {
    if given.len() > HTTP_HEADERS_MAX || head_bytes(given) > HTTP_FIELDS_BYTES_MAX as u64 {
        return Err(Failure::Headers);
    }
    let mut headers = HeaderMap::with_capacity(given.len() + 1);
    let host = HeaderValue::try_from(destination.authority());
    headers.insert(HOST, host.map_err(|_| Failure::NotGranted)?);
    let mut has_length = false;
    for (name, value) in given {
        let fault = |why| Failure::header(name, why);
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let parsed = parsed.map_err(|_| fault(HeaderFault::Characters))?;
        // `HeaderValue` takes no control characters, and so neither CR, LF nor NUL.
        let content = HeaderValue::from_maybe_shared(value.clone());
        let content = content.map_err(|_| fault(HeaderFault::Characters))?;
        match parsed.as_str() {
            "host" => {
                let named = content.to_str().ok();
                let named = named.and_then(|text| Destination::parse(scheme, text).ok());
                if named.as_ref() != Some(destination) {
                    return Err(fault(HeaderFault::OtherHost));
                }
            }
            "content-length" => {
                if has_length || content.as_bytes() != body_len.to_string().as_bytes() {
                    return Err(fault(HeaderFault::Length));
                }
                has_length = true;
            }
            // Bodies are whole before they are sent, so that nothing is to be waited for.
            "expect" => {}
            "connection" | "http2-settings" | "keep-alive" | "te" | "trailer"
            | "transfer-encoding" | "upgrade" => return Err(fault(HeaderFault::HopByHop)),
            name if name.starts_with("proxy-") => return Err(fault(HeaderFault::HopByHop)),
            _ => drop(headers.append(parsed, content)),
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(authority: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        Request {
            method: "POST".to_owned(),
            scheme: Scheme::Http,
            authority: authority.to_owned(),
            path: path.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes())))
                .collect(),
            body: Bytes::from_static(b"12345"),
        }
    }

    fn checked(request: Request) -> Result<Checked, Failure> {
        let grants = ["http://a.example", "PUT http://b.example"];
        check(
            request,
            &grants.iter().map(|text| text.parse().unwrap()).collect(),
        )
    }

    #[track_caller]
    fn check_refused(request: Request, expected: &str) {
        let refused = checked(request.clone()).map(|checked| checked.message.into_parts().0);
        let refused = refused.expect_err("it is refused");
        assert_eq!(refused.to_string(), expected, "{request:?}");
        assert!(refused.is_refusal());
    }

    #[test]
    fn request_is_sent_in_origin_form_to_the_host_that_was_checked() {
        let sent = checked(request(
            "A.example:80",
            "/a?b=http://c/",
            &[
                ("host", "a.example"),
                ("Content-Length", "5"),
                ("X-A", "1"),
                ("x-a", "2"),
            ],
        ));
        let Checked {
            destination,
            message,
        } = sent.unwrap();
        assert_eq!(destination.to_string(), "http://a.example");
        assert_eq!(message.uri(), "/a?b=http://c/");
        let headers: Vec<_> = message
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        assert_eq!(headers, ["host=a.example", "x-a=1", "x-a=2"]);
        for (path, sent) in [("", "/"), ("?a", "/?a")] {
            let checked = checked(request("a.example", path, &[])).unwrap();
            assert_eq!(checked.message.uri(), sent);
        }
    }

    #[test]
    fn destinations_that_were_not_granted_are_refused() {
        let not_granted = "its module is not granted that destination; `[capabilities] http` in tq.toml grants it";
        for authority in [
            "c.example",
            "a.example:81",
            "b.a.example",
            "169.254.169.254",
            "127.0.0.1",
            "[fd00:ec2::254]",
            "[::1]",
        ] {
            check_refused(request(authority, "/", &[]), not_granted);
        }
        check_refused(
            request("b.example", "/", &[]),
            "its module is granted that destination, but not the method `POST`",
        );
        let number = "it has no destination: its host ends with a number; write an IPv4 address as four decimal numbers, such as `10.1.2.3`";
        for authority in [
            "127.1",
            "0x7f000001",
            "2852039166",
            "0251.0376.0251.0376",
            "169.254.43518",
        ] {
            check_refused(request(authority, "/", &[]), number);
        }
        check_refused(
            request("[::ffff:127.0.0.1]", "/", &[]),
            "it has no destination: it is an IPv4 address in the form of an IPv6 one; write `127.0.0.1`",
        );
        check_refused(
            request("[::ffff:a9fe:a9fe]", "/", &[]),
            "it has no destination: it is an IPv4 address in the form of an IPv6 one; write `169.254.169.254`",
        );
        check_refused(
            request("", "/", &[]),
            "it has no destination: it names no host",
        );
        check_refused(
            request("a.example@c.example", "/", &[]),
            "it has no destination: it has a user name; credentials belong into a header",
        );
        let characters = "it has no destination: its host has characters that a name cannot have; write a name in its ASCII form (`xn--…`), and an IPv6 address in brackets";
        for authority in [
            "a.example\r\nx",
            "a.example/",
            "a.example#",
            "a.example ",
            "ａ.example",
        ] {
            check_refused(request(authority, "/", &[]), characters);
        }
    }

    #[test]
    fn messages_that_could_be_read_in_two_ways_are_refused() {
        let header = |name: &str, value: &str| request("a.example", "/", &[(name, value)]);
        let hop = "is about the connection, which is not the guest's";
        for name in [
            "connection",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "Transfer-Encoding",
            "upgrade",
            "http2-settings",
        ] {
            check_refused(header(name, "a"), &format!("its header `{name}` {hop}"));
        }
        for (name, value) in [("x", "a\r\nb: c"), ("x", "a\0"), ("x", "\n")] {
            check_refused(
                header(name, value),
                "its header `x` has characters that a header cannot have",
            );
        }
        check_refused(
            header("x\r\ny", "a"),
            "its header `x\\r\\ny` has characters that a header cannot have",
        );
        let other = "its header `host` names another host than the request";
        for value in ["c.example", "a.example:81", "", "a.example, c.example"] {
            check_refused(header("host", value), other);
        }
        let length = "its header `content-length` is not the length of the body";
        for value in ["4", "+5", "5, 5", "0x5", ""] {
            check_refused(header("content-length", value), length);
        }
        let twice = [("content-length", "5"), ("content-length", "5")];
        check_refused(request("a.example", "/", &twice), length);
        let both = [("content-length", "5"), ("transfer-encoding", "chunked")];
        check_refused(
            request("a.example", "/", &both),
            &format!("its header `transfer-encoding` {hop}"),
        );
        let path = "its path is not one: it has to begin with `/`, and to be percent-encoded";
        for text in [
            "http://c.example/",
            "*",
            "a",
            "/a b",
            "/a\r\nhost: c",
            "/ä",
            "/a#b",
            "@c.example/",
        ] {
            check_refused(request("a.example", text, &[]), path);
        }
        for method in ["CONNECT", "TRACE", "get", "", "GET /", "G\r\n"] {
            let mut request = request("a.example", "/", &[]);
            request.method = method.to_owned();
            check_refused(request, "its method cannot be sent");
        }
    }

    #[test]
    fn requests_that_are_too_large_are_refused() {
        check_refused(
            request("a.example", &"/".repeat(1 << 20), &[]),
            "its path has 1048576 bytes, over the limit of 8192",
        );
        let many: Vec<_> = (0..1_000_000).map(|_| ("x", "y")).collect();
        let headers = "its headers are more than 128, or have more than 32768 bytes";
        check_refused(request("a.example", "/", &many), headers);
        let long = "y".repeat(32 << 10);
        check_refused(request("a.example", "/", &[("x", &long)]), headers);
        let mut large = request("a.example", "/", &[]);
        large.body = vec![0; HTTP_BODY_BYTES_MAX + 1].into();
        check_refused(large, "its body is over the limit of 8388608 bytes");
    }
}
