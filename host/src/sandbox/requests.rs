//! `wasi:http` of one attempt, over the seam to whoever sends.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderName;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody,
    WasiHttpHooks,
};

use tq_core::Outcome;
use tq_core::grant::{HttpGrant, Scheme};
use tq_core::limits::{HTTP_BODY_BYTES_MAX, HTTP_CHUNK_BYTES, HTTP_OPEN_MAX};

use super::Refused;
use crate::egress::{
    Egress, Failure, Flow, Kind, Part, Request, Response, Scope, Timeouts, Wait, head_bytes, shown,
};
use crate::runner::{Attempt, Outbox};

/// Sends the requests of one attempt, if it may send any.
pub(super) struct Requests {
    egress: Option<Arc<dyn Egress>>,
    attempt: Arc<Attempt>,
    outbox: Arc<Outbox>,
    /// Made with the first request: most attempts send none.
    session: OnceLock<Arc<Session>>,
}

/// What all requests of an attempt have in common.
struct Session {
    egress: Option<Arc<dyn Egress>>,
    attempt: Arc<Attempt>,
    outbox: Arc<Outbox>,
    grants: Arc<std::collections::BTreeSet<HttpGrant>>,
    open: Arc<Semaphore>,
    requests: AtomicU64,
    bytes: AtomicU64,
    refused: OnceLock<Refused>,
    has_warned: AtomicBool,
}

type Sent = Result<
    (
        http::Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    ),
    Error,
>;

impl Requests {
    pub(super) fn new(
        egress: Option<Arc<dyn Egress>>,
        attempt: &Arc<Attempt>,
        outbox: &Arc<Outbox>,
    ) -> Self {
        Self {
            egress,
            attempt: Arc::clone(attempt),
            outbox: Arc::clone(outbox),
            session: OnceLock::new(),
        }
    }

    /// What sends them.
    pub(super) fn egress(&self) -> Option<&Arc<dyn Egress>> {
        self.egress.as_ref()
    }

    /// The first limit that a request met.
    pub(super) fn refused(&self) -> Option<&Refused> {
        self.session.get()?.refused.get()
    }

    fn session(&self) -> Arc<Session> {
        let session = self.session.get_or_init(|| {
            Arc::new(Session {
                egress: self.egress.clone(),
                attempt: Arc::clone(&self.attempt),
                outbox: Arc::clone(&self.outbox),
                grants: Arc::new(self.attempt.grants.http.clone()),
                open: Arc::new(Semaphore::new(HTTP_OPEN_MAX)),
                requests: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                refused: OnceLock::new(),
                has_warned: AtomicBool::new(false),
            })
        });
        Arc::clone(session)
    }
}

impl WasiHttpHooks for Requests {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let session = self.session();
        // Boxed inside, since it is large and moved into a task.
        Box::new(Box::pin(async move {
            let uri = request.uri();
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let destination = shown(uri.scheme_str().unwrap_or_default(), authority);
            match session.exchange(request, options, &destination).await {
                Ok(response) => Ok((response, Box::new(std::future::ready(Ok(()))) as Box<_>)),
                Err(failure) => Err(session.tell(&destination, &failure)),
            }
        }))
    }

    /// The sender says it, of the host that it checked.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name: &HeaderName| {
            DEFAULT_FORBIDDEN_HEADERS.contains(name)
                || matches!(name.as_str(), "te" | "trailer")
                || name.as_str().starts_with("proxy-")
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        HTTP_CHUNK_BYTES
    }
}

