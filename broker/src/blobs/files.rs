//! The files themselves.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tq_core::Digest;
use tq_core::limits::CHUNK_BYTES;

use super::Unnamed;
use super::cut::Cuts;
use super::holds::{Hold, Holds};

/// Where files grow before they get their name; in the same file system, so that getting it is one step.
const UNFINISHED: &str = "unfinished";

/// A blob that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fewer or more bytes came than were announced.
    #[error("upload has {found} bytes where {expected} were announced")]
    Size {
        /// Bytes announced.
        expected: u64,
        /// Bytes that came; where it is more than announced, those before the upload was given up.
        found: u64,
    },
    /// The bytes that came are not those that were announced.
    #[error("upload has the digest {found} where {expected} was announced")]
    Digest {
        /// The digest announced.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// Too little space is left for what brings new work.
    #[error("the disk has {free} bytes left, under the floor of {floor} bytes")]
    UnderFloor {
        /// What is left.
        free: u64,
        /// The floor.
        floor: u64,
    },
    /// The bytes on disk are not those that were written.
    #[error("blob {digest} is damaged on disk")]
    Damaged {
        /// The blob.
        digest: Digest,
    },
    /// The operating system refused; the file and the reason are in the source, which is for the log.
    #[error("failed to {action} a blob{}", if is_full(.source) { ": no space left on the broker's disk" } else { "" })]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file, and why it failed.
        source: FileError,
    },
}

impl Error {
    /// Whether the disk is full, so that it can work again when there is space.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_full(source),
            Self::UnderFloor { .. } => true,
            Self::Size { .. } | Self::Digest { .. } | Self::Damaged { .. } => false,
        }
    }
}

fn is_full(error: &FileError) -> bool {
    matches!(
        error.source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// What the operating system said about a file.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct FileError {
    path: PathBuf,
    source: io::Error,
}

trait At<T> {
    /// Says what was tried on which file.
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            action,
            source: FileError {
                path: path.to_owned(),
                source,
            },
        })
    }
}

/// The blobs of one data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    free_bytes_floor: u64,
    /// The number of the next unfinished file. The data directory has one broker, so this is enough for a name.
    next: AtomicU64,
    holds: Arc<Holds>,
    cuts: Cuts,
}

impl Blobs {
    /// Opens the blobs in `dir`, which is made if it is not there, and removes what unfinished uploads left behind.
    /// Only one process may have it open. While its file system has less than `free_bytes_floor` bytes left, blobs that
    /// bring new work are refused.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be made or read.
    pub fn open(dir: impl Into<PathBuf>, free_bytes_floor: u64) -> Result<Self, Error> {
        let dir = dir.into();
        // All folders are made now, so that an upload never has to sync more than its own.
        for folder in (0..=u8::MAX).map(|first| format!("{first:02x}")) {
            let folder = dir.join(folder);
            fs::create_dir_all(&folder).at("make the folder of", &folder)?;
        }
        let unfinished = dir.join(UNFINISHED);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.at("clear away", &unfinished)?,
        }
        fs::create_dir(&unfinished).at("make the folder of", &unfinished)?;
        sync_dir(&dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        Ok(Self(Arc::new(Inner {
            dir,
            free_bytes_floor,
            next: AtomicU64::new(0),
            holds: Arc::default(),
            cuts: Cuts::default(),
        })))
    }

    /// Begins to write the blob `expected` of `size` bytes, which brings new work: a module or a payload. Nothing is kept
    /// until [`Upload::finish`]. The floor of free space is asked for now and at each write, so that however many are
    /// written at once, each goes below it by one write at most.
    ///
    /// # Errors
    /// [`Error::UnderFloor`] if too little space is left, [`Error::Io`] if no file can be made.
    pub fn begin_new(&self, expected: Digest, size: u64) -> Result<Upload, Error> {
        let floor = self.0.free_bytes_floor;
        let dir = &self.0.dir;
        let check = || check_floor(rustix::fs::statvfs(dir), floor, dir);
        check().or_else(|_| {
            // What may never go on makes room for what begins.
            self.0.cuts.clear();
            check()
        })?;
        let mut upload = self.begin(expected, size)?;
        upload.floor = Some(floor);
        Ok(upload)
    }

