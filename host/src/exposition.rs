//! The port for metrics: plain HTTP/1.1 for a collector that asks now and then.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tq_tls::Acceptor;

/// Connections at once. A handful of collectors is usual.
const CONNECTIONS_MAX: usize = 64;
/// What the headers of a request may have.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long the headers of a request may take, and the wait for the next.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a connection may last. A collector connects again by itself, and one that does not read holds nothing up for longer.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// Before another connection is taken when one could not be: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until it is dropped.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    tls: Option<Acceptor>,
    tasks: TaskTracker,
    stopped: CancellationToken,
) -> Infallible {
    let open = TaskTracker::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection for metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if open.len() >= CONNECTIONS_MAX {
            tracing::debug!(
                limit = CONNECTIONS_MAX,
                "connection for metrics refused: too many are open"
            );
            continue;
        }
        let serving = open.track_future(timeout(
            CONNECTION_TIME,
            serve(stream, router.clone(), tls.clone()),
        ));
        tasks.spawn(stopped.clone().run_until_cancelled_owned(serving));
    }
}

async fn serve(stream: TcpStream, router: Router, tls: Option<Acceptor>) {
    let Some(acceptor) = tls else {
        return requests(stream, router).await;
    };
    match acceptor.accept(stream).await {
        Ok(accepted) => requests(accepted.stream, router).await,
        Err(error) => tracing::debug!(
            error = &error as &dyn std::error::Error,
            "connection for metrics was not accepted"
        ),
    }
}

async fn requests<T>(stream: T, router: Router)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection for metrics ended with an error");
    }
}
