//! Syncs the journal beside the engine, so that commits go on meanwhile: the engine's own sync holds them up.

use std::error::Error as _;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Shared, journal};
use crate::store::mark::Hand;
use crate::store::{Error, Syncer};

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
        if let Some(cause) = self.poison.get() {
            return Err(Error::Poisoned {
                cause: cause.clone(),
            });
        }
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
        }
        Ok(seq)
    }
}

impl JournalSyncer {
    fn sync_newest(&mut self) -> Result<(), Error> {
        loop {
            let path = journal::newest(&self.tables)?;
            if self.newest.as_ref().is_none_or(|(open, _)| *open != path) {
                match File::open(&path) {
                    Ok(file) => self.newest = Some((path, file)),
                    // The engine has synced it, begun another and removed it since.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(source) => {
                        let doing = "open journal";
                        return Err(Error::Io {
                            doing,
                            path,
                            source,
                        });
                    }
                }
            }
            let Some((path, file)) = &self.newest else {
                continue;
            };
            return file.sync_data().map_err(|source| Error::Io {
                doing: "sync journal",
                path: path.clone(),
                source,
            });
        }
    }
}
