//! Rows of tasks. What was asked for never changes and is a row of its own, the *call row*; what becomes of it is the
//! *state row*, which is small and overwritten. A task without a state row is as it was submitted. That a host has got
//! it is in neither: see [`claims`](super::claims).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::{Message, encoding};
use tq_core::label::{self, Labels};
use tq_core::outcome::Usage;
use tq_core::placement::{Concurrency, Placement};
use tq_core::task::{Attempt, DataRef, Failure, Lease, Spec, State, Stop, Task};
use tq_core::{Epoch, Priority, TaskId, Timestamp, transition};

use super::write::{nested, number, slice, text};
use super::{Error, LimitsRow, RetryRow, digest, limits, limits_row, millis, retry, retry_row};
use crate::store::{self, Key, Pair, Read, Space};
use crate::tables::Namespace;
use crate::tables::key::{self, Position};

/// What most specs take as a row.
const SPEC_BYTES: usize = 512;

/// What most states take as a row.
const STATE_BYTES: usize = 256;

/// Payloads up to this size are a part of the call row, and results of the state row, in bytes: a row of its own costs
/// more than their bytes do. Part of the format: the size of what is referred to tells where it is.
const IN_ROW_BYTES_MAX: u64 = 1024;

#[derive(Clone, PartialEq, Eq, Message)]
struct DataRow {
    #[prost(uint64, tag = "1")]
    len: u64,
    /// Empty if the bytes are in a row.
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct SpecRow {
    #[prost(string, tag = "1")]
    module: String,
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
    #[prost(string, tag = "4")]
    function: String,
    #[prost(message, optional, tag = "5")]
    payload: Option<DataRow>,
    #[prost(string, tag = "6")]
    content_type: String,
    #[prost(string, repeated, tag = "7")]
    arguments: Vec<String>,
    #[prost(message, optional, tag = "8")]
    limits: Option<LimitsRow>,
    #[prost(message, optional, tag = "9")]
    retry: Option<RetryRow>,
    #[prost(uint32, tag = "10")]
    priority: u32,
    #[prost(uint64, optional, tag = "11")]
    run_at_ms: Option<u64>,
    #[prost(uint64, optional, tag = "12")]
    deadline_ms: Option<u64>,
    #[prost(string, tag = "13")]
    idempotency_key: String,
    #[prost(string, tag = "14")]
    traceparent: String,
    #[prost(uint64, tag = "15")]
    submitted_ms: u64,
    #[prost(string, tag = "16")]
    namespace: String,
    #[prost(message, optional, tag = "17")]
    placement: Option<PlacementRow>,
    /// A task's id; empty if it is nobody's call again.
    #[prost(bytes = "vec", tag = "40")]
    redriven_from: Vec<u8>,
    #[prost(string, tag = "41")]
    unique_key: String,
    #[prost(uint64, optional, tag = "60")]
    result_ttl_ms: Option<u64>,
    /// Names and values, in turn.
    #[prost(string, repeated, tag = "61")]
    labels: Vec<String>,
}

/// A part of [`SpecRow`]. Absent if it says nothing.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PlacementRow {
    #[prost(string, tag = "1")]
    pub(super) queue: String,
    /// Names and values, in turn.
    #[prost(string, repeated, tag = "2")]
    pub(super) required: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(super) preferred: Vec<String>,
    #[prost(string, tag = "4")]
    pub(super) concurrency_key: String,
    /// 0 if there is none.
    #[prost(uint32, tag = "5")]
    pub(super) concurrency_limit: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct LeaseRow {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(string, tag = "2")]
    host: String,
    #[prost(uint64, tag = "3")]
    started_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct AttemptRow {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(uint32, tag = "2")]
    round: u32,
    #[prost(string, tag = "3")]
    host: String,
    #[prost(uint64, tag = "4")]
    epoch: u64,
    #[prost(string, tag = "5")]
    outcome: String,
    #[prost(string, optional, tag = "6")]
    failure: Option<String>,
    #[prost(string, tag = "7")]
    backtrace: String,
    #[prost(uint64, tag = "8")]
    fuel: u64,
    #[prost(uint64, tag = "9")]
    memory_bytes_peak: u64,
    #[prost(uint64, tag = "10")]
    wall_ns: u64,
    #[prost(uint64, tag = "11")]
    cpu_ns: u64,
    #[prost(uint64, tag = "12")]
    started_ms: u64,
    #[prost(uint64, tag = "13")]
    ended_ms: u64,
    #[prost(uint64, tag = "14")]
    log_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct CallRow {
    /// When it was taken in, by the ledger's time.
    #[prost(uint64, tag = "1")]
    submitted_ms: u64,
    /// Where its ready entry is; absent if it has none.
    #[prost(uint64, optional, tag = "2")]
    ready_position: Option<u64>,
    /// Present if it has at most [`IN_ROW_BYTES_MAX`].
    #[prost(bytes = "bytes", tag = "3")]
    payload: Bytes,
    #[prost(message, optional, tag = "4")]
    spec: Option<SpecRow>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct StateRow {
    /// Present if it is not what the call row says: after a redrive.
    #[prost(message, optional, tag = "1")]
    spec: Option<SpecRow>,
    #[prost(uint32, tag = "2")]
    state: u32,
    /// When the state began or, for a scheduled task, ends.
    #[prost(uint64, tag = "3")]
    at_ms: u64,
    #[prost(uint32, tag = "4")]
    pending: u32,
    #[prost(message, optional, tag = "5")]
    lease: Option<LeaseRow>,
    #[prost(uint32, tag = "6")]
    stop: u32,
    #[prost(uint32, tag = "7")]
    round: u32,
    #[prost(uint32, tag = "8")]
    failures: u32,
    #[prost(uint32, tag = "9")]
    losses: u32,
    #[prost(uint32, tag = "10")]
    started: u32,
    #[prost(message, repeated, tag = "11")]
    attempts: Vec<AttemptRow>,
    #[prost(uint64, optional, tag = "12")]
    last_epoch: Option<u64>,
    #[prost(uint64, optional, tag = "13")]
    settled: Option<u64>,
    #[prost(message, optional, tag = "14")]
    result: Option<DataRow>,
    /// Where its ready entry is; absent if it has none.
    #[prost(uint64, optional, tag = "15")]
    ready_position: Option<u64>,
    /// Where its newest checkpoint is; absent if it saved none.
    #[prost(message, optional, tag = "16")]
    checkpoint: Option<DataRow>,
    /// What it returned, if that has at most [`IN_ROW_BYTES_MAX`].
    #[prost(bytes = "bytes", tag = "17")]
    result_bytes: Bytes,
    /// Present if it is suspected of crashing runners: how often it did so alone.
    #[prost(uint32, optional, tag = "18")]
    strikes: Option<u32>,
    /// When its result was removed; absent if it was not.
    #[prost(uint64, optional, tag = "60")]
    result_gone_ms: Option<u64>,
    /// The commit in which it ended; absent if it has not, and in rows of builds that did not note it.
    #[prost(uint64, optional, tag = "61")]
    finished_in: Option<u64>,
}

/// What the ledger keeps beside the task itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Where its ready entry is.
    pub position: Option<Position>,
    /// The newest checkpoint that an attempt of it saved.
    pub checkpoint: Option<DataRef>,
    /// Its spec is not the one of its call row.
    pub is_amended: bool,
    /// When its result was removed, though it stays.
    pub result_gone: Option<Timestamp>,
    /// The commit in which it ended, which is part of the key of its [`key::finished`].
    pub finished_in: Option<u64>,
}

/// A task as it is in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The task.
    pub task: Task,
    /// What stands beside it.
    pub beside: Beside,
    /// Its payload, if that is [in a row of the task](in_row); empty otherwise.
    pub payload: Bytes,
    /// Its result, likewise.
    pub result: Bytes,
}

