//! Rows, and their conversion to and from the domain. Tags are never reused.

use std::sync::Arc;
use std::time::Duration;

use prost::{Message, encoding};
use tq_core::outcome::Usage;
use tq_core::task::{Attempt, DataRef, Failure, Lease, Spec, State, Stop, Task};
use tq_core::{Digest, Epoch, Limits, Priority, RetryPolicy, TaskId, Timestamp};

use super::key::Position;
use crate::modules::Entry;
use crate::modules::registry::{Function, Module};

/// A row that does not mean what its key says.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no protobuf message of its kind.
    #[error("failed to decode a row of kind `{kind}`")]
    Decode {
        /// The kind of row.
        kind: &'static str,
        /// Why.
        source: prost::DecodeError,
    },
    /// A field has a value that this version does not know.
    #[error("a row of kind `{kind}` has an unknown value in `{field}`")]
    Field {
        /// The kind of row.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
}

/// What most specs take as a row.
const SPEC_BYTES: usize = 512;

/// Where recovery begins, written with every commit that moves it.
#[derive(Clone, PartialEq, Message)]
pub struct LedgerRow {
    /// Open tasks without an entry in an index have ids from here on.
    #[prost(bytes = "vec", tag = "1")]
    pub open_from: Vec<u8>,
    /// The ledger's time at the last commit, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub time_ms: u64,
    /// The id that was given last.
    #[prost(bytes = "vec", tag = "3")]
    pub last_id: Vec<u8>,
}

/// How many tasks of a namespace are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Counters {
    /// Waiting for other tasks.
    #[prost(uint64, tag = "1")]
    pub blocked: u64,
    /// Waiting for a time.
    #[prost(uint64, tag = "2")]
    pub scheduled: u64,
    /// Waiting for a host.
    #[prost(uint64, tag = "3")]
    pub ready: u64,
    /// On a host.
    #[prost(uint64, tag = "4")]
    pub running: u64,
    /// Ended with a result.
    #[prost(uint64, tag = "5")]
    pub succeeded: u64,
    /// Ended without one, by their own doing.
    #[prost(uint64, tag = "6")]
    pub dead: u64,
    /// Ended because someone asked.
    #[prost(uint64, tag = "7")]
    pub cancelled: u64,
    /// Ended by their deadline.
    #[prost(uint64, tag = "8")]
    pub expired: u64,
}

impl Counters {
    /// Counts a task that is in a state from now on.
    pub fn enter(&mut self, state: &State) {
        *self.of(state) += 1;
    }

    /// Counts a task that is in a state no longer.
    pub fn leave(&mut self, state: &State) {
        let count = self.of(state);
        *count = count.saturating_sub(1);
    }

    /// Adds the counts of another namespace.
    pub fn add(&mut self, other: &Self) {
        let Self {
            blocked,
            scheduled,
            ready,
            running,
            succeeded,
            dead,
            cancelled,
            expired,
        } = other;
        self.blocked += blocked;
        self.scheduled += scheduled;
        self.ready += ready;
        self.running += running;
        self.succeeded += succeeded;
        self.dead += dead;
        self.cancelled += cancelled;
        self.expired += expired;
    }

    fn of(&mut self, state: &State) -> &mut u64 {
        match state {
            State::Blocked { .. } => &mut self.blocked,
            State::Scheduled { .. } => &mut self.scheduled,
            State::Ready { .. } => &mut self.ready,
            State::Running { .. } => &mut self.running,
            State::Succeeded { .. } => &mut self.succeeded,
            State::Dead { .. } => &mut self.dead,
            State::Cancelled { .. } => &mut self.cancelled,
            State::Expired { .. } => &mut self.expired,
        }
    }
}

