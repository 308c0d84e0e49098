//! A store in memory, with the failures of a disk at one's command: for tests and for the simulation.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use super::{
    Batch, Bytes, Committed, Direction, Error, Key, Level, Operation, Pair, Read, Space, Store,
    StoreId, Value, scan_bounds,
};

type Tree = BTreeMap<Vec<u8>, Value>;

/// What a planned failure does to its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// [`Committed::No`]: nothing is applied, the store goes on.
    NotCommitted,
    /// [`Committed::Unknown`], and nothing was applied. The store is poisoned.
    UnknownBefore,
    /// [`Committed::Unknown`], and all of it was applied. The store is poisoned.
    UnknownAfter,
}

/// What ends a store without its being closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: every commit stays.
    Process,
    /// The power fails: what came after the last commit at [`Level::Disk`] is gone.
    Power,
}

/// What outlives a [`Memory`] store, as a disk outlives a process. Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    trees: Arc<RwLock<[Tree; Space::ALL.len()]>>,
    /// How to go back to the last commit at [`Level::Disk`], the newest step last.
    undo: Vec<(Key, Option<Value>)>,
    seq: u64,
    durable: u64,
    generation: u32,
    is_clean: bool,
    /// Which opening may write. A handle from before a crash may not.
    opening: u64,
    is_open: bool,
    poison: Option<String>,
    /// Commits since the disk was made, and what fails when.
    commits: u64,
    faults: BTreeMap<u64, Fault>,
    free_bytes: Option<u64>,
}

const STORE_ID: StoreId = StoreId(*b"tq memory store\0");

impl Disk {
    /// A disk with an empty store on it.
    pub fn new() -> Self {
        let disk = Self::default();
        disk.state().is_clean = true;
        disk
    }

    /// Opens the store, as [`super::open`] does: the generation rises, durably.
    ///
    /// # Errors
    /// [`Error::Locked`] while it is open.
    pub fn open(&self) -> Result<Memory, Error> {
        let mut state = self.state();
        if state.is_open {
            return Err(Error::Locked {
                path: "memory".into(),
            });
        }
        state.generation += 1;
        state.seq += 1;
        state.durable = state.seq;
        state.undo.clear();
        state.poison = None;
        state.is_open = true;
        state.opening += 1;
        let was_clean = std::mem::replace(&mut state.is_clean, false);
        Ok(Memory {
            disk: self.clone(),
            reader: Arc::new(Reader {
                trees: Arc::clone(&state.trees),
                disk: self.clone(),
                opening: state.opening,
            }),
            opening: state.opening,
            was_clean,
        })
    }

    /// Ends the open store without closing it. Its handle and its readers are dead from now on.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.state();
        // The trees are copied so that the dead readers' view cannot change under a reader of the next opening.
        let mut trees = state
            .trees
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if crash == Crash::Power {
            while let Some((key, before)) = state.undo.pop() {
                let tree = &mut trees[key.space as usize];
                match before {
                    Some(value) => tree.insert(key.bytes, value),
                    None => tree.remove(&key.bytes),
                };
            }
            state.seq = state.durable;
        }
        state.trees = Arc::new(RwLock::new(trees));
        state.is_open = false;
        state.opening += 1;
    }

    /// Lets the `n`-th commit from now on fail, the next one being 1.
    pub fn fail_commit(&self, n: u64, fault: Fault) {
        let mut state = self.state();
        let at = state.commits + n;
        state.faults.insert(at, fault);
    }

    /// Sets what [`Store::free_bytes`] answers; it is [`u64::MAX`] before.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.state().free_bytes = Some(bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store on a [`Disk`] in memory.
pub struct Memory {
    disk: Disk,
    reader: Arc<Reader>,
    opening: u64,
    was_clean: bool,
}

struct Reader {
    trees: Arc<RwLock<[Tree; Space::ALL.len()]>>,
    disk: Disk,
    opening: u64,
}

impl Reader {
    fn refuse_if_closed(&self) -> Result<(), Error> {
        let state = self.disk.state();
        if state.is_open && state.opening == self.opening {
            Ok(())
        } else {
            Err(Error::Closed)
        }
    }
}

