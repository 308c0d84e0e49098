//! Noticing that the source of a module has changed.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use ignore::{DirEntry, WalkBuilder};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::cases;
use crate::exit::{Exit, Failure};
use crate::manifest::Manifest;
use crate::unfinished;

/// How long nothing has to be written before what was written is looked at: several saves, and the steps of one, are one change.
const QUIET: Duration = Duration::from_millis(100);
/// How long writing may go on before it is looked at all the same.
const PATIENCE: Duration = Duration::from_secs(2);
/// Folders that builds make, whether or not a `.gitignore` says so.
const BUILT: &[&str] = &["target", "node_modules", "__pycache__"];
/// What a build may write beside the source.
const LOCK: &str = "Cargo.lock";
/// Files up to this size are compared by what is in them, larger ones by their time.
const COMPARED_BYTES_MAX: u64 = 16 << 20;

/// The files that a module is made of: those of its folder, but for what is hidden, what `.gitignore` names, what builds and editors
/// write, and cases; or the one file of a component.
pub(crate) struct Source {
    path: PathBuf,
    folders: Folders,
    known: BTreeMap<PathBuf, Seen>,
}

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    len: u64,
    modified: Option<SystemTime>,
    /// Of what is in it; of its time if it is large.
    hash: u64,
}

impl Source {
    /// Begins to watch what is at `path`.
    ///
    /// # Errors
    /// The system watches no more files, or the folder cannot be read.
    pub(crate) fn watch(path: &Path) -> anyhow::Result<Self> {
        let mut source = Self {
            path: path.to_owned(),
            folders: Folders::none().context("failed to watch for changes")?,
            known: BTreeMap::new(),
        };
        source.known = source.look()?;
        Ok(source)
    }

    /// Takes what a build wrote beside the source for its own.
    pub(crate) fn was_built(&mut self) {
        let lock = self.path.join(LOCK);
        match seen(&lock, self.known.get(&lock)) {
            Some(seen) => self.known.insert(lock, seen),
            None => self.known.remove(&lock),
        };
    }

    /// Waits until a file is other than when this last returned, and names those that are, from the module's folder on.
    ///
    /// # Errors
    /// As [`Source::watch`].
    pub(crate) async fn changed(&mut self) -> anyhow::Result<Vec<String>> {
        loop {
            let woken = self.folders.woken().await;
            woken.context("the watch for changes has ended")?;
            let quiet = async {
                while let Ok(Some(())) = tokio::time::timeout(QUIET, self.folders.woken()).await {}
            };
            tokio::time::timeout(PATIENCE, quiet).await.ok();
            let now = tokio::task::block_in_place(|| self.look())?;
            let before = std::mem::replace(&mut self.known, now);
            let is_same = |path: &PathBuf, seen: &Seen| {
                let before = before.get(path);
                before.is_some_and(|before| before.hash == seen.hash && before.len == seen.len)
            };
            let written = self
                .known
                .iter()
                .filter(|(path, seen)| !is_same(path, seen));
            let gone = before
                .iter()
                .filter(|(path, _)| !self.known.contains_key(*path));
            let changed = written.chain(gone).map(|(path, _)| {
                let below = path.strip_prefix(&self.path);
                // A component by itself is below nothing.
                let below = below.ok().filter(|below| !below.as_os_str().is_empty());
                below.unwrap_or(path).display().to_string()
            });
            let changed: Vec<String> = changed.collect();
            if !changed.is_empty() {
                return Ok(changed);
            }
        }
    }

