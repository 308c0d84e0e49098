//! The mark: how far the store had come, kept outside of it.
//!
//! A journal that lost its end, or an older copy of the whole store, looks like a good store. The mark tells. It is a
//! small file with three checksummed slots of 512 bytes. The first is rewritten after each synced commit and not synced:
//! it is exact after a crash of the process. The other two are written in turn and synced, at most every 100 ms, so that
//! one of them is always whole: they are at most 100 ms behind after a loss of power. The mark only ever describes what
//! the store had synced before. It is kept in the store's directory and, as far as possible, beside it, where it outlives
//! a copy of the directory that is put back.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing::warn;

use super::{Error, StoreId};

const SLOT_BYTES: usize = 512;
const SLOTS: usize = 3;
const MAGIC: &[u8; 8] = b"tq-mark1";
const CHECKSUM_AT: usize = SLOT_BYTES - 32;
/// How far the synced slots may be behind.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) store_id: StoreId,
    pub(super) generation: u32,
    /// The last commit that was synced.
    pub(super) seq: u64,
    /// Whether the store was closed in order.
    pub(super) clean: bool,
}

impl Mark {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let Self {
            store_id,
            generation,
            seq,
            clean,
        } = self;
        let mut slot = [0; SLOT_BYTES];
        slot[..8].copy_from_slice(MAGIC);
        slot[8..24].copy_from_slice(&store_id.0);
        slot[24..28].copy_from_slice(&generation.to_be_bytes());
        slot[28..36].copy_from_slice(&seq.to_be_bytes());
        slot[36] = u8::from(*clean);
        let checksum = blake3::hash(&slot[..CHECKSUM_AT]);
        slot[CHECKSUM_AT..].copy_from_slice(checksum.as_bytes());
        slot
    }

    /// `None` if the slot was never written, is torn or damaged.
    fn decode(slot: &[u8]) -> Option<Self> {
        let (content, checksum) = slot.split_at_checked(CHECKSUM_AT)?;
        if blake3::hash(content).as_bytes() != checksum || !content.starts_with(MAGIC) {
            return None;
        }
        Some(Self {
            store_id: StoreId(content[8..24].try_into().ok()?),
            generation: u32::from_be_bytes(content[24..28].try_into().ok()?),
            seq: u64::from_be_bytes(content[28..36].try_into().ok()?),
            clean: content[36] == 1,
        })
    }

    /// Reads the newest valid slot of a file. `None` if there is no file, or no slot that can be trusted.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::Io {
                    doing: "read mark",
                    path: path.to_path_buf(),
                    source,
                });
            }
        };
        Ok(bytes
            .chunks_exact(SLOT_BYTES)
            .take(SLOTS)
            .filter_map(Self::decode)
            .max_by_key(|mark| (mark.generation, mark.seq)))
    }

    /// Writes all slots of a file and syncs it and its directory.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        self.create(path).map(drop)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        // A whole new file takes the old one's place at once, so that no crash leaves a half-written mark.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let file = File::create(&fresh)?;
        file.write_all_at(&self.encode().repeat(SLOTS), 0)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        sync_directory(path.parent().unwrap_or(Path::new("/")))?;
        Ok(file)
    }
}

/// Makes the names in a directory outlive a loss of power.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    // The parent of a bare file name is the empty path.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

/// Keeps the mark while the store is open.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// What stops the store for good, set by whoever fails first.
    poison: Arc<OnceLock<String>>,
}

struct State {
    mark: Mark,
    inner: Place,
    /// Gone after its first failure: only the mark inside of the directory is required.
    beside: Option<Place>,
    /// Which of the synced slots is written next.
    turn: u64,
    is_dirty: bool,
    is_stopping: bool,
}

struct Place {
    path: PathBuf,
    file: Arc<File>,
}