/// What an idempotency key stands for.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IdempotencyRow {
    /// The task that it stands for.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// BLAKE3 of what was asked for.
    #[prost(bytes = "vec", tag = "2")]
    pub request: Vec<u8>,
    /// When it is forgotten, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub expires_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct DataRow {
    #[prost(uint64, tag = "1")]
    len: u64,
    /// Empty if the bytes are in a row.
    #[prost(bytes = "vec", tag = "2")]
    digest: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct LimitsRow {
    #[prost(uint64, tag = "1")]
    fuel: u64,
    #[prost(uint64, tag = "2")]
    memory_bytes: u64,
    #[prost(uint64, tag = "3")]
    timeout_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RetryRow {
    #[prost(uint32, tag = "1")]
    max_attempts: u32,
    #[prost(uint64, tag = "2")]
    backoff_ms: u64,
    #[prost(uint64, tag = "3")]
    cap_ms: u64,
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
}

#[derive(Clone, PartialEq, Eq, Message)]
struct LeaseRow {
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
}

#[derive(Clone, PartialEq, Eq, Message)]
struct TaskRow {
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
}

/// What the ledger keeps beside the task itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Where its ready entry is.
    pub position: Option<Position>,
    /// The newest checkpoint that an attempt of it saved.
    pub checkpoint: Option<DataRef>,
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

/// Encodes a task and what stands beside it.
pub fn encode_task(task: &Task, beside: &Beside) -> Vec<u8> {
    let Task {
        id: _,
        spec,
        state,
        round,
        failures,
        losses,
        started,
        attempts,
        last_epoch,
        settled,
        result,
    } = task;
    let mut row = TaskRow {
        round: *round,
        failures: *failures,
        losses: *losses,
        started: *started,
        attempts: attempts.iter().map(attempt_row).collect(),
        last_epoch: last_epoch.map(|epoch| epoch.0),
        settled: settled.map(|epoch| epoch.0),
        result: result.map(data_row),
        ready_position: beside.position.map(|position| position.0),
        checkpoint: beside.checkpoint.map(data_row),
        ..TaskRow::default()
    };
    (row.state, row.at_ms) = match state {
        State::Blocked { pending } => {
            row.pending = *pending;
            (state::BLOCKED, 0)
        }
        State::Scheduled { run_at } => (state::SCHEDULED, run_at.0),
        State::Ready { since } => (state::READY, since.0),
        State::Running { lease, stop } => {
            row.lease = Some(LeaseRow {
                epoch: lease.epoch.0,
                host: lease.host.to_string(),
                started_ms: lease.started_at.0,
            });
            row.stop = match stop {
                None => 0,
                Some(Stop::Cancel) => 1,
                Some(Stop::Deadline) => 2,
            };
            (state::RUNNING, lease.started_at.0)
        }
        State::Succeeded { ended_at } => (state::SUCCEEDED, ended_at.0),
        State::Dead { ended_at } => (state::DEAD, ended_at.0),
        State::Cancelled { ended_at } => (state::CANCELLED, ended_at.0),
        State::Expired { ended_at } => (state::EXPIRED, ended_at.0),
    };
    // The fields of a message may come in any order, and the spec is the first one.
    let spec = encode_spec(spec);
    let mut bytes = Vec::with_capacity(spec.len() + row.encoded_len() + 8);
    slice(1, &spec, &mut bytes);
    row.encode_raw(&mut bytes);
    bytes
}

/// Decodes the row of the task `id`, and what stands beside it.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_task(id: TaskId, bytes: &[u8]) -> Result<(Task, Beside), Error> {
    const KIND: &str = "task";
    let unknown = |field| Error::Field { kind: KIND, field };
    let row = TaskRow::decode(bytes).map_err(|source| Error::Decode { kind: KIND, source })?;
    let at = Timestamp(row.at_ms);
    let state = match row.state {
        state::BLOCKED => State::Blocked {
            pending: row.pending,
        },
        state::SCHEDULED => State::Scheduled { run_at: at },
        state::READY => State::Ready { since: at },
        state::RUNNING => {
            let lease = row.lease.ok_or_else(|| unknown("lease"))?;
            State::Running {
                lease: Lease {
                    epoch: Epoch(lease.epoch),
                    host: lease.host.into(),
                    started_at: Timestamp(lease.started_ms),
                },
                stop: match row.stop {
                    0 => None,
                    1 => Some(Stop::Cancel),
                    2 => Some(Stop::Deadline),
                    _ => return Err(unknown("stop")),
                },
            }
        }
        state::SUCCEEDED => State::Succeeded { ended_at: at },
        state::DEAD => State::Dead { ended_at: at },
        state::CANCELLED => State::Cancelled { ended_at: at },
        state::EXPIRED => State::Expired { ended_at: at },
        _ => return Err(unknown("state")),
    };
    let task = Task {
        id,
        spec: Arc::new(spec(row.spec.ok_or_else(|| unknown("spec"))?)?),
        state,
        round: row.round,
        failures: row.failures,
        losses: row.losses,
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
    };
    Ok((task, beside))
}

