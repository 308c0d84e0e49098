//! Buckets of keys and values: every change is decided here, in the order in which it is written.
//!
//! What a namespace's buckets have is counted exactly, in memory and in a row for each bucket. Who reads reads the store, once
//! the ledger has said that the attempt may.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use prost::Message;
use tq_core::grant::BucketName;
use tq_core::limits::{
    KEYVALUE_BUCKETS_MAX, KEYVALUE_ENTRY_BYTES, KEYVALUE_KEYS_MAX, KEYVALUE_NAMESPACE_BYTES_MAX,
};

use super::{Error, Ledger, Refused, Reply};
use crate::dispatch::message::AttemptRef;
use crate::store::{Key, Space};
use crate::tables::Namespace;
use crate::tables::key;
use crate::tables::row::{self, Bucket, Entry};

/// Versions that one commit can give, as a power of two. A commit takes a few thousand keys at most.
const VERSION_BITS: u32 = 20;

/// A change of a bucket.
pub struct BucketChange {
    /// Who wants it.
    pub by: ChangedBy,
    /// The bucket.
    pub bucket: BucketName,
    /// What changes. Names of keys and values are within their limits.
    pub what: WhatChanges,
    /// What came of it, once that is on disk.
    pub reply: Reply<Result<Changed, Refused>>,
}

/// Who changes a bucket.
pub enum ChangedBy {
    /// An attempt, which has to run still, and to have been granted the bucket.
    Attempt(AttemptRef),
    /// An operator, in the namespace of this name. It is made if it is new, and something is to be set.
    Operator(String),
}

/// What of a bucket changes.
pub enum WhatChanges {
    /// Sets keys, all of them or none. Of those that are named twice, the last one counts.
    Set(Vec<(String, Bytes)>),
    /// Deletes keys, as far as they are there.
    Delete(Vec<String>),
    /// Adds to a number in decimal digits. A key that is not there is 0.
    Increment(String, i64),
    /// Sets a key if it is in this version; 0 is that of one that is not there.
    Swap(String, u64, Bytes),
    /// Deletes the next keys after this one, or the first ones: at most [`KEYVALUE_KEYS_MAX`].
    Clear(Option<String>),
}

impl WhatChanges {
    /// How many keys it touches at most.
    pub(super) fn keys(&self) -> usize {
        match self {
            Self::Set(pairs) => pairs.len(),
            Self::Delete(keys) => keys.len(),
            Self::Increment(..) | Self::Swap(..) => 1,
            Self::Clear(_) => KEYVALUE_KEYS_MAX,
        }
    }

    fn may_grow(&self) -> bool {
        match self {
            Self::Set(_) | Self::Increment(..) | Self::Swap(..) => true,
            Self::Delete(_) | Self::Clear(_) => false,
        }
    }
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is done.
    Done,
    /// The number as it is from now on.
    Sum(i64),
    /// Whether the key was in the version that was given.
    Swapped(bool),
    /// How many keys are gone, and after which one there may be more.
    Cleared(u64, Option<String>),
}

/// What the buckets of each namespace have. One that has nothing is not there.
#[derive(Debug, Default)]
pub(super) struct Buckets(BTreeMap<Namespace, BTreeMap<String, Bucket>>);

impl Buckets {
    /// Every bucket.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Namespace, &str, Bucket)> {
        self.0.iter().flat_map(|(namespace, buckets)| {
            let of = buckets.iter();
            of.map(|(name, bucket)| (*namespace, name.as_str(), *bucket))
        })
    }
}

/// What a step has done to buckets.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Entries that it has written, none for those that it has deleted: they cannot be read before its commit.
    entries: HashMap<Key, Option<Entry>>,
    /// How many versions it has given.
    versions: u64,
}