impl Keeper {
    /// Writes `mark` to both places, synced, and starts to keep it.
    pub(super) fn start(
        mark: Mark,
        inner: &Path,
        beside: &Path,
        poison: Arc<OnceLock<String>>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Io {
            doing: "write mark",
            path: inner.to_path_buf(),
            source,
        };
        let inner = Place {
            path: inner.to_path_buf(),
            file: Arc::new(mark.create(inner).map_err(failed)?),
        };
        let beside = match mark.create(beside) {
            Ok(file) => Some(Place {
                path: beside.to_path_buf(),
                file: Arc::new(file),
            }),
            Err(error) => {
                warn!(path = %beside.display(), %error, "mark beside the data directory cannot be kept; an older copy of the whole directory would not be noticed");
                None
            }
        };
        let state = State {
            mark,
            inner,
            beside,
            turn: 0,
            is_dirty: false,
            is_stopping: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            poison,
        });
        let thread = thread::Builder::new()
            .name("store-mark".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.keep()
            })
            .map_err(|source| Error::Io {
                doing: "start the thread that keeps",
                path: PathBuf::from("mark"),
                source,
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Lets another thread note what is synced.
    pub(super) fn hand(&self) -> Hand {
        Hand(Arc::clone(&self.shared))
    }

    /// Notes the last commit of an orderly end, and returns when that is on disk.
    pub(super) fn finish(mut self, seq: u64) {
        {
            let mut state = self.shared.lock();
            state.mark.seq = seq;
            state.mark.clean = true;
            self.shared.write_slot(&mut state, 0);
            state.is_dirty = true;
        }
        self.stop();
    }

    fn stop(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.shared
                .poison_with("the thread that keeps the mark panicked".to_owned());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Notes what is synced in a mark that a [`Keeper`] keeps.
#[derive(Clone)]
pub(super) struct Hand(Arc<Shared>);

impl Hand {
    /// Notes that everything up to `seq` is synced. Less than was noted before changes nothing.
    pub(super) fn advance(&self, seq: u64) {
        let mut state = self.0.lock();
        if seq <= state.mark.seq {
            return;
        }
        state.mark.seq = seq;
        self.0.write_slot(&mut state, 0);
        if !state.is_dirty {
            state.is_dirty = true;
            self.0.wake.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poison_with(&self, cause: String) {
        // The first failure is the one to report.
        if self.poison.set(cause.clone()).is_ok() {
            tracing::error!(cause, "store stops");
        }
    }

    fn write_slot(&self, state: &mut State, slot: u64) {
        let bytes = state.mark.encode();
        let offset = slot * SLOT_BYTES as u64;
        if let Err(error) = state.inner.file.write_all_at(&bytes, offset) {
            self.poison_with(format!(
                "failed to write mark `{}`: {error}",
                state.inner.path.display()
            ));
        }
        if let Some(place) = &state.beside
            && let Err(error) = place.file.write_all_at(&bytes, offset)
        {
            warn!(path = %place.path.display(), %error, "mark beside the data directory is no longer kept");
            state.beside = None;
        }
    }

    /// Syncs the mark whenever it has changed, not more often than every [`SYNC_INTERVAL`]. Sleeps while nothing changes.
    fn keep(&self) {
        loop {
            let mut state = self
                .wake
                .wait_while(self.lock(), |state| !state.is_dirty && !state.is_stopping)
                .unwrap_or_else(PoisonError::into_inner);
            if state.is_dirty {
                state.is_dirty = false;
                let slot = 1 + state.turn;
                state.turn = (state.turn + 1) % (SLOTS as u64 - 1);
                self.write_slot(&mut state, slot);
                let inner = Arc::clone(&state.inner.file);
                let beside = state.beside.as_ref().map(|place| Arc::clone(&place.file));
                drop(state);
                if let Err(error) = inner.sync_data() {
                    self.poison_with(format!("failed to sync mark: {error}"));
                }
                if let Some(Err(error)) = beside.map(|file| file.sync_data()) {
                    warn!(%error, "mark beside the data directory is no longer kept");
                    self.lock().beside = None;
                }
                state = self.lock();
            }
            if state.is_stopping {
                if state.is_dirty {
                    continue;
                }
                return;
            }
            let (state, _) = self
                .wake
                .wait_timeout_while(state, SYNC_INTERVAL, |state| !state.is_stopping)
                .unwrap_or_else(PoisonError::into_inner);
            drop(state);
        }
    }
}
