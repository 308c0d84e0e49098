//! What is kept of a breaker: what an operator wants of it. One that is left to itself has no row.

use prost::Message;
use tq_core::Timestamp;
use tq_core::breaker::Forced;

use super::Error;
use crate::dispatch::breakers::Override;
use crate::store::Bytes;

const OPEN: u32 = 1;
const CLOSED: u32 = 2;

#[derive(Clone, PartialEq, Eq, Message)]
struct BreakerRow {
    /// Where it is to be.
    #[prost(uint32, tag = "1")]
    forced: u32,
    /// Since when, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "2")]
    since_ms: u64,
    /// Why.
    #[prost(string, tag = "3")]
    reason: String,
    /// The module that was named, and its version. Others may have the same bytes.
    #[prost(string, tag = "4")]
    module: String,
    #[prost(uint32, tag = "5")]
    version: u32,
}

/// The row of a breaker of the function of a module.
pub fn encode_breaker(forced: &Override, module: &str, version: u32) -> Vec<u8> {
    let Override {
        forced,
        since: Timestamp(since_ms),
        reason,
    } = forced;
    BreakerRow {
        forced: match forced {
            Forced::Open => OPEN,
            Forced::Closed => CLOSED,
        },
        since_ms: *since_ms,
        reason: reason.clone(),
        module: module.to_owned(),
        version,
    }
    .encode_to_vec()
}

/// What is wanted of a breaker, and the module and version that were named.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_breaker(bytes: Bytes) -> Result<(Override, String, u32), Error> {
    const KIND: &str = "breaker";
    let BreakerRow {
        forced,
        since_ms,
        reason,
        module,
        version,
    } = BreakerRow::decode(bytes).map_err(|source| Error::Decode { kind: KIND, source })?;
    let forced = match forced {
        OPEN => Forced::Open,
        CLOSED => Forced::Closed,
        _ => {
            return Err(Error::Field {
                kind: KIND,
                field: "forced",
            });
        }
    };
    let forced = Override {
        forced,
        since: Timestamp(since_ms),
        reason,
    };
    Ok((forced, module, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_they_were_made_of() {
        for forced in [Forced::Open, Forced::Closed] {
            let forced = Override {
                forced,
                since: Timestamp(77),
                reason: "the shop is closed".to_owned(),
            };
            let row = encode_breaker(&forced, "mail", 3);
            let read = decode_breaker(row.into()).ok();
            assert_eq!(read, Some((forced, "mail".to_owned(), 3)));
        }
        assert!(decode_breaker(Bytes::from_static(&[8, 9])).is_err());
    }
}
