//! A store in memory, with the failures of a disk at one's command: for tests and for the simulation.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use super::{
    Batch, Bytes, Committed, Direction, Error, Key, Level, Operation, Pair, Read, Space, Store,
    StoreId, Syncer, Value, scan_bounds,
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
    /// The power fails, and so many commits after that one had reached the disk all the same.
    PowerAfter(u64),
}

/// What outlives a [`Memory`] store, as a disk outlives a process. Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    trees: Arc<RwLock<[Tree; Space::ALL.len()]>>,
    /// How to go back to the last commit at [`Level::Disk`], the newest step last, each with its commit.
    undo: Vec<(u64, Key, Option<Value>)>,
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
    /// The next sync fails.
    is_sync_to_fail: bool,
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
        let recovered = state.seq;
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
            recovered,
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
        let kept = match crash {
            Crash::Process => u64::MAX,
            Crash::Power => 0,
            Crash::PowerAfter(commits) => commits,
        };
        let last = state.durable.saturating_add(kept).min(state.seq);
        while state.undo.last().is_some_and(|(seq, ..)| *seq > last) {
            if let Some((_, key, before)) = state.undo.pop() {
                let tree = &mut trees[key.space as usize];
                match before {
                    Some(value) => tree.insert(key.bytes, value),
                    None => tree.remove(&key.bytes),
                };
            }
        }
        state.seq = last;
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

    /// Lets the next sync fail, which poisons the store. What was committed may outlive a loss of power or not; here it
    /// does not.
    pub fn fail_sync(&self) {
        self.state().is_sync_to_fail = true;
    }

    /// Lets nothing fail any more that was to.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.is_sync_to_fail = false;
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
    recovered: u64,
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
    fn refuse_if_poisoned(&self) -> Result<(), Error> {
        match &self.poison {
            Some(cause) => Err(Error::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    fn apply(&mut self, batch: Batch, level: Level) {
        self.seq += 1;
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
            self.undo.push((self.seq, key, before));
        }
        drop(trees);
        if level == Level::Disk {
            self.durable = self.seq;
            self.undo.clear();
        }
    }
}

/// Syncs a [`Memory`] store.
struct MemorySyncer {
    disk: Disk,
    opening: u64,
}

impl Syncer for MemorySyncer {
    fn sync(&mut self) -> Result<u64, Error> {
        let mut state = self.disk.state();
        if state.opening != self.opening || !state.is_open {
            return Err(Error::Closed);
        }
        if std::mem::take(&mut state.is_sync_to_fail) && state.poison.is_none() {
            state.poison = Some(format!("sync at {} failed as a test ordered", state.seq));
        }
        state.refuse_if_poisoned()?;
        state.durable = state.seq;
        state.undo.clear();
        Ok(state.seq)
    }
}

impl Store for Memory {
    fn reader(&self) -> Arc<dyn Read> {
        Arc::clone(&self.reader) as Arc<dyn Read>
    }

    fn syncer(&self) -> Box<dyn Syncer> {
        Box::new(MemorySyncer {
            disk: self.disk.clone(),
            opening: self.opening,
        })
    }

    fn commit(&mut self, batch: Batch, level: Level) -> Result<Committed, Error> {
        let mut state = self.disk.state();
        if state.opening != self.opening || !state.is_open {
            return Err(Error::Closed);
        }
        state.refuse_if_poisoned()?;
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

    fn check(&self) -> Result<(), Error> {
        self.disk.state().refuse_if_poisoned()
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

    fn recovered_seq(&self) -> u64 {
        self.recovered
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn keeps_the_contract() {
        conformance::run(Disk::new);
    }

    fn put(n: u64) -> Batch {
        let mut batch = Batch::new();
        batch.put(Key::new(Space::Calls, n.to_be_bytes()), n.to_string());
        batch.put(Key::new(Space::Index, n.to_be_bytes()), "");
        batch
    }

    fn keys(store: &dyn Read, space: Space) -> Vec<u64> {
        let pairs = store
            .scan(space, b"", b"", Direction::Ascending, usize::MAX)
            .expect("a scan succeeds");
        pairs
            .iter()
            .map(|pair| u64::from_be_bytes(pair.key[..].try_into().expect("eight bytes")))
            .collect()
    }

    #[test]
    fn power_loss_drops_what_was_not_synced() {
        let disk = Disk::new();
        let mut store = disk.open().expect("opens");
        assert_eq!(
            store.commit(put(1), Level::Disk).ok(),
            Some(Committed::Yes(store.seq()))
        );
        let durable = store.seq();
        let mut batch = put(2);
        batch.put(Key::new(Space::Calls, 1_u64.to_be_bytes()), "overwritten");
        batch.delete(Key::new(Space::Index, 1_u64.to_be_bytes()));
        assert!(matches!(
            store.commit(batch, Level::Process),
            Ok(Committed::Yes(_))
        ));
        disk.crash(Crash::Power);
        assert!(matches!(
            store.commit(put(3), Level::Disk),
            Err(Error::Closed)
        ));

        let store = disk.open().expect("opens");
        assert!(!store.was_clean());
        assert_eq!(store.seq(), durable + 1, "the opening is a commit");
        assert_eq!(keys(&store, Space::Calls), [1]);
        assert_eq!(keys(&store, Space::Index), [1]);
        assert_eq!(
            store.get(&Key::new(Space::Calls, 1_u64.to_be_bytes())).ok(),
            Some(Some(Bytes::from("1")))
        );
    }

    #[test]
    fn kill_keeps_every_commit() {
        let disk = Disk::new();
        let mut store = disk.open().expect("opens");
        assert!(matches!(
            store.commit(put(1), Level::Process),
            Ok(Committed::Yes(_))
        ));
        disk.crash(Crash::Process);
        assert!(matches!(
            store
                .reader()
                .scan(Space::Calls, b"", b"", Direction::Ascending, 1),
            Err(Error::Closed)
        ));
        let store = disk.open().expect("opens");
        assert_eq!(keys(&store, Space::Calls), [1]);
    }

    /// Whichever commit fails and however it does, all of it is there or nothing, and those before it are.
    #[test]
    fn every_commit_may_fail() {
        const COMMITS: u64 = 8;
        for fault in [
            Fault::NotCommitted,
            Fault::UnknownBefore,
            Fault::UnknownAfter,
        ] {
            for n in 1..=COMMITS {
                let disk = Disk::new();
                let mut store = disk.open().expect("opens");
                disk.fail_commit(n, fault);
                let mut expected = Vec::new();
                for task in 1..=COMMITS {
                    let op = store.seq() + 1;
                    match store.commit(put(task), Level::Disk) {
                        Ok(Committed::Yes(seq)) => {
                            assert_eq!(seq, op);
                            expected.push(task);
                        }
                        Ok(Committed::No) => assert_eq!((task, fault), (n, Fault::NotCommitted)),
                        Ok(Committed::Unknown(seq)) => {
                            assert_eq!((task, seq), (n, op));
                            assert!(matches!(
                                store.commit(put(99), Level::Disk),
                                Err(Error::Poisoned { .. })
                            ));
                            // The answer is in the store, once it is open again.
                            disk.crash(Crash::Process);
                            store = disk.open().expect("opens");
                            let was_committed = store.recovered_seq() >= op;
                            assert_eq!(was_committed, fault == Fault::UnknownAfter);
                            if was_committed {
                                expected.push(task);
                            }
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                assert_eq!(keys(&store, Space::Calls), expected);
                assert_eq!(keys(&store, Space::Index), expected);
            }
        }
    }
}
