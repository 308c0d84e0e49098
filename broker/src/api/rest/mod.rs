//! `/v1`: what gRPC has, over HTTP with JSON.
//!
//! A request is the call of `tq.v1` that [`bindings`] says, made from within ([`call`]): who may do it, what it means and what it is
//! refused for is said once, there. What is said here is how a message is written as JSON ([`json`]), and a refusal as a problem
//! ([`problem`]).

mod bindings;
mod call;
mod events;
mod json;
#[cfg(test)]
mod openapi;
mod problem;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, get};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use tokio::sync::Semaphore;
use tq_core::limits::{
    MESSAGE_BYTES_MAX, REST_BODY_TIME, REST_LARGE_BODIES_MAX, REST_SMALL_BODY_BYTES,
};

use self::bindings::{Binding, Shape};
use self::call::Calls;
use self::json::Invalid;
use self::problem::Problem;

/// The field that says which namespace a call is about. It stands in the query, whatever the rest does.
const NAMESPACE: &str = "namespace";
/// Asks for nothing but a credential that holds.
const WHO_AM_I: &str = "AccessService/WhoAmI";
/// The document that says all of this, made by `openapi` and checked by its test.
const OPENAPI: &str = include_str!("openapi.json");
/// A page to try it.
const PAGE: &str = include_str!("page.html");

/// One request.
#[derive(Clone)]
struct Route {
    binding: Arc<Binding>,
    method: MethodDescriptor,
    services: Router,
    large_bodies: Arc<Semaphore>,
}

/// The routes of `/v1`, which call `services`.
///
/// # Panics
/// If the generated descriptors are not what they were generated to be.
pub(crate) fn routes(services: &Router) -> Router {
    let pool = DescriptorPool::decode(tq_proto::DESCRIPTORS).expect("generated descriptors decode");
    let large_bodies = Arc::new(Semaphore::new(REST_LARGE_BODIES_MAX));
    let mut paths: BTreeMap<&'static str, MethodRouter> = BTreeMap::new();
    for binding in bindings::all() {
        let filter = MethodFilter::try_from(binding.method.clone()).expect("it is a usual method");
        let route = Route {
            method: method(&pool, binding.call).expect("the table has calls that there are"),
            binding: Arc::new(binding.clone()),
            services: services.clone(),
            large_bodies: Arc::clone(&large_bodies),
        };
        let of_path = paths.remove(binding.path).unwrap_or_default();
        let answer = move |fields, request| answer(route.clone(), fields, request);
        paths.insert(binding.path, of_path.on(filter, answer));
    }
    let mut router = Router::new();
    for (path, methods) in paths {
        router = router.route(path, methods.fallback(no_method));
    }
    router
        .route(
            "/v1/openapi.json",
            get(|| document("application/json", OPENAPI)),
        )
        .route("/v1", get(|| document("text/html; charset=utf-8", PAGE)))
        .route("/v1/{*rest}", axum::routing::any(no_route))
}

fn method(pool: &DescriptorPool, call: &str) -> Option<MethodDescriptor> {
    let (service, method) = call.split_once('/')?;
    let service = pool.get_service_by_name(&format!("tq.v1.{service}"))?;
    service.methods().find(|found| found.name() == method)
}

async fn document(media_type: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    // The page is whole in itself, and nothing else may be loaded into it.
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"),
    );
    response
}

async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such path")
        .with_hint("/v1/openapi.json lists those that there are")
}

async fn no_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "unimplemented",
        "the path has no such method",
    )
    .with_hint("/v1/openapi.json lists those that there are")
}

async fn answer(
    route: Route,
    fields: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let Ok(fields) = fields else {
        return Problem::invalid("the path is no UTF-8").into_response();
    };
    let fields: Vec<(String, String)> = fields
        .iter()
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect();
    let answered = route.answer(&fields, request).await;
    answered.unwrap_or_else(Problem::into_response)
}

