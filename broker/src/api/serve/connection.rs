//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tq_proto::v1::host_link_server;
use tq_tls::Acceptor;

use super::activity::{Activity, Ending, Followed, Hurried};
use super::bounds::{
    CONNECTION_WINDOW_BYTES, HEADER_BYTES_MAX, HEADERS_MAX, LOCAL_RESETS_MAX, PENDING_RESETS_MAX,
    SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES, STREAMS_MAX, Times,
};
use crate::api::peer::Peer;
use crate::ledger::wall;

/// Calls in which a host says something when it has something to say, after it has begun. A session is given up by the broker when its
/// host is silent for longer than a lease, and logs may not come for hours.
const OPEN_ENDED: &[&str] = &["Session", "PutLogs"];

/// A connection with a certificate lasts no longer than this, nor than the certificate: times further away than a clock can say are none.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// What every connection is served with.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) router: Router,
    pub(super) tls: Option<Acceptor>,
    pub(super) times: Times,
    pub(super) stop: CancellationToken,
}

impl Serving {
    /// Serves one connection until either end closes it, or it does what connections may not do.
    pub(super) async fn connection(self, stream: TcpStream, mut peer: Peer) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to switch off delays of small packets");
        }
        let Some(acceptor) = &self.tls else {
            return self.requests(stream, peer).await;
        };
        let accepted = tokio::select! {
            accepted = acceptor.accept(stream) => accepted,
            () = self.stop.cancelled() => return,
        };
        match accepted {
            Ok(accepted) => {
                peer.certificate = accepted.certificate;
                self.requests(accepted.stream, peer).await;
            }
            Err(error) => tracing::debug!(
                address = %peer.address,
                error = &error as &dyn std::error::Error,
                "connection was not accepted"
            ),
        }
    }

    async fn requests<T>(self, stream: T, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            router,
            tls: _,
            times,
            stop,
        } = self;
        let address = peer.address;
        // By the clock as it is now; where credentials are looked at again, the wall clock counts.
        let expires = peer.certificate.as_ref().map(|identity| {
            let left = identity.expires_ms.saturating_sub(wall().0);
            Instant::now() + Duration::from_millis(left).min(FAR_AWAY)
        });
        let activity = Activity::new();
        let begun = Arc::clone(&activity);
        let routes = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let stream = begun.begin();
            request.extensions_mut().insert(peer.clone());
            let is_open_ended = is_open_ended(request.uri().path());
            let hurried = |body| Hurried::new(body, times.stall, is_open_ended);
            let answer = routes.call(request.map(hurried));
            async move {
                let answer: Response<Body> = answer.await?;
                Ok::<_, Infallible>(answer.map(|body| Followed::new(body, stream)))
            }
        });
        let builder = builder(&times);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ending = async {
            loop {
                let look_at = Instant::now() + times.look_every;
                sleep_until(expires.map_or(look_at, |at| at.min(look_at))).await;
                if expires.is_some_and(|at| at <= Instant::now()) {
                    return Ending::Expired;
                }
                if let Some(ending) = activity.look(&times) {
                    return ending;
                }
            }
        };
        let result = tokio::select! {
            result = connection.as_mut() => result,
            ending = ending => {
                tracing::debug!(%address, ?ending, "connection is ended");
                match ending {
                    // Nobody would read that this is the end.
                    Ending::Stalled => return,
                    Ending::NoRequest | Ending::Idle | Ending::Expired => {
                        // A request that is on its way is still answered.
                        connection.as_mut().graceful_shutdown();
                        let ended = timeout(times.farewell, connection).await;
                        ended.unwrap_or(Ok(()))
                    }
                }
            }
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%address, error, "connection ended with an error");
        }
    }
}

fn is_open_ended(path: &str) -> bool {
    let called = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    called.is_some_and(|(service, call)| {
        service == host_link_server::SERVICE_NAME && OPEN_ENDED.contains(&call)
    })
}

fn builder(times: &Times) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(times.first_request)
        .max_headers(HEADERS_MAX)
        // It holds the headers too, and what is not sent yet of a response.
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(times.ping_every)
        .keep_alive_timeout(times.answer);
    builder
}
