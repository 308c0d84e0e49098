//! The store on disk, on fjall: one log-structured tree for each space, one journal for all.
//!
//! Reads are checked: fjall keeps a checksum of each block of its tables and of each batch in its journals. What fjall
//! does not notice, [`super::journal`] and [`super::mark`] do. A directory holds `tables/` (fjall's own), `lock` and
//! `mark`; a second mark lies beside the directory.

mod syncer;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use ::fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable,
    compaction::Leveled,
    config::{CompressionPolicy, PinningPolicy},
};
use tracing::{info, warn};

use self::syncer::{JournalSyncer, Progress};
use super::{
    Batch, Bytes, Committed, Direction, Error, Key, Level, Operation, Pair, Read, Space, Store,
    StoreId, Syncer, Value, journal,
    mark::{Hand, Keeper, Mark, sync_directory},
    row::{FORMAT, NotARow, ROW_KEY, ROW_KEYSPACE, Row},
    scan_bounds,
};

// The sizes below are measured in docs/adr/0001-call-and-state.md. They hold for stores that exist: fjall keeps a
// keyspace's options from its creation.

/// Memory for blocks that were read. The ledger keeps what it works on itself, so that this serves lists and look-ups.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Journals that may exist at once. A keyspace that is seldom written keeps old journals alive until this is reached.
const JOURNAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
// Tables that are being rewritten take as much again; both have to fit while submits are refused.
const _: () = assert!(tq_core::limits::FREE_BYTES_FLOOR > 2 * JOURNAL_BYTES_MAX);
/// Threads that flush and compact. With fewer than three, fjall's first worker spins while the others compact.
const WORKERS: usize = 3;
/// The size of one file of a table. A file is synced when it is whole, and commits wait behind that on the disk.
const TABLE_BYTES: u64 = 4 * 1024 * 1024;
/// The row of the last commit is overwritten by each; in memory all its versions stay until they are flushed.
const COMMITS_MEMTABLE_BYTES: u64 = 1024 * 1024;
/// Open table files that fjall keeps.
const FILES_MAX: usize = 256;

/// What one keyspace may hold in memory before it is flushed; twice as much while it is.
fn memtable_bytes(space: Space) -> u64 {
    const MIB: u64 = 1024 * 1024;
    match space {
        Space::Meta => MIB,
        Space::Index | Space::Payloads | Space::States => 4 * MIB,
        Space::Calls => 6 * MIB,
    }
}

fn keyspace_name(space: Space) -> &'static str {
    match space {
        Space::Meta => "meta_v1",
        Space::Calls => "calls_v1",
        Space::Index => "index_v1",
        Space::Payloads => "payloads_v1",
        Space::States => "states_v1",
    }
}

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Where the second mark is kept. It belongs outside of everything that is copied together with the store. The
    /// default is the directory's own path with `.mark` at its end.
    pub mark_beside: Option<PathBuf>,
}

/// The files of a store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    pub(super) tables: PathBuf,
    pub(super) mark: PathBuf,
    pub(super) mark_beside: PathBuf,
}

impl Layout {
    pub(super) fn new(dir: &Path, options: &OpenOptions) -> Result<Self, Error> {
        // An absolute path, so that `.` has a name to which `.mark` can be added, and so that messages say where.
        let dir = std::path::absolute(dir).map_err(|source| Error::Io {
            doing: "find",
            path: dir.to_path_buf(),
            source,
        })?;
        let mark_beside = options.mark_beside.clone().unwrap_or_else(|| {
            let mut path = dir.as_os_str().to_owned();
            path.push(".mark");
            PathBuf::from(path)
        });
        Ok(Self {
            tables: dir.join("tables"),
            mark: dir.join("mark"),
            mark_beside,
            dir,
        })
    }

    /// fjall writes this file last when it creates a database.
    pub(super) fn has_tables(&self) -> Result<bool, Error> {
        let path = self.tables.join("version");
        path.try_exists().map_err(|source| Error::Io {
            doing: "look for",
            path,
            source,
        })
    }