/// Encodes a [`SpecRow`] without copying the texts into one first: it is part of every row that is written.
fn encode_spec(spec: &Spec) -> Vec<u8> {
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
        run_at,
        deadline,
        idempotency_key,
        traceparent,
        submitted_at,
    } = spec;
    let mut row = Vec::with_capacity(SPEC_BYTES);
    text(1, module, &mut row);
    number(2, (*version).into(), &mut row);
    slice(3, &digest.0, &mut row);
    text(4, function, &mut row);
    encoding::message::encode(5, &data_row(*payload), &mut row);
    text(6, content_type, &mut row);
    encoding::string::encode_repeated(7, arguments, &mut row);
    encoding::message::encode(8, &limits_row(limits), &mut row);
    encoding::message::encode(9, &retry_row(retry), &mut row);
    number(10, priority.0.into(), &mut row);
    if let Some(at) = run_at {
        encoding::uint64::encode(11, &at.0, &mut row);
    }
    if let Some(at) = deadline {
        encoding::uint64::encode(12, &at.0, &mut row);
    }
    text(13, idempotency_key, &mut row);
    text(14, traceparent, &mut row);
    number(15, submitted_at.0, &mut row);
    text(16, namespace, &mut row);
    row
}

/// Writes a text, which is left out if it is empty.
fn text(tag: u32, text: &str, row: &mut Vec<u8>) {
    if !text.is_empty() {
        slice(tag, text.as_bytes(), row);
    }
}

/// Writes a number, which is left out if it is 0.
fn number(tag: u32, number: u64, row: &mut Vec<u8>) {
    if number != 0 {
        encoding::uint64::encode(tag, &number, row);
    }
}

fn slice(tag: u32, bytes: &[u8], row: &mut Vec<u8>) {
    encoding::encode_key(tag, encoding::WireType::LengthDelimited, row);
    encoding::encode_varint(bytes.len() as u64, row);
    row.extend_from_slice(bytes);
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
        run_at: row.run_at_ms.map(Timestamp),
        deadline: row.deadline_ms.map(Timestamp),
        idempotency_key: row.idempotency_key,
        traceparent: row.traceparent,
        submitted_at: Timestamp(row.submitted_ms),
    })
}

fn attempt_row(attempt: &Attempt) -> AttemptRow {
    let Attempt {
        number,
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
    } = *usage;
    AttemptRow {
        number: *number,
        round: *round,
        host: host.to_string(),
        epoch: epoch.0,
        outcome: outcome.name().to_owned(),
        failure: failure.as_ref().map(|failure| failure.message.clone()),
        backtrace: failure
            .as_ref()
            .map_or_else(String::new, |failure| failure.backtrace.clone()),
        fuel,
        memory_bytes_peak,
        wall_ns,
        cpu_ns,
        started_ms: started_at.0,
        ended_ms: ended_at.0,
    }
}

