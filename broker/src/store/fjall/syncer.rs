//! Syncs the journal beside the engine, so that commits go on meanwhile: the engine's own sync holds them up.

use std::error::Error as _;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Shared, journal};
use crate::store::mark::Hand;
use crate::store::{Error, Syncer};

/// How often the newest journal is looked for before the store gives up, and the pause between: five seconds in all.
const LOOKS_MAX: u32 = 250;
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How far the store has come, for its writer and its syncers.
#[derive(Debug)]
pub(super) struct Progress {
    /// The sequence of the last commit that has returned.
    pub(super) committed: AtomicU64,
    /// The sequence of the last commit that outlives a loss of power.
    pub(super) durable: AtomicU64,
}

impl Progress {
    /// Notes that everything up to `seq` outlives a loss of power.
    pub(super) fn note_durable(&self, seq: u64, mark: &Hand) {
        self.durable.fetch_max(seq, Ordering::AcqRel);
        mark.advance(seq);
    }
}

/// Syncs by a file of its own of the newest journal. That is enough: the engine syncs a journal before it begins the
/// next one (`journal/writer.rs` of fjall 3.1, `rotate`), and `fdatasync` writes what anyone wrote to the file.
pub(super) struct JournalSyncer {
    pub(super) shared: Arc<Shared>,
    pub(super) progress: Arc<Progress>,
    pub(super) poison: Arc<OnceLock<String>>,
    pub(super) mark: Hand,
    pub(super) tables: PathBuf,
    /// The journal that was the newest one at the last sync.
    pub(super) newest: Option<(PathBuf, File)>,
}

impl Syncer for JournalSyncer {
    fn sync(&mut self) -> Result<u64, Error> {
        self.shared.refuse_if_closed()?;
        self.refuse_if_poisoned()?;
        // Read first, so that it is only what was written before the file is looked for.
        let seq = self.progress.committed.load(Ordering::Acquire);
        if seq > self.progress.durable.load(Ordering::Acquire) {
            if let Err(error) = self.sync_newest() {
                let why = error.source().map(ToString::to_string);
                let why = why.unwrap_or_default();
                let cause = format!("sync of commit {seq} failed: {error}: {why}");
                tracing::error!(cause, "store stops");
                return Err(Error::Poisoned {
                    cause: self.poison.get_or_init(|| cause).clone(),
                });
            }
            self.progress.note_durable(seq, &self.mark);
            // A disk that takes no mark has gone under the sync, so that what it said of that is not to be relied on.
            self.refuse_if_poisoned()?;
        }
        Ok(seq)
    }
}

impl JournalSyncer {
    fn refuse_if_poisoned(&self) -> Result<(), Error> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    fn sync_newest(&mut self) -> Result<(), Error> {
        let mut looked = 0;
        loop {
            let newest = match self.newest.take() {
                Some((path, file)) if journal::is_newest(&path)? => Ok((path, file)),
                Some(_) | None => self.open_newest(),
            };
            let (path, file) = match newest {
                Ok(newest) => newest,
                // The engine may have begun another journal and removed this one, or the process may have no descriptor
                // left for a moment. Nothing is lost by looking again; only a sync that fails is never tried again.
                Err(error) if looked < LOOKS_MAX => {
                    looked += 1;
                    tracing::warn!(%error, "the newest journal cannot be opened; trying again");
                    std::thread::sleep(LOOK_PAUSE);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (path, file) = self.newest.insert((path, file));
            return file.sync_data().map_err(|source| Error::Io {
                doing: "sync journal",
                path: path.clone(),
                source,
            });
        }
    }

    fn open_newest(&self) -> Result<(PathBuf, File), Error> {
        let path = journal::newest(&self.tables)?;
        match File::open(&path) {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(Error::Io {
                doing: "open journal",
                path,
                source,
            }),
        }
    }
}
