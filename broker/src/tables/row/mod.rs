//! Rows, and their conversion to and from the domain. Tags are never reused.

mod access;
mod breaker;
mod claims;
mod cost;
mod finished;
mod host;
mod keyvalue;
mod module;
mod queue;
mod retention;
mod secret;
mod settings;
mod task;
mod typed;
mod webhook;
mod write;

use std::time::Duration;

use prost::Message;
use tq_core::limits::LimitOverrides;
use tq_core::retry::RetryOverrides;
use tq_core::task::State;
use tq_core::{Digest, Limits, RetryPolicy, TaskId, Timestamp, each_limit};

use super::key::{self, Namespace};

pub use access::{
    decode_access, decode_access_key, decode_audit, encode_access, encode_access_key, encode_audit,
};
pub use breaker::{decode_breaker, encode_breaker};
pub use claims::{Claim, decode_claims, encode_claims};
pub use cost::{CostPage, decode_cost, encode_cost, list_costs};
pub use finished::{End, Finished, Hash, decode_finished, encode_finished};
pub use host::{decode_host, encode_host};
pub use keyvalue::{Bucket, Entry, Page, find_value, list_buckets, list_entries};
pub use module::{decode_current, decode_module, encode_current, encode_module};
pub use queue::QueueRow;
pub use retention::{CollectorRow, decode_collector, decode_retention, encode_retention};
pub use secret::{decode_secret, encode_secret};
pub use settings::{decode_settings, encode_settings};
pub use task::{
    Beside, Record, decode_task, encode_call, encode_state, find_task, find_tasks, in_row,
    with_states,
};
pub use webhook::{
    decode_delivery, decode_tried, decode_webhook, encode_delivery, encode_tried, encode_webhook,
    list_tries,
};

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

/// How many tasks of a queue are in which state.
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
    /// Bytes that are kept of all of them.
    #[prost(uint64, tag = "9")]
    pub kept_bytes: u64,
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

    /// Counts bytes that are kept of a task from now on, in place of those of before.
    pub fn keep(&mut self, before: u64, after: u64) {
        self.kept_bytes = self.kept_bytes.saturating_sub(before).saturating_add(after);
    }

    /// Tasks that wait, for whatever it is.
    pub fn waiting(&self) -> u64 {
        self.blocked + self.scheduled + self.ready
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
            kept_bytes,
        } = other;
        self.blocked += blocked;
        self.scheduled += scheduled;
        self.ready += ready;
        self.running += running;
        self.succeeded += succeeded;
        self.dead += dead;
        self.cancelled += cancelled;
        self.expired += expired;
        self.kept_bytes = self.kept_bytes.saturating_add(*kept_bytes);
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

/// What has the default, or is not named, is 0: a task that sets no limits has a short row.
#[derive(Clone, PartialEq, Eq, Message)]
struct LimitsRow {
    #[prost(uint64, tag = "1")]
    fuel: u64,
    #[prost(uint64, tag = "2")]
    memory_bytes: u64,
    #[prost(uint64, tag = "3")]
    timeout_ms: u64,
    #[prost(uint64, tag = "4")]
    output_bytes: u64,
    #[prost(uint64, tag = "5")]
    log_bytes: u64,
    #[prost(uint64, tag = "6")]
    checkpoint_bytes: u64,
    #[prost(uint64, tag = "7")]
    handles: u64,
    #[prost(uint64, tag = "8")]
    host_calls: u64,
    #[prost(uint64, tag = "9")]
    random_bytes: u64,
    #[prost(uint64, tag = "10")]
    http_requests: u64,
    #[prost(uint64, tag = "11")]
    http_bytes: u64,
    #[prost(uint64, tag = "12")]
    http_time_ms: u64,
    #[prost(uint64, tag = "13")]
    scratch_bytes: u64,
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

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct RetryOverridesRow {
    #[prost(uint32, optional, tag = "1")]
    max_attempts: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    backoff_ms: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    cap_ms: Option<u64>,
}

/// The tasks that ended in one commit, as the bytes of [`key::task_bytes`] one after the other.
pub fn decode_settled(bytes: &[u8]) -> impl Iterator<Item = (Namespace, TaskId)> + '_ {
    bytes.chunks_exact(20).filter_map(key::task_of)
}

/// Encodes tasks so that [`decode_settled`] reads them.
pub fn encode_ids(tasks: &[(Namespace, TaskId)]) -> Vec<u8> {
    let mut row = Vec::with_capacity(tasks.len() * 20 + 8);
    for (namespace, id) in tasks {
        row.extend_from_slice(&namespace.0.to_be_bytes());
        row.extend_from_slice(&id.0);
    }
    row
}

/// Encodes the tasks that ended in one commit, and when that was: behind them, where those who only want the tasks do
/// not see it.
pub fn encode_settled(tasks: &[(Namespace, TaskId)], at: Timestamp) -> Vec<u8> {
    let mut row = encode_ids(tasks);
    row.extend_from_slice(&at.0.to_be_bytes());
    row
}

/// When the tasks of a commit ended. A row of a build that did not write it is as old as can be.
pub fn settled_at(bytes: &[u8]) -> Timestamp {
    let (_, rest) = bytes.as_chunks::<20>();
    let at = rest.try_into().map(u64::from_be_bytes);
    Timestamp(at.unwrap_or_default())
}

/// The tasks that a ready row leads to: their ids one after the other, the first to run first.
pub fn encode_ready(ids: &[TaskId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.0).collect()
}

/// What [`encode_ready`] wrote.
pub fn decode_ready(bytes: &[u8]) -> impl Iterator<Item = TaskId> + '_ {
    let (ids, _) = bytes.as_chunks();
    ids.iter().copied().map(TaskId)
}

fn digest(bytes: &[u8]) -> Option<Digest> {
    bytes.try_into().ok().map(Digest)
}

fn limits_row(limits: &Limits) -> LimitsRow {
    limit_overrides_row(&limits.named())
}

fn limits(row: &LimitsRow) -> Limits {
    limit_overrides(row).over(&Limits::DEFAULT)
}

/// What is not named is 0, which no limit can be.
fn limit_overrides_row(limits: &LimitOverrides) -> LimitsRow {
    macro_rules! row {
        ($($field:ident)+) => { LimitsRow { $($field: limits.$field.unwrap_or(0),)+ } };
    }
    each_limit!(row)
}

fn limit_overrides(row: &LimitsRow) -> LimitOverrides {
    macro_rules! limits {
        ($($field:ident)+) => {
            LimitOverrides { $($field: (row.$field > 0).then_some(row.$field),)+ }
        };
    }
    each_limit!(limits)
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

fn overrides_row(retry: &RetryOverrides) -> RetryOverridesRow {
    let RetryOverrides {
        max_attempts,
        backoff,
        cap,
    } = *retry;
    RetryOverridesRow {
        max_attempts,
        backoff_ms: backoff.map(millis),
        cap_ms: cap.map(millis),
    }
}

fn overrides(row: &RetryOverridesRow) -> RetryOverrides {
    let RetryOverridesRow {
        max_attempts,
        backoff_ms,
        cap_ms,
    } = *row;
    RetryOverrides {
        max_attempts,
        backoff: backoff_ms.map(Duration::from_millis),
        cap: cap_ms.map(Duration::from_millis),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
