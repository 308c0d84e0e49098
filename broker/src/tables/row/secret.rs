//! Rows of secrets, which are sealed.

use bytes::Bytes;
use prost::Message;
use tq_core::Timestamp;

use super::Error;
use crate::ledger::StoredSecret;
use crate::secrets::Sealed;

#[derive(Clone, PartialEq, Eq, Message)]
struct SecretRow {
    #[prost(bytes = "vec", tag = "1")]
    key_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    nonce: Vec<u8>,
    #[prost(bytes = "bytes", tag = "3")]
    sealed: Bytes,
    #[prost(uint32, tag = "4")]
    version: u32,
    #[prost(uint64, tag = "5")]
    updated_ms: u64,
}

/// Encodes a secret.
pub fn encode_secret(secret: &StoredSecret) -> Vec<u8> {
    let StoredSecret {
        sealed: Sealed {
            key_id,
            nonce,
            bytes,
        },
        version,
        updated_at,
    } = secret;
    SecretRow {
        key_id: key_id.to_vec(),
        nonce: nonce.to_vec(),
        sealed: bytes.clone(),
        version: *version,
        updated_ms: updated_at.0,
    }
    .encode_to_vec()
}

/// Decodes a secret.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_secret(bytes: Bytes) -> Result<StoredSecret, Error> {
    let kind = "secret";
    let row = SecretRow::decode(bytes).map_err(|source| Error::Decode { kind, source })?;
    let SecretRow {
        key_id,
        nonce,
        sealed,
        version,
        updated_ms,
    } = row;
    let wrong = |field| move |_| Error::Field { kind, field };
    Ok(StoredSecret {
        sealed: Sealed {
            key_id: key_id.try_into().map_err(wrong("key_id"))?,
            nonce: nonce.try_into().map_err(wrong("nonce"))?,
            bytes: sealed,
        },
        version,
        updated_at: Timestamp(updated_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_as_they_were_written() {
        let secret = StoredSecret {
            sealed: Sealed {
                key_id: [1; 8],
                nonce: [2; 12],
                bytes: Bytes::from_static(b"sealed"),
            },
            version: 3,
            updated_at: Timestamp(4),
        };
        let encoded = encode_secret(&secret);
        assert_eq!(decode_secret(encoded.into()).unwrap(), secret);
    }
}