impl Session {
    async fn exchange(
        self: &Arc<Self>,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        destination: &str,
    ) -> Result<http::Response<WasiBody>, Failure> {
        let limits = &self.attempt.limits;
        if self.requests.fetch_add(1, Ordering::Relaxed) >= limits.http_requests {
            return Err(Failure::Requests(limits.http_requests));
        }
        let egress = self.egress.as_ref().ok_or(Failure::NoNetwork)?;
        let whole = Duration::from_millis(limits.http_time_ms);
        let deadline = Instant::now() + whole;
        let gathering = async {
            let permit = Arc::clone(&self.open).acquire_owned().await;
            let permit = permit.map_err(|_| Failure::Stopped)?;
            Ok((permit, self.gather(request).await?))
        };
        let gathered = tokio::time::timeout_at(deadline, gathering).await;
        let (permit, request) = gathered.unwrap_or(Err(Failure::Timeout(Wait::Total)))?;
        let options = options.unwrap_or_default();
        let scope = Scope {
            epoch: self.attempt.epoch,
            namespace: self.attempt.namespace.clone(),
            task_id: self.attempt.task_id,
            grants: Arc::clone(&self.grants),
            timeouts: Timeouts {
                connect: options.connect_timeout,
                first_byte: options.first_byte_timeout,
                between_bytes: options.between_bytes_timeout,
                total: deadline.saturating_duration_since(Instant::now()),
            },
            response_bytes: limits
                .http_bytes
                .saturating_sub(self.bytes.load(Ordering::Relaxed)),
        };
        let Response {
            status,
            headers,
            body,
            flow,
        } = egress.send(scope, request).await?;
        self.count(head_bytes(&headers))?;
        let unreadable = || Failure::Protocol("its head cannot be read".to_owned());
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, &value[..]);
        }
        let body = Incoming {
            parts: body,
            flow,
            session: Arc::clone(self),
            destination: destination.to_owned(),
            is_over: false,
            _permit: permit,
        };
        response.body(body.boxed_unsync()).map_err(|_| unreadable())
    }

    /// The request as plain data, with its whole body.
    async fn gather(&self, request: http::Request<WasiBody>) -> Result<Request, Failure> {
        let (parts, mut body) = request.into_parts();
        let uri = parts.uri;
        let headers: Vec<_> = parts
            .headers
            .iter()
            .map(|(name, value)| {
                let value = Bytes::copy_from_slice(value.as_bytes());
                (name.as_str().to_owned(), value)
            })
            .collect();
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let line = parts.method.as_str().len() + path.len() + authority.len();
        self.count(head_bytes(&headers) + line as u64)?;
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // The guest has given its body up, or it is not as long as it said.
            let frame = frame.map_err(|_| Failure::Abandoned)?;
            // There are no trailers without `te`.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.count(data.len() as u64)?;
            if whole.len() + data.len() > HTTP_BODY_BYTES_MAX {
                return Err(Failure::Body);
            }
            whole.extend_from_slice(&data);
        }
        Ok(Request {
            method: parts.method.as_str().to_owned(),
            // There are two, and a guest that names none means the one that is safe.
            scheme: match uri.scheme_str() {
                Some("http") => Scheme::Http,
                _ => Scheme::Https,
            },
            authority: authority.to_owned(),
            path: path.to_owned(),
            headers,
            body: whole.freeze(),
        })
    }

    /// Counts bytes of this attempt's requests and responses.
    fn count(&self, bytes: u64) -> Result<(), Failure> {
        let limit = self.attempt.limits.http_bytes;
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > limit {
            return Err(Failure::Bytes(limit));
        }
        Ok(())
    }

    /// Tells the task's author and the host's operator, and returns what the guest is told.
    fn tell(&self, destination: &str, failure: &Failure) -> Error {
        let what = if failure.is_refusal() {
            "was refused"
        } else {
            "failed"
        };
        let line = format!("tq: request to {destination} {what}: {failure}\n");
        self.outbox.log(line.as_bytes());
        // Others of the same attempt will be about the same, and a guest can make as many as it may send requests.
        if failure.is_refusal() && !self.has_warned.swap(true, Ordering::Relaxed) {
            failure.warn(self.attempt.task_id, &self.attempt.namespace, destination);
        }
        let limits = &self.attempt.limits;
        let limit = match failure.kind() {
            Kind::Requests => Some((Outcome::HttpRequestLimit, failure.to_string())),
            // The sender knows only of what was left of it.
            Kind::Bytes => Some((
                Outcome::HttpByteLimit,
                Failure::Bytes(limits.http_bytes).to_string(),
            )),
            Kind::TotalTimeout => Some((
                Outcome::HttpTimeLimit,
                format!(
                    "a request took longer than {} ms, which is the limit `http_time`",
                    limits.http_time_ms
                ),
            )),
            _ => None,
        };
        if let Some((outcome, message)) = limit {
            self.refused.get_or_init(|| Refused { outcome, message });
        }
        told(failure)
    }
}

/// A failure in the words of `wasi:http`.
fn told(failure: &Failure) -> Error {
    match failure.kind() {
        Kind::Uri => Error::HttpRequestUriInvalid,
        Kind::Method => Error::HttpRequestMethodInvalid,
        Kind::UriTooLong => Error::HttpRequestUriTooLong,
        Kind::Header => Error::HttpRequestHeaderSize {
            field_name: match failure {
                Failure::Header { name, .. } => Some(name.clone()),
                _ => None,
            },
            field_size: None,
        },
        Kind::Headers => Error::HttpRequestHeaderSectionSize(None),
        Kind::Body => Error::HttpRequestBodySize(Some(HTTP_BODY_BYTES_MAX as u64)),
        Kind::Denied => Error::HttpRequestDenied,
        Kind::Address => Error::DestinationIpProhibited,
        Kind::Requests | Kind::Bytes => Error::ConnectionLimitReached,
        Kind::Dns => Error::DnsError {
            rcode: None,
            info_code: None,
        },
        Kind::DnsTimeout => Error::DnsTimeout,
        Kind::Connect => Error::ConnectionRefused,
        Kind::ConnectTimeout => Error::ConnectionTimeout,
        Kind::Certificate => Error::TlsCertificateError,
        Kind::Tls => Error::TlsProtocolError,
        Kind::ReadTimeout => Error::ConnectionReadTimeout,
        Kind::TotalTimeout => Error::HttpResponseTimeout,
        Kind::Protocol => Error::HttpProtocolError,
        Kind::CutOff => Error::HttpResponseIncomplete,
        Kind::Gone => Error::ConnectionTerminated,
    }
}

/// The body of a response, as it comes.
struct Incoming {
    parts: mpsc::Receiver<Part>,
    flow: Option<Box<dyn Flow>>,
    session: Arc<Session>,
    destination: String,
    is_over: bool,
    /// The request is open until its body is gone.
    _permit: OwnedSemaphorePermit,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let failure = match ready!(self.parts.poll_recv(context)) {
            Some(Part::Data(data)) => match self.session.count(data.len() as u64) {
                Ok(()) => {
                    if let Some(flow) = &self.flow {
                        flow.taken();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Err(failure) => failure,
            },
            Some(Part::End) => {
                self.is_over = true;
                return Poll::Ready(None);
            }
            Some(Part::Failed(failure)) => failure,
            // Whoever sends it is gone.
            None => Failure::Stopped,
        };
        self.is_over = true;
        self.parts.close();
        self.flow = None;
        let error = self.session.tell(&self.destination, &failure);
        Poll::Ready(Some(Err(error)))
    }
}