impl Record {
    /// The same under a claim that may be newer than its rows: an older one changes nothing.
    pub fn claimed(mut self, claim: Option<Lease>) -> Self {
        if let Some(Ok(claimed)) = claim.map(|lease| transition::claim(&self.task, lease)) {
            self.task = claimed.next;
        }
        self
    }
}

/// Whether bytes are kept in the task's own rows.
pub fn in_row(data: DataRef) -> bool {
    matches!(data, DataRef::Row { len } if len <= IN_ROW_BYTES_MAX)
}

/// Reads what the rows of a task say. None if there is none.
///
/// # Errors
/// The store's, or [`Error`] if its rows make no sense.
pub fn find_task<E: From<store::Error> + From<Error>>(
    store: &(impl Read + ?Sized),
    namespace: Namespace,
    id: TaskId,
) -> Result<Option<Record>, E> {
    let found = find_tasks::<E>(store, namespace, &[id])?;
    Ok(found.into_iter().next().flatten())
}

/// Reads what the rows of some tasks say, in their order.
///
/// # Errors
/// As [`find_task`].
pub fn find_tasks<E: From<store::Error> + From<Error>>(
    store: &(impl Read + ?Sized),
    namespace: Namespace,
    ids: &[TaskId],
) -> Result<Vec<Option<Record>>, E> {
    let calls = ids.iter().map(|id| key::call(namespace, *id));
    let states = ids.iter().map(|id| key::state(namespace, *id));
    let mut calls = store.get_many(&calls.chain(states).collect::<Vec<_>>())?;
    let states = calls.split_off(ids.len());
    let records = ids.iter().zip(calls.into_iter().zip(states));
    let records = records
        .map(|(id, (call, state))| call.map(|call| decode_task(*id, call, state)).transpose());
    Ok(records.collect::<Result<_, _>>()?)
}

