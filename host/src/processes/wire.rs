//! What an agent and its runner processes say to each other, over a pipe for each direction.
//!
//! Both ends are the same program, so that nothing here outlives an update. A frame is the length of a message, four bytes
//! with the lowest first, and the message. The bytes of a compiled form follow the frame that announces them.
//!
//! What comes from a runner process may have been written by whoever took it over: its form is checked here, and what it may
//! say of which attempt by [`Runners`](super::Runners).

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{Message as _, encoding};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tq_core::grant::Scheme;
use tq_core::limits::{
    BACKTRACE_BYTES_MAX, CHECKPOINT_BYTES_MAX, ERROR_MESSAGE_BYTES_MAX, Limits, PAYLOAD_BYTES_MAX,
    PROGRESS_NOTE_BYTES_MAX,
};
use tq_core::outcome::Usage;
use tq_core::{Epoch, Outcome};
use tq_proto::v1::{Assignment, KeyValueAnswer, KeyValueCall, key_value_answer};

use super::tcp;
use crate::egress::{Failure, Kind, Request, Scope, Timeouts};
use crate::runner::{self, Event, Finished, StopReason, cut};
use crate::services::Refusal;

/// The largest message to a runner process: an assignment with its payload and its checkpoint, and room for the rest.
pub(super) const ORDER_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + CHECKPOINT_BYTES_MAX + (1 << 20);
/// The largest message of a runner process: a result, and room for the rest.
pub(super) const TOLD_BYTES_MAX: usize = Limits::MAX.output_bytes as usize + (1 << 20);

/// The length in front of each message.
const HEAD: usize = size_of::<u32>();
/// The tag of [`Order::Run`].
const RUN_TAG: u32 = 2;

/// From the agent.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ToRunner {
    #[prost(oneof = "Order", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(super) order: Option<Order>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Order {
    /// Load a component. Answered by [`Loaded`].
    #[prost(message, tag = "1")]
    Load(LoadForm),
    /// Run an attempt, whose data is inline and whose component was to be loaded before. Answered by [`Ended`].
    #[prost(message, boxed, tag = "2")]
    Run(Box<Assignment>),
    /// Stop an attempt, if it runs or waits.
    #[prost(message, tag = "3")]
    Stop(Stop),
    /// End what waits, as [`Outcome::HostDrained`].
    #[prost(message, tag = "4")]
    HandBack(()),
    /// More of what became of a request.
    #[prost(message, tag = "5")]
    Answer(Answer),
    /// What came of a call.
    #[prost(message, tag = "6")]
    Return(Returned),
    /// More of what became of a look-up or a connection.
    #[prost(message, tag = "7")]
    Tcp(tcp::Answer),
}