    pub(super) fn lock(&self) -> Result<Lock, Error> {
        let path = self.dir.join("lock");
        let failed = |source| Error::Io {
            doing: "open lock",
            path: path.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked {
                path: self.dir.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(Error::Io {
                doing: "lock",
                path,
                source,
            }),
        }
    }

    pub(super) fn marks(&self) -> Result<Marks, Error> {
        Ok(Marks {
            inner: Mark::read(&self.mark)?,
            beside: Mark::read(&self.mark_beside)?,
        })
    }
}

/// Keeps other brokers out of the directory. The system lets go of it when the process ends, however it ends.
pub(super) struct Lock {
    _file: File,
}

/// The two marks as they were found.
pub(super) struct Marks {
    pub(super) inner: Option<Mark>,
    pub(super) beside: Option<Mark>,
}

impl Marks {
    /// The newest mark of one store.
    pub(super) fn of(&self, store_id: StoreId) -> Option<Mark> {
        let ours = |mark: &Mark| mark.store_id == store_id;
        self.inner
            .filter(ours)
            .into_iter()
            .chain(self.beside.filter(ours))
            .max_by_key(|mark| (mark.generation, mark.seq))
    }
}

/// fjall's handles. They go when the store is closed, even if readers are left.
pub(super) struct Engine {
    database: Database,
    commits: Keyspace,
    spaces: [Keyspace; Space::ALL.len()],
}

impl Engine {
    /// Creates the database in `tables`.
    fn create(tables: &Path) -> Result<Self, ::fjall::Error> {
        Self::with_keyspaces(Self::database(tables)?)
    }

    /// Opens the database in `tables`. A damaged one may make fjall panic; that is told as an error like the rest.
    fn recover(layout: &Layout) -> Result<Self, Error> {
        let corrupt = |what: String| Error::Corrupt {
            path: layout.tables.clone(),
            what,
        };
        let opened = std::panic::catch_unwind(|| {
            let database = Self::database(&layout.tables)?;
            let found = database.list_keyspace_names();
            // fjall would create a keyspace anew if its directory was gone.
            let missing = Space::ALL
                .map(keyspace_name)
                .into_iter()
                .chain([ROW_KEYSPACE])
                .find(|name| !found.iter().any(|found| found.as_ref() == *name));
            Ok(match missing {
                Some(name) => Err(name),
                None => Ok(Self::with_keyspaces(database)?),
            })
        });
        match opened {
            Ok(Ok(Ok(engine))) => Ok(engine),
            Ok(Ok(Err(name))) => Err(corrupt(format!("its part `{name}` is gone"))),
            Ok(Err(error)) => Err(cannot_open(layout, error)),
            Err(_) => Err(corrupt("the engine panicked when it opened it".to_owned())),
        }
    }

    fn database(tables: &Path) -> Result<Database, ::fjall::Error> {
        Database::builder(tables)
            .cache_size(CACHE_BYTES)
            .max_cached_files(Some(FILES_MAX))
            .manual_journal_persist(true)
            // The journals are read by `super::journal` too, and payloads are bounded and often compressed already.
            .journal_compression(CompressionType::None)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .worker_threads(WORKERS)
            .open()
    }

