//! What goes on on one connection, and the bodies by which that is seen.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::bounds::{PROGRESS_BYTES, Times};

/// Streams that are remembered before those that are gone are looked for.
const REMEMBERED_MIN: usize = 64;

/// What goes on on one connection.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    streams: Mutex<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    /// Every stream that is there, and some that are gone.
    remembered: Vec<Weak<Stream>>,
    /// How many there were when those that are gone were last forgotten.
    alive: usize,
    has_any_begun: bool,
    /// When there was a stream, as a look has seen it, or the connection's beginning.
    busy_at: Duration,
}

/// A request and its response, from the head of the one to the last byte of the other.
#[derive(Debug)]
pub(super) struct Stream {
    opened: Instant,
    /// Parts of the response that were handed over, and are not sent.
    waiting: AtomicUsize,
    /// When the other end last took some of them, in milliseconds from `opened` on.
    taken_at_ms: AtomicU64,
    /// What it has taken since then.
    taken_bytes: AtomicUsize,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It has asked for nothing since it was opened.
    NoRequest,
    /// It has asked for nothing for long.
    Idle,
    /// It does not read what it has asked for.
    Stalled,
    /// Its certificate has ended. A client that has another one by now connects with that.
    Expired,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            streams: Mutex::default(),
        })
    }

    /// Notes a request. It is under way until nobody holds what is returned.
    pub(super) fn begin(&self) -> Arc<Stream> {
        let stream = Arc::new(Stream {
            opened: self.opened,
            waiting: AtomicUsize::new(0),
            taken_at_ms: AtomicU64::new(0),
            taken_bytes: AtomicUsize::new(0),
        });
        self.with(|streams| {
            streams.has_any_begun = true;
            // So rarely that it costs each request next to nothing.
            if streams.remembered.len() >= REMEMBERED_MIN.max(2 * streams.alive) {
                streams.forget_the_gone();
            }
            streams.remembered.push(Arc::downgrade(&stream));
        });
        stream
    }

    /// Whether the connection is to end, and why.
    pub(super) fn look(&self, times: &Times) -> Option<Ending> {
        let now = self.opened.elapsed();
        self.with(|streams| {
            if !streams.has_any_begun {
                return (now >= times.first_request).then_some(Ending::NoRequest);
            }
            let were_any = !streams.remembered.is_empty();
            streams.forget_the_gone();
            if were_any {
                streams.busy_at = now;
            }
            let mut alive = streams.remembered.iter().filter_map(Weak::upgrade);
            if alive.any(|stream| stream.has_stalled(now, times.stall)) {
                return Some(Ending::Stalled);
            }
            (now.saturating_sub(streams.busy_at) >= times.idle).then_some(Ending::Idle)
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut Streams) -> R) -> R {
        act(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Streams {
    fn forget_the_gone(&mut self) {
        self.remembered.retain(|stream| stream.strong_count() > 0);
        self.alive = self.remembered.len();
    }
}

impl Stream {
    fn has_stalled(&self, now: Duration, stall: Duration) -> bool {
        let taken_at = Duration::from_millis(self.taken_at_ms.load(Ordering::Relaxed));
        self.waiting.load(Ordering::Relaxed) > 0 && now.saturating_sub(taken_at) >= stall
    }

    fn hand_over(self: &Arc<Self>, bytes: Bytes) -> Part {
        // What waits behind others waits for them.
        if self.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.progressed();
        }
        Part {
            bytes,
            stream: Arc::clone(self),
        }
    }

    fn taken(&self, bytes: usize) {
        if self.taken_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= PROGRESS_BYTES {
            self.progressed();
        }
    }

    fn progressed(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.taken_at_ms.store(now, Ordering::Relaxed);
        self.taken_bytes.store(0, Ordering::Relaxed);
    }
}

/// A part of a response, which knows when it is sent: until then it is held by what writes to the connection.
pub(super) struct Part {
    bytes: Bytes,
    stream: Arc<Stream>,
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.stream.taken(count);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // The end of it, or of the stream.
        self.stream.progressed();
        self.stream.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a response, the parts of which are followed.
pub(super) struct Followed {
    inner: Body,
    stream: Arc<Stream>,
}

impl Followed {
    pub(super) fn new(inner: Body, stream: Arc<Stream>) -> Self {
        Self { inner, stream }
    }
}

impl HttpBody for Followed {
    type Data = Part;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(
            frame.map(|frame| {
                frame.map(|frame| frame.map_data(|bytes| self.stream.hand_over(bytes)))
            }),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of a request, which fails if nothing comes of it for too long.
pub(super) struct Hurried {
    inner: Incoming,
    /// How long nothing may come; `None` if it may take as long as it likes.
    patience: Option<Duration>,
    /// Whether it may take as long as it likes once something has come.
    is_open_ended: bool,
    /// Made when it is first waited for, which most requests are not.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

/// Nothing of a request came for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing of the request came for {0:?}")]
pub(super) struct Stalled(Duration);

impl Hurried {
    pub(super) fn new(inner: Incoming, patience: Duration, is_open_ended: bool) -> Self {
        Self {
            inner,
            patience: Some(patience),
            is_open_ended,
            timer: None,
            is_waiting: false,
        }
    }
}

impl HttpBody for Hurried {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            this.is_waiting = false;
            if this.is_open_ended {
                this.patience = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(patience) = this.patience else {
            return Poll::Pending;
        };
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if !this.is_waiting {
            timer.as_mut().reset(Instant::now() + patience);
            this.is_waiting = true;
        }
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(Stalled(patience).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        first_request: Duration::from_secs(10),
        stall: Duration::from_secs(20),
        idle: Duration::from_secs(60),
        ..Times::DEFAULT
    };

    /// A connection that was opened so long ago.
    fn opened(ago: u64) -> Arc<Activity> {
        let opened = Instant::now().checked_sub(Duration::from_secs(ago));
        Arc::new(Activity {
            opened: opened.expect("the machine has run for longer"),
            streams: Mutex::default(),
        })
    }

    #[test]
    fn connection_that_asks_for_nothing_ends() {
        assert_eq!(opened(5).look(&TIMES), None);
        assert_eq!(opened(10).look(&TIMES), Some(Ending::NoRequest));
        let asked = opened(50);
        drop(asked.begin());
        // It was there since the last look.
        assert_eq!(asked.look(&TIMES), None);
        let long_ago = opened(70);
        long_ago.with(|streams| streams.has_any_begun = true);
        assert_eq!(long_ago.look(&TIMES), Some(Ending::Idle));
    }

    #[test]
    fn who_waits_for_an_answer_is_not_idle_and_who_does_not_read_it_ends() {
        let activity = opened(100);
        let stream = activity.begin();
        // Nothing is there to be read, however long.
        assert_eq!(activity.look(&TIMES), None);
        let part = stream.hand_over(Bytes::from(vec![0; 4 * PROGRESS_BYTES]));
        assert_eq!(activity.look(&TIMES), None);
        // As if it had been handed over long ago.
        let long_ago = || stream.taken_at_ms.store(70_000, Ordering::Relaxed);
        long_ago();
        assert_eq!(activity.look(&TIMES), Some(Ending::Stalled));
        let mut part = part;
        part.advance(PROGRESS_BYTES - 1);
        assert_eq!(activity.look(&TIMES), Some(Ending::Stalled));
        part.advance(1);
        assert_eq!(activity.look(&TIMES), None);
        long_ago();
        drop(part);
        long_ago();
        assert_eq!(activity.look(&TIMES), None);
    }

    #[test]
    fn streams_that_are_gone_are_forgotten() {
        let activity = opened(0);
        let held: Vec<_> = (0..100).map(|_| activity.begin()).collect();
        for _ in 0..10_000 {
            drop(activity.begin());
        }
        let remembered = activity.with(|streams| streams.remembered.len());
        assert!(remembered <= 201, "{remembered}");
        drop(held);
    }
}