    /// Keeps what came of an upload that a client of `namespace` began, and that was cut. It is of this process, and bounded in
    /// number and time.
    pub fn keep_cut(&self, namespace: &str, upload: Upload) {
        self.0.cuts.keep(namespace, upload);
    }

    /// How many bytes are kept of an upload that was cut.
    #[must_use]
    pub fn received(&self, namespace: &str, expected: Digest, size: u64) -> u64 {
        self.0.cuts.received(namespace, expected, size)
    }

    /// Goes on with an upload that was cut after so many bytes. None if it is not there, or has another length.
    #[must_use]
    pub fn resume(
        &self,
        namespace: &str,
        expected: Digest,
        size: u64,
        offset: u64,
    ) -> Option<Upload> {
        self.0.cuts.take(namespace, expected, size, offset)
    }

    /// As [`Blobs::begin_new`], for what ends work that was taken in, such as a result: written whatever space is left.
    ///
    /// # Errors
    /// [`Error::Io`] if no file can be made.
    pub fn begin(&self, expected: Digest, size: u64) -> Result<Upload, Error> {
        let path = self.unfinished();
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .at("write", &path)?;
        Ok(Upload {
            file,
            unfinished: Unfinished(path),
            target: self.path(expected),
            hold: self.0.holds.hold(expected),
            hasher: Some(Sha256::new()),
            expected,
            size,
            floor: None,
            written: 0,
        })
    }

    /// The path of a new file without a name.
    fn unfinished(&self) -> PathBuf {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.dir.join(UNFINISHED).join(number.to_string())
    }

    /// Keeps blobs that bring new work, and returns holds on them in the same order. They are on disk when this returns.
    /// None gets its name before all are written, so that nothing is left behind when there is too little space for
    /// one of them.
    ///
    /// # Errors
    /// As [`Blobs::begin_new`], [`Upload::write`] and [`Upload::finish`].
    pub fn put_new(&self, blobs: &[Bytes]) -> Result<Vec<Hold>, Error> {
        let write = |bytes: &Bytes| {
            let digest = Digest(Sha256::digest(bytes).into());
            let mut upload = self.begin_new(digest, bytes.len() as u64)?;
            upload.hasher = None;
            upload.write(bytes)?;
            upload.check()
        };
        let written: Vec<_> = blobs.iter().map(write).collect::<Result<_, Error>>()?;
        written.into_iter().map(Checked::keep).collect()
    }

    /// Keeps a blob where it is that is about to be named. None if there is none of this digest.
    ///
    /// # Errors
    /// As [`Blobs::size`].
    pub fn hold(&self, digest: Digest) -> Result<Option<Hold>, Error> {
        // Held first: it cannot go after it was seen.
        let hold = self.0.holds.hold(digest);
        Ok(self.contains(digest)?.then_some(hold))
    }

    /// As [`Blobs::hold`], for somebody to whom it was lent.
    ///
    /// # Errors
    /// As [`Blobs::size`].
    pub fn hold_lent(&self, digest: Digest) -> Result<Option<Hold>, Error> {
        let hold = self.hold(digest)?;
        if let Some(hold) = &hold {
            hold.end_loan();
        }
        Ok(hold)
    }