/// What came of a [`Call`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Returned {
    /// As the runner process called it.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(oneof = "Came", tags = "2, 3, 4")]
    came: Option<Came>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Came {
    #[prost(bytes = "bytes", tag = "2")]
    Value(Bytes),
    #[prost(message, tag = "3")]
    Refused(Refused),
    #[prost(message, tag = "4")]
    KeyValue(KeyValueAnswer),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Refused {
    /// One of its constants.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    message: String,
}

impl Refused {
    const NOT_GRANTED: u32 = 1;
    const MISSING: u32 = 2;
    const UNAVAILABLE: u32 = 3;
    const INVALID: u32 = 4;
}

impl Returned {
    /// What came of a call for a secret.
    pub(super) fn secret(id: u64, came: Result<Bytes, Refusal>) -> Self {
        Self::new(id, came.map(Came::Value))
    }

    /// What came of a call to a bucket.
    pub(super) fn keyvalue(id: u64, came: Result<key_value_answer::Came, Refusal>) -> Self {
        let came = came.map(Some);
        Self::new(id, came.map(|came| Came::KeyValue(KeyValueAnswer { came })))
    }

    fn new(id: u64, came: Result<Came, Refusal>) -> Self {
        let came = came.unwrap_or_else(|refusal| {
            let (kind, message) = match refusal {
                Refusal::NotGranted(message) => (Refused::NOT_GRANTED, message),
                Refusal::Missing(message) => (Refused::MISSING, message),
                Refusal::Unavailable(message) => (Refused::UNAVAILABLE, message),
                Refusal::Invalid(message) => (Refused::INVALID, message),
            };
            Came::Refused(Refused { kind, message })
        });
        let came = Some(came);
        Self { id, came }
    }

    pub(super) fn read_secret(self) -> Result<Bytes, Refusal> {
        match self.read()? {
            Came::Value(value) => Ok(value),
            Came::KeyValue(_) | Came::Refused(_) => Err(out_of_place()),
        }
    }

    pub(super) fn read_keyvalue(self) -> Result<key_value_answer::Came, Refusal> {
        match self.read()? {
            Came::KeyValue(answer) => answer.came.ok_or_else(out_of_place),
            Came::Value(_) | Came::Refused(_) => Err(out_of_place()),
        }
    }

    fn read(self) -> Result<Came, Refusal> {
        match self.came {
            Some(Came::Refused(Refused { kind, message })) => Err(match kind {
                Refused::NOT_GRANTED => Refusal::NotGranted(message),
                Refused::MISSING => Refusal::Missing(message),
                Refused::INVALID => Refusal::Invalid(message),
                _ => Refusal::Unavailable(message),
            }),
            Some(came) => Ok(came),
            None => Err(out_of_place()),
        }
    }
}

/// The host answered something else than it was asked.
fn out_of_place() -> Refusal {
    Refusal::Unavailable("the host gave the answer to another question".to_owned())
}

/// What became of a request.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Answer {
    /// As the runner process called it.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(oneof = "Answered", tags = "2, 3, 4, 5")]
    pub(super) answered: Option<Answered>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Answered {
    /// The head of its response.
    #[prost(message, tag = "2")]
    Head(ResponseHead),
    /// More of its body.
    #[prost(bytes = "bytes", tag = "3")]
    Data(Bytes),
    /// That was all.
    #[prost(message, tag = "4")]
    End(()),
    /// There is no response, or no more of it.
    #[prost(message, tag = "5")]
    Failed(HttpFailure),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResponseHead {
    #[prost(uint32, tag = "1")]
    pub(super) status: u32,
    #[prost(message, repeated, tag = "2")]
    pub(super) headers: Vec<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpFailure {
    /// Its place in [`Kind::ALL`].
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bool, tag = "2")]
    is_refusal: bool,
    #[prost(string, tag = "3")]
    message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LoadForm {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) digest: Bytes,
    /// How many bytes follow the frame.
    #[prost(uint64, tag = "2")]
    pub(super) size_bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Stop {
    #[prost(uint64, tag = "1")]
    pub(super) epoch: u64,
    #[prost(uint32, tag = "2")]
    why: u32,
}

impl Stop {
    const REASONS: [StopReason; 4] = [
        StopReason::Cancelled,
        StopReason::DeadlineExceeded,
        StopReason::Abandoned,
        StopReason::Shutdown,
    ];

    pub(super) fn new(epoch: Epoch, why: StopReason) -> Self {
        let position = Self::REASONS.iter().position(|reason| *reason == why);
        Self {
            epoch: epoch.0,
            why: position.and_then(|at| u32::try_from(at).ok()).unwrap_or(0),
        }
    }

    pub(super) fn why(&self) -> StopReason {
        let reason = Self::REASONS.get(self.why as usize);
        reason.copied().unwrap_or(StopReason::Cancelled)
    }
}

/// From a runner process.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FromRunner {
    #[prost(oneof = "Message", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    message: Option<Message>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Message {
    #[prost(message, tag = "1")]
    Ready(Ready),
    #[prost(message, tag = "2")]
    Loaded(Loaded),
    #[prost(message, tag = "3")]
    Log(State),
    #[prost(message, tag = "4")]
    Progress(Progress),
    #[prost(message, tag = "5")]
    Checkpoint(State),
    #[prost(message, tag = "6")]
    Ended(Ended),
    #[prost(message, tag = "7")]
    Ask(Ask),
    #[prost(uint64, tag = "8")]
    Taken(u64),
    #[prost(uint64, tag = "9")]
    GivenUp(u64),
    #[prost(message, tag = "10")]
    Call(Call),
    #[prost(message, tag = "11")]
    Tcp(tcp::Ask),
}

/// Ask the broker for something. Answered by [`Returned`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Call {
    /// Counted from 1.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// For whom.
    #[prost(uint64, tag = "2")]
    pub(super) epoch: u64,
    #[prost(oneof = "Asked", tags = "3, 4")]
    pub(super) asked: Option<Asked>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Asked {
    /// The value of a secret, by its name.
    #[prost(string, tag = "3")]
    Secret(String),
    /// What is to be done with a bucket.
    #[prost(message, tag = "4")]
    KeyValue(KeyValueCall),
}

/// Send a request. Answered by [`Answer`]s.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Ask {
    /// Counted from 1.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// Whose it is.
    #[prost(uint64, tag = "2")]
    pub(super) epoch: u64,
    #[prost(string, tag = "3")]
    method: String,
    #[prost(bool, tag = "4")]
    is_tls: bool,
    #[prost(string, tag = "5")]
    authority: String,
    #[prost(string, tag = "6")]
    path: String,
    #[prost(message, repeated, tag = "7")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "8")]
    body: Bytes,
    #[prost(uint64, optional, tag = "9")]
    connect_ns: Option<u64>,
    #[prost(uint64, optional, tag = "10")]
    first_byte_ns: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    between_bytes_ns: Option<u64>,
    #[prost(uint64, tag = "12")]
    total_ns: u64,
    #[prost(uint64, tag = "13")]
    pub(super) response_bytes: u64,
}

