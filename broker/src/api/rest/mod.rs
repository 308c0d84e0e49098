//! `/v1`: what gRPC has, over HTTP with JSON.
//!
//! A request is the call of `tq.v1` that [`bindings`] says, made from within ([`call`]): who may do it, what it means and what it is
//! refused for is said once, there. What is said here is how a message is written as JSON ([`json`]), and a refusal as a problem
//! ([`problem`]).

mod bindings;
mod body;
mod call;
mod coding;
mod cors;
mod events;
mod json;
#[cfg(test)]
mod openapi;
mod problem;
#[cfg(test)]
mod reference;
mod request_id;
mod task;
mod upload;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{Extension, RawPathParams, Request};
use axum::http::request::Parts;
use axum::middleware::{from_fn, map_response};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, get};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};

use self::bindings::{Binding, Shape};
use self::body::{Bodies, content_length};
use self::call::Calls;
use self::json::Invalid;
use self::problem::Problem;
use self::request_id::RequestId;
pub(crate) use self::task::TaskJson;

pub use self::cors::{CorsOrigin, NoOrigin};

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
    bodies: Bodies,
}

/// The routes of `/v1`, which call `services`, and may be called by pages of `origins`.
///
/// # Panics
/// If the generated descriptors are not what they were generated to be.
pub(crate) fn routes(services: &Router, origins: &[CorsOrigin]) -> Router {
    let pool = pool();
    let bodies = Bodies::default();
    let mut paths: BTreeMap<&'static str, MethodRouter> = BTreeMap::new();
    for binding in bindings::all() {
        let filter = MethodFilter::try_from(binding.method.clone()).expect("it is a usual method");
        let route = Route {
            method: method(pool, binding.call).expect("the table has calls that there are"),
            binding: Arc::new(binding.clone()),
            services: services.clone(),
            bodies: bodies.clone(),
        };
        let of_path = paths.remove(binding.path).unwrap_or_default();
        let answer = move |fields, id, request| answer(route.clone(), fields, id, request);
        paths.insert(binding.path, of_path.on(filter, answer));
    }
    let mut router = Router::new();
    for (path, methods) in paths {
        router = router.route(path, methods.fallback(no_method));
    }
    let router = router
        .route(
            "/v1/openapi.json",
            get(|| document("application/json", OPENAPI)).fallback(no_method),
        )
        .route("/v1", get(page).fallback(no_method))
        .route("/v1/", get(page).fallback(no_method))
        .route("/v1/{*rest}", any(no_route))
        .layer(map_response(guessed_by_nobody));
    cors::let_in(router, origins).layer(from_fn(request_id::identified))
}

/// What the protocol's messages and calls are, read once.
///
/// # Panics
/// If the generated descriptors are not what they were generated to be.
fn pool() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(tq_proto::DESCRIPTORS).expect("generated descriptors decode")
    });
    &POOL
}

async fn page() -> Response {
    document("text/html; charset=utf-8", PAGE).await
}

/// What guests have written is a text, whatever it looks like.
async fn guessed_by_nobody(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
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
        HeaderValue::from_static(
            "default-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    );
    response
}

async fn no_route(Extension(id): Extension<RequestId>) -> Response {
    let problem = Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such path")
        .with_hint("/v1/openapi.json lists those that there are");
    problem.response(&id)
}

async fn no_method(Extension(id): Extension<RequestId>) -> Response {
    let problem = Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "unimplemented",
        "the path has no such method",
    )
    .with_hint("/v1/openapi.json lists those that there are");
    problem.response(&id)
}

async fn answer(
    route: Route,
    fields: Result<RawPathParams, RawPathParamsRejection>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Response {
    let Ok(fields) = fields else {
        return Problem::invalid("the path is no UTF-8").response(&id);
    };
    let fields: Vec<(String, String)> = fields
        .iter()
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect();
    let answered = route.answer(&fields, &id, request).await;
    answered.unwrap_or_else(|problem| problem.response(&id))
}

impl Route {
    async fn answer(
        &self,
        fields: &[(String, String)],
        id: &RequestId,
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
                let query = query(&parts)?;
                // Held until it is answered: what was made of it is.
                let held = self.bodies.read(&parts, body).await?;
                let message = match held.is_large() {
                    true => {
                        let body = held.bytes.clone();
                        self.of_large_body(fields, query, body).await?
                    }
                    false => encoded(&self.of_body(fields, &query, &held.bytes)?),
                };
                let answer = calls.unary(call, message).await?;
                self.answered(&parts, &answer)
            }
            Shape::Events(cursor) => {
                let mut message = self.of_query(fields, &parts)?;
                events::go_on(&mut message, cursor, &parts.headers)?;
                let stream = calls.server_streaming(call, encoded(&message)).await?;
                events::events(stream, self.method.output(), cursor, id.clone()).await
            }
            Shape::Log => {
                let message = self.of_query(fields, &parts)?;
                let stream = calls.server_streaming(call, encoded(&message)).await?;
                Ok(events::log(stream))
            }
            Shape::Lines => {
                let message = self.of_query(fields, &parts)?;
                let message = encoded(&message);
                let stream = calls.server_streaming(call, message.clone()).await?;
                events::lines(stream, message).await
            }
            Shape::Upload => {
                let answer = upload::upload(&mut calls, &self.method, fields, &parts, body).await?;
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
        let mut message = DynamicMessage::new(self.method.input());
        for (name, text) in fields {
            json::set(&mut message, name, text)?;
        }
        for (name, text) in query(parts)? {
            json::set(&mut message, &name, &text)?;
        }
        Ok(message)
    }

    /// The message of which the address has the namespace alone, and the body the rest.
    fn of_body(
        &self,
        fields: &[(String, String)],
        query: &[(String, String)],
        body: &[u8],
    ) -> Result<DynamicMessage, Problem> {
        let value = body::value(body)?;
        let mut message = DynamicMessage::new(self.method.input());
        let of_address = fields.iter().map(|(name, _)| name.as_str());
        for name in of_address.chain([NAMESPACE]) {
            let is_field = self.method.input().get_field_by_name(name).is_some();
            if value.get(name).is_some() && is_field {
                let wrong = "belongs into the address of the request";
                return Err(Invalid::new(name, wrong).into());
            }
        }
        json::fill(&mut message, &value, "")?;
        for (name, text) in fields {
            json::set(&mut message, name, text)?;
        }
        for (name, text) in query {
            if name != NAMESPACE {
                let wrong = "belongs into the body of the request";
                return Err(Invalid::new(name, wrong).into());
            }
            json::set(&mut message, name, text)?;
        }
        Ok(message)
    }

    /// The same, encoded. What is large is read where nobody waits for it.
    async fn of_large_body(
        &self,
        fields: &[(String, String)],
        query: Vec<(String, String)>,
        body: Bytes,
    ) -> Result<Bytes, Problem> {
        let (route, fields) = (self.clone(), fields.to_vec());
        let reading = tokio::task::spawn_blocking(move || {
            let message = route.of_body(&fields, &query, &body)?;
            Ok(encoded(&message))
        });
        let read = reading.await;
        read.unwrap_or_else(|_| Err(Problem::bug("a body could not be read")))
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
        if matches!(parts.method, Method::GET | Method::HEAD) {
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

fn encoded(message: &DynamicMessage) -> Bytes {
    message.encode_to_vec().into()
}

fn decoded(of: MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, Problem> {
    let decoded = DynamicMessage::decode(of, bytes);
    decoded.map_err(|_| Problem::bug("the answer cannot be decoded"))
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
