//! Connects to where an attempt may.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tq_core::grant::{Host, TcpGrant};
use tq_core::limits::{
    HTTP_LOOKUP_TIME, TCP_ADDRESSES_KEPT_MAX, TCP_ADDRESSES_MAX, TCP_CONNECT_TIME, TCP_LINGER_TIME,
    TCP_LOOKUPS_MAX, TCP_OPEN_MAX, TCP_PART_BYTES,
};
use tq_core::network::judge;

use super::{Connection, Dial, Failure, Outgoing, Part, Scope, Window};
use crate::egress::Flow;
use crate::egress::own::is_own;
use crate::egress::sender::{Shared, Traffic};

/// Parts that wait between a socket and whoever reads or writes.
const PARTS: usize = 2;
/// How long one waits for its place. It is longer than those that were closed take to be gone: once in the process that had the
/// guest, and once here.
const PLACE_TIME: std::time::Duration = TCP_LINGER_TIME.saturating_mul(3);
/// What a connection came to that was made.
const CONNECTED: &str = "connected";

/// Looks names up and connects, for one attempt: it checks grants and addresses itself, and dials what it checked.
pub struct Dialler(Arc<Attempt>);

struct Attempt {
    shared: Arc<Shared>,
    scope: Scope,
    /// Where granted names have led, with the ports that were granted for them.
    given: Mutex<VecDeque<SocketAddr>>,
    open: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    has_warned: AtomicBool,
}

impl std::fmt::Debug for Dialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialler").finish_non_exhaustive()
    }
}

impl Dialler {
    pub(in crate::egress) fn new(shared: Arc<Shared>, scope: Scope) -> Self {
        Self(Arc::new(Attempt {
            shared,
            scope,
            given: Mutex::default(),
            open: Arc::new(Semaphore::new(TCP_OPEN_MAX)),
            lookups: Arc::new(Semaphore::new(TCP_LOOKUPS_MAX)),
            has_warned: AtomicBool::new(false),
        }))
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Shared {
            handle,
            tasks,
            stopped,
            ..
        } = &*self.0.shared;
        // Boxed: it is large, and moved from one task to another.
        let work = stopped.clone().run_until_cancelled_owned(Box::pin(work));
        tasks.spawn_on(work, handle);
    }
}

impl Dial for Dialler {
    fn resolve(&self, name: String) -> BoxFuture<'static, Result<Vec<IpAddr>, Failure>> {
        let attempt = Arc::clone(&self.0);
        let (reply, answer) = oneshot::channel();
        // One that is given up goes on, and keeps its place: the system cannot be told to stop.
        self.spawn(async move {
            let found = attempt.look_up(&name).await;
            if let Err(failure) = &found {
                attempt.failed(failure, &name);
            }
            reply.send(found).ok();
        });
        Box::pin(async move { answer.await.unwrap_or(Err(Failure::Stopped)) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, Result<Connection, Failure>> {
        let attempt = Arc::clone(&self.0);
        let (mut reply, answer) = oneshot::channel();
        self.spawn(async move {
            let opened = tokio::select! {
                biased;
                () = reply.closed() => Err(Failure::Abandoned),
                opened = attempt.open(address) => opened,
            };
            match opened {
                Ok((places, stream)) => {
                    attempt.shared.count(Traffic::Tcp, CONNECTED);
                    let (connection, near) = pair();
                    if reply.send(Ok(connection)).is_ok() {
                        carry(stream, near).await;
                    }
                    drop(places);
                }
                Err(failure) => {
                    attempt.failed(&failure, &address.to_string());
                    // Nobody waits for it any more, if so.
                    reply.send(Err(failure)).ok();
                }
            }
        });
        Box::pin(async move { answer.await.unwrap_or(Err(Failure::Stopped)) })
    }
}

impl Attempt {
    /// Counts a failure. The first refusal of an attempt is told to the operator: others will be about the same, and a guest can
    /// make as many as it likes.
    fn failed(&self, failure: &Failure, destination: &str) {
        self.shared.count(Traffic::Tcp, failure.name());
        if failure.is_refusal() && !self.has_warned.swap(true, Ordering::Relaxed) {
            let Scope {
                epoch: _,
                namespace,
                task_id,
                grants: _,
            } = &self.scope;
            let destination: String = destination.escape_debug().take(200).collect();
            failure.warn(*task_id, namespace, &destination);
        }
    }

    /// The addresses of a granted name, every one of which may be reached: one that may not is enough to refuse them all, as for
    /// requests. An address is its own, and what may be done with it is decided when it is dialled.
    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(vec![address.to_canonical()]);
        }
        let host: Host = name.parse()?;
        let name = match &host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let granted = self.scope.grants.iter().filter(|grant| grant.host == host);
        let ports: Vec<u16> = granted.map(|grant| grant.port).collect();
        if ports.is_empty() {
            return Err(Failure::HostNotGranted);
        }
        let _place = self.lookups.try_acquire().map_err(|_| Failure::Lookups)?;
        let found = timeout(HTTP_LOOKUP_TIME, self.shared.resolve.resolve(name)).await;
        let found = found.map_err(|_| Failure::LookupTime)?;
        let found = found.map_err(|error| Failure::Unresolved(error.to_string()))?;
        let judged = found.into_iter().map(|address| self.judge(address));
        let mut judged = judged.collect::<Result<Vec<_>, _>>()?;
        judged.truncate(TCP_ADDRESSES_MAX);
        if judged.is_empty() {
            return Err(Failure::Unresolved("it has no address".to_owned()));
        }
        let mut given = self.given();
        for address in &judged {
            for port in &ports {
                let address = SocketAddr::new(*address, *port);
                given.retain(|before| *before != address);
                given.push_back(address);
            }
        }
        let too_many = given.len().saturating_sub(TCP_ADDRESSES_KEPT_MAX);
        given.drain(..too_many);
        Ok(judged)
    }