/// The tasks of some call rows, in their order.
///
/// # Errors
/// As [`find_task`].
pub fn with_states<E: From<store::Error> + From<Error>>(
    store: &(impl Read + ?Sized),
    calls: &[Pair],
) -> Result<Vec<Record>, E> {
    let keys: Vec<Key> = calls
        .iter()
        .map(|call| Key::new(Space::States, &call.key[..]))
        .collect();
    let states = store.get_many(&keys)?;
    let records = calls.iter().zip(states).map(|(call, state)| {
        let (_, id) = key::task_of(&call.key).ok_or(Error::Field {
            kind: "call",
            field: "key",
        })?;
        decode_task(id, call.value.clone(), state)
    });
    Ok(records.collect::<Result<_, _>>()?)
}

/// The numbers of states. Never reused.
mod state {
    pub(super) const BLOCKED: u32 = 1;
    pub(super) const SCHEDULED: u32 = 2;
    pub(super) const READY: u32 = 3;
    pub(super) const RUNNING: u32 = 4;
    pub(super) const SUCCEEDED: u32 = 5;
    pub(super) const DEAD: u32 = 6;
    pub(super) const CANCELLED: u32 = 7;
    pub(super) const EXPIRED: u32 = 8;
}

/// Encodes what was asked for and when. `payload` is empty if it is elsewhere.
pub fn encode_call(
    spec: &Spec,
    submitted_at: Timestamp,
    position: Option<Position>,
    payload: &[u8],
) -> Vec<u8> {
    let mut row = Vec::with_capacity(SPEC_BYTES + payload.len());
    number(1, submitted_at.0, &mut row);
    if let Some(position) = position {
        encoding::uint64::encode(2, &position.0, &mut row);
    }
    if !payload.is_empty() {
        slice(3, payload, &mut row);
    }
    nested(4, &mut row, |row| encode_spec(spec, row));
    row
}

