//! Rows of queues.

use std::time::Duration;

use prost::Message;
use tq_core::queue::{Order, Rate, Settings};

use super::{Error, millis};
use crate::store::Bytes;

/// What a queue is set to.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct QueueRow {
    #[prost(string, tag = "1")]
    name: String,
    /// It is first in first out.
    #[prost(bool, tag = "2")]
    is_fifo: bool,
    #[prost(uint32, optional, tag = "3")]
    concurrency: Option<u32>,
    /// Starts in a span; 0 if there is no rate.
    #[prost(uint32, tag = "4")]
    rate_tasks: u32,
    #[prost(uint64, tag = "5")]
    rate_per_ms: u64,
    #[prost(uint32, tag = "6")]
    rate_burst: u32,
    #[prost(bool, tag = "7")]
    is_paused: bool,
    #[prost(bool, tag = "8")]
    is_deleted: bool,
}

impl QueueRow {
    /// The row of a queue.
    pub fn of(name: &str, settings: &Settings, is_deleted: bool) -> Self {
        let Settings {
            order,
            concurrency,
            rate,
            is_paused,
        } = *settings;
        Self {
            name: name.to_owned(),
            is_fifo: order == Order::Fifo,
            concurrency,
            rate_tasks: rate.map_or(0, |rate| rate.tasks),
            rate_per_ms: rate.map_or(0, |rate| millis(rate.per)),
            rate_burst: rate.map_or(0, |rate| rate.burst),
            is_paused,
            is_deleted,
        }
    }

    /// The name of a queue, what it is set to, and whether it was deleted.
    ///
    /// # Errors
    /// [`Error`] if the bytes are no such row.
    pub fn read(bytes: Bytes) -> Result<(String, Settings, bool), Error> {
        let row = Self::decode(bytes).map_err(|source| Error::Decode {
            kind: "queue",
            source,
        })?;
        let settings = Settings {
            order: if row.is_fifo {
                Order::Fifo
            } else {
                Order::Priority
            },
            concurrency: row.concurrency,
            rate: (row.rate_tasks > 0).then(|| Rate {
                tasks: row.rate_tasks,
                per: Duration::from_millis(row.rate_per_ms),
                burst: row.rate_burst,
            }),
            is_paused: row.is_paused,
        };
        Ok((row.name, settings, row.is_deleted))
    }
}
