//! One HTTP request, sent over `wasi:http`.

mod http;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tq_sdk::{Error, Json, Result, Schema};

#[derive(Deserialize, Schema)]
struct Request {
    /// `http://…` or `https://…`.
    url: String,
    /// `GET` if it is not given.
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

#[derive(Serialize, Schema)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// Sends a request, and returns the response whatever its status is.
#[tq_sdk::task]
fn fetch(request: Json<Request>) -> Result<Json<Response>> {
    let Json(Request {
        url,
        method,
        headers,
        body,
    }) = request;
    let method = method.as_deref().unwrap_or("GET");
    let answer = http::send(method, &url, &headers, body.as_bytes())
        // The network may be better the next time; what was not granted will not be.
        .map_err(|error| match error {
            http::Error::Invalid(_) => Error::invalid_input(error),
            http::Error::Refused(_) => Error::fatal(error),
            http::Error::Failed(_) => Error::retryable(error),
        })?;
    Ok(Json(Response {
        status: answer.status,
        headers: answer.headers,
        body: String::from_utf8_lossy(&answer.body).into_owned(),
    }))
}

fn main() {}