    /// A whole blob, or none if there is none of this digest. For blobs of a bounded size; others have [`Blobs::open_read`].
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes on disk are others, [`Error::Io`] if they cannot be read.
    pub fn get(&self, digest: Digest) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(digest);
        let Some(bytes) = found(fs::read(&path)).at("read", &path)? else {
            return Ok(None);
        };
        if Digest(Sha256::digest(&bytes).into()) != digest {
            return Err(Error::Damaged { digest });
        }
        Ok(Some(bytes))
    }

    /// Opens a blob to be read in chunks, or returns none if there is none of this digest.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened.
    pub fn open_read(&self, digest: Digest) -> Result<Option<Reader>, Error> {
        let path = self.path(digest);
        let Some(file) = found(File::open(&path)).at("read", &path)? else {
            return Ok(None);
        };
        Ok(Some(Reader {
            file,
            path,
            digest,
            hasher: Some(Sha256::new()),
        }))
    }

    /// The size of a blob in bytes, or none if there is none of this digest.
    ///
    /// # Errors
    /// [`Error::Io`] if its folder cannot be read.
    pub fn size(&self, digest: Digest) -> Result<Option<u64>, Error> {
        let path = self.path(digest);
        let metadata = found(fs::metadata(&path)).at("look for", &path)?;
        Ok(metadata.map(|metadata| metadata.len()))
    }

    /// Whether there is a blob of this digest.
    ///
    /// # Errors
    /// As [`Blobs::size`].
    pub fn contains(&self, digest: Digest) -> Result<bool, Error> {
        Ok(self.size(digest)?.is_some())
    }

    /// The digests of the blobs that begin with a byte, in no order.
    ///
    /// # Errors
    /// [`Error::Io`] if their folder cannot be read.
    pub(super) fn list(&self, first: u8) -> Result<Vec<Digest>, Error> {
        let folder = self.0.dir.join(format!("{first:02x}"));
        let mut digests = Vec::new();
        for entry in fs::read_dir(&folder).at("look for", &folder)? {
            let name = entry.at("look for", &folder)?.file_name();
            let mut digest = [0; 32];
            // What has another name is none of ours.
            if hex::decode_to_slice(name.as_encoded_bytes(), &mut digest).is_ok() {
                digests.push(Digest(digest));
            }
        }
        Ok(digests)
    }

    /// Says that a blob goes if no row names it, unless somebody has use for it. Returns whether that is so.
    pub(super) fn doom(&self, digest: Digest) -> bool {
        self.0.holds.doom(digest)
    }

    /// Says that a blob stays after all.
    pub(super) fn spare(&self, digest: Digest) {
        self.0.holds.spare(digest);
    }

    /// Removes a blob if it is still doomed, and returns whether it is gone. The removal is not synced: after a power loss
    /// the blob may be there again, which costs space and nothing else. Whoever has it open reads on to its end.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be removed.
    pub(super) fn remove_doomed(&self, digest: Digest) -> Result<bool, Error> {
        let (path, nameless) = (self.path(digest), self.unfinished());
        // Only its name is taken from it while nobody can take a hold; giving back its space may take a while.
        let removed = self
            .0
            .holds
            .end(digest, || found(fs::rename(&path, &nameless)));
        let Some(removed) = removed else {
            return Ok(false);
        };
        let unfinished = removed.at("remove", &path)?.map(|()| Unfinished(nameless));
        Ok(unfinished.is_some())
    }

    /// Blobs that nobody holds any more, named or not.
    pub(super) fn let_go(&self) -> &Unnamed {
        &self.0.holds.let_go
    }

    /// Tells that a tick has passed, by which it is measured how long blobs are lent and uploads are kept.
    pub(super) fn tick(&self) {
        self.0.holds.tick();
        self.0.cuts.tick();
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = hex::encode(digest.0);
        self.0.dir.join(&name[..2]).join(name)
    }
}

/// Takes a file that is not there for an answer, not for an error.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses what brings new work while too little space is left on the file system that `found` is of.
fn check_floor(
    found: rustix::io::Result<rustix::fs::StatVfs>,
    floor: u64,
    path: &Path,
) -> Result<(), Error> {
    let found = found.map_err(io::Error::from).at("find room for", path)?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free < floor {
        return Err(Error::UnderFloor { free, floor });
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .at("sync the folder of", dir)
}

/// A blob that is being written. Dropped before [`Upload::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    file: File,
    unfinished: Unfinished,
    target: PathBuf,
    hold: Hold,
    /// None if the digest was made of the very bytes that are written.
    hasher: Option<Sha256>,
    expected: Digest,
    size: u64,
    /// Free space that has to be left, in bytes; none if it is written whatever is left.
    floor: Option<u64>,
    written: u64,
}

/// A file that is removed unless it got its name.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Err(error) = found(fs::remove_file(&self.0)) {
            // The next start clears the folder.
            tracing::warn!(path = %self.0.display(), %error, "failed to remove an unfinished upload");
        }
    }
}

