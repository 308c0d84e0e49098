//! What every request passes before it is answered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};
use tq_core::limits::{ACCESS_RECHECK, AUDITED_CALLS_MAX};
use tracing::Instrument as _;

use super::Caller;
use super::audit::Auditor;
use super::calls::{self, Call};
use super::gate::{Admitted, Credential, Gate, Refusal};
use super::jwt::Tokens;
use crate::api::Peer;
use crate::ledger::Handle;

/// What the layer works with.
#[derive(Clone)]
pub(crate) struct Guard {
    gate: Arc<Gate>,
    auditor: Auditor,
    /// Counts credentials that are none.
    refused: Counter,
    calls: TaskTracker,
    /// How many of them there may be.
    room: Arc<Semaphore>,
}

impl Guard {
    /// For the routes of a broker. Calls that are audited are among `calls` until they have their records.
    pub(crate) fn new(ledger: Handle, tokens: Option<Arc<Tokens>>, calls: TaskTracker) -> Self {
        Self {
            gate: Arc::new(Gate::new(Arc::clone(ledger.shared()), tokens)),
            refused: ledger.shared().metrics.credentials_refused.clone(),
            auditor: Auditor::new(ledger),
            calls,
            room: Arc::new(Semaphore::new(AUDITED_CALLS_MAX)),
        }
    }
}

/// Lets a request through, or answers it.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Some(call) = calls::at(request.uri().path()) else {
        return Status::unimplemented("there is no such call").into_http();
    };
    let Some(action) = call.action else {
        return next.run(request).await;
    };
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        tracing::error!("a request came by no connection, which is a bug in tq");
        let unknown = "the broker does not know who calls, which is a bug in tq";
        return answer(call, Status::internal(unknown));
    };
    let Guard {
        gate,
        auditor,
        refused,
        calls,
        room,
    } = guard;
    let admitted = gate.admit(request.uri(), request.headers(), &peer).await;
    let Admitted {
        principal,
        only_host,
        expires_at,
        credential,
    } = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            tell(call, &peer, &refusal);
            if matches!(refusal, Refusal::Invalid { .. } | Refusal::Throttled(_)) {
                refused.inc();
            }
            return answer(call, refusal.into());
        }
    };
    let caller = Caller::new(principal, action, expires_at).with_host(only_host);
    let held = Held { gate, credential };
    let carried_out = carry_out(call, peer, caller, held, auditor, request, next);
    if !call.is_audited {
        return carried_out.await;
    }
    let room = room.acquire_owned().await;
    // Who resets the stream takes the future of its request along, and must not take the record of what was done with it.
    let carried_out = async move {
        let response = carried_out.await;
        drop(room);
        response
    };
    match calls.spawn(carried_out.in_current_span()).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(call = call.name, %error, "a call ended without an answer, which is a bug in tq");
            answer(
                call,
                Status::internal("the call failed, which is a bug in tq"),
            )
        }
    }
}

/// Has a call of a caller who was let in answered, and recorded if it is worth that.
async fn carry_out(
    call: Call,
    peer: Peer,
    caller: Caller,
    held: Held,
    auditor: Auditor,
    mut request: Request,
    next: Next,
) -> Response {
    let response = match check(call, &caller) {
        Err(denied) => answer(call, denied),
        Ok(()) => {
            request.extensions_mut().insert(caller.clone());
            let request = request.map(|body| held.watch(body, Side::Request));
            let response = next.run(request).await;
            response.map(|body| held.watch(body, Side::Response))
        }
    };
    let recorded = auditor.record(call, &peer, &caller, outcome(&response));
    match recorded.await {
        Ok(()) => response,
        Err(status) => answer(call, status),
    }
}

/// Checks what can be checked without knowing what the call is about.
fn check(call: Call, caller: &Caller) -> Result<(), Status> {
    caller.role()?;
    match call.is_of_cluster {
        true => caller.cluster(),
        false => Ok(()),
    }
}