impl Read for Reader {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Error> {
        self.refuse_if_closed()?;
        let trees = self.trees.read().unwrap_or_else(PoisonError::into_inner);
        Ok(keys
            .iter()
            .map(|key| trees[key.space as usize].get(&key.bytes).cloned())
            .collect())
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        from: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, Error> {
        self.refuse_if_closed()?;
        let Some((low, high)) = scan_bounds(prefix, from, direction) else {
            return Ok(Vec::new());
        };
        let bounds = (
            low.as_ref().map(Vec::as_slice),
            high.as_ref().map(Vec::as_slice),
        );
        let trees = self.trees.read().unwrap_or_else(PoisonError::into_inner);
        let pairs = trees[space as usize].range::<[u8], (Bound<&[u8]>, Bound<&[u8]>)>(bounds);
        let copied = |(key, value): (&Vec<u8>, &Value)| Pair {
            key: Bytes::copy_from_slice(key),
            value: value.clone(),
        };
        Ok(match direction {
            Direction::Ascending => pairs.take(limit).map(copied).collect(),
            Direction::Descending => pairs.rev().take(limit).map(copied).collect(),
        })
    }
}

impl Read for Memory {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Error> {
        self.reader.get_many(keys)
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        from: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, Error> {
        self.reader.scan(space, prefix, from, direction, limit)
    }
}

impl State {
    fn apply(&mut self, batch: Batch, level: Level) {
        let mut trees = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        for operation in batch.operations {
            let (key, value) = match operation {
                Operation::Put(key, value) => (key, Some(value)),
                Operation::Delete(key) => (key, None),
            };
            let tree = &mut trees[key.space as usize];
            let before = match value {
                Some(value) => tree.insert(key.bytes.clone(), value),
                None => tree.remove(&key.bytes),
            };
            self.undo.push((key, before));
        }
        drop(trees);
        self.seq += 1;
        if level == Level::Disk {
            self.durable = self.seq;
            self.undo.clear();
        }
    }
}

impl Store for Memory {
    fn reader(&self) -> Arc<dyn Read> {
        Arc::clone(&self.reader) as Arc<dyn Read>
    }

    fn commit(&mut self, batch: Batch, level: Level) -> Result<Committed, Error> {
        let mut state = self.disk.state();
        if state.opening != self.opening || !state.is_open {
            return Err(Error::Closed);
        }
        if let Some(cause) = &state.poison {
            return Err(Error::Poisoned {
                cause: cause.clone(),
            });
        }
        batch.check()?;
        state.commits += 1;
        let at = state.commits;
        let seq = state.seq + 1;
        match state.faults.remove(&at) {
            None => {
                state.apply(batch, level);
                Ok(Committed::Yes(seq))
            }
            Some(Fault::NotCommitted) => Ok(Committed::No),
            Some(fault @ (Fault::UnknownBefore | Fault::UnknownAfter)) => {
                if fault == Fault::UnknownAfter {
                    state.apply(batch, level);
                }
                state.poison = Some(format!("commit {seq} failed as a test ordered"));
                Ok(Committed::Unknown(seq))
            }
        }
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        match self.commit(Batch::new(), Level::Disk)? {
            Committed::Yes(_) => {
                let mut state = self.disk.state();
                state.is_clean = true;
                state.is_open = false;
                Ok(())
            }
            Committed::No | Committed::Unknown(_) => Err(Error::Poisoned {
                cause: "the last commit failed".to_owned(),
            }),
        }
    }

    fn free_bytes(&self) -> Result<u64, Error> {
        Ok(self.disk.state().free_bytes.unwrap_or(u64::MAX))
    }

    fn seq(&self) -> u64 {
        self.disk.state().seq
    }

    fn durable_seq(&self) -> u64 {
        self.disk.state().durable
    }

    fn generation(&self) -> u32 {
        self.disk.state().generation
    }

    fn store_id(&self) -> StoreId {
        STORE_ID
    }

    fn was_clean(&self) -> bool {
        self.was_clean
    }
}

impl Drop for Memory {
    /// A store that goes without being closed leaves what a killed process leaves.
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.opening == self.opening {
            state.is_open = false;
        }
    }
}