    fn with_keyspaces(database: Database) -> Result<Self, ::fjall::Error> {
        let options = |memtable_bytes| {
            move || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(memtable_bytes)
                    .compaction_strategy(Arc::new(
                        Leveled::default().with_table_target_size(TABLE_BYTES),
                    ))
                    // A table that is pinned when it is written stays so wherever it is moved, and tables under rising
                    // keys are moved and not rewritten: memory would grow by 10 bytes for each task that has passed.
                    .index_block_pinning_policy(PinningPolicy::all(false))
                    .filter_block_pinning_policy(PinningPolicy::all(false))
                    .data_block_compression_policy(CompressionPolicy::new([
                        CompressionType::None,
                        CompressionType::Lz4,
                    ]))
            }
        };
        let space =
            |space: Space| database.keyspace(keyspace_name(space), options(memtable_bytes(space)));
        let spaces = [
            space(Space::Meta)?,
            space(Space::Calls)?,
            space(Space::Index)?,
            space(Space::Payloads)?,
            space(Space::States)?,
        ];
        let commits = database.keyspace(ROW_KEYSPACE, options(COMMITS_MEMTABLE_BYTES))?;
        Ok(Self {
            database,
            commits,
            spaces,
        })
    }

    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }

    pub(super) fn row(&self) -> Result<Option<Result<Row, NotARow>>, ::fjall::Error> {
        Ok(self.commits.get(ROW_KEY)?.map(|bytes| Row::decode(&bytes)))
    }

    pub(super) fn commit(
        &self,
        row: &Row,
        batch: &Batch,
        level: Level,
    ) -> Result<(), ::fjall::Error> {
        let mode = match level {
            Level::Process => PersistMode::Buffer,
            Level::Disk => PersistMode::SyncData,
        };
        let mut writes = self.database.batch().durability(Some(mode));
        writes.insert(&self.commits, ROW_KEY, row.encode());
        for operation in batch.operations() {
            match operation {
                Operation::Put(key, value) => {
                    writes.insert(self.space(key.space), key.bytes.as_slice(), value.as_ref())
                }
                Operation::Delete(key) => {
                    writes.remove(self.space(key.space), key.bytes.as_slice())
                }
            }
        }
        writes.commit()
    }

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, ::fjall::Error> {
        let snapshot = self.database.snapshot();
        keys.iter()
            .map(|key| {
                // An empty key is never there, and fjall does not accept one.
                if key.bytes.is_empty() {
                    return Ok(None);
                }
                let value = snapshot.get(self.space(key.space), &key.bytes)?;
                Ok(value.map(|value| Bytes::copy_from_slice(&value)))
            })
            .collect()
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        from: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, ::fjall::Error> {
        let Some(bounds) = scan_bounds(prefix, from, direction) else {
            return Ok(Vec::new());
        };
        let pairs = self.database.snapshot().range(self.space(space), bounds);
        let copied = |guard: ::fjall::Guard| {
            let (key, value) = guard.into_inner()?;
            Ok(Pair {
                key: Bytes::copy_from_slice(&key),
                value: Bytes::copy_from_slice(&value),
            })
        };
        match direction {
            Direction::Ascending => pairs.take(limit).map(copied).collect(),
            Direction::Descending => pairs.rev().take(limit).map(copied).collect(),
        }
    }

    /// Reads every pair, and so checks every block. Returns how many there are and how many bytes they have.
    pub(super) fn read_all(&self, space: Space) -> Result<(u64, u64), ::fjall::Error> {
        let mut pairs = 0;
        let mut bytes = 0;
        for guard in self.database.snapshot().iter(self.space(space)) {
            let (key, value) = guard.into_inner()?;
            pairs += 1;
            bytes += (key.len() + value.len()) as u64;
        }
        Ok((pairs, bytes))
    }
}

/// Turns what fjall says of a directory that it cannot open into what an operator can act on.
pub(super) fn cannot_open(layout: &Layout, error: ::fjall::Error) -> Error {
    match error {
        ::fjall::Error::Locked => Error::Locked {
            path: layout.dir.clone(),
        },
        ::fjall::Error::Io(source) => Error::Io {
            doing: "open the tables in",
            path: layout.tables.clone(),
            source,
        },
        other => Error::Corrupt {
            path: layout.tables.clone(),
            what: other.to_string(),
        },
    }
}

/// What is known of a store once it was opened and found whole.
pub(super) struct Opened {
    pub(super) engine: Engine,
    pub(super) row: Row,
}

/// Opens the tables and reads the last commit, whatever the marks say of it.
pub(super) fn open_tables(layout: &Layout, scan: &journal::Scan) -> Result<Opened, Error> {
    if let Some(found) = scan.newer {
        return Err(Error::OtherFormat {
            path: layout.dir.clone(),
            found,
            supported: FORMAT,
        });
    }
    let engine = Engine::recover(layout)?;
    let corrupt = |what: &str| Error::Corrupt {
        path: layout.tables.clone(),
        what: what.to_owned(),
    };
    let row = match engine.row().map_err(|error| cannot_open(layout, error))? {
        Some(Ok(row)) => row,
        Some(Err(NotARow::OtherFormat(found))) => {
            return Err(Error::OtherFormat {
                path: layout.dir.clone(),
                found,
                supported: FORMAT,
            });
        }
        Some(Err(NotARow::Malformed)) => return Err(corrupt("the last commit cannot be read")),
        None => return Err(corrupt("there is no last commit")),
    };
    if scan.damage.is_none() && scan.last.is_some_and(|last| last.seq > row.seq) {
        return Err(corrupt(
            "the engine has recovered less than its journal holds",
        ));
    }
    Ok(Opened { engine, row })
}