/// Encodes what has become of a task. `result` is empty if it is elsewhere.
pub fn encode_state(task: &Task, beside: &Beside, result_bytes: &[u8]) -> Vec<u8> {
    let Task {
        id: _,
        spec,
        state,
        round,
        failures,
        losses,
        strikes,
        started,
        attempts,
        last_epoch,
        settled,
        result,
    } = task;
    // Written without a message in between, whose texts would be copies: it is what is written most. The order of
    // fields is free.
    let mut row = Vec::with_capacity(STATE_BYTES);
    if beside.is_amended {
        nested(1, &mut row, |row| encode_spec(spec, row));
    }
    let (state, at) = match state {
        State::Blocked { pending } => {
            number(4, (*pending).into(), &mut row);
            (state::BLOCKED, 0)
        }
        State::Scheduled { run_at } => (state::SCHEDULED, run_at.0),
        State::Ready { since } => (state::READY, since.0),
        State::Running { lease, stop } => {
            nested(5, &mut row, |row| encode_lease(lease, row));
            let stop = match stop {
                None => 0,
                Some(Stop::Cancel) => 1,
                Some(Stop::Deadline) => 2,
            };
            number(6, stop, &mut row);
            (state::RUNNING, lease.started_at.0)
        }
        State::Succeeded { ended_at } => (state::SUCCEEDED, ended_at.0),
        State::Dead { ended_at } => (state::DEAD, ended_at.0),
        State::Cancelled { ended_at } => (state::CANCELLED, ended_at.0),
        State::Expired { ended_at } => (state::EXPIRED, ended_at.0),
    };
    number(2, state.into(), &mut row);
    number(3, at, &mut row);
    number(7, (*round).into(), &mut row);
    number(8, (*failures).into(), &mut row);
    number(9, (*losses).into(), &mut row);
    number(10, (*started).into(), &mut row);
    for attempt in attempts {
        nested(11, &mut row, |row| encode_attempt(attempt, row));
    }
    for (tag, value) in [
        (12, last_epoch.map(|epoch| epoch.0)),
        (13, settled.map(|epoch| epoch.0)),
        (18, strikes.map(u64::from)),
        (15, beside.position.map(|position| position.0)),
        (60, beside.result_gone.map(|at| at.0)),
        (61, beside.finished_in),
    ] {
        if let Some(value) = value {
            encoding::uint64::encode(tag, &value, &mut row);
        }
    }
    for (tag, data) in [(14, *result), (16, beside.checkpoint)] {
        if let Some(data) = data {
            encoding::message::encode(tag, &data_row(data), &mut row);
        }
    }
    if !result_bytes.is_empty() {
        slice(17, result_bytes, &mut row);
    }
    row
}

/// Decodes the rows of the task `id`.
///
/// # Errors
/// [`Error`] if the bytes are no such rows.
pub fn decode_task(id: TaskId, call: Bytes, state: Option<Bytes>) -> Result<Record, Error> {
    let call = CallRow::decode(call).map_err(|source| Error::Decode {
        kind: "call",
        source,
    })?;
    let unknown = |field| Error::Field {
        kind: "call",
        field,
    };
    let asked = call.spec.ok_or_else(|| unknown("spec"))?;
    let payload = call.payload;
    let Some(state) = state else {
        let submitted_at = Timestamp(call.submitted_ms);
        let submitted = transition::submit(id, Arc::new(spec(asked)?), 0, submitted_at);
        return Ok(Record {
            task: submitted.map_err(|_| unknown("deadline"))?.next,
            beside: Beside {
                position: call.ready_position.map(Position),
                ..Beside::default()
            },
            payload,
            result: Bytes::new(),
        });
    };
    let mut row = StateRow::decode(state).map_err(|source| Error::Decode {
        kind: "state",
        source,
    })?;
    let amended = row.spec.take();
    let is_amended = amended.is_some();
    let result = std::mem::take(&mut row.result_bytes);
    let (task, beside) = decode_state(id, spec(amended.unwrap_or(asked))?, is_amended, row)?;
    Ok(Record {
        task,
        beside,
        payload,
        result,
    })
}

