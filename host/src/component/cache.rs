//! The compiled forms on this host's disk, and the ready ones in its memory.
//!
//! A compiled form is native code: whoever can change one runs what they like in this process. So the name of each
//! file carries a keyed hash of its content, made with a key that never leaves the host's own directory, and a file is
//! loaded only if that holds. Content and proof are renamed into place at once.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use tq_core::Digest;
use tq_core::limits::{COMPILES_MAX, READY_MODULES_MAX};

use super::compile;
use super::failures::{self, Failures};
use super::{Compiler, LinkError, Load};
use crate::clock;
use crate::sandbox::Engine;

/// Where the cache is and how large it may become.
#[derive(Clone, Debug)]
pub struct Config {
    /// The host's own directory; made if it is not there, for its user alone.
    pub directory: PathBuf,
    /// How components are compiled.
    pub compiler: Compiler,
    /// All compiled forms together, in bytes. The ones not used for longest go first; one that is in use stays.
    pub bytes_max: u64,
}

/// The cache cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} `{}`", .path.display())]
pub struct OpenError {
    what: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// A component was not made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The bytes are not those that the digest names.
    #[error("the module is `{found}`, not `{expected}`")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The bytes are a compiled form. Only this host's own are ever loaded.
    #[error("it is a compiled form (`.cwasm`); give the component that it was compiled from")]
    Precompiled,
    /// It was not compiled.
    #[error(transparent)]
    Compile(compile::Error),
    /// It cannot be linked.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It was tried before, and is not tried again now.
    #[error("{message}{}", failures::again(*.again))]
    Known {
        /// What came of it then.
        message: String,
        /// How long until this host tries again; never if none.
        again: Option<Duration>,
    },
    /// The compiled form could not be kept or loaded.
    #[error("failed to keep the compiled form on this host")]
    Store(#[source] std::io::Error),
    /// The compiled form, which is our own, is refused by the engine.
    #[error("failed to load the compiled form: {0}")]
    Load(String),
}

impl PrepareError {
    /// Whether another try would end alike, on any host.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Precompiled | Self::Link(_) | Self::Compile(compile::Error::Invalid(_)) => true,
            Self::Known { again, .. } => again.is_none(),
            Self::Digest { .. } | Self::Compile(_) | Self::Store(_) | Self::Load(_) => false,
        }
    }
}

/// Components on this host. Share it behind an [`Arc`].
pub struct Cache<L: Load = Engine> {
    loader: L,
    engine_key: [u8; 8],
    mac_key: [u8; 32],
    components: PathBuf,
    compiler: Compiler,
    bytes_max: u64,
    compiling: Semaphore,
    compiled: AtomicU64,
    state: Mutex<State<L::Loaded>>,
}

struct State<R> {
    kept: HashMap<Digest, Kept>,
    ready: HashMap<Digest, (Arc<R>, u64)>,
    /// One preparation of a module at a time.
    flights: HashMap<Digest, Arc<tokio::sync::Mutex<()>>>,
    dropped: Vec<Digest>,
    failures: Failures,
    /// Rises with every use, so that the least recent one can be told.
    clock: u64,
}

/// A compiled form on disk.
struct Kept {
    path: PathBuf,
    mac: blake3::Hash,
    bytes: u64,
    used: u64,
}

