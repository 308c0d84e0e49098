//! Sends what may be sent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tq_core::Limits;
use tq_core::grant::{Destination, Host};
use tq_core::limits::{HTTP_CONNECT_TIME, HTTP_LOOKUP_TIME, HTTP_OPEN_HOST_MAX, TCP_OPEN_HOST_MAX};
use tq_core::network::judge;

use super::connect::{Connection, Connector, Unsent, protocol};
use super::own::is_own;
use super::pool::{Key, Pool};
use super::request::{Checked, check};
use super::{
    Egress, Failure, Network, Part, Request, Resolve, Response, Scope, Timeouts, Wait, head_bytes,
    tcp,
};

/// Parts of a body that wait for a guest.
const PARTS_MAX: usize = 4;
/// Addresses of one name that are tried.
const TRIES_MAX: usize = 4;
/// How long a connection may take, after a response, to be ready for the next request.
const READY_TIME: Duration = Duration::from_secs(1);

/// What a sender is made of.
#[derive(Clone)]
pub struct Config {
    /// Networks that may be reached although they are not the internet.
    pub allowed_networks: Vec<Network>,
    /// Certificates, in DER, that are trusted beside the system's.
    pub tls_roots: Vec<Bytes>,
    /// How names become addresses.
    pub resolve: Arc<dyn Resolve>,
}

/// The sender of a host: it checks grants and addresses itself, and dials what it checked.
pub struct Sender(Arc<Shared>);