impl Ledger {
    pub(super) fn change_bucket(&mut self, change: BucketChange) -> Result<(), Error> {
        let BucketChange {
            by,
            bucket,
            what,
            reply,
        } = change;
        let changed = match self.may_change(by, &bucket, &what)? {
            Ok(Some(namespace)) => self.change_in(namespace, bucket.as_str(), what)?,
            // A namespace that was never used has no buckets.
            Ok(None) => Ok(match what {
                WhatChanges::Clear(_) => Changed::Cleared(0, None),
                _ => Changed::Done,
            }),
            Err(refused) => Err(refused),
        };
        self.answer(reply, changed);
        Ok(())
    }

    /// The namespace of the bucket, if whoever asks may change it.
    fn may_change(
        &mut self,
        by: ChangedBy,
        bucket: &BucketName,
        what: &WhatChanges,
    ) -> Result<Result<Option<Namespace>, Refused>, Error> {
        let name = match by {
            ChangedBy::Operator(name) => name,
            ChangedBy::Attempt(attempt) => match self.granted(&attempt)? {
                Err(refused) => return Ok(Err(refused)),
                Ok(granted) if !granted.keyvalue.contains(bucket) => {
                    return Ok(Err(Refused::BucketNotGranted(bucket.clone())));
                }
                Ok(_) => attempt.namespace,
            },
        };
        if !what.may_grow() {
            return Ok(Ok(self.namespace(&name)));
        }
        Ok(match self.refuse_when_full()? {
            Some(refused) => Err(refused),
            None => Ok(Some(self.namespace_or_new(&name))),
        })
    }

    fn change_in(
        &mut self,
        namespace: Namespace,
        bucket: &str,
        what: WhatChanges,
    ) -> Result<Result<Changed, Refused>, Error> {
        let (values, changed) = match what {
            WhatChanges::Set(pairs) => {
                let values = pairs.into_iter().map(|(name, value)| (name, Some(value)));
                (values.collect(), Changed::Done)
            }
            WhatChanges::Delete(keys) => {
                let values = keys.into_iter().map(|name| (name, None));
                (values.collect(), Changed::Done)
            }
            WhatChanges::Increment(name, delta) => {
                let entry = self.entry(&key::entry(namespace, bucket, &name))?;
                let sum = match &entry {
                    None => Some(delta),
                    // A value that is not in the row is far too long for a number.
                    Some(entry) => number(&entry.in_row).and_then(|sum| sum.checked_add(delta)),
                };
                let Some(sum) = sum else {
                    return Ok(Err(Refused::NoNumber { key: name, delta }));
                };
                let value = Bytes::from(sum.to_string());
                ([(name, Some(value))].into(), Changed::Sum(sum))
            }
            WhatChanges::Swap(name, version, value) => {
                let entry = self.entry(&key::entry(namespace, bucket, &name))?;
                if entry.map_or(0, |entry| entry.version) != version {
                    return Ok(Ok(Changed::Swapped(false)));
                }
                ([(name, Some(value))].into(), Changed::Swapped(true))
            }
            WhatChanges::Clear(after) => {
                let page =
                    row::list_entries::<Error>(&*self.store, namespace, bucket, after.as_deref())?;
                let next = page.entries.last().map(|(name, _)| name.clone());
                let next = next.filter(|_| page.is_full);
                let mut values = BTreeMap::new();
                for (name, _) in page.entries {
                    // What the step has deleted before is not deleted twice.
                    if self.entry(&key::entry(namespace, bucket, &name))?.is_some() {
                        values.insert(name, None);
                    }
                }
                let count = values.len() as u64;
                (values, Changed::Cleared(count, next))
            }
        };
        let written = self.write_entries(namespace, bucket, values)?;
        Ok(written.map(|()| changed))
    }

    /// The entry of a key as the step has left it so far.
    fn entry(&self, at: &Key) -> Result<Option<Entry>, Error> {
        if let Some(written) = self.step.buckets.entries.get(at) {
            return Ok(written.clone());
        }
        let row = self.store.get(at)?;
        Ok(row.map(Entry::read).transpose()?)
    }

