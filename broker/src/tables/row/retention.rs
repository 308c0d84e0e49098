//! Rows of retention: what a namespace keeps for how long, and how far what is over was removed.

use std::time::Duration;

use prost::Message;
use tq_core::retention::Retention;

use super::{Error, millis};

#[derive(Clone, PartialEq, Eq, Message)]
struct RetentionRow {
    #[prost(uint64, tag = "1")]
    succeeded_ms: u64,
    #[prost(uint64, tag = "2")]
    dead_ms: u64,
    #[prost(uint64, tag = "3")]
    cancelled_ms: u64,
    #[prost(uint64, tag = "4")]
    expired_ms: u64,
    /// Absent if results stay as long as their tasks.
    #[prost(uint64, optional, tag = "5")]
    results_ms: Option<u64>,
    #[prost(uint64, tag = "6")]
    modules_ms: u64,
}

/// How far what is over was removed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CollectorRow {
    /// Of the commit with this sequence, and those before it, the record of who ended in them may be gone.
    #[prost(uint64, tag = "1")]
    pub forgotten_seq: u64,
    /// Where looking through what is due later goes on, since a time was made shorter; absent if that is over.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub resort_from: Option<Vec<u8>>,
    /// What was written after this sequence needs no such look.
    #[prost(uint64, tag = "3")]
    pub resort_seq: u64,
}

/// Encodes what a namespace keeps for how long.
pub fn encode_retention(retention: &Retention) -> Vec<u8> {
    let Retention {
        succeeded,
        dead,
        cancelled,
        expired,
        results,
        modules,
    } = *retention;
    RetentionRow {
        succeeded_ms: millis(succeeded),
        dead_ms: millis(dead),
        cancelled_ms: millis(cancelled),
        expired_ms: millis(expired),
        results_ms: results.map(millis),
        modules_ms: millis(modules),
    }
    .encode_to_vec()
}

/// Decodes what [`encode_retention`] wrote.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_retention(bytes: &[u8]) -> Result<Retention, Error> {
    let RetentionRow {
        succeeded_ms,
        dead_ms,
        cancelled_ms,
        expired_ms,
        results_ms,
        modules_ms,
    } = RetentionRow::decode(bytes).map_err(|source| Error::Decode {
        kind: "retention",
        source,
    })?;
    Ok(Retention {
        succeeded: Duration::from_millis(succeeded_ms),
        dead: Duration::from_millis(dead_ms),
        cancelled: Duration::from_millis(cancelled_ms),
        expired: Duration::from_millis(expired_ms),
        results: results_ms.map(Duration::from_millis),
        modules: Duration::from_millis(modules_ms),
    })
}

/// Decodes how far what is over was removed.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_collector(bytes: &[u8]) -> Result<CollectorRow, Error> {
    CollectorRow::decode(bytes).map_err(|source| Error::Decode {
        kind: "collector",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_read_as_it_was_written() {
        for results in [None, Some(Duration::from_secs(5))] {
            let retention = Retention {
                results,
                ..Retention::DEFAULT
            };
            let decoded = decode_retention(&encode_retention(&retention));
            assert_eq!(decoded.expect("it can be decoded"), retention);
        }
    }
}
