//! Uploads that were cut, for whoever uploads the same again. They are in the memory and the files of this process: one that
//! follows it begins without any.

use std::sync::Mutex;

use tq_core::Digest;
use tq_core::limits::{CUT_UPLOAD_KEPT, CUT_UPLOADS_MAX, CUT_UPLOADS_NAMESPACE_MAX};

use super::Upload;
use super::collector::TICK;
use crate::ledger::lock;

/// One more, since the first may come at once.
const TICKS: u64 = CUT_UPLOAD_KEPT.as_secs().div_ceil(TICK.as_secs()) + 1;

/// What came of uploads that were cut, the oldest first. A namespace sees its own alone.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    kept: Mutex<Vec<Cut>>,
}

#[derive(Debug)]
struct Cut {
    namespace: String,
    upload: Upload,
    ticks_left: u64,
}

impl Cut {
    fn is(&self, namespace: &str, digest: Digest, size: u64) -> bool {
        self.namespace == namespace && self.upload.digest() == digest && self.upload.size() == size
    }
}

impl Cuts {
    /// Keeps what came of an upload, unless there is as much of it already. The oldest makes room.
    pub(super) fn keep(&self, namespace: &str, upload: Upload) {
        if upload.written() == 0 {
            return;
        }
        // Files are removed after the lock is.
        let mut gone = Vec::new();
        let mut kept = lock(&self.kept);
        let is_same = |cut: &Cut| cut.is(namespace, upload.digest(), upload.size());
        if let Some(index) = kept.iter().position(is_same) {
            if kept[index].upload.written() >= upload.written() {
                return;
            }
            gone.push(kept.remove(index));
        }
        let of_namespace = kept.iter().filter(|cut| cut.namespace == namespace);
        if of_namespace.count() >= CUT_UPLOADS_NAMESPACE_MAX {
            let oldest = kept.iter().position(|cut| cut.namespace == namespace);
            gone.extend(oldest.map(|oldest| kept.remove(oldest)));
        }
        if kept.len() >= CUT_UPLOADS_MAX {
            gone.push(kept.remove(0));
        }
        kept.push(Cut {
            namespace: namespace.to_owned(),
            upload,
            ticks_left: TICKS,
        });
    }

    /// How many bytes there are of an upload.
    pub(super) fn received(&self, namespace: &str, digest: Digest, size: u64) -> u64 {
        let kept = lock(&self.kept);
        let cut = kept.iter().find(|cut| cut.is(namespace, digest, size));
        cut.map_or(0, |cut| cut.upload.written())
    }

    /// Takes an upload of which there are so many bytes.
    pub(super) fn take(
        &self,
        namespace: &str,
        digest: Digest,
        size: u64,
        offset: u64,
    ) -> Option<Upload> {
        let mut kept = lock(&self.kept);
        let index = kept
            .iter()
            .position(|cut| cut.is(namespace, digest, size) && cut.upload.written() == offset)?;
        Some(kept.remove(index).upload)
    }

    /// Tells that a tick has passed.
    pub(super) fn tick(&self) {
        let mut kept = lock(&self.kept);
        let (over, rest) = std::mem::take(&mut *kept)
            .into_iter()
            .map(|cut| Cut {
                ticks_left: cut.ticks_left - 1,
                ..cut
            })
            .partition::<Vec<_>, _>(|cut| cut.ticks_left == 0);
        *kept = rest;
        drop(kept);
        drop(over);
    }

    /// Gives back the space of all of them.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut *lock(&self.kept));
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use crate::blobs::Blobs;

    use super::*;

    const SIZE: u64 = 10;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().join("blobs"), 0).unwrap();
        (dir, blobs)
    }

    fn upload(blobs: &Blobs, digest: u8, bytes: &[u8]) -> Upload {
        let mut upload = blobs.begin_new(Digest([digest; 32]), SIZE).unwrap();
        upload.write(bytes).unwrap();
        upload
    }

    fn received(cuts: &Cuts, namespace: &str, digest: u8) -> u64 {
        cuts.received(namespace, Digest([digest; 32]), SIZE)
    }

    #[test]
    fn it_is_there_for_its_namespace_digest_and_size_and_once() {
        let (_dir, blobs) = blobs();
        let cuts = Cuts::default();
        cuts.keep("a", upload(&blobs, 1, b"abc"));
        assert_eq!(received(&cuts, "a", 1), 3);
        assert_eq!(received(&cuts, "b", 1), 0, "another namespace");
        assert_eq!(received(&cuts, "a", 2), 0, "another digest");
        let digest = Digest([1; 32]);
        assert_eq!(cuts.received("a", digest, SIZE + 1), 0, "another size");
        assert!(cuts.take("b", digest, SIZE, 3).is_none());
        assert!(cuts.take("a", digest, SIZE + 1, 3).is_none());
        assert!(cuts.take("a", digest, SIZE, 2).is_none(), "another length");
        assert!(cuts.take("a", digest, SIZE, 3).is_some());
        assert!(cuts.take("a", digest, SIZE, 3).is_none(), "somebody has it");
    }

    #[test]
    fn of_the_same_the_longest_stays_and_of_nothing_nothing() {
        let (_dir, blobs) = blobs();
        let cuts = Cuts::default();
        cuts.keep("a", upload(&blobs, 1, b""));
        assert!(lock(&cuts.kept).is_empty());
        for bytes in [b"ab".as_slice(), b"abcd", b"abc"] {
            cuts.keep("a", upload(&blobs, 1, bytes));
        }
        assert_eq!(received(&cuts, "a", 1), 4);
        assert_eq!(lock(&cuts.kept).len(), 1);
    }

    #[test]
    fn oldest_makes_room_in_its_namespace_and_among_all() {
        let (dir, blobs) = blobs();
        let cuts = Cuts::default();
        let namespaces = CUT_UPLOADS_MAX / CUT_UPLOADS_NAMESPACE_MAX + 1;
        for namespace in 0..namespaces {
            let name = namespace.to_string();
            for digest in 0..=CUT_UPLOADS_NAMESPACE_MAX {
                cuts.keep(&name, upload(&blobs, digest as u8, b"abc"));
            }
            assert_eq!(received(&cuts, &name, 0), 0, "it was the oldest there");
            assert_eq!(received(&cuts, &name, 1), 3);
        }
        assert_eq!(received(&cuts, "0", 1), 0, "it was the oldest of all");
        assert_eq!(lock(&cuts.kept).len(), CUT_UPLOADS_MAX);
        let unfinished = || {
            let folder = dir.path().join("blobs/unfinished");
            std::fs::read_dir(folder).unwrap().count()
        };
        assert_eq!(unfinished(), CUT_UPLOADS_MAX);
        cuts.clear();
        assert_eq!(unfinished(), 0);
    }

    #[test]
    fn it_goes_when_nobody_comes_back() {
        let (_dir, blobs) = blobs();
        let cuts = Cuts::default();
        cuts.keep("a", upload(&blobs, 1, b"abc"));
        for _ in 1..TICKS {
            cuts.tick();
            assert_eq!(received(&cuts, "a", 1), 3);
        }
        cuts.tick();
        assert_eq!(received(&cuts, "a", 1), 0);
    }
}