impl Ask {
    pub(super) fn new(id: u64, scope: &Scope, request: Request) -> Self {
        let ns = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let Timeouts {
            connect,
            first_byte,
            between_bytes,
            total,
        } = scope.timeouts;
        let Request {
            method,
            scheme,
            authority,
            path,
            headers,
            body,
        } = request;
        Self {
            id,
            epoch: scope.epoch.0,
            method,
            is_tls: scheme == Scheme::Https,
            authority,
            path,
            headers: headers_out(headers),
            body,
            connect_ns: connect.map(ns),
            first_byte_ns: first_byte.map(ns),
            between_bytes_ns: between_bytes.map(ns),
            total_ns: ns(total),
            response_bytes: scope.response_bytes,
        }
    }

    /// The request, and how long it may take by the guest's own wish.
    pub(super) fn read(self) -> (Request, Timeouts) {
        let request = Request {
            method: self.method,
            scheme: match self.is_tls {
                true => Scheme::Https,
                false => Scheme::Http,
            },
            authority: self.authority,
            path: self.path,
            headers: headers_in(self.headers),
            body: self.body,
        };
        let timeouts = Timeouts {
            connect: self.connect_ns.map(Duration::from_nanos),
            first_byte: self.first_byte_ns.map(Duration::from_nanos),
            between_bytes: self.between_bytes_ns.map(Duration::from_nanos),
            total: Duration::from_nanos(self.total_ns),
        };
        (request, timeouts)
    }
}

pub(super) fn headers_out(headers: Vec<(String, Bytes)>) -> Vec<Header> {
    let header = |(name, value)| Header { name, value };
    headers.into_iter().map(header).collect()
}

pub(super) fn headers_in(headers: Vec<Header>) -> Vec<(String, Bytes)> {
    let pair = |Header { name, value }| (name, value);
    headers.into_iter().map(pair).collect()
}

