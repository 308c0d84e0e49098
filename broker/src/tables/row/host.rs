//! What is kept of a host: what its operator wants of it. A host that simply works has no row.

use prost::Message;
use tq_core::Timestamp;

use super::Error;
use crate::dispatch::duty::Duty;
use crate::store::Bytes;

const PAUSED: u32 = 1;
const DRAINING: u32 = 2;
const DRAINED: u32 = 3;

#[derive(Clone, PartialEq, Eq, Message)]
struct HostRow {
    /// Which duty it has.
    #[prost(uint32, tag = "1")]
    duty: u32,
    /// The deadline of a drain, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "2")]
    until_ms: u64,
}

/// The row of a host with this duty; none if it needs no row.
pub fn encode_host(duty: Duty) -> Option<Vec<u8>> {
    let (duty, until_ms) = match duty {
        Duty::Working => return None,
        Duty::Paused => (PAUSED, 0),
        Duty::Draining {
            until: Timestamp(until),
        } => (DRAINING, until),
        Duty::Drained => (DRAINED, 0),
    };
    Some(HostRow { duty, until_ms }.encode_to_vec())
}

/// The duty in a host's row.
///
/// # Errors
/// [`Error`] if it is none.
pub fn decode_host(bytes: Bytes) -> Result<Duty, Error> {
    const KIND: &str = "host";
    let HostRow { duty, until_ms } =
        HostRow::decode(bytes).map_err(|source| Error::Decode { kind: KIND, source })?;
    match duty {
        PAUSED => Ok(Duty::Paused),
        DRAINING => Ok(Duty::Draining {
            until: Timestamp(until_ms),
        }),
        DRAINED => Ok(Duty::Drained),
        _ => Err(Error::Field {
            kind: KIND,
            field: "duty",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_they_were_made_of() {
        let draining = Duty::Draining {
            until: Timestamp(77),
        };
        for duty in [Duty::Paused, draining, Duty::Drained] {
            let row = encode_host(duty).expect("it needs a row");
            assert_eq!(decode_host(row.into()).ok(), Some(duty));
        }
        assert_eq!(encode_host(Duty::Working), None);
        assert!(decode_host(Bytes::from_static(&[8, 9])).is_err());
    }
}
