//! Ordered bytes that survive: the one place where the broker's data meets the disk.
//!
//! A store knows nothing of tasks; `tables` gives its bytes meaning. It has one writer, the ledger, and any number of
//! readers. [`fjall`] keeps it on disk, [`memory`] in memory with faults to order, and [`conformance`] is the contract
//! that both keep.

pub mod conformance;
mod error;
pub mod fjall;
mod journal;
mod mark;
pub mod memory;
mod repair;
mod row;

use std::{fmt, ops::Bound, sync::Arc};

pub use bytes::Bytes;

pub(crate) use self::mark::sync_directory;
pub use self::{
    error::Error,
    fjall::{OpenOptions, open},
    repair::{Check, Problem, Repair, check, repair},
    row::FORMAT,
};

/// The longest key, in bytes. Keys are made of ids and names, all of them bounded far below this.
pub const KEY_BYTES_MAX: usize = 4 * 1024;

/// The largest value, in bytes. Larger things are blobs, files of their own.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A tree of its own in the store. Names and numbers are on disk and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// What exists once or seldom changes: namespaces, modules, queues, counters, checkpoints.
    Meta = 0,
    /// What each task was asked to do, under a key that rises, written once.
    Calls = 1,
    /// What leads to a task: ids, idempotency keys, ready and timer entries.
    Index = 2,
    /// Payloads, results and logs that are too large for the row of their task.
    Payloads = 3,
    /// What has become of each task, under a key that rises, overwritten in place.
    States = 4,
}

impl Space {
    /// Every space, in the order of its number.
    pub const ALL: [Self; 5] = [
        Self::Meta,
        Self::Calls,
        Self::Index,
        Self::Payloads,
        Self::States,
    ];

    /// The name in messages and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Calls => "calls",
            Self::Index => "index",
            Self::Payloads => "payloads",
            Self::States => "states",
        }
    }
}

/// Where a value is. Keys of one space are ordered byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The tree.
    pub space: Space,
    /// 1 to [`KEY_BYTES_MAX`] bytes.
    pub bytes: Vec<u8>,
}

impl Key {
    /// Names the place `bytes` in `space`.
    pub fn new(space: Space, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            space,
            bytes: bytes.into(),
        }
    }
}

/// A value. It owns its bytes (it does not hold a cached block in memory) and is cheap to clone.
pub type Value = Bytes;

/// A key, without its space, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key's bytes.
    pub key: Bytes,
    /// The value under it.
    pub value: Value,
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From low keys to high ones.
    Ascending,
    /// From high keys to low ones.
    Descending,
}

/// What a commit outlives once it has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A crash of the process, not of the machine.
    Process,
    /// A loss of power. It makes every earlier commit outlive that too.
    Disk,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Committed {
    /// All of the batch is in the store, at this store sequence, and outlives what its level says.
    Yes(u64),
    /// Nothing of the batch is in the store. The store goes on.
    No,
    /// All of the batch is in the store or nothing of it. The store is [poisoned](Error::Poisoned). Once it is open again,
    /// [`Store::recovered_seq`] tells: it has reached this sequence if the batch is there. Until then it is not sent again.
    Unknown(u64),
}

/// Which store this is: made once, when the store is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What any thread may do with a store: read it as of the last commit. Reads may block on the disk.
pub trait Read: Send + Sync + 'static {
    /// Returns the values of `keys`, in their order, all as of one commit.
    ///
    /// # Errors
    /// [`Error::Closed`] after the store was closed, [`Error::Engine`] if the disk cannot be read or a block does not
    /// have its checksum.
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Error>;

    /// Returns at most `limit` pairs of `space` whose keys begin with `prefix`, in the order of `direction`, all as of
    /// one commit. `from` is a whole key, inclusive, that need not exist: ascending, what lies before it is left out;
    /// descending, what lies after it. An empty `from` leaves nothing out; an empty `prefix` is the whole space.
    ///
    /// # Errors
    /// As [`Read::get_many`].
    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        from: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, Error>;

    /// Returns the value under one key.
    ///
    /// # Errors
    /// As [`Read::get_many`].
    fn get(&self, key: &Key) -> Result<Option<Value>, Error> {
        Ok(self.get_many(std::slice::from_ref(key))?.pop().flatten())
    }
}

/// Makes commits outlive a loss of power, on any thread, while the writer goes on.
pub trait Syncer: Send {
    /// Makes every commit that had returned when this was called outlive a loss of power. Returns the sequence of the
    /// last of them. Blocks on the disk; commits and reads go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if this or anything before it failed: it is not tried again, since the system may have
    /// dropped what it could not write. [`Error::Closed`] after the store was closed.
    fn sync(&mut self) -> Result<u64, Error>;
}

/// A store, in the hands of its one writer.
///
/// A commit gets the next sequence, which rises by one with each commit and is part of what is committed.
pub trait Store: Read {
    /// Returns what other threads read through. It sees each commit as soon as that has returned.
    fn reader(&self) -> Arc<dyn Read>;

    /// Returns what makes commits durable beside the writer.
    fn syncer(&self) -> Box<dyn Syncer>;

    /// Applies all of `batch` or none of it. Of several operations on one key, the last one counts. An empty batch is
    /// allowed: at [`Level::Disk`] it makes all earlier commits outlive a loss of power.
    ///
    /// # Errors
    /// [`Error::KeyLength`] and [`Error::ValueTooLarge`] for what the store cannot hold, [`Error::Poisoned`] after an
    /// earlier commit, or the engine's own work in the background, failed. Nothing was applied then.
    fn commit(&mut self, batch: Batch, level: Level) -> Result<Committed, Error>;

