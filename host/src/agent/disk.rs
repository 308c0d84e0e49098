//! What the agent keeps on the host's own disk: outcomes that no broker has taken yet, and how far it saw the store.
//!
//! Every file is its content behind the BLAKE3 hash of it, renamed into place. Nothing is synced: what a loss of power
//! tears is noticed by its hash and dropped, and the broker runs the attempt again, as if the host had been lost.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tq_core::id::Epoch;
use tq_core::limits::{MESSAGE_BYTES_MAX, OUTCOMES_KEPT_MAX};
use tq_proto::v1::AttemptOutcome;

use crate::agent::session::Seen;

/// How often the highest sequence is written at most, while it rises.
const SEEN_INTERVAL: Duration = Duration::from_millis(100);
const HASH_BYTES: usize = blake3::OUT_LEN;

/// A change to the spool.
#[derive(Debug)]
pub(crate) enum Change {
    Keep(Box<AttemptOutcome>),
    Remove(Epoch),
}

/// The folder of outcomes that wait for a broker, one file each.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    directory: PathBuf,
}

impl Spool {
    /// Opens the folder, making it if need be, and reads what is in it. Files that are damaged, left over from a write
    /// that did not end, or beyond [`OUTCOMES_KEPT_MAX`] are removed; of the latter the oldest. Blocks.
    pub(crate) fn open(directory: PathBuf) -> io::Result<(Self, Vec<AttemptOutcome>)> {
        fs::create_dir_all(&directory)?;
        let mut outcomes = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            match read_sealed(&path)?.map(AttemptOutcome::decode) {
                Some(Ok(outcome)) => outcomes.push(outcome),
                Some(Err(_)) | None => {
                    tracing::warn!(file = %path.display(), "removed a damaged outcome; its attempt will be run again");
                    fs::remove_file(&path)?;
                }
            }
        }
        outcomes.sort_by_key(|outcome| outcome.epoch);
        let spool = Self { directory };
        let excess = outcomes.len().saturating_sub(OUTCOMES_KEPT_MAX);
        if excess > 0 {
            tracing::warn!(
                excess,
                kept_max = OUTCOMES_KEPT_MAX,
                "removed the oldest outcomes; their attempts will be run again"
            );
        }
        for outcome in outcomes.drain(..excess) {
            spool.apply(&Change::Remove(Epoch(outcome.epoch)))?;
        }
        Ok((spool, outcomes))
    }

    /// Applies changes as they come, until their sender is gone.
    pub(crate) async fn run(self, mut changes: mpsc::Receiver<Change>) {
        const BATCH: usize = 64;
        let mut batch = Vec::with_capacity(BATCH);
        while changes.recv_many(&mut batch, BATCH).await > 0 {
            let (spool, changes) = (self.clone(), std::mem::take(&mut batch));
            let applied = tokio::task::spawn_blocking(move || {
                changes.iter().try_for_each(|change| spool.apply(change))
            });
            match applied.await {
                Ok(Ok(())) => {}
                // They stay in memory, so that only a crash before the broker is back loses them.
                Ok(Err(error)) => tracing::error!(%error, "failed to keep outcomes on disk"),
                Err(error) => tracing::error!(%error, "failed to keep outcomes on disk"),
            }
        }
    }

    fn apply(&self, change: &Change) -> io::Result<()> {
        match change {
            Change::Keep(outcome) => {
                write_sealed(&self.path(Epoch(outcome.epoch)), &outcome.encode_to_vec())
            }
            Change::Remove(epoch) => match fs::remove_file(self.path(*epoch)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }

    fn path(&self, epoch: Epoch) -> PathBuf {
        self.directory.join(format!("{:016x}.outcome", epoch.0))
    }
}

/// Reads how far the host saw its broker's store; the beginning, if it never did. Blocks.
pub(crate) fn read_seen(path: &Path) -> io::Result<Seen> {
    let sealed = match read_sealed(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::default()),
        sealed => sealed?,
    };
    let Some(mut content) = sealed.filter(|content| content.len() >= 8) else {
        tracing::warn!(file = %path.display(), "what this host saw of the store is damaged, and is begun anew");
        return Ok(Seen::default());
    };
    let seq = content.get_u64_le();
    Ok(Seen {
        store: content,
        seq,
    })
}