fn attempt(row: AttemptRow) -> Result<Attempt, Error> {
    let AttemptRow {
        fuel,
        memory_bytes_peak,
        wall_ns,
        cpu_ns,
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

fn digest(bytes: &[u8]) -> Option<Digest> {
    bytes.try_into().ok().map(Digest)
}

fn limits_row(limits: &Limits) -> LimitsRow {
    let Limits {
        fuel,
        memory_bytes,
        timeout,
    } = *limits;
    LimitsRow {
        fuel,
        memory_bytes,
        timeout_ms: millis(timeout),
    }
}

fn limits(row: &LimitsRow) -> Limits {
    Limits {
        fuel: row.fuel,
        memory_bytes: row.memory_bytes,
        timeout: Duration::from_millis(row.timeout_ms),
    }
}

fn retry_row(retry: &RetryPolicy) -> RetryRow {
    let RetryPolicy {
        max_attempts,
        backoff,
        cap,
    } = *retry;
    RetryRow {
        max_attempts,
        backoff_ms: millis(backoff),
        cap_ms: millis(cap),
    }
}

fn retry(row: &RetryRow) -> RetryPolicy {
    let RetryRow {
        max_attempts,
        backoff_ms,
        cap_ms,
    } = *row;
    RetryPolicy {
        max_attempts,
        backoff: Duration::from_millis(backoff_ms),
        cap: Duration::from_millis(cap_ms),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Clone, PartialEq, Eq, Message)]
struct FunctionRow {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    doc: String,
    #[prost(string, tag = "3")]
    input: String,
    #[prost(string, tag = "4")]
    output: String,
    #[prost(message, optional, tag = "5")]
    limits: Option<LimitsRow>,
    #[prost(message, optional, tag = "6")]
    retry: Option<RetryRow>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ModuleRow {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "4")]
    size_bytes: u64,
    #[prost(uint32, tag = "5")]
    entry: u32,
    #[prost(message, repeated, tag = "6")]
    functions: Vec<FunctionRow>,
    #[prost(uint64, tag = "7")]
    uploaded_ms: u64,
    #[prost(uint32, tag = "8")]
    namespace: u32,
    #[prost(string, repeated, tag = "9")]
    not_granted: Vec<String>,
}

/// Encodes one version of a module.
pub fn encode_module(namespace: super::Namespace, module: &Module) -> Vec<u8> {
    let Module {
        name,
        version,
        digest,
        size_bytes,
        entry,
        functions,
        uploaded_at,
        not_granted,
    } = module;
    let functions = functions.iter().map(|function| {
        let Function {
            name,
            doc,
            input,
            output,
            limits,
            retry,
        } = function;
        FunctionRow {
            name: name.clone(),
            doc: doc.clone(),
            input: input.clone(),
            output: output.clone(),
            limits: Some(limits_row(limits)),
            retry: Some(retry_row(retry)),
        }
    });
    ModuleRow {
        name: name.clone(),
        version: *version,
        digest: digest.0.to_vec(),
        size_bytes: *size_bytes,
        entry: match entry {
            Entry::Handler => 1,
            Entry::Program => 2,
        },
        functions: functions.collect(),
        uploaded_ms: uploaded_at.0,
        namespace: namespace.0,
        not_granted: not_granted.clone(),
    }
    .encode_to_vec()
}

/// Decodes one version of a module.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_module(bytes: &[u8]) -> Result<(super::Namespace, Module), Error> {
    const KIND: &str = "module";
    let row = ModuleRow::decode(bytes).map_err(|source| Error::Decode { kind: KIND, source })?;
    let functions = row.functions.into_iter().map(|row| Function {
        name: row.name,
        doc: row.doc,
        input: row.input,
        output: row.output,
        limits: limits(&row.limits.unwrap_or_default()),
        retry: retry(&row.retry.unwrap_or_default()),
    });
    let module = Module {
        name: row.name,
        version: row.version,
        digest: digest(&row.digest).ok_or(Error::Field {
            kind: KIND,
            field: "digest",
        })?,
        size_bytes: row.size_bytes,
        entry: match row.entry {
            1 => Entry::Handler,
            2 => Entry::Program,
            _ => {
                return Err(Error::Field {
                    kind: KIND,
                    field: "entry",
                });
            }
        },
        functions: functions.collect(),
        uploaded_at: Timestamp(row.uploaded_ms),
        not_granted: row.not_granted,
    };
    Ok((super::Namespace(row.namespace), module))
}

/// The tasks that ended in one commit, as the bytes of [`super::key::task_bytes`] one after the other.
pub fn decode_settled(bytes: &[u8]) -> impl Iterator<Item = (super::Namespace, TaskId)> + '_ {
    bytes.chunks_exact(20).filter_map(super::key::task_of)
}

#[cfg(test)]
mod tests {
    use tq_core::Outcome;

    use super::*;

    #[track_caller]
    fn check(task: &Task, beside: &Beside) {
        let bytes = encode_task(task, beside);
        let decoded = decode_task(task.id, &bytes).expect("what was encoded can be decoded");
        assert_eq!((&decoded.0, &decoded.1), (task, beside));
        // It is what protobuf makes of it, but for the order of fields.
        let row = TaskRow::decode(&bytes[..]).expect("it is a message");
        assert_eq!(row.encoded_len(), bytes.len());
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
            run_at: Some(Timestamp(0)),
            deadline: Some(Timestamp(u64::MAX)),
            idempotency_key: "k".to_owned(),
            traceparent: "00-4bf9-00f0-01".to_owned(),
            submitted_at: Timestamp(5),
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
            let task = Task { state, ..task() };
            check(&task, &Beside::default());
            check(&task, &full);
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
            run_at: None,
            deadline: None,
            idempotency_key: String::new(),
            traceparent: String::new(),
            submitted_at: Timestamp::EPOCH,
        };
        let task = Task {
            spec: Arc::new(spec),
            attempts: Vec::new(),
            ..task()
        };
        check(&task, &Beside::default());
    }
}