impl<L: Load> Cache<L> {
    /// Opens the cache and looks through its directory; files of another engine and files that are none of its own are
    /// removed. Blocks.
    ///
    /// # Errors
    /// [`OpenError`] if the directory or its key cannot be made or read.
    pub fn open(config: Config, loader: L) -> Result<Self, OpenError> {
        let Config {
            directory,
            compiler,
            bytes_max,
        } = config;
        let components = directory.join("components");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&components)
            .map_err(|source| OpenError {
                what: "make the directory",
                path: components.clone(),
                source,
            })?;
        let key_path = directory.join("components.key");
        let mac_key = key(&key_path).map_err(|source| OpenError {
            what: "make or read the key",
            path: key_path,
            source,
        })?;
        let engine_key = loader.engine_key();
        let kept = scan(&components, engine_key).map_err(|source| OpenError {
            what: "read the directory",
            path: components.clone(),
            source,
        })?;
        let clock = kept.len() as u64;
        Ok(Self {
            loader,
            engine_key,
            mac_key,
            components,
            compiler,
            bytes_max,
            compiling: Semaphore::new(COMPILES_MAX),
            compiled: AtomicU64::new(0),
            state: Mutex::new(State {
                kept,
                ready: HashMap::new(),
                flights: HashMap::new(),
                dropped: Vec::new(),
                failures: Failures::default(),
                clock,
            }),
        })
    }

    /// The modules that this host holds compiled, in no order.
    #[must_use]
    pub fn digests(&self) -> Vec<Digest> {
        self.lock().kept.keys().copied().collect()
    }

    /// The modules that went since the last call, to make room or because their file was damaged.
    #[must_use]
    pub fn take_dropped(&self) -> Vec<Digest> {
        std::mem::take(&mut self.lock().dropped)
    }

    /// How many modules were compiled since the cache was opened.
    #[must_use]
    pub fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    /// A module that is in memory or on this host's disk. A damaged file is removed, and its module is no longer held; one that
    /// only cannot be read at the moment stays, for the next time.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn load(&self, digest: Digest) -> Option<Arc<L::Loaded>> {
        if let Some(ready) = self.ready(digest) {
            return Some(ready);
        }
        let flight = self.flight(digest);
        let _alone = flight.lock().await;
        if let Some(ready) = self.ready(digest) {
            return Some(ready);
        }
        self.load_kept(digest).await
    }

    /// Makes a module ready, compiling it if this host does not hold it. However many ask at once, it is compiled once.
    ///
    /// A module that failed by its own fault is not compiled again: for good if it is invalid, for
    /// [`COMPILE_RETRY_AFTER`](tq_core::limits::COMPILE_RETRY_AFTER) if it went over a limit.
    ///
    /// # Errors
    /// [`PrepareError`]; no file is kept of a module that fails.
    ///
    /// # Cancel safety
    /// Safe; dropped, it kills the compiler's process.
    pub async fn prepare(
        &self,
        digest: Digest,
        wasm: Bytes,
    ) -> Result<Arc<L::Loaded>, PrepareError> {
        if let Some(ready) = self.ready(digest) {
            return Ok(ready);
        }
        let flight = self.flight(digest);
        let _alone = flight.lock().await;
        if let Some(ready) = self.ready(digest) {
            return Ok(ready);
        }
        if let Some(ready) = self.load_kept(digest).await {
            return Ok(ready);
        }
        if let Some(failure) = self.failure(digest) {
            return Err(failure);
        }
        let made = self.make(digest, wasm).await;
        let mut state = self.lock();
        match &made {
            Ok(_) => state.failures.forget(&digest),
            Err(error) => state.failures.note(digest, error, clock::now()),
        }
        drop(state);
        made
    }

    /// Why a module would not be compiled if it were to be prepared now: it failed before.
    #[must_use]
    pub fn failure(&self, digest: Digest) -> Option<PrepareError> {
        self.lock().failures.recall(&digest, clock::now())
    }

    async fn make(&self, digest: Digest, wasm: Bytes) -> Result<Arc<L::Loaded>, PrepareError> {
        let wasm = verify(digest, wasm).await?;
        let _one_of_few = self
            .compiling
            .acquire()
            .await
            .map_err(|error| PrepareError::Store(std::io::Error::other(error)))?;
        let started = clock::now();
        let temporary = Temporary::new(&self.components, digest).map_err(PrepareError::Store)?;
        let file = temporary.file().map_err(PrepareError::Store)?;
        self.compiler
            .compile(&wasm, self.loader.layout(), file)
            .await
            .inspect_err(|error| {
                if matches!(error, compile::Error::Forbidden) {
                    tracing::error!(%digest, "a module's compiler did what compilers do not do; keep the module and report it");
                }
            })
            .map_err(PrepareError::Compile)?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let (mac_key, engine_key) = (self.mac_key, self.engine_key);
        let (path, mac, bytes) = blocking(move || temporary.keep(&mac_key, digest, engine_key))
            .await
            .map_err(PrepareError::Store)?;
        let (loader, from) = (self.loader.clone(), path.clone());
        let loading = blocking(move || Ok(loader.load(digest, &from)));
        let loaded = loading.await.map_err(PrepareError::Store)?.map(Arc::new);
        let checked = match loaded {
            Ok(loaded) => self.loader.check(&loaded).await.map(|()| loaded),
            Err(error) => Err(error),
        };
        // What fails here is linked on no host, and would only take the place of what is.
        let ready = checked.inspect_err(|_| remove(&path))?;
        tracing::info!(
            %digest,
            wasm_bytes = wasm.len(),
            compiled_bytes = bytes,
            compile_ms = started.elapsed().as_millis() as u64,
            "module compiled"
        );
        let kept = Kept {
            path,
            mac,
            bytes,
            used: 0,
        };
        let evicted = {
            let mut state = self.lock();
            state.kept.insert(digest, kept);
            state.hold(digest, &ready);
            state.evict(self.bytes_max)
        };
        evicted.iter().for_each(|path| remove(path));
        Ok(ready)
    }

    fn lock(&self) -> MutexGuard<'_, State<L::Loaded>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self, digest: Digest) -> Option<Arc<L::Loaded>> {
        let mut state = self.lock();
        let ready = Arc::clone(&state.ready.get(&digest)?.0);
        state.touch(digest);
        Some(ready)
    }

    fn flight(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut state = self.lock();
        state
            .flights
            .retain(|_, flight| Arc::strong_count(flight) > 1);
        Arc::clone(state.flights.entry(digest).or_default())
    }

    async fn load_kept(&self, digest: Digest) -> Option<Arc<L::Loaded>> {
        let (path, mac) = {
            let state = self.lock();
            let kept = state.kept.get(&digest)?;
            (kept.path.clone(), kept.mac)
        };
        let (loader, mac_key, engine_key) = (self.loader.clone(), self.mac_key, self.engine_key);
        let from = path.clone();
        let loaded = blocking(move || {
            let found = match authenticate(&mac_key, digest, engine_key, &from) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                found => Some(found?),
            };
            // The comparison of two hashes takes the same time wherever they differ.
            if found != Some(mac) {
                return Ok(None);
            }
            let loaded = loader.load(digest, &from);
            loaded.map(Some).map_err(std::io::Error::other)
        })
        .await;
        match loaded {
            Ok(Some(ready)) => {
                let ready = Arc::new(ready);
                self.lock().hold(digest, &ready);
                Some(ready)
            }
            Ok(None) => {
                tracing::warn!(%digest, "compiled form is damaged and is removed");
                let mut state = self.lock();
                state.kept.remove(&digest);
                state.dropped.push(digest);
                drop(state);
                remove(&path);
                None
            }
            // Whatever the machine lacks at the moment, the file is as good as it was.
            Err(error) => {
                tracing::warn!(%digest, %error, "compiled form cannot be loaded now");
                None
            }
        }
    }
}

