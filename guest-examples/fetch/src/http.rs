//! A client for `wasi:http` that sends a whole request and waits for the whole response.

use std::collections::BTreeMap;
use std::fmt;

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    Scheme,
};
use wasip2::io::streams::StreamError;

/// Bytes that are written or read in one call.
const CHUNK: usize = 4096;

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Why nothing did.
#[derive(Debug)]
pub(crate) enum Error {
    /// The request is not one.
    Invalid(String),
    /// The host does not send it.
    Refused(String),
    /// It did not arrive, or the response did not.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => write!(f, "{what} is not valid"),
            Self::Refused(code) => write!(f, "request refused: {code}"),
            Self::Failed(code) => write!(f, "request failed: {code}"),
        }
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        let text = format!("{code:?}");
        match code {
            ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => {
                Self::Refused(text)
            }
            _ => Self::Failed(text),
        }
    }
}

impl From<StreamError> for Error {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Closed => Self::Failed("the stream is closed".to_owned()),
            StreamError::LastOperationFailed(error) => {
                match wasip2::http::types::http_error_code(&error) {
                    Some(code) => code.into(),
                    None => Self::Failed(error.to_debug_string()),
                }
            }
        }
    }
}

/// Sends a request, and waits for the end of its response.
pub(crate) fn send(
    method: &str,
    url: &str,
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> Result<Answer, Error> {
    let invalid = |what: &str| Error::Invalid(what.to_owned());
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("the URL"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.clone(), value.as_bytes().to_vec()))
        .collect();
    let headers = Fields::from_list(&headers).map_err(|error| invalid(&format!("{error:?}")))?;
    let request = OutgoingRequest::new(headers);
    let set = request
        .set_method(&method_of(method))
        .and_then(|()| request.set_scheme(Some(&scheme_of(scheme))))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| invalid("method or URL"))?;
    let outgoing = request.body().map_err(|()| invalid("the body"))?;
    let response = handle(request, None)?;
    write(outgoing, body)?;
    // It is ready, or it is waited for.
    response.subscribe().block();
    let response = match response.get() {
        Some(Ok(response)) => response?,
        Some(Err(())) | None => return Err(Error::Failed("there is no response".to_owned())),
    };
    read(&response)
}

fn write(outgoing: OutgoingBody, body: &[u8]) -> Result<(), Error> {
    let stream = outgoing
        .write()
        .map_err(|()| Error::Invalid("the body".to_owned()))?;
    for chunk in body.chunks(CHUNK) {
        match stream.blocking_write_and_flush(chunk) {
            Ok(()) => {}
            // Whatever the reason is, the response says it.
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    drop(stream);
    OutgoingBody::finish(outgoing, None).map_err(Error::from)
}

fn read(response: &IncomingResponse) -> Result<Answer, Error> {
    let headers = response.headers().entries().into_iter();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let mut answer = Answer {
        status: response.status(),
        headers: headers.map(|(name, value)| (name, text(value))).collect(),
        body: Vec::new(),
    };
    let lost = |()| Error::Failed("the body is taken".to_owned());
    let body: IncomingBody = response.consume().map_err(lost)?;
    let stream = body.stream().map_err(lost)?;
    loop {
        match stream.blocking_read(CHUNK as u64) {
            Ok(bytes) => answer.body.extend(bytes),
            Err(StreamError::Closed) => return Ok(answer),
            Err(error) => return Err(error.into()),
        }
    }
}

fn method_of(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_owned()),
    }
}

fn scheme_of(name: &str) -> Scheme {
    match name {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    }
}
