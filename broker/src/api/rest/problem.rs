//! Refusals, as RFC 9457 has them.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};
use tonic::{Code, Status};

use super::json::Invalid;
use super::request_id::RequestId;

/// Media type of a problem.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";
/// What stands between a refusal's text and what to do about it.
const HINT: &str = "\nhint: ";

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// Name of the kind of refusal, as gRPC has it.
    code: &'static str,
    detail: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// Something of the request is not as it has to be.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_argument", detail)
    }

    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            hint: None,
            retry_after: None,
        }
    }

    /// What cannot be.
    pub(super) fn bug(what: &str) -> Self {
        tracing::error!(what, "a request of `/v1` failed, which is a bug in tq");
        let detail = format!("{what}, which is a bug in tq");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    pub(super) fn with_hint(self, hint: &str) -> Self {
        Self {
            hint: Some(hint.to_owned()),
            ..self
        }
    }

    /// As it is sent to who made a request.
    pub(super) fn json(&self, request: &RequestId) -> Value {
        let mut object = Map::new();
        let title = self.status.canonical_reason().unwrap_or("Error");
        object.insert(
            "type".to_owned(),
            format!("urn:tq:problem:{}", self.code).into(),
        );
        object.insert("title".to_owned(), title.into());
        object.insert("status".to_owned(), self.status.as_u16().into());
        object.insert("detail".to_owned(), self.detail.clone().into());
        object.insert("code".to_owned(), self.code.into());
        object.insert("request_id".to_owned(), request.as_str().into());
        if let Some(hint) = &self.hint {
            object.insert("hint".to_owned(), hint.clone().into());
        }
        if let Some(wait) = self.retry_after {
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            object.insert("retry_after_ms".to_owned(), ms.into());
        }
        Value::Object(object)
    }

    /// The answer to a request.
    pub(super) fn response(&self, request: &RequestId) -> Response {
        let mut response = Response::new(Body::from(self.json(request).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            // How the same could be sent (RFC 9110, 15.5.16).
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(wait) = self.retry_after {
            // In whole seconds, and not before there may be room.
            headers.insert(
                header::RETRY_AFTER,
                wait.as_millis()
                    .div_ceil(1_000)
                    .try_into()
                    .map_or(HeaderValue::from_static("60"), |seconds: u64| {
                        HeaderValue::from(seconds)
                    }),
            );
        }
        response
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(invalid.to_string())
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let (http, code) = meaning(status.code());
        let pushback = status.metadata().get(tq_proto::RETRY_PUSHBACK_MS);
        let pushback = pushback.and_then(|ms| ms.to_str().ok()?.parse().ok());
        let (detail, hint) = match status.message().split_once(HINT) {
            Some((detail, hint)) => (detail, Some(hint.to_owned())),
            None => (status.message(), None),
        };
        Self {
            status: http,
            code,
            detail: detail.to_owned(),
            hint,
            retry_after: pushback.map(Duration::from_millis),
        }
    }
}

/// What a status of gRPC is in HTTP.
pub(super) fn meaning(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::Ok => (StatusCode::OK, "ok"),
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid_argument"),
        Code::OutOfRange => (StatusCode::BAD_REQUEST, "out_of_range"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied"),
        Code::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        Code::AlreadyExists => (StatusCode::CONFLICT, "already_exists"),
        Code::Aborted => (StatusCode::CONFLICT, "aborted"),
        Code::FailedPrecondition => (StatusCode::CONFLICT, "failed_precondition"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "resource_exhausted"),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "unimplemented"),
        Code::Unavailable | Code::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
        Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "data_loss"),
        Code::Internal | Code::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusal_says_what_is_wrong_and_what_to_do() {
        let mut status = Status::resource_exhausted("too much\nhint: ask for less");
        status
            .metadata_mut()
            .insert(tq_proto::RETRY_PUSHBACK_MS, 1_200.into());
        let problem = Problem::from(status);
        let request = RequestId::new("r-1");
        assert_eq!(
            problem.json(&request),
            json!({
                "type": "urn:tq:problem:resource_exhausted", "title": "Too Many Requests", "status": 429,
                "detail": "too much", "code": "resource_exhausted", "hint": "ask for less", "retry_after_ms": 1_200,
                "request_id": "r-1",
            })
        );
        let response = problem.response(&request);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
    }
}
