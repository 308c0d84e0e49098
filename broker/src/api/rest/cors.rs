//! Which web pages a browser lets read what `/v1` answers.
//!
//! Whoever calls shows a key in a header of its own, and no cookies are looked at: nothing is ever allowed "with credentials".

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::map_request;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{request_id, upload};

/// How long a browser need not ask again what it may do.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// Pages that may read answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigin {
    /// Those of everybody.
    Any,
    /// Those of one scheme, name and port.
    Exact(HeaderValue),
}

/// A text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no origin; one is written as browsers do, such as `https://app.example` or `http://localhost:3000`, and `*` is all of them"
)]
pub struct NoOrigin(String);

impl FromStr for CorsOrigin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let refused = || NoOrigin(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(refused());
        };
        // Another spelling would never match what a browser sends.
        let is_usual = matches!(
            (scheme, authority.port_u16()),
            ("https", Some(443)) | ("http", Some(80))
        );
        let spelled = format!("{scheme}://{}", authority.as_str().to_ascii_lowercase());
        if spelled != text || is_usual || authority.as_str().contains('@') {
            return Err(refused());
        }
        let origin = HeaderValue::from_str(text).map_err(|_| refused())?;
        Ok(Self::Exact(origin))
    }
}

impl fmt::Display for CorsOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin.to_str().unwrap_or_default()),
        }
    }
}

/// Has pages of these origins let in; without any, nothing is said to browsers, and they keep all pages out.
pub(super) fn let_in(router: Router, origins: &[CorsOrigin]) -> Router {
    if origins.is_empty() {
        return router;
    }
    let exact = origins.iter().filter_map(|origin| match origin {
        CorsOrigin::Any => None,
        CorsOrigin::Exact(origin) => Some(origin.clone()),
    });
    let exact: Arc<[HeaderValue]> = exact.collect();
    let allowed = match origins.contains(&CorsOrigin::Any) {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(exact.to_vec()),
    };
    let cors = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_ENCODING,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            HeaderName::from_static(upload::CONTENT_DIGEST),
            HeaderName::from_static(super::events::LAST_EVENT_ID),
            request_id::HEADER,
        ])
        .expose_headers([header::ETAG, header::RETRY_AFTER, request_id::HEADER])
        .max_age(MAX_AGE);
    router
        .layer(map_request(move |request| known(request, exact.clone())))
        .layer(cors)
}

/// A broker without access control keeps pages from elsewhere out by their origin (`access::origin`), and one that is named is not from
/// elsewhere. All pages there are is not a name.
async fn known(mut request: Request, exact: Arc<[HeaderValue]>) -> Request {
    let headers = request.headers_mut();
    let mut origins = headers.get_all(header::ORIGIN).iter();
    if let (Some(origin), None) = (origins.next(), origins.next())
        && exact.contains(origin)
    {
        headers.remove(header::ORIGIN);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_spelled_as_browsers_do() {
        for (text, is_one) in [
            ("*", true),
            ("https://app.example", true),
            ("http://localhost:3000", true),
            ("http://[::1]:3000", true),
            ("https://app.example/", false),
            ("https://app.example/page", false),
            ("https://App.example", false),
            ("https://app.example:443", false),
            ("https://me@app.example", false),
            ("app.example", false),
            ("null", false),
            ("", false),
        ] {
            let parsed: Result<CorsOrigin, _> = text.parse();
            assert_eq!(parsed.is_ok(), is_one, "{text}");
            if let Ok(origin) = parsed {
                assert_eq!(origin.to_string(), text);
            }
        }
    }
}