fn decode_state(
    id: TaskId,
    spec: Spec,
    is_amended: bool,
    row: StateRow,
) -> Result<(Task, Beside), Error> {
    let unknown = |field| Error::Field {
        kind: "state",
        field,
    };
    let at = Timestamp(row.at_ms);
    let state = match row.state {
        state::BLOCKED => State::Blocked {
            pending: row.pending,
        },
        state::SCHEDULED => State::Scheduled { run_at: at },
        state::READY => State::Ready { since: at },
        state::RUNNING => State::Running {
            lease: row.lease.map(lease).ok_or_else(|| unknown("lease"))?,
            stop: match row.stop {
                0 => None,
                1 => Some(Stop::Cancel),
                2 => Some(Stop::Deadline),
                _ => return Err(unknown("stop")),
            },
        },
        state::SUCCEEDED => State::Succeeded { ended_at: at },
        state::DEAD => State::Dead { ended_at: at },
        state::CANCELLED => State::Cancelled { ended_at: at },
        state::EXPIRED => State::Expired { ended_at: at },
        _ => return Err(unknown("state")),
    };
    let task = Task {
        id,
        spec: Arc::new(spec),
        state,
        round: row.round,
        failures: row.failures,
        losses: row.losses,
        strikes: row.strikes,
        started: row.started,
        attempts: row
            .attempts
            .into_iter()
            .map(attempt)
            .collect::<Result<_, _>>()?,
        last_epoch: row.last_epoch.map(Epoch),
        settled: row.settled.map(Epoch),
        result: row.result.map(data).transpose()?,
    };
    let beside = Beside {
        position: row.ready_position.map(Position),
        checkpoint: row.checkpoint.map(data).transpose()?,
        is_amended,
        result_gone: row.result_gone_ms.map(Timestamp),
        finished_in: row.finished_in,
    };
    Ok((task, beside))
}

/// Encodes a [`SpecRow`] without copying the texts into one first: every call row has one.
fn encode_spec(spec: &Spec, row: &mut Vec<u8>) {
    let Spec {
        namespace,
        module,
        version,
        digest,
        function,
        payload,
        content_type,
        arguments,
        limits,
        retry,
        priority,
        placement,
        run_at,
        deadline,
        result_ttl,
        idempotency_key,
        unique_key,
        traceparent,
        submitted_at,
        labels,
        redriven_from,
    } = spec;
    text(1, module, row);
    number(2, (*version).into(), row);
    slice(3, &digest.0, row);
    text(4, function, row);
    encoding::message::encode(5, &data_row(*payload), row);
    text(6, content_type, row);
    encoding::string::encode_repeated(7, arguments, row);
    encoding::message::encode(8, &limits_row(limits), row);
    encoding::message::encode(9, &retry_row(retry), row);
    number(10, priority.0.into(), row);
    if let Some(at) = run_at {
        encoding::uint64::encode(11, &at.0, row);
    }
    if let Some(at) = deadline {
        encoding::uint64::encode(12, &at.0, row);
    }
    text(13, idempotency_key, row);
    text(14, traceparent, row);
    number(15, submitted_at.0, row);
    text(16, namespace, row);
    if *placement != Placement::default() {
        encoding::message::encode(17, &placement_row(placement), row);
    }
    if let Some(id) = redriven_from {
        slice(40, &id.0, row);
    }
    text(41, unique_key, row);
    if let Some(ttl) = result_ttl {
        encoding::uint64::encode(60, &millis(*ttl), row);
    }
    for (label, value) in labels {
        text(61, label, row);
        text(61, value, row);
    }
}

impl PlacementRow {
    /// The row of a placement, of a task or of a function. Its concurrency is a key and a limit.
    pub(super) fn of(
        queue: &str,
        required: &Labels,
        preferred: &Labels,
        concurrency: Option<(&str, u32)>,
    ) -> Self {
        let (key, limit) = concurrency.unwrap_or_default();
        Self {
            queue: queue.to_owned(),
            required: labels_row(required),
            preferred: labels_row(preferred),
            concurrency_key: key.to_owned(),
            concurrency_limit: limit,
        }
    }
}

fn placement_row(placement: &Placement) -> PlacementRow {
    let Placement {
        queue,
        required,
        preferred,
        concurrency,
    } = placement;
    let concurrency = concurrency.as_ref().map(|it| (&*it.key, it.limit));
    PlacementRow::of(queue, required, preferred, concurrency)
}

fn placement(row: PlacementRow) -> Result<Placement, Error> {
    Ok(Placement {
        queue: row.queue,
        required: labels(row.required)?,
        preferred: labels(row.preferred)?,
        concurrency: (!row.concurrency_key.is_empty()).then_some(Concurrency {
            key: row.concurrency_key,
            limit: row.concurrency_limit,
        }),
    })
}

/// Names and values, in turn.
fn labels_row(labels: &Labels) -> Vec<String> {
    let pairs = labels.iter();
    pairs
        .flat_map(|(label, value)| [label.to_string(), value.to_string()])
        .collect()
}