impl HttpFailure {
    pub(super) fn new(failure: &Failure) -> Self {
        let place = Kind::ALL.iter().position(|kind| *kind == failure.kind());
        Self {
            kind: place.and_then(|at| u32::try_from(at).ok()).unwrap_or(0),
            is_refusal: failure.is_refusal(),
            message: failure.to_string(),
        }
    }

    pub(super) fn read(self) -> Failure {
        let kind = Kind::ALL.get(self.kind as usize);
        Failure::Told {
            kind: kind.copied().unwrap_or(Kind::Gone),
            is_refusal: self.is_refusal,
            message: self.message,
        }
    }
}

/// The first message: the process is confined, and waits for orders.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Ready {
    /// How memories lie in it.
    #[prost(string, tag = "1")]
    pub(super) layout: String,
    /// What its kernel lacks to confine it.
    #[prost(string, repeated, tag = "2")]
    pub(super) missing: Vec<String>,
}

/// A component was loaded, or was not.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Loaded {
    /// Why it was not.
    #[prost(string, optional, tag = "1")]
    pub(super) error: Option<String>,
    /// Whether the component itself is at fault.
    #[prost(bool, tag = "2")]
    pub(super) is_permanent: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct State {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(bytes = "bytes", tag = "2")]
    bytes: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Progress {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(double, tag = "2")]
    fraction: f64,
    #[prost(string, tag = "3")]
    note: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Ended {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(string, tag = "2")]
    outcome: String,
    #[prost(bytes = "bytes", optional, tag = "3")]
    result: Option<Bytes>,
    #[prost(string, optional, tag = "4")]
    message: Option<String>,
    #[prost(string, optional, tag = "5")]
    backtrace: Option<String>,
    #[prost(uint64, optional, tag = "6")]
    retry_after_ms: Option<u64>,
    #[prost(uint64, tag = "7")]
    fuel: u64,
    #[prost(uint64, tag = "8")]
    memory_bytes_peak: u64,
    #[prost(uint64, tag = "9")]
    wall_ns: u64,
    #[prost(uint64, tag = "10")]
    cpu_ns: u64,
}

/// What a runner process tells.
#[derive(Debug)]
pub(super) enum Told {
    Ready(Ready),
    Loaded(Loaded),
    Event(Event),
    Ask(Ask),
    /// One more part of this request's body was taken.
    Taken(u64),
    /// Nobody wants the rest of this request.
    GivenUp(u64),
    Call(Call),
    /// About a look-up or a connection.
    Tcp(tcp::Ask),
}

