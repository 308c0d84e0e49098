//! Removing blobs that no row names.
//!
//! Three things lead to them: the ledger tells which blobs a row has ceased to name, holds tell which ones nobody holds any
//! more, and now and then all files are looked through, for what a process left behind that ended between writing a file
//! and naming it.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tq_core::Digest;

use super::Blobs;
use crate::ledger::{Handle, Stopped, read};
use crate::store::{self, Direction, Space};
use crate::tables::key;

/// How often it looks whether there is something to do besides what it is told.
pub(super) const TICK: Duration = Duration::from_secs(60);
/// Ticks before the first sweep. Hosts that were away while the broker was report meanwhile what they have uploaded to the
/// process before.
const TICKS_BEFORE_FIRST_SWEEP: u32 = 10;
/// Ticks from one sweep to the next: a day.
const TICKS_BETWEEN_SWEEPS: u32 = 24 * 60;
/// Ticks from a sweep that failed to the next.
const TICKS_AFTER_FAILURE: u32 = 60;
/// Blobs that are looked at at once.
const BATCH: usize = 256;

/// Removes blobs that no row names.
pub(crate) struct Collector {
    blobs: Blobs,
    ledger: Handle,
}

/// Why it ends, or why some blobs stay for now.
enum Ends {
    Stopped,
    Store(store::Error),
    Blobs(super::Error),
    Panicked,
}

impl Collector {
    pub(crate) fn new(blobs: Blobs, ledger: Handle) -> Self {
        Self { blobs, ledger }
    }

    /// Works until `stop`, or until the ledger has stopped.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let works = self.work();
        tokio::select! {
            () = stop.cancelled() => {}
            () = works => {}
        }
    }

    async fn work(&self) {
        let mut ticks = tokio::time::interval_at(Instant::now() + TICK, TICK);
        // A process that stood still has not given anybody the time.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks_to_sweep = TICKS_BEFORE_FIRST_SWEEP;
        loop {
            tokio::select! {
                () = self.ledger.shared().unnamed.arrived() => {}
                () = self.blobs.let_go().arrived() => {}
                _ = ticks.tick() => {
                    self.blobs.tick();
                    ticks_to_sweep = ticks_to_sweep.saturating_sub(1);
                }
            }
            let cleared = match self.clear_unnamed().await {
                Ok(were_all) if were_all && ticks_to_sweep > 0 => Ok(()),
                // It is time, or there was more than could be taken note of.
                Ok(_) => {
                    let swept = self.sweep().await;
                    ticks_to_sweep = match swept {
                        Ok(()) => TICKS_BETWEEN_SWEEPS,
                        Err(_) => TICKS_AFTER_FAILURE,
                    };
                    swept
                }
                Err(ends) => Err(ends),
            };
            match cleared {
                Ok(()) => {}
                Err(Ends::Stopped) => return,
                // They stay until the next sweep, which costs space and nothing else.
                Err(Ends::Store(error)) => {
                    tracing::warn!(%error, "failed to look for unused blobs")
                }
                Err(Ends::Blobs(error)) => tracing::warn!(%error, "failed to remove unused blobs"),
                Err(Ends::Panicked) => tracing::warn!("removing unused blobs panicked"),
            }
        }
    }

    /// Looks at the blobs that it was told of. Returns whether those were all that there was to tell of.
    async fn clear_unnamed(&self) -> Result<bool, Ends> {
        let mut are_all = true;
        for told in [&self.ledger.shared().unnamed, self.blobs.let_go()] {
            loop {
                let batch = told.take(BATCH);
                if batch.is_empty() {
                    break;
                }
                self.clear(batch).await?;
            }
            are_all &= !told.has_overflowed();
        }
        Ok(are_all)
    }

    /// Looks at every file. What fails with one does not keep it from the others.
    async fn sweep(&self) -> Result<(), Ends> {
        let mut swept = Ok(());
        for folder in 0..=u8::MAX {
            match self.sweep_folder(folder).await {
                Ok(()) => {}
                Err(Ends::Stopped) => return Err(Ends::Stopped),
                Err(failed) => swept = Err(failed),
            }
        }
        swept
    }

    async fn sweep_folder(&self, folder: u8) -> Result<(), Ends> {
        let blobs = self.blobs.clone();
        let found = blocking(move || blobs.list(folder).map_err(Ends::Blobs)).await?;
        let mut swept = Ok(());
        for batch in found.chunks(BATCH) {
            match self.clear(batch.to_vec()).await {
                Ok(()) => {}
                Err(Ends::Blobs(failed)) => swept = Err(Ends::Blobs(failed)),
                Err(ends) => return Err(ends),
            }
        }
        swept
    }

    /// Removes those of these blobs that no row names and nobody holds.
    async fn clear(&self, mut digests: Vec<Digest>) -> Result<(), Ends> {
        digests.retain(|digest| self.blobs.doom(*digest));
        let doomed = Doomed {
            blobs: self.blobs.clone(),
            digests,
        };
        let ledger = self.ledger.clone();
        let (doomed, unnamed) = blocking(move || {
            let unnamed = unnamed(&ledger, &doomed.digests)?;
            Ok((doomed, unnamed))
        })
        .await?;
        if unnamed.is_empty() {
            return Ok(());
        }
        // A loss of power must not bring back a row that names what is gone.
        let on_disk = self.ledger.on_disk().await;
        on_disk.map_err(|Stopped| Ends::Stopped)?;
        let metrics = &self.ledger.shared().metrics;
        let removed = blocking(move || {
            let (mut removed, mut failed) = (0, Ok(()));
            for digest in unnamed {
                match doomed.blobs.remove_doomed(digest) {
                    Ok(is_removed) => removed += u64::from(is_removed),
                    Err(error) => failed = Err(Ends::Blobs(error)),
                }
            }
            Ok((removed, failed))
        });
        let (removed, failed) = removed.await?;
        metrics.blobs_removed.inc_by(removed);
        failed
    }
}