impl<L: Load> std::fmt::Debug for Cache<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("components", &self.components)
            .finish_non_exhaustive()
    }
}

impl<R> State<R> {
    fn touch(&mut self, digest: Digest) {
        self.clock += 1;
        if let Some((_, used)) = self.ready.get_mut(&digest) {
            *used = self.clock;
        }
        if let Some(kept) = self.kept.get_mut(&digest) {
            kept.used = self.clock;
        }
    }

    /// Keeps a module in memory, in place of the one not used for longest if there are too many.
    fn hold(&mut self, digest: Digest, ready: &Arc<R>) {
        if self.ready.len() >= READY_MODULES_MAX
            && let Some(oldest) = self
                .ready
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(digest, _)| *digest)
        {
            self.ready.remove(&oldest);
        }
        self.ready.insert(digest, (Arc::clone(ready), 0));
        self.touch(digest);
        // It may have gone and come again before anybody asked.
        self.dropped.retain(|dropped| *dropped != digest);
    }

    /// Chooses what goes so that the rest fits. Returns the files to remove.
    fn evict(&mut self, bytes_max: u64) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let mut total: u64 = self.kept.values().map(|kept| kept.bytes).sum();
        while total > bytes_max {
            let is_in_use = |digest: &Digest| {
                self.ready
                    .get(digest)
                    .is_some_and(|(ready, _)| Arc::strong_count(ready) > 1)
            };
            let oldest = self
                .kept
                .iter()
                .filter(|(digest, _)| !is_in_use(digest))
                .min_by_key(|(_, kept)| kept.used)
                .map(|(digest, _)| *digest);
            let Some(kept) = oldest.and_then(|digest| {
                self.ready.remove(&digest);
                self.dropped.push(digest);
                self.kept.remove(&digest)
            }) else {
                break;
            };
            total -= kept.bytes;
            paths.push(kept.path);
        }
        paths
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)?
}