/// Writes what is seen whenever it has changed, at most every 100 ms, and once more when its sender is gone.
pub(crate) async fn write_seen(path: PathBuf, mut seen: watch::Receiver<Seen>) {
    loop {
        let is_last = seen.changed().await.is_err();
        let now = seen.borrow_and_update().clone();
        let to = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut content = now.seq.to_le_bytes().to_vec();
            content.extend_from_slice(&now.store);
            write_sealed(&to, &content)
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to write what this host saw of the store")
            }
            Err(error) => tracing::warn!(%error, "failed to write what this host saw of the store"),
        }
        if is_last {
            return;
        }
        tokio::time::sleep(SEEN_INTERVAL).await;
    }
}

fn write_sealed(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut sealed = Vec::with_capacity(HASH_BYTES + content.len());
    sealed.extend_from_slice(blake3::hash(content).as_bytes());
    sealed.extend_from_slice(content);
    fs::write(&temporary, sealed)?;
    fs::rename(temporary, path)
}

/// The content of a sealed file; `None` if it is not whole.
fn read_sealed(path: &Path) -> io::Result<Option<Bytes>> {
    if fs::metadata(path)?.len() > MESSAGE_BYTES_MAX as u64 {
        return Ok(None); // Larger than anything that is written here.
    }
    let mut sealed = Bytes::from(fs::read(path)?);
    if sealed.len() < HASH_BYTES || path.extension().is_some_and(|extension| extension == "new") {
        return Ok(None);
    }
    let hash = sealed.split_to(HASH_BYTES);
    Ok((blake3::hash(&sealed).as_bytes() == &hash[..]).then_some(sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(epoch: u64) -> AttemptOutcome {
        AttemptOutcome {
            epoch,
            outcome: "succeeded".to_owned(),
            ..AttemptOutcome::default()
        }
    }

    #[test]
    fn spooled_outcomes_are_there_until_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("outcomes");
        let (spool, none) = Spool::open(path.clone()).unwrap();
        assert_eq!(none, []);
        for epoch in [3, 1, 2] {
            spool
                .apply(&Change::Keep(Box::new(outcome(epoch))))
                .unwrap();
        }
        spool.apply(&Change::Remove(Epoch(2))).unwrap();
        spool.apply(&Change::Remove(Epoch(2))).unwrap();
        assert_eq!(Spool::open(path).unwrap().1, [outcome(1), outcome(3)]);
    }

    #[test]
    fn torn_and_foreign_files_are_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(directory.path().to_owned()).unwrap();
        for epoch in 1..=3 {
            spool
                .apply(&Change::Keep(Box::new(outcome(epoch))))
                .unwrap();
        }
        let torn = fs::read(spool.path(Epoch(1))).unwrap();
        fs::write(spool.path(Epoch(1)), &torn[..torn.len() - 1]).unwrap();
        fs::write(spool.path(Epoch(3)), []).unwrap();
        fs::write(directory.path().join("1.new"), &torn).unwrap();
        assert_eq!(
            Spool::open(directory.path().to_owned()).unwrap().1,
            [outcome(2)]
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_was_seen_last_is_on_disk_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seen");
        assert_eq!(read_seen(&path).unwrap(), Seen::default());
        let (sender, receiver) = watch::channel(Seen::default());
        let last = Seen {
            store: Bytes::from_static(b"store"),
            seq: 7,
        };
        sender.send_replace(last.clone());
        drop(sender);
        write_seen(path.clone(), receiver).await;
        assert_eq!(read_seen(&path).unwrap(), last);
        fs::write(&path, b"torn").unwrap();
        assert_eq!(read_seen(&path).unwrap(), Seen::default());
    }
}