impl Route {
    async fn answer(
        &self,
        fields: &[(String, String)],
        request: Request,
    ) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let mut calls = Calls::of(self.services.clone(), &parts);
        let call = self.binding.call;
        match self.binding.shape {
            Shape::Query => {
                let message = self.of_query(fields, &parts)?;
                let answer = calls.unary(call, encoded(&message)).await?;
                self.answered(&parts, &answer)
            }
            Shape::Body => {
                // Nobody's body is read whom nobody knows.
                calls.unary(WHO_AM_I, Bytes::new()).await?;
                let message = self.of_body(fields, &parts, body).await?;
                let answer = calls.unary(call, encoded(&message)).await?;
                self.answered(&parts, &answer)
            }
            Shape::Events(cursor) => {
                let mut message = self.of_query(fields, &parts)?;
                events::go_on(&mut message, cursor, &parts.headers)?;
                let stream = calls.server_streaming(call, encoded(&message)).await?;
                Ok(events::events(stream, self.method.output(), cursor))
            }
            Shape::Log => {
                let message = self.of_query(fields, &parts)?;
                let stream = calls.server_streaming(call, encoded(&message)).await?;
                Ok(events::log(stream))
            }
            Shape::Upload => {
                let answer = upload::upload(&mut calls, call, fields, &parts, body).await?;
                self.answered(&parts, &answer)
            }
        }
    }

    /// The message of which all stands in the address.
    fn of_query(
        &self,
        fields: &[(String, String)],
        parts: &Parts,
    ) -> Result<DynamicMessage, Problem> {
        let mut message = self.of_path(fields)?;
        for (name, text) in query(parts)? {
            json::set(&mut message, &name, &text)?;
        }
        Ok(message)
    }

    /// The message of which the address has the namespace alone, and the body the rest.
    async fn of_body(
        &self,
        fields: &[(String, String)],
        parts: &Parts,
        body: Body,
    ) -> Result<DynamicMessage, Problem> {
        let len = announced(parts)?;
        let is_small = len.is_some_and(|len| len <= REST_SMALL_BODY_BYTES as u64);
        let _held = match is_small {
            true => None,
            false => self.large_bodies.acquire().await.ok(),
        };
        let reading = tokio::time::timeout(REST_BODY_TIME, collect(body)).await;
        let bytes = reading.map_err(|_| too_slow())??;
        let value: Value = match bytes.is_empty() {
            true => Value::Object(serde_json::Map::new()),
            false => serde_json::from_slice(&bytes)
                .map_err(|error| Problem::invalid(format!("the body is no JSON: {error}")))?,
        };
        let mut message = DynamicMessage::new(self.method.input());
        let of_address = fields.iter().map(|(name, _)| name.as_str());
        let of_address = of_address.chain([NAMESPACE]);
        for name in of_address {
            if value.get(name).is_some() && message.descriptor_has(name) {
                let wrong = "belongs into the address of the request";
                return Err(Invalid::new(name, wrong).into());
            }
        }
        json::fill(&mut message, &value, "")?;
        for (name, text) in fields {
            json::set(&mut message, name, text)?;
        }
        for (name, text) in query(parts)? {
            if name != NAMESPACE {
                let wrong = "belongs into the body of the request";
                return Err(Invalid::new(name, wrong).into());
            }
            json::set(&mut message, &name, &text)?;
        }
        Ok(message)
    }

    fn of_path(&self, fields: &[(String, String)]) -> Result<DynamicMessage, Problem> {
        let mut message = DynamicMessage::new(self.method.input());
        for (name, text) in fields {
            json::set(&mut message, name, text)?;
        }
        Ok(message)
    }

    fn answered(&self, parts: &Parts, answer: &[u8]) -> Result<Response, Problem> {
        let value = json::of_message(&decoded(self.method.output(), answer)?);
        let text = value.to_string();
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if parts.method == http::Method::GET {
            // Of what is said, so that it is another one exactly if something else is.
            let tag = format!("\"{}\"", &blake3::hash(text.as_bytes()).to_hex()[..32]);
            let known = parts.headers.get_all(header::IF_NONE_MATCH);
            let is_known = known.iter().any(|known| has_tag(known, &tag));
            if let Ok(tag) = HeaderValue::from_str(&tag) {
                headers.insert(header::ETAG, tag);
            }
            headers.insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("private, no-cache"),
            );
            if is_known {
                headers.remove(header::CONTENT_TYPE);
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok(response);
            }
        }
        *response.body_mut() = Body::from(text);
        Ok(response)
    }
}

/// Whether a header of entity tags has this one (RFC 9110, 13.1.2).
fn has_tag(header: &HeaderValue, tag: &str) -> bool {
    let header = header.to_str().unwrap_or_default();
    header == "*"
        || header
            .split(',')
            .any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// Descriptors say what they have.
trait HasField {
    fn descriptor_has(&self, name: &str) -> bool;
}

impl HasField for DynamicMessage {
    fn descriptor_has(&self, name: &str) -> bool {
        use prost_reflect::ReflectMessage as _;
        self.descriptor().get_field_by_name(name).is_some()
    }
}

fn encoded(message: &DynamicMessage) -> Bytes {
    message.encode_to_vec().into()
}

fn decoded(of: MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, Problem> {
    DynamicMessage::decode(of, bytes).map_err(|error| {
        tracing::error!(%error, "an answer cannot be decoded, which is a bug in tq");
        let detail = "the answer cannot be decoded, which is a bug in tq";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    })
}

/// What stands behind the question mark, decoded.
fn query(parts: &Parts) -> Result<Vec<(String, String)>, Problem> {
    let query = parts.uri.query().unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((unescaped(name)?, unescaped(text)?))
    });
    pairs.collect()
}

/// Percent-encoding, with `+` for a space as forms have it.
fn unescaped(text: &str) -> Result<String, Problem> {
    let text = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&text).decode_utf8();
    let decoded = decoded.map_err(|_| Problem::invalid("the query is no UTF-8"))?;
    Ok(decoded.into_owned())
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

/// How many bytes a body of JSON is said to have, if that is said; more than a message may have are refused.
fn announced(parts: &Parts) -> Result<Option<u64>, Problem> {
    let announced = parts.headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|len| len > MESSAGE_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let media_type = parts.headers.get(header::CONTENT_TYPE);
    let media_type = media_type.map_or("", |value| value.to_str().unwrap_or("?"));
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.is_empty() && !essence.eq_ignore_ascii_case("application/json") {
        let detail = "the body has to be of type application/json";
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_argument",
            detail,
        ));
    }
    Ok(announced)
}

/// A body, of which no more is read than a message may have.
async fn collect(body: Body) -> Result<Bytes, Problem> {
    match Limited::new(body, MESSAGE_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Problem::invalid(format!("the body ended early: {error}"))),
    }
}
