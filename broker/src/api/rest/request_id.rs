//! A name for each request, by which what its caller saw is found in the broker's log.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use tq_core::limits::REQUEST_ID_BYTES_MAX;
use tracing::Instrument as _;
use uuid::Uuid;

/// What it is sent and answered in.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Letters, digits and some signs: a header's value, and nothing that a log has to escape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestId(String);

impl RequestId {
    /// The caller's, if it is one, or a new one.
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(&HEADER).and_then(|value| value.to_str().ok());
        match given.filter(|id| is_sane(id)) {
            Some(id) => Self(id.to_owned()),
            None => Self(Uuid::new_v4().to_string()),
        }
    }

    #[cfg(test)]
    pub(super) fn new(id: &str) -> Self {
        Self(id.to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The longest that others make are W3C trace contexts and paths of proxies.
fn is_sane(id: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte);
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_letter)
}

/// Gives a request its id, in the log and in its answer.
pub(super) async fn identified(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let span = tracing::info_span!("serve request", request_id = id.as_str());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    // Without the query, which may have something of payloads in it.
    span.in_scope(|| tracing::debug!(%method, path = uri.path(), status, "request answered"));
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(HEADER, id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_ids_are_taken_if_they_fit_into_a_log() {
        let long = "a".repeat(REQUEST_ID_BYTES_MAX + 1);
        for (given, is_taken) in [
            ("01a221d3-4573-75a6-9c90-7257e49d45b2", true),
            ("Root=1-67891233-abcdef012345678912345678", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a\tb", false),
        ] {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_str(given).unwrap())]);
            let id = RequestId::of(&headers);
            assert_eq!(id.as_str() == given, is_taken, "{given}");
            assert!(is_sane(id.as_str()));
        }
        let (one, other) = (HeaderMap::new(), HeaderMap::new());
        assert_ne!(RequestId::of(&one), RequestId::of(&other));
    }
}
