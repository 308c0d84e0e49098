//! Rows of buckets and of what is in them, and how they are read.
//!
//! An entry's row has its value too if that is small. A larger one is a row of its own, so that whoever lists keys, or only wants to
//! know how much there is, does not read values.

use bytes::Bytes;
use prost::Message;
use tq_core::limits::KEYVALUE_KEYS_MAX;

use super::Error;
use crate::store::{self, Direction, Read, Space};
use crate::tables::key::{self, Namespace};

/// The largest value that is a part of its entry's row: as large as a key may be, so that neither makes a page of keys large.
const IN_ROW_MAX: usize = 512;

/// What a bucket has.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Bucket {
    /// Keys.
    #[prost(uint64, tag = "1")]
    pub keys: u64,
    /// What they count for the limit of their namespace.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

impl Bucket {
    /// Decodes a bucket.
    ///
    /// # Errors
    /// [`Error`] if the bytes are no such row.
    pub fn read(bytes: Bytes) -> Result<Self, Error> {
        Self::decode(bytes).map_err(|source| Error::Decode {
            kind: "bucket",
            source,
        })
    }
}

/// A key of a bucket.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Entry {
    /// The bytes of its value.
    #[prost(uint64, tag = "1")]
    pub len: u64,
    /// It rises with every change of the key, also over its deletion.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// When it was written last, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub updated_ms: u64,
    /// The value, if it is small; empty otherwise.
    #[prost(bytes = "bytes", tag = "4")]
    pub in_row: Bytes,
}

impl Entry {
    /// An entry, and its value if that is a row of its own.
    pub fn new(value: Bytes, version: u64, updated_ms: u64) -> (Self, Option<Bytes>) {
        let len = value.len() as u64;
        let (in_row, apart) = match value.len() {
            0..=IN_ROW_MAX => (value, None),
            _ => (Bytes::new(), Some(value)),
        };
        let entry = Self {
            len,
            version,
            updated_ms,
            in_row,
        };
        (entry, apart)
    }

    /// Decodes an entry.
    ///
    /// # Errors
    /// [`Error`] if the bytes are no such row.
    pub fn read(bytes: Bytes) -> Result<Self, Error> {
        Self::decode(bytes).map_err(|source| Error::Decode {
            kind: "entry",
            source,
        })
    }

    /// Whether its value is a row of its own.
    pub fn is_apart(&self) -> bool {
        self.len > IN_ROW_MAX as u64
    }
}

/// Keys of a bucket, with their names in the order of their bytes.
#[derive(Debug, Default)]
pub struct Page {
    /// At most [`KEYVALUE_KEYS_MAX`].
    pub entries: Vec<(String, Entry)>,
    /// There may be more after the last one.
    pub is_full: bool,
}

/// The entry of a key, and its value, both as of one commit.
///
/// # Errors
/// If the rows cannot be read, or make no sense.
pub fn find_value<E: From<store::Error> + From<Error>>(
    store: &(impl Read + ?Sized),
    namespace: Namespace,
    bucket: &str,
    name: &str,
) -> Result<Option<(Entry, Bytes)>, E> {
    let keys = [
        key::entry(namespace, bucket, name),
        key::value(namespace, bucket, name),
    ];
    let [entry, apart] = store.get_many(&keys)?.try_into().unwrap_or_default();
    let Some(entry) = entry else {
        return Ok(None);
    };
    let entry = Entry::read(entry)?;
    let value = match entry.is_apart() {
        false => entry.in_row.clone(),
        true => apart.ok_or(Error::Field {
            kind: "entry",
            field: "len",
        })?,
    };
    Ok(Some((entry, value)))
}

/// Keys of a bucket that come after one of them, or the first ones.
///
/// # Errors
/// If the rows cannot be read, or make no sense.
pub fn list_entries<E: From<store::Error> + From<Error>>(
    store: &(impl Read + ?Sized),
    namespace: Namespace,
    bucket: &str,
    after: Option<&str>,
) -> Result<Page, E> {
    let prefix = key::entries_of(namespace, bucket);
    let mut from = Vec::new();
    if let Some(after) = after {
        from = key::entry(namespace, bucket, after).bytes;
        from.push(0);
    }
    let way = Direction::Ascending;
    let pairs = store.scan(Space::Index, &prefix, &from, way, KEYVALUE_KEYS_MAX)?;
    let is_full = pairs.len() == KEYVALUE_KEYS_MAX;
    let mut entries = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let (_, _, name) = key::entry_of(&pair.key).ok_or(Error::Field {
            kind: "entry",
            field: "key",
        })?;
        entries.push((name.to_owned(), Entry::read(pair.value)?));
    }
    Ok(Page { entries, is_full })
}

/// The buckets of a namespace, by name. There are few.
///
/// # Errors
/// If the rows cannot be read, or make no sense.
pub fn list_buckets<E: From<store::Error> + From<Error>>(
    store: &(impl Read + ?Sized),
    namespace: Namespace,
) -> Result<Vec<(String, Bucket)>, E> {
    let prefix = key::buckets_of(namespace);
    let way = Direction::Ascending;
    let pairs = store.scan(Space::Meta, &prefix, &[], way, usize::MAX)?;
    let mut buckets = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let (_, name) = key::bucket_of(&pair.key).ok_or(Error::Field {
            kind: "bucket",
            field: "key",
        })?;
        buckets.push((name.to_owned(), Bucket::read(pair.value)?));
    }
    Ok(buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_values_are_rows_of_their_own() {
        for len in [0, 1, IN_ROW_MAX, IN_ROW_MAX + 1] {
            let value = Bytes::from(vec![7; len]);
            let (entry, apart) = Entry::new(value.clone(), 5, 6);
            assert_eq!(apart.is_some(), entry.is_apart(), "{len}");
            assert_eq!(apart.unwrap_or_else(|| entry.in_row.clone()), value);
            let read = Entry::read(entry.encode_to_vec().into()).unwrap();
            assert_eq!(read, entry);
        }
    }
}