/// Those of `digests` that no row names as of the last commit.
fn unnamed(ledger: &Handle, digests: &[Digest]) -> Result<Vec<Digest>, Ends> {
    let mut unnamed = Vec::new();
    for digest in digests {
        let is_module = read(&ledger.shared().registry).by_digest(digest).is_some();
        if is_module {
            continue;
        }
        let uses = key::blob_uses(*digest);
        let first = ledger
            .reader()
            .scan(Space::Index, &uses, &[], Direction::Ascending, 1);
        if first.map_err(Ends::Store)?.is_empty() {
            unnamed.push(*digest);
        }
    }
    Ok(unnamed)
}

/// Doomed blobs, which are spared if they are still there when this is dropped.
struct Doomed {
    blobs: Blobs,
    digests: Vec<Digest>,
}

impl Drop for Doomed {
    fn drop(&mut self) {
        for digest in &self.digests {
            self.blobs.spare(*digest);
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Ends> + Send + 'static,
) -> Result<T, Ends> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(Ends::Panicked))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::watch;
    use tq_core::TaskId;

    use super::*;
    use crate::ledger::{self, Clock, Ledger};
    use crate::observe::Metrics;
    use crate::store::memory::Disk;
    use crate::store::{Batch, Committed, Level, Store};
    use crate::tables::Namespace;

    #[tokio::test]
    async fn sweep_removes_what_nobody_names_or_holds() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().join("blobs"), 0).unwrap();
        let contents = ["named", "held", "left behind"].map(Bytes::from);
        let mut holds = blobs.put_new(&contents).unwrap();
        let [named, held, left] = [0, 1, 2].map(|n: usize| holds[n].digest());
        holds.remove(2);
        holds.remove(0);

        let mut store = Disk::new().open().unwrap();
        let mut batch = Batch::new();
        let task = TaskId([1; 16]);
        batch.put(key::blob_use(named, Namespace(1), task), Bytes::new());
        let committed = store.commit(batch, Level::Disk).unwrap();
        assert!(matches!(committed, Committed::Yes(_)));
        let clock = Clock::start();
        let config = ledger::Config::default();
        let ledger =
            Ledger::open(Box::new(store), config, clock.now(), Metrics::default()).unwrap();
        let (handle, running) = ledger::start(ledger, clock, watch::channel(None).0).unwrap();

        let collector = Collector::new(blobs.clone(), handle.clone());
        assert!(collector.sweep().await.is_ok());
        let there = [named, held, left].map(|digest| blobs.contains(digest).unwrap());
        assert_eq!(there, [true, true, false]);
        assert_eq!(handle.shared().metrics.blobs_removed.get(), 1);

        drop(holds);
        assert!(collector.sweep().await.is_ok());
        assert!(!blobs.contains(held).unwrap());
        running.stop().await.unwrap();
    }
}