/// Says in the log why a caller was not let in, unless that was said often enough. Not in the audit log: anybody can be refused, and would
/// have the records of others pushed out of it.
fn tell(call: Call, peer: &Peer, refusal: &Refusal) {
    let (call, address) = (call.name, peer.address);
    match refusal {
        Refusal::Foreign { foreign, is_told } => {
            if *is_told {
                tracing::warn!(call, %address, reason = %foreign, "request refused");
            }
        }
        Refusal::Missing | Refusal::Throttled(_) | Refusal::Unknown => {
            tracing::debug!(call, %address, ?refusal, "request refused");
        }
        Refusal::Invalid { reason, is_told } => {
            if *is_told {
                tracing::warn!(call, %address, reason, "credential refused");
            }
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Foreign { foreign, .. } => Self::permission_denied(foreign.to_string()),
            Refusal::Missing => Self::unauthenticated(
                "this broker wants a credential\nhint: set TQ_KEY to a key that `tq key create` has made, or name a file with one by --key-file",
            ),
            Refusal::Invalid { .. } => Self::unauthenticated(
                "the credential is not valid\nhint: it may have expired, or been rotated or revoked; the broker's log says why it was refused",
            ),
            Refusal::Unknown => Self::unavailable(
                "whether the token is valid cannot be told: the keys of its issuer cannot be had at the moment",
            ),
            Refusal::Throttled(wait) => {
                let mut status = Self::resource_exhausted(
                    "too many credentials from this address were not valid; try again in a moment",
                );
                let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let pushback = status.metadata_mut();
                pushback.insert(tq_proto::RETRY_PUSHBACK_MS, ms.into());
                status
            }
        }
    }
}

/// An answer of the gate itself.
fn answer(call: Call, status: Status) -> Response {
    if call.name != calls::METRICS {
        return status.into_http();
    }
    let code = match status.code() {
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, format!("{}\n", status.message())).into_response()
}

/// How a call ended, as far as that is known when its answer begins: one that fails has no body.
fn outcome(response: &Response) -> Code {
    match response.headers().get(Status::GRPC_STATUS) {
        Some(code) => Code::from_bytes(code.as_bytes()),
        None if response.status() == StatusCode::FORBIDDEN => Code::PermissionDenied,
        None => Code::Ok,
    }
}

/// A credential that let a call in.
#[derive(Clone)]
struct Held {
    gate: Arc<Gate>,
    credential: Credential,
}

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

impl Held {
    fn watch(&self, body: Body, side: Side) -> Body {
        if matches!(self.credential, Credential::None) || body.is_end_stream() {
            return body;
        }
        Body::new(Watched {
            body: Some(body),
            held: self.clone(),
            side,
            checked: Instant::now(),
            timer: None,
        })
    }

    fn is_valid(&self) -> bool {
        self.gate.holds(&self.credential)
    }
}

/// A body that ends when the credential of its call does: it is looked at again from time to time, for as long as the body lasts.
struct Watched {
    /// None when it is over.
    body: Option<Body>,
    held: Held,
    side: Side,
    /// When the credential was looked at last.
    checked: Instant,
    /// Set while nothing comes.
    timer: Option<Interval>,
}

impl Watched {
    fn end(&mut self) -> Option<Result<Frame<Bytes>, axum::Error>> {
        self.body = None;
        let status = match self.held.credential {
            // There may be another one by now, which a new connection shows.
            Credential::Certificate(_) => Status::unavailable(
                "the certificate of the connection has expired; connect again with one that holds",
            ),
            Credential::None | Credential::Key(..) | Credential::Token(_) => {
                Status::unauthenticated(
                    "the credential has expired, or was rotated or revoked, while the call went on",
                )
            }
        };
        Some(match self.side {
            Side::Request => Err(axum::Error::new(status)),
            Side::Response => {
                let mut trailers = HeaderMap::new();
                match status.add_header(&mut trailers) {
                    Ok(()) => Ok(Frame::trailers(trailers)),
                    Err(status) => Err(axum::Error::new(status)),
                }
            }
        })
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            if this.checked.elapsed() >= ACCESS_RECHECK {
                this.checked = Instant::now();
                if !this.held.is_valid() {
                    return Poll::Ready(this.end());
                }
            }
            return Poll::Ready(frame);
        }
        let timer = this.timer.get_or_insert_with(|| {
            let mut timer = interval_at(Instant::now() + ACCESS_RECHECK, ACCESS_RECHECK);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            timer
        });
        while timer.poll_tick(context).is_ready() {
            this.checked = Instant::now();
            if !this.held.is_valid() {
                return Poll::Ready(this.end());
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
