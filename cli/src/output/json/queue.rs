//! Queues.

use serde::Serialize;
use tq_client::{Queue, QueueOrder};

use super::{known, named};

/// All queues.
#[derive(Debug, Serialize)]
pub(crate) struct QueueList<'a> {
    queues: Vec<QueueInfo<'a>>,
}

/// A queue.
#[derive(Debug, Serialize)]
pub(crate) struct QueueInfo<'a> {
    name: &'a str,
    namespace: &'a str,
    order: &'static str,
    concurrency: Option<u32>,
    rate: Option<RateInfo>,
    paused: bool,
    closed: Option<&'a str>,
    blocked: u64,
    scheduled: u64,
    ready: u64,
    running: u64,
    succeeded: u64,
    dead: u64,
    cancelled: u64,
    expired: u64,
    oldest_ready_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct RateInfo {
    tasks: u32,
    per_ms: u64,
    burst: u32,
}

impl<'a> QueueList<'a> {
    /// In the order given.
    pub(crate) fn new(queues: &'a [Queue]) -> Self {
        Self {
            queues: queues.iter().map(QueueInfo::from).collect(),
        }
    }
}

impl<'a> From<&'a Queue> for QueueInfo<'a> {
    fn from(queue: &'a Queue) -> Self {
        let Queue {
            namespace,
            name,
            order: _,
            concurrency,
            rate,
            paused,
            blocked,
            scheduled,
            ready,
            running,
            succeeded,
            dead,
            cancelled,
            expired,
            oldest_ready_ms,
            closed,
        } = queue;
        Self {
            name,
            namespace,
            order: order(queue.order()),
            concurrency: (*concurrency > 0).then_some(*concurrency),
            rate: rate.as_ref().map(|rate| RateInfo {
                tasks: rate.tasks,
                per_ms: rate.per_ms,
                burst: rate.burst,
            }),
            paused: *paused,
            closed: named(closed),
            blocked: *blocked,
            scheduled: *scheduled,
            ready: *ready,
            running: *running,
            succeeded: *succeeded,
            dead: *dead,
            cancelled: *cancelled,
            expired: *expired,
            oldest_ready_ms: known(*oldest_ready_ms),
        }
    }
}

/// An order's name.
pub(crate) fn order(order: QueueOrder) -> &'static str {
    match order {
        QueueOrder::Unspecified => "unknown",
        QueueOrder::Priority => "priority",
        QueueOrder::Fifo => "fifo",
    }
}