/// Opens the store in `dir`, or creates it there. When this returns, the new generation is on disk.
///
/// # Errors
/// [`Error::Locked`] if another process has it open. [`Error::OtherFormat`] if a tq of another format wrote it. [`Error::Damaged`],
/// [`Error::RolledBack`] or [`Error::Mixed`] if it holds less than it once acknowledged; it is left as it was then.
/// [`Error::Corrupt`] if its tables are damaged, [`Error::Io`] if the system refuses.
pub fn open(dir: &Path, options: &OpenOptions) -> Result<Fjall, Error> {
    let layout = Layout::new(dir, options)?;
    fs::create_dir_all(&layout.dir).map_err(|source| Error::Io {
        doing: "create",
        path: layout.dir.clone(),
        source,
    })?;
    let lock = layout.lock()?;
    let marks = layout.marks()?;
    if !layout.has_tables()? {
        // The mark is written when the tables exist, so a mark without tables is a loss and not a beginning.
        if let Some(mark) = marks.inner {
            return Err(Error::RolledBack {
                path: layout.dir,
                recovered: 0,
                expected: mark.seq,
                recovered_generation: 0,
                expected_generation: mark.generation,
            });
        }
        let store_id = create(&layout)?;
        if let Some(mark) = marks.beside {
            warn!(path = %layout.mark_beside.display(), was = %mark.store_id, now = %store_id, last = mark.seq, "mark of another store is replaced: the data directory is a new one");
        }
    }

    let scan = journal::scan(&layout.tables)?;
    if let Some(damage) = &scan.damage {
        cut_torn_tail(&layout, &marks, &scan, damage)?;
    }
    let Opened { engine, row } = open_tables(&layout, &scan)?;
    if let Some(mark) = marks.inner.filter(|mark| mark.store_id != row.store_id) {
        return Err(Error::Mixed {
            path: layout.dir,
            marked: mark.store_id,
            found: row.store_id,
        });
    }
    let mark = marks.of(row.store_id);
    if mark.is_some_and(|mark| row.seq < mark.seq || row.generation < mark.generation) {
        let expected = mark.unwrap_or(Mark {
            store_id: row.store_id,
            generation: 0,
            seq: 0,
            clean: false,
        });
        return Err(Error::RolledBack {
            path: layout.dir,
            recovered: row.seq,
            expected: expected.seq,
            recovered_generation: row.generation,
            expected_generation: expected.generation,
        });
    }
    if mark.is_none() && row.generation > 0 {
        warn!(path = %layout.dir.display(), seq = row.seq, "store has no mark; whether it is an older copy cannot be told");
    }

    let was_clean = row.clean && mark.is_none_or(|mark| mark.clean);
    let generation = row.generation.max(mark.map_or(0, |mark| mark.generation)) + 1;
    let seq = row.seq + 1;
    let first = Row {
        generation,
        seq,
        previous: row.seq,
        durable: row.seq,
        clean: false,
        ..row
    };
    engine
        .commit(&first, &Batch::new(), Level::Disk)
        .map_err(|source| Error::Engine {
            doing: "write the new generation",
            source,
        })?;
    let poison = Arc::new(OnceLock::new());
    let mark = Mark {
        store_id: row.store_id,
        generation,
        seq,
        clean: false,
    };
    let keeper = Keeper::start(mark, &layout.mark, &layout.mark_beside, Arc::clone(&poison))?;
    let progress = Progress {
        committed: AtomicU64::new(seq),
        durable: AtomicU64::new(seq),
    };
    info!(path = %layout.dir.display(), store = %row.store_id, seq, generation, was_clean, "store is open");
    Ok(Fjall {
        shared: Arc::new(Shared {
            engine: RwLock::new(Some(engine)),
        }),
        mark: keeper.hand(),
        keeper: Some(keeper),
        poison,
        row: first,
        progress: Arc::new(progress),
        recovered: row.seq,
        was_clean,
        tables: layout.tables,
        _lock: lock,
    })
}