impl Upload {
    /// The digest that was announced.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.expected
    }

    /// The bytes that were announced.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes that came.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds the next bytes; chunks of [`CHUNK_BYTES`] are a good size.
    ///
    /// # Errors
    /// [`Error::Size`] if this is more than was announced, [`Error::UnderFloor`] if too little space is left by now,
    /// [`Error::Io`] if they cannot be written. The upload is of no use after any of them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let found = self.written.saturating_add(bytes.len() as u64);
        if found > self.size {
            return Err(Error::Size {
                expected: self.size,
                found,
            });
        }
        if let Some(floor) = self.floor {
            check_floor(rustix::fs::fstatvfs(&self.file), floor, &self.unfinished.0)?;
        }
        self.file.write_all(bytes).at("write", &self.unfinished.0)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.written = found;
        Ok(())
    }

    /// Checks what was written and gives the blob its name, and a hold on it. When this returns, the bytes and their name are on disk.
    /// If the blob was there already, the same bytes take its place.
    ///
    /// # Errors
    /// As [`Upload::check`] and [`Checked::keep`].
    pub fn finish(self) -> Result<Hold, Error> {
        self.check()?.keep()
    }

    /// Checks what was written, brings it to disk and closes the file.
    ///
    /// # Errors
    /// [`Error::Size`] or [`Error::Digest`] if it is not what was announced, [`Error::Io`] if it could not be brought
    /// to disk. Nothing is kept then.
    pub fn check(self) -> Result<Checked, Error> {
        let Self {
            file,
            unfinished,
            target,
            hold,
            hasher,
            expected,
            size,
            floor: _,
            written,
        } = self;
        if written != size {
            return Err(Error::Size {
                expected: size,
                found: written,
            });
        }
        let found = hasher.map(|hasher| Digest(hasher.finalize().into()));
        if let Some(found) = found.filter(|found| *found != expected) {
            return Err(Error::Digest { expected, found });
        }
        file.sync_all().at("sync", &unfinished.0)?;
        Ok(Checked {
            unfinished,
            target,
            hold,
        })
    }
}

/// A blob that is whole and on disk, and has no name yet. Dropped before [`Checked::keep`], it leaves nothing behind. It
/// has no file open, so that any number of them may wait for each other.
#[derive(Debug)]
pub struct Checked {
    unfinished: Unfinished,
    target: PathBuf,
    hold: Hold,
}

impl Checked {
    /// The bytes, for whoever decides whether they are kept. For blobs of a bounded size.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        let path = &self.unfinished.0;
        fs::read(path).at("read", path)
    }

    /// Gives the blob its name, and a hold on it. When this returns, the name is on disk. If the blob was there already, the
    /// same bytes take its place.
    ///
    /// # Errors
    /// [`Error::Io`] if it could not be named. Nothing is kept then, unless the last sync failed, of which nobody can know.
    pub fn keep(self) -> Result<Hold, Error> {
        let Self {
            unfinished,
            target,
            hold,
        } = self;
        fs::rename(&unfinished.0, &target).at("name", &target)?;
        if let Some(folder) = target.parent() {
            sync_dir(folder)?;
        }
        Ok(hold)
    }
}

/// Reads a blob in chunks.
#[derive(Debug)]
pub struct Reader {
    file: File,
    path: PathBuf,
    digest: Digest,
    /// Gone when the end was reached and the digest checked.
    hasher: Option<Sha256>,
}