/// What [`labels_row`] made.
pub(super) fn labels(row: Vec<String>) -> Result<Labels, Error> {
    // As most tasks have them.
    if row.is_empty() {
        return Ok(Labels::new());
    }
    let (pairs, _) = row.as_chunks();
    let pairs = pairs.iter().cloned().map(|[label, value]| (label, value));
    label::gather(pairs).map_err(|_| Error::Field {
        kind: "placement",
        field: "labels",
    })
}

/// Encodes a [`LeaseRow`].
pub(super) fn encode_lease(lease: &Lease, row: &mut Vec<u8>) {
    let Lease {
        epoch,
        host,
        started_at,
    } = lease;
    number(1, epoch.0, row);
    text(2, host, row);
    number(3, started_at.0, row);
}

pub(super) fn lease(row: LeaseRow) -> Lease {
    Lease {
        epoch: Epoch(row.epoch),
        host: row.host.into(),
        started_at: Timestamp(row.started_ms),
    }
}

fn spec(row: SpecRow) -> Result<Spec, Error> {
    let unknown = |field| Error::Field {
        kind: "task",
        field,
    };
    Ok(Spec {
        namespace: row.namespace,
        module: row.module,
        version: row.version,
        digest: digest(&row.digest).ok_or_else(|| unknown("digest"))?,
        function: row.function,
        payload: data(row.payload.unwrap_or_default())?,
        content_type: row.content_type,
        arguments: row.arguments,
        limits: limits(&row.limits.unwrap_or_default()),
        retry: retry(&row.retry.unwrap_or_default()),
        priority: Priority(u8::try_from(row.priority).map_err(|_| unknown("priority"))?),
        placement: match row.placement {
            None => Placement::default(),
            Some(row) => placement(row)?,
        },
        run_at: row.run_at_ms.map(Timestamp),
        deadline: row.deadline_ms.map(Timestamp),
        result_ttl: row.result_ttl_ms.map(Duration::from_millis),
        idempotency_key: row.idempotency_key,
        unique_key: row.unique_key,
        traceparent: row.traceparent,
        submitted_at: Timestamp(row.submitted_ms),
        labels: labels(row.labels)?,
        redriven_from: match row.redriven_from.is_empty() {
            true => None,
            false => {
                let id = row.redriven_from.try_into();
                Some(TaskId(id.map_err(|_| unknown("redriven_from"))?))
            }
        },
    })
}

/// Encodes an [`AttemptRow`].
fn encode_attempt(attempt: &Attempt, row: &mut Vec<u8>) {
    let Attempt {
        number: ordinal,
        round,
        host,
        epoch,
        outcome,
        failure,
        usage,
        started_at,
        ended_at,
    } = attempt;
    let Usage {
        fuel,
        memory_bytes_peak,
        wall_ns,
        cpu_ns,
        log_bytes,
    } = *usage;
    number(1, (*ordinal).into(), row);
    number(2, (*round).into(), row);
    text(3, host, row);
    number(4, epoch.0, row);
    text(5, outcome.name(), row);
    if let Some(Failure { message, backtrace }) = failure {
        slice(6, message.as_bytes(), row);
        text(7, backtrace, row);
    }
    number(8, fuel, row);
    number(9, memory_bytes_peak, row);
    number(10, wall_ns, row);
    number(11, cpu_ns, row);
    number(12, started_at.0, row);
    number(13, ended_at.0, row);
    number(14, log_bytes, row);
}

fn attempt(row: AttemptRow) -> Result<Attempt, Error> {
    let AttemptRow {
        fuel,
        memory_bytes_peak,
        wall_ns,
        cpu_ns,
        log_bytes,
        ..
    } = row;
    let backtrace = row.backtrace;
    Ok(Attempt {
        number: row.number,
        round: row.round,
        host: row.host.into(),
        epoch: Epoch(row.epoch),
        outcome: row.outcome.parse().map_err(|_| Error::Field {
            kind: "task",
            field: "outcome",
        })?,
        failure: row.failure.map(|message| Failure { message, backtrace }),
        usage: Usage {
            fuel,
            memory_bytes_peak,
            wall_ns,
            cpu_ns,
            log_bytes,
        },
        started_at: Timestamp(row.started_ms),
        ended_at: Timestamp(row.ended_ms),
    })
}

