//! Bodies of JSON: how much of them is read, how long they may take and how many are held.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::http::request::Parts;
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tq_core::limits::{
    MESSAGE_BYTES_MAX, REST_BODY_TIME, REST_LARGE_BODIES_MAX, REST_SMALL_BODY_BYTES,
    REST_VALUES_MAX,
};

use super::coding::{self, Coding};
use super::problem::Problem;

/// Counts the large ones.
#[derive(Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

/// A body that was read, and its share of what large ones may hold, until it is dropped.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    share: Option<OwnedSemaphorePermit>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REST_LARGE_BODIES_MAX)))
    }
}

impl Held {
    /// Whether it takes so long to read that nobody else should wait for it.
    pub(super) fn is_large(&self) -> bool {
        self.share.is_some()
    }
}

impl Bodies {
    /// Reads a body, of which no more comes than a message may have.
    pub(super) async fn read(&self, parts: &Parts, body: Body) -> Result<Held, Problem> {
        let len = content_length(parts);
        if len.is_some_and(|len| len > MESSAGE_BYTES_MAX as u64) {
            return Err(too_large());
        }
        check_type(parts)?;
        let coding = Coding::of(&parts.headers)?;
        // What is small may become large.
        let is_as_said = coding == Coding::Identity;
        let is_small = is_as_said && len.is_some_and(|len| len <= REST_SMALL_BODY_BYTES as u64);
        let share = match is_small || body.is_end_stream() {
            true => None,
            false => {
                let share = timeout(REST_BODY_TIME, Arc::clone(&self.0).acquire_owned()).await;
                Some(share.ok().and_then(Result::ok).ok_or_else(too_many)?)
            }
        };
        let reading = timeout(REST_BODY_TIME, collect(body)).await;
        let bytes = reading.map_err(|_| too_slow())??;
        let bytes = match coding {
            Coding::Gzip if !bytes.is_empty() => {
                let expand = move || coding::expand(&bytes, MESSAGE_BYTES_MAX);
                let expanded = tokio::task::spawn_blocking(expand).await;
                expanded.map_err(|_| Problem::bug("a body could not be expanded"))??
            }
            Coding::Gzip | Coding::Identity => bytes,
        };
        Ok(Held { bytes, share })
    }
}

/// What a body says; nothing if it is empty.
pub(super) fn value(bytes: &[u8]) -> Result<Value, Problem> {
    if bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let values = values(bytes);
    if values > REST_VALUES_MAX {
        let detail = format!("the body has {values} values, over the limit of {REST_VALUES_MAX}");
        return Err(Problem::invalid(detail).with_hint("send less at once, or data as a text"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::invalid(format!("the body is no JSON: {error}")))
}

/// How many values a text of JSON has at most: each but the first one stands behind a comma or in a list or object of its own. Each takes
/// memory, however few bytes it has here.
fn values(bytes: &[u8]) -> usize {
    let (mut is_text, mut is_escaped, mut values) = (false, false, 1);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b',' | b'[' | b'{' if !is_text => values += 1,
            _ => {}
        }
    }
    values
}

/// How many bytes a body is said to have.
pub(super) fn content_length(parts: &Parts) -> Option<u64> {
    let len = parts.headers.get(header::CONTENT_LENGTH)?;
    len.to_str().ok()?.parse().ok()
}

fn check_type(parts: &Parts) -> Result<(), Problem> {
    let media_type = parts.headers.get(header::CONTENT_TYPE);
    let media_type = media_type.map_or("", |value| value.to_str().unwrap_or("?"));
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    match essence.is_empty() || essence.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_argument",
            "the body has to be of type application/json",
        )),
    }
}

async fn collect(body: Body) -> Result<Bytes, Problem> {
    match Limited::new(body, MESSAGE_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Problem::invalid(format!("the body ended early: {error}"))),
    }
}

fn too_large() -> Problem {
    let detail = format!("the body is over the limit of {MESSAGE_BYTES_MAX} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "out_of_range", detail)
}

fn too_slow() -> Problem {
    let seconds = REST_BODY_TIME.as_secs();
    let detail = format!("the body did not arrive within {seconds} s");
    Problem::new(StatusCode::REQUEST_TIMEOUT, "deadline_exceeded", detail)
}

fn too_many() -> Problem {
    let detail = format!("{REST_LARGE_BODIES_MAX} large bodies are being read, which is the limit");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).with_hint("try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_not_what_stands_in_texts() {
        for (text, expected) in [
            ("1", 1),
            ("[1,2,3]", 4),
            (r#"{"a": [], "b": {"c": 1}}"#, 5),
            (r#"{"a": "[,{\",[,\\"}"#, 2),
        ] {
            assert_eq!(values(text.as_bytes()), expected, "{text}");
        }
        let many = format!("[{}0]", "0,".repeat(REST_VALUES_MAX));
        assert!(value(many.as_bytes()).is_err());
        assert_eq!(value(b"").unwrap(), Value::Object(Map::new()));
    }
}
