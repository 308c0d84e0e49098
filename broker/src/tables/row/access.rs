//! Rows of access control: since when it is there, its keys, and the audit log.

use bytes::Bytes;
use prost::Message;
use tq_core::Timestamp;
use tq_core::access::{Role, Scope};
use tq_proto::v1;

use super::Error;
use crate::access::audit::Record;
use crate::access::{KeyId, Previous, StoredKey, TextHash};

#[derive(Clone, PartialEq, Eq, Message)]
struct AccessRow {
    #[prost(uint64, tag = "1")]
    since_ms: u64,
}

/// Encodes that there is access control.
pub fn encode_access(since: Timestamp) -> Vec<u8> {
    AccessRow { since_ms: since.0 }.encode_to_vec()
}

/// Decodes since when there is access control.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_access(bytes: Bytes) -> Result<Timestamp, Error> {
    let decode = |source| Error::Decode {
        kind: "access",
        source,
    };
    let row = AccessRow::decode(bytes).map_err(decode)?;
    Ok(Timestamp(row.since_ms))
}

#[derive(Clone, PartialEq, Eq, Message)]
struct AccessKeyRow {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
    /// The role's name.
    #[prost(string, tag = "3")]
    role: String,
    /// None of them is all.
    #[prost(string, repeated, tag = "4")]
    namespaces: Vec<String>,
    #[prost(uint64, tag = "5")]
    created_ms: u64,
    #[prost(string, tag = "6")]
    created_by: String,
    /// 0 if it does not end by itself.
    #[prost(uint64, tag = "7")]
    expires_ms: u64,
    #[prost(bytes = "vec", tag = "8")]
    hash: Vec<u8>,
    /// 0 if it was not.
    #[prost(uint64, tag = "9")]
    rotated_ms: u64,
    /// Empty if there is none.
    #[prost(bytes = "vec", tag = "10")]
    previous_hash: Vec<u8>,
    #[prost(uint64, tag = "11")]
    previous_expires_ms: u64,
}

/// Encodes a key.
pub fn encode_access_key(key: &StoredKey) -> Vec<u8> {
    let StoredKey {
        id,
        name,
        role,
        scope,
        created_at,
        created_by,
        expires_at,
        hash,
        rotated_at,
        previous,
    } = key;
    let ms = |at: &Option<Timestamp>| at.map_or(0, |at| at.0);
    let (previous_hash, previous_expires_ms) = match previous {
        Some(Previous { hash, expires_at }) => (hash.as_bytes().to_vec(), expires_at.0),
        None => (Vec::new(), 0),
    };
    AccessKeyRow {
        id: id.0.to_vec(),
        name: name.clone(),
        role: role.name().to_owned(),
        namespaces: scope.names().map(str::to_owned).collect(),
        created_ms: created_at.0,
        created_by: created_by.clone(),
        expires_ms: ms(expires_at),
        hash: hash.as_bytes().to_vec(),
        rotated_ms: ms(rotated_at),
        previous_hash,
        previous_expires_ms,
    }
    .encode_to_vec()
}

/// Decodes a key.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_access_key(bytes: Bytes) -> Result<StoredKey, Error> {
    let kind = "access key";
    let row = AccessKeyRow::decode(bytes).map_err(|source| Error::Decode { kind, source })?;
    let AccessKeyRow {
        id,
        name,
        role,
        namespaces,
        created_ms,
        created_by,
        expires_ms,
        hash,
        rotated_ms,
        previous_hash,
        previous_expires_ms,
    } = row;
    let wrong = |field| Error::Field { kind, field };
    let of = |bytes: Vec<u8>, field| {
        let bytes = bytes.try_into().map_err(|_| wrong(field))?;
        Ok(TextHash::from_bytes(bytes))
    };
    let at = |ms: u64| (ms > 0).then_some(Timestamp(ms));
    let previous = match previous_hash.is_empty() {
        true => None,
        false => Some(Previous {
            hash: of(previous_hash, "previous_hash")?,
            expires_at: Timestamp(previous_expires_ms),
        }),
    };
    Ok(StoredKey {
        id: KeyId(id.try_into().map_err(|_| wrong("id"))?),
        name,
        role: role.parse::<Role>().map_err(|_| wrong("role"))?,
        scope: Scope::of(namespaces).map_err(|_| wrong("namespaces"))?,
        created_at: Timestamp(created_ms),
        created_by,
        expires_at: at(expires_ms),
        hash: of(hash, "hash")?,
        rotated_at: at(rotated_ms),
        previous,
    })
}

/// Encodes a record of the audit log. It is on disk as it is shown: who checks a record sees what its hash is over, and nothing between
/// the two can leave any of it out.
pub fn encode_audit(record: Record) -> Vec<u8> {
    v1::AuditRecord::from(record).encode_to_vec()
}

/// Decodes a record of the audit log.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_audit(bytes: Bytes) -> Result<Record, Error> {
    let kind = "audit";
    let row = v1::AuditRecord::decode(bytes).map_err(|source| Error::Decode { kind, source })?;
    let field = "hash";
    Record::try_from(row).map_err(|_| Error::Field { kind, field })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::audit::Event;

    #[test]
    fn keys_are_read_as_they_were_written() {
        let key = StoredKey {
            id: KeyId([1; 8]),
            name: "ci".into(),
            role: Role::Deployer,
            scope: Scope::of(["acme".to_owned(), "beta".to_owned()]).unwrap(),
            created_at: Timestamp(1),
            created_by: "key x (admin)".into(),
            expires_at: Some(Timestamp(2)),
            hash: TextHash::from_bytes([3; 32]),
            rotated_at: Some(Timestamp(4)),
            previous: Some(Previous {
                hash: TextHash::from_bytes([5; 32]),
                expires_at: Timestamp(6),
            }),
        };
        let read = |key: &StoredKey| decode_access_key(encode_access_key(key).into()).unwrap();
        assert_eq!(read(&key), key);
        let bare = StoredKey {
            scope: Scope::All,
            expires_at: None,
            rotated_at: None,
            previous: None,
            ..key
        };
        assert_eq!(read(&bare), bare);
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let event = Event {
            principal: "a".into(),
            peer: "b".into(),
            call: "c".into(),
            namespace: "d".into(),
            subject: "e".into(),
            outcome: "f".into(),
            left_out: 3,
        };
        let record = Record::new(1, Timestamp(2), event, [7; 32]);
        let read = decode_audit(encode_audit(record.clone()).into()).unwrap();
        assert_eq!(read, record);
    }
}