    /// Sets keys, or deletes those that get no value: all of them, or none if that would be too much.
    fn write_entries(
        &mut self,
        namespace: Namespace,
        bucket: &str,
        values: BTreeMap<String, Option<Bytes>>,
    ) -> Result<Result<(), Refused>, Error> {
        let of_namespace = self.buckets.0.get(&namespace);
        let before = of_namespace.and_then(|buckets| buckets.get(bucket));
        let before = before.copied().unwrap_or_default();
        let mut after = before;
        let mut places = Vec::with_capacity(values.len());
        for (name, value) in values {
            let at = key::entry(namespace, bucket, &name);
            let entry = self.entry(&at)?;
            if let Some(entry) = &entry {
                after.keys = after.keys.saturating_sub(1);
                after.bytes = after.bytes.saturating_sub(size(bucket, &name, entry.len));
            }
            if let Some(value) = &value {
                after.keys += 1;
                after.bytes += size(bucket, &name, value.len() as u64);
            }
            if entry.is_some() || value.is_some() {
                places.push((at, name, entry.is_some_and(|entry| entry.is_apart()), value));
            }
        }
        let total = of_namespace.map_or(0, |buckets| {
            buckets.values().map(|bucket| bucket.bytes).sum()
        });
        let total = total - before.bytes + after.bytes;
        if after.bytes > before.bytes && total > KEYVALUE_NAMESPACE_BYTES_MAX {
            return Ok(Err(Refused::BucketsFull { bytes: total }));
        }
        let more = after.bytes.saturating_sub(before.bytes);
        if let Err(refused) = self.refuse_stored(namespace, more) {
            return Ok(Err(refused));
        }
        let count = of_namespace.map_or(0, BTreeMap::len);
        if before.keys == 0 && after.keys > 0 && count >= KEYVALUE_BUCKETS_MAX {
            return Ok(Err(Refused::TooManyBuckets));
        }
        for (at, name, was_apart, value) in places {
            let apart = value.map(|value| {
                self.step.buckets.versions += 1;
                let version = (self.store.seq() + 1) << VERSION_BITS | self.step.buckets.versions;
                Entry::new(value, version, self.time.0)
            });
            let (entry, value) = apart.map_or((None, None), |(entry, value)| (Some(entry), value));
            let batch = &mut self.step.batch;
            match &entry {
                Some(entry) => batch.put(at.clone(), entry.encode_to_vec()),
                None => batch.delete(at.clone()),
            }
            let value_at = key::value(namespace, bucket, &name);
            match value {
                Some(value) => batch.put(value_at, value),
                None if was_apart => batch.delete(value_at),
                None => {}
            }
            self.step.buckets.entries.insert(at, entry);
            self.step.durable = true;
        }
        self.note_bucket(namespace, bucket, before, after);
        Ok(Ok(()))
    }

    /// Keeps what a bucket has from now on.
    fn note_bucket(&mut self, namespace: Namespace, name: &str, before: Bucket, after: Bucket) {
        if before == after {
            return;
        }
        self.shares.keep(namespace, before.bytes, after.bytes);
        let at = key::bucket(namespace, name);
        let buckets = self.buckets.0.entry(namespace).or_default();
        if after.keys > 0 {
            buckets.insert(name.to_owned(), after);
            self.step.batch.put(at, after.encode_to_vec());
        } else {
            buckets.remove(name);
            self.step.batch.delete(at);
        }
    }

    pub(super) fn recover_buckets(&mut self) -> Result<(), Error> {
        for (at, bytes) in self.read_all(Space::Meta, &key::buckets())? {
            if let Some((namespace, name)) = key::bucket_of(&at) {
                let buckets = self.buckets.0.entry(namespace).or_default();
                let bucket = Bucket::read(bytes)?;
                self.shares.keep(namespace, 0, bucket.bytes);
                buckets.insert(name.to_owned(), bucket);
            }
        }
        Ok(())
    }
}

/// What a key counts.
pub(super) fn size(bucket: &str, name: &str, value_len: u64) -> u64 {
    (bucket.len() + name.len()) as u64 + value_len + KEYVALUE_ENTRY_BYTES
}

/// The number that a value is.
fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