async fn verify(expected: Digest, wasm: Bytes) -> Result<Bytes, PrepareError> {
    let hashed = wasm.clone();
    let found = blocking(move || Ok(Digest(Sha256::digest(&hashed).into())))
        .await
        .map_err(PrepareError::Store)?;
    if found != expected {
        return Err(PrepareError::Digest { expected, found });
    }
    if wasmtime::Engine::detect_precompiled(&wasm).is_some() {
        return Err(PrepareError::Precompiled);
    }
    Ok(wasm)
}

/// Reads the host's key, or makes it.
fn key(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut key = [0; 32];
    match File::open(path) {
        Ok(mut file) => {
            file.read_exact(&mut key)?;
            return Ok(key);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let filled = rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
    if filled != key.len() {
        return Err(std::io::Error::other("too little randomness"));
    }
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(key)
}

fn scan(components: &Path, engine_key: [u8; 8]) -> std::io::Result<HashMap<Digest, Kept>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(components)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let metadata = entry.metadata()?;
        match name.to_str().and_then(Name::parse) {
            Some(name) if name.engine == engine_key && metadata.is_file() => {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((used, name, path, metadata.len()));
            }
            _ => {
                tracing::info!(file = %path.display(), "removed what is no compiled form of this engine");
                remove(&path);
            }
        }
    }
    found.sort_by_key(|(used, ..)| *used);
    let kept = found
        .into_iter()
        .zip(1..)
        .map(|((_, name, path, bytes), used)| {
            let Name { digest, mac, .. } = name;
            let kept = Kept {
                path,
                mac,
                bytes,
                used,
            };
            (digest, kept)
        });
    Ok(kept.collect())
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "failed to remove a compiled form");
    }
}

/// The name of a compiled form: `<sha256>-<engine>-<mac>.cwasm`.
struct Name {
    digest: Digest,
    engine: [u8; 8],
    mac: blake3::Hash,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix(".cwasm")?.split('-');
        let mut digest = [0; 32];
        let mut engine = [0; 8];
        hex::decode_to_slice(parts.next()?, &mut digest).ok()?;
        hex::decode_to_slice(parts.next()?, &mut engine).ok()?;
        let mac = blake3::Hash::from_hex(parts.next()?).ok()?;
        parts.next().is_none().then_some(Self {
            digest: Digest(digest),
            engine,
            mac,
        })
    }

    fn file(&self) -> String {
        let (digest, engine) = (hex::encode(self.digest.0), hex::encode(self.engine));
        format!("{digest}-{engine}-{}.cwasm", self.mac.to_hex())
    }
}

/// The keyed hash of a compiled form, bound to the module and the engine that it belongs to.
fn authenticate(
    mac_key: &[u8; 32],
    digest: Digest,
    engine: [u8; 8],
    path: &Path,
) -> std::io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new_keyed(mac_key);
    hasher.update(&digest.0).update(&engine);
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize())
}

/// A file on its way; removed unless it is kept.
struct Temporary {
    path: PathBuf,
    components: PathBuf,
}

impl Temporary {
    fn new(components: &Path, digest: Digest) -> std::io::Result<Self> {
        let path = components.join(format!("{}.new", hex::encode(digest.0)));
        // One flight a module, so whatever is there was left by a process that is gone.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            path,
            components: components.to_owned(),
        })
    }

    fn file(&self) -> std::io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
    }

    fn keep(
        self,
        mac_key: &[u8; 32],
        digest: Digest,
        engine: [u8; 8],
    ) -> std::io::Result<(PathBuf, blake3::Hash, u64)> {
        let bytes = fs::metadata(&self.path)?.len();
        let mac = authenticate(mac_key, digest, engine, &self.path)?;
        let name = Name {
            digest,
            engine,
            mac,
        };
        let path = self.components.join(name.file());
        // Not synced: a file that a loss of power cuts short no longer has the hash that it is named by.
        fs::rename(&self.path, &path)?;
        Ok((path, mac, bytes))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        let name = Name {
            digest: Digest([7; 32]),
            engine: [9; 8],
            mac: blake3::hash(b"content"),
        };
        let read = Name::parse(&name.file()).unwrap();
        assert_eq!(
            (read.digest, read.engine, read.mac),
            (name.digest, name.engine, name.mac)
        );
        assert!(name.file().len() < 255);
        for foreign in ["x.cwasm", ".new", "", "00-00-00.cwasm"] {
            assert!(Name::parse(foreign).is_none(), "{foreign}");
        }
    }
}