    /// Whether the next commit has a chance. What works in the background may have found out that it has none.
    ///
    /// # Errors
    /// [`Error::Poisoned`], as the next commit would.
    fn check(&self) -> Result<(), Error>;

    /// Makes everything durable, notes that the end was orderly and lets go of the directory. Readers that are left
    /// get [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the last writes failed: the next start is then an unclean one.
    fn close(self: Box<Self>) -> Result<(), Error>;

    /// Bytes that may still be written to the file system that the store is on.
    ///
    /// # Errors
    /// [`Error::Io`] if the file system cannot be asked.
    fn free_bytes(&self) -> Result<u64, Error>;

    /// The sequence of the last commit.
    fn seq(&self) -> u64;

    /// The sequence of the last commit that outlives a loss of power.
    fn durable_seq(&self) -> u64;

    /// The sequence of the last commit that was found when the store was opened. The opening itself is one commit more.
    fn recovered_seq(&self) -> u64;

    /// How often the store has been opened. It was durable before [`open`] returned, so no two openings share one.
    fn generation(&self) -> u32;

    /// Which store this is.
    fn store_id(&self) -> StoreId;

    /// Whether the store was closed in order before it was opened now. A new store is clean.
    fn was_clean(&self) -> bool;
}

/// One thing that a batch does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets the value under a key, whether or not there was one.
    Put(Key, Value),
    /// Removes a key, whether or not it was there.
    Delete(Key),
}

impl Operation {
    /// The bytes of its key and value.
    fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.bytes.len() + value.len(),
            Self::Delete(key) => key.bytes.len(),
        }
    }
}

/// What is committed together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    operations: Vec<Operation>,
    bytes: usize,
}

impl Batch {
    /// A batch that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value under a key.
    pub fn put(&mut self, key: Key, value: impl Into<Value>) {
        let value = value.into();
        self.bytes += key.bytes.len() + value.len();
        self.operations.push(Operation::Put(key, value));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Key) {
        self.bytes += key.bytes.len();
        self.operations.push(Operation::Delete(key));
    }

    /// Takes the operations from the `at`th on out of it.
    ///
    /// # Panics
    /// If it has fewer.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let operations = self.operations.split_off(at);
        let bytes = operations.iter().map(Operation::bytes).sum();
        self.bytes -= bytes;
        Self { operations, bytes }
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The operations, in their order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Refuses what no backend could hold.
    fn check(&self) -> Result<(), Error> {
        for operation in &self.operations {
            let (Operation::Put(key, _) | Operation::Delete(key)) = operation;
            if key.bytes.is_empty() || key.bytes.len() > KEY_BYTES_MAX {
                return Err(Error::KeyLength {
                    len: key.bytes.len(),
                });
            }
            if let Operation::Put(_, value) = operation
                && value.len() > VALUE_BYTES_MAX
            {
                return Err(Error::ValueTooLarge { len: value.len() });
            }
        }
        Ok(())
    }
}

/// The lowest and the highest key of a range.
type Bounds<K> = (Bound<K>, Bound<K>);

/// The keys that a scan visits, or `None` if there can be none.
fn scan_bounds(prefix: &[u8], from: &[u8], direction: Direction) -> Option<Bounds<Vec<u8>>> {
    let end = prefix_end(prefix);
    let before_end = |key: &[u8]| end.as_deref().is_none_or(|end| key < end);
    match direction {
        Direction::Ascending => {
            let low = from.max(prefix);
            before_end(low).then(|| {
                (
                    Bound::Included(low.to_vec()),
                    end.clone().map_or(Bound::Unbounded, Bound::Excluded),
                )
            })
        }
        Direction::Descending if !from.is_empty() && from < prefix => None,
        Direction::Descending => {
            let high = if !from.is_empty() && before_end(from) {
                Bound::Included(from.to_vec())
            } else {
                end.clone().map_or(Bound::Unbounded, Bound::Excluded)
            };
            Some((Bound::Included(prefix.to_vec()), high))
        }
    }
}

/// The first key after all that begin with `prefix`; `None` if the prefix reaches to the end of the space.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prefix: &[u8], from: &[u8], direction: Direction, expected: Option<Bounds<&[u8]>>) {
        let expected =
            expected.map(|(low, high)| (low.map(<[u8]>::to_vec), high.map(<[u8]>::to_vec)));
        assert_eq!(scan_bounds(prefix, from, direction), expected);
    }

    #[test]
    fn scan_stays_within_prefix() {
        use Bound::{Excluded, Included, Unbounded};
        use Direction::{Ascending, Descending};

        check(b"", b"", Ascending, Some((Included(b""), Unbounded)));
        check(b"a", b"", Ascending, Some((Included(b"a"), Excluded(b"b"))));
        check(
            b"a",
            b"ac",
            Ascending,
            Some((Included(b"ac"), Excluded(b"b"))),
        );
        check(
            b"b",
            b"a",
            Ascending,
            Some((Included(b"b"), Excluded(b"c"))),
        );
        check(b"a", b"b", Ascending, None);
        check(
            b"\xff\xff",
            b"",
            Ascending,
            Some((Included(b"\xff\xff"), Unbounded)),
        );
        check(
            b"a\xff",
            b"",
            Ascending,
            Some((Included(b"a\xff"), Excluded(b"b"))),
        );
        check(
            b"a",
            b"",
            Descending,
            Some((Included(b"a"), Excluded(b"b"))),
        );
        check(
            b"a",
            b"ac",
            Descending,
            Some((Included(b"a"), Included(b"ac"))),
        );
        check(
            b"a",
            b"c",
            Descending,
            Some((Included(b"a"), Excluded(b"b"))),
        );
        check(b"b", b"a", Descending, None);
        check(b"", b"", Descending, Some((Included(b""), Unbounded)));
    }
}