fn data_row(data: DataRef) -> DataRow {
    match data {
        DataRef::Row { len } => DataRow {
            len,
            digest: Vec::new(),
        },
        DataRef::Blob { digest, len } => DataRow {
            len,
            digest: digest.0.to_vec(),
        },
    }
}

fn data(row: DataRow) -> Result<DataRef, Error> {
    if row.digest.is_empty() {
        return Ok(DataRef::Row { len: row.len });
    }
    let digest = digest(&row.digest).ok_or(Error::Field {
        kind: "task",
        field: "blob",
    })?;
    Ok(DataRef::Blob {
        digest,
        len: row.len,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tq_core::{Digest, Limits, Outcome, RetryPolicy};

    use super::*;

    #[track_caller]
    fn check(record: &Record) {
        let Record {
            task,
            beside,
            payload,
            result,
        } = record;
        // A task that was redriven has another spec than its call row.
        let called = Spec {
            version: task.spec.version + u32::from(beside.is_amended),
            ..Spec::clone(&task.spec)
        };
        let call = encode_call(&called, Timestamp(4), Some(Position(2)), payload);
        let state = encode_state(task, beside, result);
        for (bytes, len) in [
            (
                &call,
                CallRow::decode(&call[..]).map(|row| row.encoded_len()),
            ),
            (
                &state,
                StateRow::decode(&state[..]).map(|row| row.encoded_len()),
            ),
        ] {
            // It is what protobuf makes of it, but for the order of fields.
            assert_eq!(len.expect("it is a message"), bytes.len());
        }
        let decoded = decode_task(task.id, call.into(), Some(state.into()));
        assert_eq!(&decoded.expect("what was encoded can be decoded"), record);
    }

    fn task() -> Task {
        let spec = Spec {
            namespace: "n".to_owned(),
            module: "m".to_owned(),
            version: 3,
            digest: Digest([7; 32]),
            function: "f".to_owned(),
            payload: DataRef::Blob {
                digest: Digest([8; 32]),
                len: 70_000,
            },
            content_type: "text/plain".to_owned(),
            arguments: vec!["-v".to_owned(), String::new()],
            limits: Limits::DEFAULT,
            retry: RetryPolicy::DEFAULT,
            priority: Priority(200),
            placement: Placement {
                queue: "mail".to_owned(),
                required: label::gather([("gpu", "a100")]).expect("labels"),
                preferred: label::gather([("zone", "eu")]).expect("labels"),
                concurrency: Some(Concurrency::new("customer-1".to_owned(), 2).expect("a key")),
            },
            run_at: Some(Timestamp(0)),
            deadline: Some(Timestamp(u64::MAX)),
            result_ttl: Some(Duration::from_secs(9)),
            idempotency_key: "k".to_owned(),
            unique_key: "u".to_owned(),
            traceparent: "00-4bf9-00f0-01".to_owned(),
            submitted_at: Timestamp(5),
            labels: Labels::from([("customer".into(), "acme".into())]),
            redriven_from: Some(TaskId([6; 16])),
        };
        let attempt = Attempt {
            number: 1,
            round: 1,
            host: "a".into(),
            epoch: Epoch::new(1, 1),
            outcome: Outcome::Trap,
            failure: Some(Failure {
                message: "unreachable".to_owned(),
                backtrace: "f".to_owned(),
            }),
            usage: Usage {
                fuel: 1,
                memory_bytes_peak: 2,
                wall_ns: 3,
                cpu_ns: 4,
                log_bytes: 5,
            },
            started_at: Timestamp(6),
            ended_at: Timestamp(7),
        };
        Task {
            id: TaskId([1; 16]),
            spec: Arc::new(spec),
            state: State::Ready {
                since: Timestamp(9),
            },
            round: 1,
            failures: 1,
            losses: 0,
            strikes: Some(2),
            started: 1,
            attempts: vec![attempt],
            last_epoch: Some(Epoch::new(1, 1)),
            settled: Some(Epoch::new(1, 1)),
            result: None,
        }
    }

    #[test]
    fn tasks_survive_their_rows() {
        let full = Beside {
            position: Some(Position(3)),
            checkpoint: Some(DataRef::Row { len: 4 }),
            is_amended: true,
            result_gone: Some(Timestamp(8)),
            finished_in: Some(9),
        };
        let lease = |stop| State::Running {
            lease: Lease {
                epoch: Epoch::new(1, 2),
                host: "b".into(),
                started_at: Timestamp(8),
            },
            stop,
        };
        let ended_at = Timestamp(10);
        let states = [
            State::Blocked { pending: 2 },
            State::Scheduled {
                run_at: Timestamp(9),
            },
            State::Ready {
                since: Timestamp(9),
            },
            lease(None),
            lease(Some(Stop::Cancel)),
            lease(Some(Stop::Deadline)),
            State::Succeeded { ended_at },
            State::Dead { ended_at },
            State::Cancelled { ended_at },
            State::Expired { ended_at },
        ];
        for state in states {
            for (beside, bytes) in [(Beside::default(), ""), (full, "bytes")] {
                check(&Record {
                    task: Task {
                        state: state.clone(),
                        ..task()
                    },
                    beside,
                    payload: bytes.into(),
                    result: bytes.into(),
                });
            }
        }
    }

    #[test]
    fn empty_fields_survive_too() {
        let spec = Spec {
            namespace: String::new(),
            module: String::new(),
            version: 0,
            digest: Digest([0; 32]),
            function: String::new(),
            payload: DataRef::Row { len: 0 },
            content_type: String::new(),
            arguments: Vec::new(),
            limits: Limits::MIN,
            retry: RetryPolicy {
                max_attempts: 0,
                backoff: Duration::ZERO,
                cap: Duration::ZERO,
            },
            priority: Priority(0),
            placement: Placement::default(),
            run_at: None,
            deadline: None,
            result_ttl: None,
            idempotency_key: String::new(),
            unique_key: String::new(),
            traceparent: String::new(),
            submitted_at: Timestamp::EPOCH,
            labels: Labels::new(),
            redriven_from: None,
        };
        check(&Record {
            task: Task {
                spec: Arc::new(spec),
                attempts: Vec::new(),
                ..task()
            },
            beside: Beside::default(),
            payload: Bytes::new(),
            result: Bytes::new(),
        });
    }

    #[test]
    fn call_alone_is_the_task_as_it_was_submitted() {
        let spec = Spec {
            run_at: Some(Timestamp(20)),
            deadline: None,
            ..Spec::clone(&task().spec)
        };
        for (run_at, submitted_at) in [(None, 4), (Some(20), 4), (Some(20), 20)] {
            let (run_at, submitted_at) = (run_at.map(Timestamp), Timestamp(submitted_at));
            let spec = Arc::new(Spec {
                run_at,
                ..spec.clone()
            });
            let call = encode_call(&spec, submitted_at, Some(Position(7)), b"payload");
            let decoded = decode_task(TaskId([1; 16]), call.into(), None);
            let record = decoded.expect("what was encoded can be decoded");
            let submitted = transition::submit(TaskId([1; 16]), spec, 0, submitted_at);
            assert_eq!(record.task, submitted.expect("it has no deadline").next);
            assert_eq!(record.beside.position, Some(Position(7)));
            assert_eq!(record.payload, &b"payload"[..]);
        }
    }

    #[test]
    fn only_a_claim_that_is_newer_than_the_rows_counts() {
        let lease = |epoch| Lease {
            epoch,
            host: "a".into(),
            started_at: Timestamp(4),
        };
        let record = || Record {
            task: task(),
            beside: Beside::default(),
            payload: Bytes::new(),
            result: Bytes::new(),
        };
        assert_eq!(record().claimed(None), record());
        assert_eq!(record().claimed(Some(lease(Epoch::new(1, 1)))), record());
        let claimed = record().claimed(Some(lease(Epoch::new(1, 2)))).task;
        assert_eq!(
            (claimed.lease(), claimed.started),
            (Some(&lease(Epoch::new(1, 2))), 2)
        );
    }
}
