//! The listener: gRPC and plain HTTP on one port.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::peer::Peer;

/// Streams that one connection may have open.
const STREAMS_MAX: u32 = 256;
/// Connections at once.
const CONNECTIONS_MAX: usize = 4_096;
/// What one stream may send ahead of being read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What one connection may send ahead of being read.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// All headers of one request.
const HEADER_BYTES_MAX: u32 = 32 << 10;
/// How long a connection may take to send its headers (HTTP/1), and to answer a ping (HTTP/2).
const PATIENCE: Duration = Duration::from_secs(10);
/// How often an idle HTTP/2 connection is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);

/// A listener that serves until it is stopped.
pub(crate) struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets requests finish until `patience` is over, and cuts the rest.
    pub(crate) async fn shutdown(self, patience: Duration) {
        let Self {
            address: _,
            stop,
            tasks,
        } = self;
        stop.cancel();
        tasks.close();
        if tokio::time::timeout(patience, tasks.wait()).await.is_err() {
            tracing::info!(open = tasks.len(), "connections were cut");
        }
    }
}

/// Serves `router` on a listener.
///
/// # Errors
/// What the system says of the listener's address.
pub(crate) fn serve(listener: TcpListener, router: Router) -> std::io::Result<Server> {
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let server = Server {
        address,
        stop: stop.clone(),
        tasks: tasks.clone(),
    };
    tasks.clone().spawn(accept(listener, router, stop, tasks));
    Ok(server)
}

async fn accept(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: the pause lets some close.
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if tasks.len() > CONNECTIONS_MAX {
            tracing::warn!(
                limit = CONNECTIONS_MAX,
                "connection refused: too many are open"
            );
            continue;
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "failed to switch off delays of small packets");
        }
        let routes = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request| {
            request.extensions_mut().insert(Peer { address });
            routes.call(request)
        });
        let stop = stop.clone();
        tasks.spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE);
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_header_list_size(HEADER_BYTES_MAX)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PATIENCE);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(error, "connection ended with an error");
            }
        });
    }
}