impl Reader {
    /// The next bytes, at most [`CHUNK_BYTES`] and only the last chunk fewer, or none at the end.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read; [`Error::Damaged`] in place of the end if the bytes were others than
    /// those that were written.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        (&self.file)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk)
            .at("read", &self.path)?;
        if !chunk.is_empty() {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&chunk);
            }
            return Ok(Some(chunk.into()));
        }
        let found = self
            .hasher
            .take()
            .map(|hasher| Digest(hasher.finalize().into()));
        if found.is_some_and(|found| found != self.digest) {
            return Err(Error::Damaged {
                digest: self.digest,
            });
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().join("blobs"), 0).unwrap();
        (dir, blobs)
    }

    fn digest_of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    fn put(blobs: &Blobs, bytes: &[u8]) -> Result<Digest, Error> {
        let put = blobs.put_new(&[Bytes::copy_from_slice(bytes)])?;
        Ok(put[0].digest())
    }

    fn unfinished(blobs: &Blobs) -> usize {
        fs::read_dir(blobs.0.dir.join(UNFINISHED)).unwrap().count()
    }

    fn read(blobs: &Blobs, digest: Digest) -> Result<Vec<u8>, Error> {
        let mut reader = blobs.open_read(digest)?.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next_chunk()? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    #[test]
    fn blob_is_read_as_it_was_written() {
        let (_dir, blobs) = blobs();
        for len in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let bytes: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
            let digest = put(&blobs, &bytes).unwrap();
            assert_eq!(digest, digest_of(&bytes));
            assert_eq!(blobs.get(digest).unwrap().as_ref(), Some(&bytes));
            assert_eq!(read(&blobs, digest).unwrap(), bytes);
            assert_eq!(blobs.size(digest).unwrap(), Some(len as u64));
        }
    }

    #[test]
    fn blob_that_is_not_there_is_no_error() {
        let (_dir, blobs) = blobs();
        let digest = digest_of(b"absent");
        assert_eq!(blobs.get(digest).unwrap(), None);
        assert!(blobs.open_read(digest).unwrap().is_none());
        assert!(!blobs.contains(digest).unwrap());
        assert!(blobs.hold(digest).unwrap().is_none());
        assert!(blobs.doom(digest));
        assert!(!blobs.remove_doomed(digest).unwrap());
    }

    #[test]
    fn blob_outlives_a_restart_and_goes_when_doomed() {
        let (dir, blobs) = blobs();
        let digest = put(&blobs, b"kept").unwrap();
        drop(blobs);
        let blobs = Blobs::open(dir.path().join("blobs"), 0).unwrap();
        assert_eq!(blobs.list(digest.0[0]).unwrap(), [digest]);
        assert!(!blobs.remove_doomed(digest).unwrap());
        assert!(blobs.contains(digest).unwrap());
        assert!(blobs.doom(digest));
        assert!(blobs.remove_doomed(digest).unwrap());
        assert!(!blobs.contains(digest).unwrap());
        assert_eq!(blobs.list(digest.0[0]).unwrap(), []);
        assert_eq!(unfinished(&blobs), 0);
    }

    #[test]
    fn blob_that_is_written_or_held_stays() {
        let (_dir, blobs) = blobs();
        let digest = put(&blobs, b"abc").unwrap();
        let mut upload = blobs.begin(digest, 3).unwrap();
        assert!(!blobs.doom(digest), "it is being written again");
        upload.write(b"abc").unwrap();
        let hold = upload.finish().unwrap();
        assert!(!blobs.doom(digest), "it is about to be named");
        drop(hold);
        assert!(blobs.doom(digest));
        drop(blobs.hold(digest).unwrap().unwrap());
        assert!(!blobs.remove_doomed(digest).unwrap());
        assert!(blobs.contains(digest).unwrap());
    }

    #[track_caller]
    fn refuses(chunks: &[&[u8]], expected: Digest, size: u64, message: &str) {
        let (_dir, blobs) = blobs();
        let mut upload = blobs.begin(expected, size).unwrap();
        let result = chunks
            .iter()
            .try_for_each(|chunk| upload.write(chunk))
            .and_then(|()| upload.finish());
        assert_eq!(result.unwrap_err().to_string(), message);
        assert!(!blobs.contains(expected).unwrap());
        assert_eq!(unfinished(&blobs), 0);
    }

    #[test]
    fn upload_that_is_not_what_was_announced_leaves_nothing() {
        let digest = digest_of(b"abc");
        refuses(
            &[b"ab"],
            digest,
            3,
            "upload has 2 bytes where 3 were announced",
        );
        refuses(
            &[b"ab", b"cd"],
            digest,
            3,
            "upload has 4 bytes where 3 were announced",
        );
        refuses(
            &[b"ab", b"d"],
            digest,
            3,
            "upload has the digest sha256:a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9 where \
             sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad was announced",
        );
    }

    #[test]
    fn upload_that_is_dropped_leaves_nothing() {
        let (_dir, blobs) = blobs();
        let mut upload = blobs.begin(digest_of(b"abc"), 3).unwrap();
        upload.write(b"ab").unwrap();
        assert_eq!(unfinished(&blobs), 1);
        drop(upload);
        assert_eq!(unfinished(&blobs), 0);
    }

    #[test]
    fn under_the_floor_only_what_ends_work_is_written() {
        let dir = tempfile::tempdir().unwrap();
        // No disk has so much, and each has some.
        let blobs = Blobs::open(dir.path().join("blobs"), u64::MAX).unwrap();
        let error = put(&blobs, b"abc").unwrap_err();
        assert!(
            error.is_disk_full() && error.to_string().contains(&u64::MAX.to_string()),
            "{error}"
        );
        assert!(!blobs.contains(digest_of(b"abc")).unwrap());
        assert_eq!(unfinished(&blobs), 0);
        let mut result = blobs.begin(digest_of(b"abc"), 3).unwrap();
        result.write(b"abc").unwrap();
        result.finish().unwrap();
        assert!(blobs.contains(digest_of(b"abc")).unwrap());
    }

    #[test]
    fn floor_is_asked_for_at_each_write() {
        let (_dir, blobs) = blobs();
        let mut upload = blobs.begin_new(digest_of(b"abc"), 3).unwrap();
        upload.write(b"ab").unwrap();
        upload.floor = Some(u64::MAX);
        let error = upload.write(b"c").unwrap_err();
        assert!(error.is_disk_full(), "{error}");
    }

    #[test]
    fn of_several_blobs_all_are_kept_in_their_order() {
        let (_dir, blobs) = blobs();
        let bytes = [
            Bytes::from("first"),
            Bytes::from("second"),
            Bytes::from("first"),
        ];
        let holds = blobs.put_new(&bytes).unwrap();
        let digests: Vec<Digest> = holds.iter().map(Hold::digest).collect();
        assert_eq!(digests, bytes.each_ref().map(|bytes| digest_of(bytes)));
        for (digest, bytes) in digests.into_iter().zip(bytes) {
            assert_eq!(blobs.get(digest).unwrap().as_deref(), Some(&bytes[..]));
        }
        assert_eq!(unfinished(&blobs), 0);
    }

    #[test]
    fn checked_upload_can_be_read_and_is_kept_or_leaves_nothing() {
        let (_dir, blobs) = blobs();
        let digest = digest_of(b"abc");
        for keep in [false, true] {
            let mut upload = blobs.begin(digest, 3).unwrap();
            upload.write(b"abc").unwrap();
            let checked = upload.check().unwrap();
            assert_eq!(checked.read().unwrap(), b"abc");
            assert!(!blobs.contains(digest).unwrap(), "it has no name yet");
            if keep {
                checked.keep().unwrap();
            } else {
                drop(checked);
            }
            assert_eq!(blobs.contains(digest).unwrap(), keep);
            assert_eq!(unfinished(&blobs), 0);
        }
    }

    #[test]
    fn remains_of_a_killed_process_are_cleared_away() {
        let (dir, blobs) = blobs();
        let upload = blobs.begin(digest_of(b"abc"), 3).unwrap();
        // A killed process drops nothing.
        std::mem::forget(upload);
        drop(blobs);
        let blobs = Blobs::open(dir.path().join("blobs"), 0).unwrap();
        assert_eq!(unfinished(&blobs), 0);
    }

    #[test]
    fn same_bytes_at_the_same_time_are_kept_once() {
        let (_dir, blobs) = blobs();
        let digest = digest_of(b"abc");
        let mut uploads = [(); 2].map(|()| blobs.begin(digest, 3).unwrap());
        for upload in &mut uploads {
            upload.write(b"abc").unwrap();
        }
        for upload in uploads {
            upload.finish().unwrap();
        }
        assert_eq!(blobs.get(digest).unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(unfinished(&blobs), 0);
    }

    #[test]
    fn damage_is_noticed_and_mended_by_the_same_upload() {
        let (_dir, blobs) = blobs();
        let digest = put(&blobs, b"abc").unwrap();
        fs::write(blobs.path(digest), b"abd").unwrap();
        let message = format!("blob {digest} is damaged on disk");
        assert_eq!(blobs.get(digest).unwrap_err().to_string(), message);
        assert_eq!(read(&blobs, digest).unwrap_err().to_string(), message);
        put(&blobs, b"abc").unwrap();
        assert_eq!(read(&blobs, digest).unwrap(), b"abc");
    }

    #[test]
    fn paths_stay_out_of_the_message() {
        let (dir, blobs) = blobs();
        fs::remove_dir_all(dir.path().join("blobs")).unwrap();
        let error = blobs.begin(digest_of(b"abc"), 3).unwrap_err();
        assert_eq!(error.to_string(), "failed to write a blob");
        assert!(!error.is_disk_full());
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.to_string().contains(UNFINISHED));
    }

    #[test]
    fn full_disk_is_told_from_other_failures() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = Err::<(), _>(full)
            .at("write", Path::new("somewhere"))
            .unwrap_err();
        assert!(error.is_disk_full());
        assert_eq!(
            error.to_string(),
            "failed to write a blob: no space left on the broker's disk"
        );
    }
}