/// Creates the tables of a new store. They are built beside their place and moved there when they are whole, since fjall
/// does not open what a crash left of a creation.
fn create(layout: &Layout) -> Result<StoreId, Error> {
    let fresh = layout.dir.join("tables.new");
    let failed = |source| Error::Io {
        doing: "create the tables in",
        path: layout.dir.clone(),
        source,
    };
    match fs::remove_dir_all(&fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let store_id = StoreId(*uuid::Uuid::now_v7().as_bytes());
    let row = Row {
        store_id,
        generation: 0,
        seq: 1,
        previous: 0,
        durable: 0,
        clean: true,
    };
    let engine = Engine::create(&fresh).map_err(|error| cannot_open(layout, error))?;
    engine
        .commit(&row, &Batch::new(), Level::Disk)
        .map_err(|source| Error::Engine {
            doing: "write the first commit",
            source,
        })?;
    drop(engine);
    fs::rename(&fresh, &layout.tables).map_err(failed)?;
    sync_directory(&layout.dir).map_err(failed)?;
    if let Some(parent) = layout.dir.parent() {
        sync_directory(parent).map_err(failed)?;
    }
    Ok(store_id)
}

/// Decides on a journal that cannot be read to its end. A loss of power may tear commits that were not synced, and
/// those nobody was told of: they are cut off. Anything else is refused, and the files are left as they are.
fn cut_torn_tail(
    layout: &Layout,
    marks: &Marks,
    scan: &journal::Scan,
    damage: &journal::Damage,
) -> Result<(), Error> {
    let marked = match scan.last {
        Some(last) => marks.of(last.store_id),
        // Nothing before the damage names the store. The mark inside the directory can only be this store's.
        None => marks.inner,
    };
    let recovered = scan.last.map_or(0, |last| last.seq);
    let expected = marked.map_or(0, |mark| mark.seq).max(damage.durable);
    if expected > recovered || !damage.later.is_empty() {
        return Err(Error::Damaged {
            path: damage.path.clone(),
            offset: damage.offset,
            what: damage.what,
            recovered,
            expected,
        });
    }
    let kept = cut(layout, damage)?;
    warn!(
        journal = %damage.path.display(), offset = damage.offset, bytes = damage.end - damage.offset, kept = %kept.display(),
        "journal ended in commits that were never synced; they are cut off"
    );
    Ok(())
}

/// Cuts a journal off where its damage begins. What is cut off is kept in a file, whose path is returned.
pub(super) fn cut(layout: &Layout, damage: &journal::Damage) -> Result<PathBuf, Error> {
    let failed = |source| Error::Io {
        doing: "cut journal",
        path: damage.path.clone(),
        source,
    };
    let name = damage
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let kept = layout.dir.join(format!("cut-{name}-{}", damage.offset));
    let bytes = fs::read(&damage.path).map_err(failed)?;
    let range = usize::try_from(damage.offset).unwrap_or(usize::MAX)
        ..usize::try_from(damage.end).unwrap_or(usize::MAX);
    let tail = bytes.get(range).unwrap_or_default();
    fs::write(&kept, tail)
        .and_then(|()| File::open(&kept)?.sync_all())
        .map_err(failed)?;
    let journal = File::options()
        .write(true)
        .open(&damage.path)
        .map_err(failed)?;
    journal
        .set_len(damage.offset)
        .and_then(|()| journal.sync_all())
        .map_err(failed)?;
    sync_directory(&layout.dir).map_err(failed)?;
    Ok(kept)
}

impl Drop for Fjall {
    /// A store that goes without being closed lets go of its directory too, even if readers are left.
    fn drop(&mut self) {
        drop(
            self.shared
                .engine
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

/// Writes a commit of another format. Only tests have a use for it.
pub(super) fn change_format(dir: &Path, format: u32) -> Result<(), Error> {
    let layout = Layout::new(dir, &OpenOptions::default())?;
    let _lock = layout.lock()?;
    let Opened { engine, row } = open_tables(&layout, &journal::scan(&layout.tables)?)?;
    let mut bytes = Row {
        seq: row.seq + 1,
        previous: row.seq,
        ..row
    }
    .encode();
    bytes[..4].copy_from_slice(&format.to_be_bytes());
    let mut writes = engine
        .database
        .batch()
        .durability(Some(PersistMode::SyncData));
    writes.insert(&engine.commits, ROW_KEY, bytes);
    writes.commit().map_err(|source| Error::Engine {
        doing: "write a commit",
        source,
    })
}

/// A store on disk.
pub struct Fjall {
    shared: Arc<Shared>,
    /// `Some` until the store is closed.
    keeper: Option<Keeper>,
    mark: Hand,
    poison: Arc<OnceLock<String>>,
    /// The last commit's row; the next one is made from it.
    row: Row,
    progress: Arc<Progress>,
    recovered: u64,
    was_clean: bool,
    tables: PathBuf,
    // Last, so that it goes when the engine has let go of its files.
    _lock: Lock,
}

struct Shared {
    engine: RwLock<Option<Engine>>,
}

impl Shared {
    fn refuse_if_closed(&self) -> Result<(), Error> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        engine.as_ref().map(|_| ()).ok_or(Error::Closed)
    }

    fn read<T>(
        &self,
        doing: &'static str,
        read: impl FnOnce(&Engine) -> Result<T, ::fjall::Error>,
    ) -> Result<T, Error> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        read(engine.as_ref().ok_or(Error::Closed)?)
            .map_err(|source| Error::Engine { doing, source })
    }
}

impl Read for Shared {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Error> {
        self.read("read from the store", |engine| engine.get_many(keys))
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        from: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, Error> {
        self.read("scan the store", |engine| {
            engine.scan(space, prefix, from, direction, limit)
        })
    }
}

impl Read for Fjall {
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Error> {
        self.shared.get_many(keys)
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        from: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, Error> {
        self.shared.scan(space, prefix, from, direction, limit)
    }
}

impl Fjall {
    fn journal_syncer(&self) -> JournalSyncer {
        JournalSyncer {
            shared: Arc::clone(&self.shared),
            progress: Arc::clone(&self.progress),
            poison: Arc::clone(&self.poison),
            mark: self.mark.clone(),
            tables: self.tables.clone(),
            newest: None,
        }
    }

    fn refuse_if_poisoned(&self) -> Result<(), Error> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    fn write(&mut self, batch: &Batch, level: Level, clean: bool) -> Result<Committed, Error> {
        self.refuse_if_poisoned()?;
        batch.check()?;
        let row = Row {
            seq: self.row.seq + 1,
            previous: self.row.seq,
            durable: self.durable_seq(),
            clean,
            ..self.row
        };
        let result = {
            let engine = self
                .shared
                .engine
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            engine
                .as_ref()
                .ok_or(Error::Closed)?
                .commit(&row, batch, level)
        };
        match result {
            Ok(()) => {
                self.row = row;
                self.progress.committed.store(row.seq, Ordering::Release);
                if level == Level::Disk {
                    self.progress.note_durable(row.seq, &self.mark);
                }
                Ok(Committed::Yes(row.seq))
            }
            // fjall looks at this before it writes: a flush or a compaction in the background had failed.
            Err(::fjall::Error::Poisoned) => {
                let cause =
                    "the engine's work in the background failed; its log says why".to_owned();
                Err(Error::Poisoned {
                    cause: self.poison.get_or_init(|| cause).clone(),
                })
            }
            Err(error) => {
                let cause = format!("commit {} failed: {error}", row.seq);
                tracing::error!(cause, "store stops");
                self.poison.get_or_init(|| cause);
                Ok(Committed::Unknown(row.seq))
            }
        }
    }
}

impl Store for Fjall {
    fn reader(&self) -> Arc<dyn Read> {
        Arc::clone(&self.shared) as Arc<dyn Read>
    }

    fn syncer(&self) -> Box<dyn Syncer> {
        Box::new(self.journal_syncer())
    }

    fn commit(&mut self, batch: Batch, level: Level) -> Result<Committed, Error> {
        self.write(&batch, level, false)
    }

    fn check(&self) -> Result<(), Error> {
        self.refuse_if_poisoned()
    }

    fn close(mut self: Box<Self>) -> Result<(), Error> {
        let last = self.write(&Batch::new(), Level::Disk, true)?;
        if let (Committed::Yes(seq), Some(keeper)) = (last, self.keeper.take()) {
            keeper.finish(seq);
        }
        // fjall syncs its journal when the last of its handles goes.
        drop(
            self.shared
                .engine
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.refuse_if_poisoned()
    }

    fn free_bytes(&self) -> Result<u64, Error> {
        let stat = rustix::fs::statvfs(&self.tables).map_err(|error| Error::Io {
            doing: "ask for the free space of",
            path: self.tables.clone(),
            source: error.into(),
        })?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn seq(&self) -> u64 {
        self.row.seq
    }

    fn durable_seq(&self) -> u64 {
        self.progress.durable.load(Ordering::Acquire)
    }

    fn recovered_seq(&self) -> u64 {
        self.recovered
    }

    fn generation(&self) -> u32 {
        self.row.generation
    }

    fn store_id(&self) -> StoreId {
        self.row.store_id
    }

    fn was_clean(&self) -> bool {
        self.was_clean
    }
}

#[cfg(test)]
pub(crate) mod tests;