pub(super) struct Shared {
    pub(super) allowed_networks: Vec<Network>,
    pub(super) resolve: Arc<dyn Resolve>,
    connector: Connector,
    pool: Pool,
    open: Arc<Semaphore>,
    /// Places for connections that guests have themselves.
    pub(super) tcp_open: Arc<Semaphore>,
    pub(super) handle: Handle,
    pub(super) tasks: TaskTracker,
    pub(super) stopped: CancellationToken,
    count: Box<dyn Fn(Traffic, &'static str) + Send + Sync>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// A request.
    Http,
    /// A connection.
    Tcp,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// What a request came to that was answered.
const ANSWERED: &str = "answered";

impl Sender {
    /// A sender that works on the runtime of `handle`, which has a network, in tasks of `tasks`, until `stopped`. `count` is told
    /// what each request came to, `answered` or [`Failure::name`], and each connection, `connected` or [`tcp::Failure::name`].
    #[must_use]
    pub fn new(
        config: Config,
        handle: Handle,
        tasks: TaskTracker,
        stopped: CancellationToken,
        count: impl Fn(Traffic, &'static str) + Send + Sync + 'static,
    ) -> Self {
        let Config {
            allowed_networks,
            tls_roots,
            resolve,
        } = config;
        let connector = Connector::new(tls_roots, handle.clone(), tasks.clone(), stopped.clone());
        Self(Arc::new(Shared {
            allowed_networks,
            resolve,
            connector,
            pool: Pool::new(handle.clone(), tasks.clone(), stopped.clone()),
            open: Arc::new(Semaphore::new(HTTP_OPEN_HOST_MAX)),
            tcp_open: Arc::new(Semaphore::new(TCP_OPEN_HOST_MAX)),
            handle,
            tasks,
            stopped,
            count: Box::new(count),
        }))
    }
}

impl Egress for Sender {
    fn send(
        &self,
        scope: Scope,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, Failure>> {
        let shared = Arc::clone(&self.0);
        let (reply, answer) = oneshot::channel();
        // Boxed: it is large, and moved from one task to another.
        let exchange = Box::pin(async move {
            let came_to = match shared.exchange(scope, request, reply).await {
                Ok(()) => ANSWERED,
                Err(failure) => failure.name(),
            };
            shared.count(Traffic::Http, came_to);
        });
        let Shared {
            handle,
            tasks,
            stopped,
            ..
        } = &*self.0;
        tasks.spawn_on(stopped.clone().run_until_cancelled_owned(exchange), handle);
        Box::pin(async move { answer.await.unwrap_or(Err(Failure::Stopped)) })
    }

    fn dial(&self, scope: tcp::Scope) -> Arc<dyn tcp::Dial> {
        Arc::new(tcp::Dialler::new(Arc::clone(&self.0), scope))
    }
}

/// A response of which the body is still to come.
struct Open {
    key: Key,
    connection: Connection,
    body: Incoming,
}

impl Shared {
    pub(super) fn count(&self, traffic: Traffic, came_to: &'static str) {
        (self.count)(traffic, came_to);
    }

    /// Sends the request, tells `reply` how its response begins, and hands on the body as it comes.
    async fn exchange(
        &self,
        scope: Scope,
        request: Request,
        mut reply: oneshot::Sender<Result<Response, Failure>>,
    ) -> Result<(), Failure> {
        let longest = Duration::from_millis(Limits::MAX.http_time_ms);
        let deadline = Instant::now() + scope.timeouts.total.min(longest);
        let begun = async {
            // Held to the end, so that so many are open and no more.
            let permit = Arc::clone(&self.open).acquire_owned().await;
            let permit = permit.map_err(|_| Failure::Stopped)?;
            let begun = self.begin(&scope, request).await?;
            Ok((permit, begun))
        };
        let begun = tokio::select! {
            biased;
            () = reply.closed() => Err(Failure::Abandoned),
            begun = timeout_at(deadline, begun) => begun.unwrap_or(Err(Failure::Timeout(Wait::Total))),
        };
        let (permit, (mut open, head)) = match begun {
            Ok(begun) => begun,
            Err(failure) => {
                // Nobody waits for it any more, if so.
                reply.send(Err(failure.clone())).ok();
                return Err(failure);
            }
        };
        let headers = plain(head.headers());
        let mut left = scope.response_bytes.saturating_sub(head_bytes(&headers));
        let (parts, body) = mpsc::channel(PARTS_MAX);
        // The last part always finds room, so that no guest takes a part of a body for the whole.
        let last = parts.clone().reserve_owned().await;
        let response = Response {
            status: head.status().as_u16(),
            headers,
            body,
            flow: None,
        };
        if reply.send(Ok(response)).is_err() {
            return Err(Failure::Abandoned);
        }
        let pumped = pump(&mut open.body, &parts, &scope, &mut left);
        let pumped = tokio::select! {
            biased;
            () = parts.closed() => Err(Failure::Abandoned),
            pumped = timeout_at(deadline, pumped) => pumped.unwrap_or(Err(Failure::Timeout(Wait::Total))),
        };
        if let Ok(last) = last {
            last.send(match &pumped {
                Ok(()) => Part::End,
                Err(failure) => Part::Failed(failure.clone()),
            });
        }
        drop(permit);
        if pumped.is_ok() {
            let Open {
                key,
                mut connection,
                body,
            } = open;
            drop(body);
            if timeout(READY_TIME, connection.is_ready()).await == Ok(true) {
                self.pool.put(key, connection);
            }
        }
        pumped
    }

    /// Checks the request and its destination, and sends it.
    async fn begin(
        &self,
        scope: &Scope,
        request: Request,
    ) -> Result<(Open, http::Response<()>), Failure> {
        let Scope {
            epoch: _,
            namespace,
            task_id: _,
            grants,
            timeouts,
            response_bytes: _,
        } = scope;
        let Checked {
            destination,
            message,
        } = check(request, grants)?;
        let addresses = self.addresses(&destination).await?;
        let key = |address: SocketAddr| Key {
            namespace: namespace.clone(),
            destination: destination.clone(),
            address,
        };
        let mut message = message;
        for address in &addresses {
            let key = key(*address);
            while let Some(connection) = self.pool.take(&key) {
                match ask(connection, &key, message, timeouts).await {
                    Ok(open) => return Ok(open),
                    // It was closed while it waited.
                    Err(Unsent::Whole(unsent)) => message = unsent,
                    Err(Unsent::Failed(failure)) => return Err(failure),
                }
            }
        }
        let (address, connection) = self.connect(&destination, &addresses, timeouts).await?;
        match ask(connection, &key(address), message, timeouts).await {
            Ok(open) => Ok(open),
            Err(Unsent::Whole(_)) => Err(Failure::CutOff),
            Err(Unsent::Failed(failure)) => Err(failure),
        }
    }

    /// The addresses of a destination, every one of which may be reached. One that may not is enough to refuse them all: a name
    /// that leads to the inside by chance is not a name for the outside.
    async fn addresses(&self, destination: &Destination) -> Result<Vec<SocketAddr>, Failure> {
        let found: Vec<IpAddr> = match &destination.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let found = self.resolve.resolve(name);
                let found = within(Some(HTTP_LOOKUP_TIME), Wait::Lookup, found).await?;
                found.map_err(|error| Failure::Unresolved(error.to_string()))?
            }
        };
        if found.is_empty() {
            return Err(Failure::Unresolved("it has no address".to_owned()));
        }
        let checked =
            found.into_iter().map(
                |address| match judge(address, &self.allowed_networks, is_own) {
                    Ok(address) => Ok(SocketAddr::new(address, destination.port)),
                    Err(why) => Err(Failure::AddressForbidden { address, why }),
                },
            );
        checked.collect()
    }

    /// Connects to the first of these addresses that answers.
    async fn connect(
        &self,
        destination: &Destination,
        addresses: &[SocketAddr],
        timeouts: &Timeouts,
    ) -> Result<(SocketAddr, Connection), Failure> {
        let most = timeouts
            .connect
            .map_or(HTTP_CONNECT_TIME, |span| span.min(HTTP_CONNECT_TIME));
        let connecting = async {
            let mut failed = Failure::Timeout(Wait::Connect);
            for address in addresses.iter().take(TRIES_MAX) {
                match self.connector.connect(destination, *address).await {
                    Ok(connection) => return Ok((*address, connection)),
                    Err(failure) => failed = failure,
                }
            }
            Err(failed)
        };
        within(Some(most), Wait::Connect, connecting).await?
    }
}

/// Waits for at most `span`; for none, what is awaited is not even begun.
async fn within<T>(
    span: Option<Duration>,
    wait: Wait,
    awaited: impl Future<Output = T>,
) -> Result<T, Failure> {
    match span {
        None => Ok(awaited.await),
        Some(Duration::ZERO) => Err(Failure::Timeout(wait)),
        Some(span) => timeout(span, awaited)
            .await
            .map_err(|_| Failure::Timeout(wait)),
    }
}

/// Sends a request on a connection.
async fn ask(
    mut connection: Connection,
    key: &Key,
    message: http::Request<Full<Bytes>>,
    timeouts: &Timeouts,
) -> Result<(Open, http::Response<()>), Unsent> {
    let sent = connection.send(message);
    let response = within(timeouts.first_byte, Wait::FirstByte, sent).await;
    let response = response.map_err(Unsent::Failed)??;
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        let message = "it changes to another protocol".to_owned();
        return Err(Unsent::Failed(Failure::Protocol(message)));
    }
    let (parts, body) = response.into_parts();
    let open = Open {
        key: key.clone(),
        connection,
        body,
    };
    Ok((open, http::Response::from_parts(parts, ())))
}

/// Hands a body on, up to its end.
async fn pump(
    body: &mut Incoming,
    parts: &mpsc::Sender<Part>,
    scope: &Scope,
    left: &mut u64,
) -> Result<(), Failure> {
    loop {
        let next = body.frame();
        let next = within(scope.timeouts.between_bytes, Wait::BetweenBytes, next).await?;
        let Some(frame) = next else {
            return Ok(());
        };
        // Trailers are not handed on.
        let Ok(data) = frame.map_err(protocol)?.into_data() else {
            continue;
        };
        if data.is_empty() {
            continue;
        }
        *left = left
            .checked_sub(data.len() as u64)
            .ok_or(Failure::Bytes(scope.response_bytes))?;
        let sent = parts.send(Part::Data(data)).await;
        sent.map_err(|_| Failure::Abandoned)?;
    }
}

fn plain(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    let headers = headers.iter();
    headers
        .map(|(name, value)| {
            let value = Bytes::copy_from_slice(value.as_bytes());
            (name.as_str().to_owned(), value)
        })
        .collect()
}