    /// Looks at every file, and watches the folder of each.
    fn look(&self) -> anyhow::Result<BTreeMap<PathBuf, Seen>> {
        let mut found = BTreeMap::new();
        if !self.path.is_dir() {
            let folder = match self.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            };
            self.folders.add(&folder)?;
            self.add(self.path.clone(), &mut found);
            return Ok(found);
        }
        let root = self.path.clone();
        for entry in entries(&root) {
            match entry.file_type() {
                Some(kind) if kind.is_dir() => self.folders.add(entry.path())?,
                Some(_) => self.add(entry.into_path(), &mut found),
                None => {}
            }
        }
        // A component that nothing here builds is all the source that there is. What is wrong with a manifest is said by the deploy.
        if let Ok(Some(Manifest {
            build: None,
            artifact: Some(artifact),
            ..
        })) = Manifest::read(&root)
        {
            let artifact = root.join(artifact);
            if let Some(folder) = artifact.parent().filter(|folder| folder.is_dir()) {
                self.folders.add(folder)?;
            }
            self.add(artifact, &mut found);
        }
        Ok(found)
    }

    fn add(&self, path: PathBuf, found: &mut BTreeMap<PathBuf, Seen>) {
        if let Some(seen) = seen(&path, self.known.get(&path)) {
            found.insert(path, seen);
        }
    }
}

/// Folders of which the system tells when something in them is written, made, renamed or removed. What exactly, it is not asked: it
/// does not know of what was written while nobody listened.
struct Folders {
    told: Arc<OwnedFd>,
    woken: mpsc::Receiver<()>,
}

impl Folders {
    fn none() -> io::Result<Self> {
        let told = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let (wake, woken) = mpsc::channel(1);
        // A thread, since it costs nothing while nothing happens. It ends with the first news that nobody wants.
        std::thread::Builder::new()
            .name("tq-watch".to_owned())
            .spawn({
                let told = Arc::clone(&told);
                move || listen(&told, &wake)
            })?;
        Ok(Self { told, woken })
    }

    /// Takes a folder in, also if it is: another one may have come in its place.
    fn add(&self, folder: &Path) -> anyhow::Result<()> {
        let changes = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.told, folder, changes) {
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => {
                let failed = format!("failed to watch `{}`: {error}", folder.display());
                let failed = Failure::new(Exit::Ended, failed);
                Err(match error {
                    Errno::NOSPC => failed.hint("raise `sysctl fs.inotify.max_user_watches`, or let a `.gitignore` name folders that are no source"),
                    _ => failed,
                }
                .into())
            }
        }
    }

    /// Waits until there is news; nothing if there can be none any more.
    async fn woken(&mut self) -> Option<()> {
        self.woken.recv().await
    }
}

/// Passes on that there is news, for as long as somebody listens.
fn listen(told: &OwnedFd, wake: &mpsc::Sender<()>) {
    let mut news = [0; 4096];
    loop {
        match rustix::io::read(told, &mut news) {
            // One that waits is enough.
            Ok(_) if matches!(wake.try_send(()), Ok(()) | Err(TrySendError::Full(()))) => {}
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// What a module in a folder is made of, as one number: another one, most likely, if any of it is other than it was. What the build
/// itself writes does not count. The same folder has the same number for the same `tq` only.
pub(crate) fn fingerprint(folder: &Path) -> u64 {
    let files =
        entries(folder).filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()));
    let files: BTreeMap<PathBuf, _> = files
        .filter_map(|entry| Some((entry.path().to_owned(), seen(entry.path(), None)?)))
        .filter(|(path, _)| *path != folder.join(LOCK))
        .collect();
    let mut hasher = DefaultHasher::new();
    for (path, seen) in files {
        (path.strip_prefix(folder).ok(), seen.len, seen.hash).hash(&mut hasher);
    }
    hasher.finish()
}

/// What a module's folder has of its source. What goes away in between is no file of the module.
fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    let walk = WalkBuilder::new(folder)
        .parents(false)
        .require_git(false)
        .git_global(false)
        .git_exclude(false)
        .filter_entry(is_source)
        .build();
    walk.filter_map(Result::ok)
}

/// What is in a file now, if it is there; what it was before saves reading it.
fn seen(path: &Path, before: Option<&Seen>) -> Option<Seen> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let (len, modified) = (metadata.len(), metadata.modified().ok());
    if let Some(before) = before
        && before.len == len
        && before.modified == modified
        && modified.is_some()
    {
        return Some(before.clone());
    }
    let mut hasher = DefaultHasher::new();
    if len > COMPARED_BYTES_MAX {
        modified.hash(&mut hasher);
    } else {
        hasher.write(&fs::read(path).ok()?);
    }
    Some(Seen {
        len,
        modified,
        hash: hasher.finish(),
    })
}