    /// Connects, if the attempt may.
    async fn open(
        &self,
        address: SocketAddr,
    ) -> Result<([OwnedSemaphorePermit; 2], TcpStream), Failure> {
        // Without the scope and the label that an address of version 6 can have: what is not compared is not dialled.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let literal = TcpGrant {
            host: Host::Address(address.ip()),
            port: address.port(),
        };
        if !self.scope.grants.contains(&literal) && !self.given().contains(&address) {
            return Err(Failure::NotGranted);
        }
        // Again for those that were looked up: the addresses of this machine may have changed since.
        self.judge(address.ip())?;
        let place = |places: &Arc<Semaphore>, failure| {
            let place = timeout(PLACE_TIME, Arc::clone(places).acquire_owned());
            async move {
                let place = place.await.map_err(|_| failure)?;
                place.map_err(|_| Failure::Stopped)
            }
        };
        let places = [
            place(&self.open, Failure::Open).await?,
            place(&self.shared.tcp_open, Failure::HostOpen).await?,
        ];
        let stream = timeout(TCP_CONNECT_TIME, TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| Failure::ConnectTime)??;
        // A guest cannot ask for it, and what it writes at once it wants sent at once.
        stream.set_nodelay(true)?;
        Ok((places, stream))
    }

    fn judge(&self, address: IpAddr) -> Result<IpAddr, Failure> {
        judge(address, &self.shared.allowed_networks, is_own)
            .map_err(|why| Failure::AddressForbidden { address, why })
    }

    fn given(&self) -> MutexGuard<'_, VecDeque<SocketAddr>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket's side of a [`Connection`].
struct Near {
    parts: mpsc::Sender<Part>,
    written: mpsc::Receiver<Bytes>,
    window: Arc<Window>,
    unwanted: CancellationToken,
}

/// However a connection ends, nobody waits for it.
impl Drop for Near {
    fn drop(&mut self) {
        self.window.close(Failure::Stopped);
    }
}

fn pair() -> (Connection, Near) {
    let (parts, incoming) = mpsc::channel(PARTS);
    let (outgoing, written) = mpsc::channel(PARTS);
    let window = Arc::new(Window::new(PARTS));
    let unwanted = CancellationToken::new();
    let connection = Connection {
        incoming,
        outgoing: Box::new(Written(outgoing)),
        window: Arc::clone(&window),
        flow: Box::new(Wanted {
            _guard: unwanted.clone().drop_guard(),
        }),
    };
    let near = Near {
        parts,
        written,
        window,
        unwanted,
    };
    (connection, near)
}

struct Written(mpsc::Sender<Bytes>);

impl Outgoing for Written {
    fn send(&self, data: Bytes) {
        // There is room for as many as the window has, or nobody who takes them.
        self.0.try_send(data).ok();
    }
}

/// Lets the socket know that nobody wants it any more. How incoming parts are taken it sees by their channel.
#[derive(Debug)]
struct Wanted {
    _guard: DropGuard,
}

impl Flow for Wanted {
    fn taken(&self) {}
}

/// Reads and writes until both directions are over, or nobody wants them.
async fn carry(mut stream: TcpStream, mut near: Near) {
    let Near {
        parts,
        written,
        window,
        unwanted,
    } = &mut near;
    let (from, to) = stream.split();
    let both = async { tokio::join!(read(from, parts, window), write(to, written, window)) };
    let lingered = async {
        unwanted.cancelled().await;
        tokio::time::sleep(TCP_LINGER_TIME).await;
    };
    tokio::select! {
        _ = both => {}
        () = lingered => {}
    }
}

/// Hands on what comes, up to its end.
async fn read(from: ReadHalf<'_>, parts: &mpsc::Sender<Part>, window: &Window) {
    let mut buffer = BytesMut::new();
    loop {
        let Ok(place) = parts.reserve().await else {
            return;
        };
        let part = loop {
            let readable = tokio::select! {
                biased;
                () = parts.closed() => return,
                readable = from.readable() => readable,
            };
            // Only now, so that a connection that waits holds no memory.
            buffer.reserve(TCP_PART_BYTES);
            match readable.and_then(|()| from.try_read_buf(&mut buffer)) {
                Ok(0) => break Part::End,
                Ok(_) => break Part::Data(buffer.split().freeze()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => break Part::Failed(error.into()),
            }
        };
        if let Part::Failed(failure) = &part {
            window.close(failure.clone());
        }
        let is_last = !matches!(part, Part::Data(_));
        place.send(part);
        if is_last {
            return;
        }
    }
}

/// Writes what is sent, and tells the other end when there is no more.
async fn write(mut to: WriteHalf<'_>, written: &mut mpsc::Receiver<Bytes>, window: &Window) {
    while let Some(data) = written.recv().await {
        if let Err(error) = to.write_all(&data).await {
            window.close(error.into());
            return;
        }
        window.give();
    }
    // It fails where there is no other end any more.
    to.shutdown().await.ok();
}
