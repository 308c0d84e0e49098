//! The two directions of a connection, as `wasi:io` has them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError};

use tq_core::limits::TCP_PART_BYTES;

use crate::egress::Flow;
use crate::egress::tcp::{Connection, Failure, Outgoing, Part, Window};

/// A connection. A guest has three handles to it, its socket and two streams, and has closed it when all of them are gone.
pub(super) struct Line {
    incoming: Mutex<Incoming>,
    /// None once the guest has said that nothing more comes.
    outgoing: Mutex<Option<Box<dyn Outgoing>>>,
    window: Arc<Window>,
    /// Before the place, which is free when the other side knows.
    flow: Box<dyn Flow>,
    _place: OwnedSemaphorePermit,
}

struct Incoming {
    parts: mpsc::Receiver<Part>,
    /// What was taken of a part, and not read yet.
    held: Bytes,
    end: Option<End>,
}

/// Why there is no more.
enum End {
    /// The other end, or the guest itself, has ended it.
    Closed,
    /// It is broken, which the guest is told once.
    Failed(Failure),
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    pub(super) fn new(connection: Connection, place: OwnedSemaphorePermit) -> Arc<Self> {
        let Connection {
            incoming,
            outgoing,
            window,
            flow,
        } = connection;
        Arc::new(Self {
            incoming: Mutex::new(Incoming {
                parts: incoming,
                held: Bytes::new(),
                end: None,
            }),
            outgoing: Mutex::new(Some(outgoing)),
            window,
            flow,
            _place: place,
        })
    }

    /// The guest reads no more.
    pub(super) fn close_incoming(&self) {
        let mut incoming = lock(&self.incoming);
        incoming.parts.close();
        incoming.held = Bytes::new();
        incoming.end = Some(End::Closed);
    }

    /// The guest sends no more. What it has sent is on its way.
    pub(super) fn close_outgoing(&self) {
        lock(&self.outgoing).take();
    }

    /// Waits until there is something to read, or to be told.
    fn poll_incoming(&self, context: &mut Context<'_>) -> Poll<MutexGuard<'_, Incoming>> {
        let mut incoming = lock(&self.incoming);
        if incoming.held.is_empty() && incoming.end.is_none() {
            match ready!(incoming.parts.poll_recv(context)) {
                Some(Part::Data(data)) => {
                    incoming.held = data;
                    self.flow.taken();
                }
                Some(Part::End) => incoming.end = Some(End::Closed),
                Some(Part::Failed(failure)) => incoming.end = Some(End::Failed(failure)),
                // Whoever sends it is gone.
                None => incoming.end = Some(End::Failed(Failure::Stopped)),
            }
        }
        Poll::Ready(incoming)
    }
}

/// What comes.
pub(super) struct Input(pub(super) Arc<Line>);

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        std::future::poll_fn(|context| self.0.poll_incoming(context).map(drop)).await;
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        let polled = self
            .0
            .poll_incoming(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(mut incoming) = polled else {
            return Ok(Bytes::new());
        };
        if !incoming.held.is_empty() {
            let len = size.min(incoming.held.len());
            return Ok(incoming.held.split_to(len));
        }
        match incoming.end.replace(End::Closed) {
            Some(End::Failed(failure)) => Err(StreamError::LastOperationFailed(failure.into())),
            Some(End::Closed) | None => Err(StreamError::Closed),
        }
    }
}

/// What goes.
pub(super) struct Output {
    line: Arc<Line>,
    /// What the guest was told that it may write.
    permitted: usize,
    /// The guest waits until all that it wrote is on its way.
    is_flushing: bool,
    /// The guest was told that the connection is broken.
    has_failed: bool,
}

impl Output {
    pub(super) fn new(line: Arc<Line>) -> Self {
        Self {
            line,
            permitted: 0,
            is_flushing: false,
            has_failed: false,
        }
    }

    fn is_open(&self) -> Result<(), StreamError> {
        if self.has_failed || lock(&self.line.outgoing).is_none() {
            return Err(StreamError::Closed);
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        if self.is_open().is_err() {
            return;
        }
        let window = &self.line.window;
        let waited = if self.is_flushing {
            window.flushed().await
        } else {
            window.ready().await
        };
        // What went wrong is told when the guest looks.
        waited.ok();
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.is_open()?;
        if bytes.len() > std::mem::take(&mut self.permitted) {
            return Err(StreamError::trap("it wrote more than it was permitted"));
        }
        // Where there is no room in spite of it, the connection has broken, which the guest is told the next time.
        if !bytes.is_empty()
            && self.line.window.take()
            && let Some(outgoing) = &*lock(&self.line.outgoing)
        {
            outgoing.send(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.is_open()?;
        self.permitted = 0;
        self.is_flushing = true;
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        self.is_open()?;
        let window = &self.line.window;
        let has_room = match window.has_room() {
            Ok(has_room) => has_room,
            Err(failure) => {
                self.has_failed = true;
                return Err(StreamError::LastOperationFailed(failure.into()));
            }
        };
        self.is_flushing &= !window.is_flushed();
        self.permitted = match has_room && !self.is_flushing {
            true => TCP_PART_BYTES,
            false => 0,
        };
        Ok(self.permitted)
    }
}
