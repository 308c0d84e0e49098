//! The listener: gRPC and plain HTTP on one port, with TLS or without.

mod activity;
mod addresses;
mod bounds;
mod connection;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tq_tls::Acceptor;

use super::peer::Peer;
use addresses::Addresses;
use bounds::{ACCEPT_PAUSE, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, Times};
use connection::Serving;

/// How connections are taken.
#[derive(Clone)]
pub(crate) struct Listening {
    /// Handshakes of TLS; `None` takes plain text.
    pub(crate) tls: Option<Acceptor>,
    /// Whether a proxy is in front, so that all connections come from one address.
    pub(crate) is_behind_proxy: bool,
}

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
pub(crate) fn serve(
    listener: TcpListener,
    router: Router,
    listening: Listening,
) -> std::io::Result<Server> {
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let server = Server {
        address,
        stop: stop.clone(),
        tasks: tasks.clone(),
    };
    let Listening {
        tls,
        is_behind_proxy,
    } = listening;
    let addresses = Addresses::new((!is_behind_proxy).then_some(CONNECTIONS_PER_ADDRESS_MAX));
    let serving = Serving {
        router,
        tls,
        times: Times::DEFAULT,
        stop,
    };
    tasks
        .clone()
        .spawn(accept(listener, serving, addresses, tasks));
    Ok(server)
}

async fn accept(listener: TcpListener, serving: Serving, addresses: Addresses, tasks: TaskTracker) {
    let mut is_full = false;
    loop {
        let accepted = tokio::select! {
            () = serving.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: the pause lets some close.
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if tasks.len() > CONNECTIONS_MAX {
            // Once, however many come while that is so.
            if !std::mem::replace(&mut is_full, true) {
                tracing::warn!(
                    limit = CONNECTIONS_MAX,
                    "connections are refused: too many are open"
                );
            }
            continue;
        }
        is_full = false;
        let Some(counted) = addresses.enter(address.ip()) else {
            tracing::debug!(
                %address,
                limit = CONNECTIONS_PER_ADDRESS_MAX,
                "connection refused: its address has too many"
            );
            continue;
        };
        let peer = Peer {
            address,
            certificate: None,
        };
        let serving = serving.clone();
        tasks.spawn(async move {
            serving.connection(stream, peer).await;
            drop(counted);
        });
    }
}