/// Whether something in the module's folder is of its source. What is hidden, or ignored, is left out before.
fn is_source(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    if entry.depth() == 0 {
        return true;
    }
    if entry.file_type().is_some_and(|kind| kind.is_dir()) {
        let are_cases = entry.depth() == 1 && name == cases::FOLDER;
        return !are_cases && !BUILT.contains(&name.as_ref());
    }
    let is_baseline = entry.depth() == 1 && name == cases::BASELINE_FILE;
    !is_baseline && !is_passing(&name)
}

/// Whether a file of this name is a component, the mark of its upload, or an editor's own beside the one that is edited: of vim (`4913` tries whether it can
/// write), emacs, and those that write to a temporary file first.
fn is_passing(name: &str) -> bool {
    const ENDS: &[&str] = &[
        ".wasm",
        unfinished::ENDING,
        "~",
        ".swp",
        ".swx",
        ".swo",
        ".tmp",
        ".bak",
        ".orig",
    ];
    name == "4913" || name.starts_with('#') || ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
        // As editors save: there is no moment at which half of it is there.
        let passing = folder.join(".passing");
        fs::write(&passing, text).expect("the disk takes it");
        fs::rename(passing, path).expect("both are on one disk");
    }

    /// Names of the files that are looked at.
    fn names(folder: &Path) -> Vec<String> {
        let source = Source::watch(folder).expect("it can be watched");
        let names = source.known.keys().map(|path| {
            let below = path.strip_prefix(folder).expect("it is below");
            below.display().to_string()
        });
        names.collect()
    }

    #[test]
    fn what_builds_and_editors_write_is_no_source() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let folder = folder.path();
        for name in [
            "Cargo.toml",
            "Cargo.lock",
            "src/main.rs",
            "src/cases/mod.rs",
            "target/release/a.d",
            ".git/index",
            "cases/a.json",
            "fuel.json",
            "out/a.txt",
            "a.wasm",
            "src/main.rs~",
            "src/.main.rs.swp",
            "src/#main.rs#",
            "src/4913",
        ] {
            write(folder, name, "");
        }
        write(folder, ".gitignore", "/out/\n");
        let expected = [
            "Cargo.lock",
            "Cargo.toml",
            "src/cases/mod.rs",
            "src/main.rs",
        ];
        assert_eq!(names(folder), expected);
        // What nothing builds is the source itself.
        write(folder, "tq.toml", "[module]\nartifact = \"a.wasm\"");
        assert!(names(folder).contains(&"a.wasm".to_owned()));
        write(
            folder,
            "tq.toml",
            "[module]\nbuild = \"make\"\nartifact = \"a.wasm\"",
        );
        assert!(!names(folder).contains(&"a.wasm".to_owned()));
        assert_eq!(names(&folder.join("a.wasm")), [""]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_is_told_once_and_only_if_there_is_one() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let folder = folder.path();
        write(folder, "src/a.rs", "1");
        write(folder, "src/b.rs", "1");
        let mut source = Source::watch(folder).expect("it can be watched");
        // The same again, and what a build writes, are no change: only what comes behind them is told.
        write(folder, "src/b.rs", "1");
        write(folder, "Cargo.lock", "1");
        source.was_built();
        write(folder, "target/x", "1");
        write(folder, "src/a.rs", "2");
        write(folder, "src/new/c.rs", "1");
        let mut told = source.changed().await.expect("it is watched");
        // A folder that has just come may be seen before what is written into it.
        if told.len() < 2 {
            told.extend(source.changed().await.expect("it is watched"));
        }
        assert_eq!(told, ["src/a.rs", "src/new/c.rs"]);
        // What came later is watched too.
        write(folder, "src/new/c.rs", "2");
        let told = source.changed().await.expect("it is watched");
        assert_eq!(told, ["src/new/c.rs"]);
        fs::remove_dir_all(folder.join("src/new")).expect("it is there");
        let told = source.changed().await.expect("it is watched");
        assert_eq!(told, ["src/new/c.rs"]);
    }
}
