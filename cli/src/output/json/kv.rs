//! Buckets and keys.

use serde::Serialize;
use tq_client::{GetValueResponse, ListBucketsResponse, ListKeysResponse};

use super::Bytes;

/// All buckets.
#[derive(Debug, Serialize)]
pub(crate) struct BucketList<'a> {
    buckets: Vec<BucketInfo<'a>>,
    bytes_max: u64,
}

#[derive(Debug, Serialize)]
struct BucketInfo<'a> {
    name: &'a str,
    keys: u64,
    bytes: u64,
}

/// A page of keys.
#[derive(Debug, Serialize)]
pub(crate) struct KeyList<'a> {
    keys: Vec<KeyInfo<'a>>,
    next: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct KeyInfo<'a> {
    key: &'a str,
    bytes: u64,
    updated_ms: u64,
}

/// A key with its value.
#[derive(Debug, Serialize)]
pub(crate) struct KeyValue<'a> {
    bucket: &'a str,
    key: &'a str,
    value: Bytes<'a>,
    updated_ms: u64,
}

/// A key that was set.
#[derive(Debug, Serialize)]
pub(crate) struct KeySet<'a> {
    bucket: &'a str,
    key: &'a str,
    bytes: u64,
}

/// What was deleted: a key, or so many of them.
#[derive(Debug, Serialize)]
pub(crate) struct KeyDeleted<'a> {
    bucket: &'a str,
    key: Option<&'a str>,
    keys: Option<u64>,
}

impl<'a> BucketList<'a> {
    /// In the order given.
    pub(crate) fn new(listed: &'a ListBucketsResponse) -> Self {
        let buckets = listed.buckets.iter().map(|bucket| BucketInfo {
            name: &bucket.name,
            keys: bucket.keys,
            bytes: bucket.bytes,
        });
        Self {
            buckets: buckets.collect(),
            bytes_max: listed.bytes_max,
        }
    }
}

impl<'a> KeyList<'a> {
    /// In the order given.
    pub(crate) fn new(page: &'a ListKeysResponse) -> Self {
        let keys = page.keys.iter().map(|key| KeyInfo {
            key: &key.key,
            bytes: key.bytes,
            updated_ms: key.updated_ms,
        });
        Self {
            keys: keys.collect(),
            next: page.next.as_deref(),
        }
    }
}

impl<'a> KeyValue<'a> {
    pub(crate) fn new(bucket: &'a str, key: &'a str, found: &'a GetValueResponse) -> Self {
        Self {
            bucket,
            key,
            value: Bytes(&found.value),
            updated_ms: found.updated_ms,
        }
    }
}

impl<'a> KeySet<'a> {
    pub(crate) fn new(bucket: &'a str, key: &'a str, bytes: u64) -> Self {
        Self { bucket, key, bytes }
    }
}

impl<'a> KeyDeleted<'a> {
    pub(crate) fn new(bucket: &'a str, key: Option<&'a str>, keys: Option<u64>) -> Self {
        Self { bucket, key, keys }
    }
}