/// A runner process said what none of ours says.
#[derive(Debug, thiserror::Error)]
pub(super) enum Violation {
    /// A message is longer than any may be.
    #[error("a message of {len} bytes is over the limit of {max} bytes")]
    TooLong { len: usize, max: usize },
    /// It cannot be read.
    #[error("a message cannot be read: {0}")]
    Unreadable(String),
    /// It is none that may be said now.
    #[error("{0}")]
    OutOfPlace(&'static str),
    /// The pipe failed.
    #[error("reading from it failed: {0}")]
    Pipe(#[from] io::Error),
}

/// Appends an order as a frame.
pub(super) fn put_order(order: Order, buffer: &mut BytesMut) {
    put(&ToRunner { order: Some(order) }, buffer);
}

/// Appends [`Order::Run`] as a frame, of an assignment that others hold too.
pub(super) fn put_run(assignment: &Assignment, buffer: &mut BytesMut) {
    put_head(encoding::message::encoded_len(RUN_TAG, assignment), buffer);
    encoding::message::encode(RUN_TAG, assignment, buffer);
}

pub(super) fn put_ready(ready: Ready, buffer: &mut BytesMut) {
    put_message(Message::Ready(ready), buffer);
}

pub(super) fn put_loaded(loaded: Loaded, buffer: &mut BytesMut) {
    put_message(Message::Loaded(loaded), buffer);
}

pub(super) fn put_ask(ask: Ask, buffer: &mut BytesMut) {
    put_message(Message::Ask(ask), buffer);
}

pub(super) fn put_call(call: Call, buffer: &mut BytesMut) {
    put_message(Message::Call(call), buffer);
}

pub(super) fn put_taken(id: u64, buffer: &mut BytesMut) {
    put_message(Message::Taken(id), buffer);
}

pub(super) fn put_given_up(id: u64, buffer: &mut BytesMut) {
    put_message(Message::GivenUp(id), buffer);
}

pub(super) fn put_tcp_ask(ask: tcp::Ask, buffer: &mut BytesMut) {
    put_message(Message::Tcp(ask), buffer);
}

/// Appends an event as a frame.
pub(super) fn put_event(event: Event, buffer: &mut BytesMut) {
    let state = |epoch: Epoch, bytes| State {
        epoch: epoch.0,
        bytes,
    };
    let message = match event {
        Event::Log { epoch, text } => Message::Log(state(epoch, text)),
        Event::Checkpoint {
            epoch,
            state: bytes,
        } => Message::Checkpoint(state(epoch, bytes)),
        Event::Progress {
            epoch,
            fraction,
            note,
        } => Message::Progress(Progress {
            epoch: epoch.0,
            fraction,
            note,
        }),
        Event::Finished(finished) => Message::Ended(Ended::from(*finished)),
    };
    put_message(message, buffer);
}

fn put_message(message: Message, buffer: &mut BytesMut) {
    let message = Some(message);
    put(&FromRunner { message }, buffer);
}

fn put(message: &impl prost::Message, buffer: &mut BytesMut) {
    put_head(message.encoded_len(), buffer);
    message.encode_raw(buffer);
}

fn put_head(len: usize, buffer: &mut BytesMut) {
    buffer.reserve(HEAD + len);
    // Nothing that is sent has 4 GiB: all that goes into it has limits far below.
    buffer.put_u32_le(u32::try_from(len).unwrap_or(u32::MAX));
}

/// Takes the first frame's message off the buffer, if it is there as a whole.
///
/// # Errors
/// [`Violation::TooLong`], before it is there.
pub(super) fn take_frame(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, Violation> {
    let Some(head) = buffer.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes(*head) as usize;
    if len > max {
        return Err(Violation::TooLong { len, max });
    }
    if buffer.len() < HEAD + len {
        buffer.reserve(HEAD + len - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEAD);
    Ok(Some(buffer.split_to(len).freeze()))
}

/// Reads what a runner process tells.
pub(super) struct Ear<R> {
    pipe: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Ear<R> {
    pub(super) fn new(pipe: R) -> Self {
        Self {
            pipe,
            buffer: BytesMut::with_capacity(64 << 10),
        }
    }

    /// Waits for the next message; nothing comes after the end of the pipe, where a message that was cut off is lost.
    ///
    /// # Errors
    /// [`Violation`]; nothing that follows can be read then.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn next(&mut self) -> Result<Option<Told>, Violation> {
        loop {
            if let Some(told) = self.ready_now()? {
                return Ok(Some(told));
            }
            if self.pipe.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next message, if it has come as a whole.
    pub(super) fn ready_now(&mut self) -> Result<Option<Told>, Violation> {
        let frame = take_frame(&mut self.buffer, TOLD_BYTES_MAX)?;
        frame.map(read).transpose()
    }
}

/// Reads all that a host would of what a runner process tells, and returns how many messages that were. For fuzzers.
#[must_use]
pub fn read_told(bytes: &[u8]) -> usize {
    let mut buffer = BytesMut::from(bytes);
    let next = || take_frame(&mut buffer, TOLD_BYTES_MAX).ok().flatten();
    std::iter::from_fn(next)
        .map_while(|frame| read(frame).ok())
        .count()
}

fn read(frame: Bytes) -> Result<Told, Violation> {
    let unreadable = |error: &dyn std::fmt::Display| Violation::Unreadable(error.to_string());
    let message = FromRunner::decode(frame).map_err(|error| unreadable(&error))?;
    Ok(match message.message {
        None => return Err(Violation::OutOfPlace("a message is empty")),
        Some(Message::Ready(ready)) => Told::Ready(ready),
        Some(Message::Loaded(loaded)) => Told::Loaded(loaded),
        Some(Message::Ask(ask)) => Told::Ask(ask),
        Some(Message::Taken(id)) => Told::Taken(id),
        Some(Message::GivenUp(id)) => Told::GivenUp(id),
        Some(Message::Call(call)) => Told::Call(call),
        Some(Message::Tcp(ask)) => Told::Tcp(ask),
        Some(Message::Log(State { epoch, bytes })) => Told::Event(Event::Log {
            epoch: Epoch(epoch),
            text: bytes,
        }),
        Some(Message::Checkpoint(State { epoch, bytes })) => Told::Event(Event::Checkpoint {
            epoch: Epoch(epoch),
            state: bytes,
        }),
        Some(Message::Progress(progress)) => Told::Event(Event::Progress {
            epoch: Epoch(progress.epoch),
            fraction: progress.fraction.clamp(0.0, 1.0),
            note: cut(progress.note, PROGRESS_NOTE_BYTES_MAX),
        }),
        Some(Message::Ended(ended)) => {
            let finished = Finished::try_from(ended)?;
            Told::Event(Event::Finished(Box::new(finished)))
        }
    })
}

impl From<Finished> for Ended {
    fn from(finished: Finished) -> Self {
        let Finished {
            epoch,
            outcome,
            result,
            failure,
            retry_after,
            usage,
        } = finished;
        let Usage {
            fuel,
            memory_bytes_peak,
            wall_ns,
            cpu_ns,
            log_bytes: _,
        } = usage;
        let (message, backtrace) = failure.map_or((None, None), |failure| {
            (Some(failure.message), failure.backtrace)
        });
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            epoch: epoch.0,
            outcome: outcome.name().to_owned(),
            result,
            message,
            backtrace,
            retry_after_ms: retry_after.map(ms),
            fuel,
            memory_bytes_peak,
            wall_ns,
            cpu_ns,
        }
    }
}

impl TryFrom<Ended> for Finished {
    type Error = Violation;

    fn try_from(ended: Ended) -> Result<Self, Violation> {
        let outcome: Outcome =
            ended
                .outcome
                .parse()
                .map_err(|error: tq_core::outcome::UnknownOutcome| {
                    Violation::Unreadable(error.to_string())
                })?;
        let has_succeeded = outcome == Outcome::Succeeded;
        if has_succeeded != ended.result.is_some() || has_succeeded == ended.message.is_some() {
            return Err(Violation::OutOfPlace(
                "an end has a result and a failure, or neither",
            ));
        }
        let backtrace = ended.backtrace;
        Ok(Self {
            epoch: Epoch(ended.epoch),
            outcome,
            result: ended.result,
            failure: ended.message.map(|message| runner::Failure {
                message: cut(message, ERROR_MESSAGE_BYTES_MAX),
                backtrace: backtrace.map(|text| cut(text, BACKTRACE_BYTES_MAX)),
            }),
            retry_after: ended.retry_after_ms.map(Duration::from_millis),
            usage: Usage {
                fuel: ended.fuel,
                memory_bytes_peak: ended.memory_bytes_peak,
                wall_ns: ended.wall_ns,
                cpu_ns: ended.cpu_ns,
                ..Usage::default()
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    /// What is read of these bytes, as often as there is something, and how it ends.
    fn hear(bytes: &[u8]) -> (Vec<Told>, Result<(), Violation>) {
        let mut ear = Ear::new(bytes);
        let mut told = Vec::new();
        let end = loop {
            // Reading from memory never waits.
            match ear.next().now_or_never() {
                Some(Ok(Some(one))) => told.push(one),
                Some(Ok(None)) | None => break Ok(()),
                Some(Err(violation)) => break Err(violation),
            }
        };
        (told, end)
    }

    fn finished(
        outcome: Outcome,
        result: Option<&'static [u8]>,
        failure: Option<runner::Failure>,
    ) -> Event {
        Event::Finished(Box::new(Finished {
            epoch: Epoch(7),
            outcome,
            result: result.map(Bytes::from_static),
            failure,
            retry_after: Some(Duration::from_millis(30)),
            usage: Usage {
                fuel: 1,
                memory_bytes_peak: 2,
                wall_ns: 3,
                cpu_ns: 4,
                ..Usage::default()
            },
        }))
    }

    fn failure(message: &str) -> Option<runner::Failure> {
        Some(runner::Failure {
            message: message.to_owned(),
            backtrace: Some("main".to_owned()),
        })
    }

    #[test]
    fn events_are_read_as_they_were_told() {
        let events = || {
            vec![
                Event::Log {
                    epoch: Epoch(7),
                    text: Bytes::from_static(b"\xff\n"),
                },
                Event::Progress {
                    epoch: Epoch(7),
                    fraction: 0.5,
                    note: "half".to_owned(),
                },
                Event::Checkpoint {
                    epoch: Epoch(7),
                    state: Bytes::from_static(b"state"),
                },
                finished(Outcome::Succeeded, Some(b""), None),
                finished(Outcome::Trap, None, failure("unreachable")),
            ]
        };
        let mut bytes = BytesMut::new();
        put_ready(
            Ready {
                layout: "reserved".to_owned(),
                missing: vec!["Landlock".to_owned()],
            },
            &mut bytes,
        );
        events()
            .into_iter()
            .for_each(|event| put_event(event, &mut bytes));
        let (told, end) = hear(&bytes);
        assert!(end.is_ok(), "{end:?}");
        let Some((Told::Ready(ready), told)) = told.split_first() else {
            panic!("{told:?}");
        };
        assert_eq!(ready.missing, ["Landlock"]);
        let expected: Vec<Told> = events().into_iter().map(Told::Event).collect();
        assert_eq!(format!("{told:?}"), format!("{expected:?}"));
    }

    #[test]
    fn what_is_cut_off_is_not_told() {
        let mut bytes = BytesMut::new();
        put_event(finished(Outcome::Trap, None, failure("first")), &mut bytes);
        let first = bytes.len();
        put_event(finished(Outcome::Trap, None, failure("second")), &mut bytes);
        for cut in first..bytes.len() {
            let (told, end) = hear(&bytes[..cut]);
            assert_eq!((told.len(), end.is_ok()), (1, true), "at {cut}");
        }
    }

    #[test]
    fn ends_that_contradict_themselves_are_refused() {
        for event in [
            finished(Outcome::Succeeded, None, None),
            finished(Outcome::Succeeded, Some(b"r"), failure("and yet")),
            finished(Outcome::Trap, Some(b"r"), failure("and yet")),
            finished(Outcome::Trap, None, None),
        ] {
            let mut bytes = BytesMut::new();
            put_event(event, &mut bytes);
            let (told, end) = hear(&bytes);
            assert!(told.is_empty() && end.is_err(), "{told:?}");
        }
    }

    #[test]
    fn length_is_refused_before_there_is_room_for_it() {
        let too_long = u32::try_from(TOLD_BYTES_MAX + 1).unwrap().to_le_bytes();
        let (_, end) = hear(&too_long);
        let message = end.unwrap_err().to_string();
        assert!(message.contains("is over the limit of"), "{message}");
    }

    #[test]
    fn reasons_to_stop_lead_back() {
        for why in Stop::REASONS {
            assert_eq!(Stop::new(Epoch(1), why).why(), why);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>) {
            // Nothing that is read may panic, and each message takes its head at least.
            let (told, _) = hear(&bytes);
            prop_assert!(told.len() <= bytes.len() / HEAD);
        }
    }
}
