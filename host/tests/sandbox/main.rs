//! Guests in their sandbox, from a component's bytes to the end of an attempt.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "what a test relies on fails the test, and it measures time itself"
)]

mod bombs;
mod cache;
mod ends;
mod guests;
mod output;
mod rust;
mod stop;
mod typed;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;

use tq_core::{Digest, Epoch, Limits, Outcome, TaskId};
use tq_host::component::{Cache, CompileLimits, Compiler, Config, Ready};
use tq_host::runner::{Attempt, Event, Finished, Pool};
use tq_host::sandbox::Engine;

/// Tests run at the same time, each in a pool of its own, and share one engine, as a process does.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(16).unwrap());
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static CACHE: LazyLock<(TempDir, Cache)> = LazyLock::new(|| {
    let directory = TempDir::new().unwrap();
    let cache = open(directory.path().to_owned(), u64::MAX);
    (directory, cache)
});

fn compiler() -> Compiler {
    Compiler {
        program: PathBuf::from(env!("CARGO_BIN_EXE_tq-host-compile")),
        arguments: Vec::new(),
        limits: CompileLimits::default(),
    }
}

fn open(directory: PathBuf, bytes_max: u64) -> Cache {
    let config = Config {
        directory,
        compiler: compiler(),
        bytes_max,
    };
    Cache::open(config, ENGINE.clone()).unwrap()
}

fn digest(wasm: &[u8]) -> Digest {
    Digest(Sha256::digest(wasm).into())
}

fn ready(wasm: Vec<u8>) -> Arc<Ready> {
    RUNTIME
        .block_on(CACHE.1.prepare(digest(&wasm), Bytes::from(wasm)))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn attempt(epoch: u64, component: Arc<Ready>) -> Attempt {
    Attempt::new(Epoch(epoch), TaskId([7; 16]), component, "main")
}

/// A pool of two slots and what comes out of it.
struct Host {
    pool: Pool,
    events: Receiver<Event>,
    log: Vec<u8>,
    others: Vec<Event>,
}

impl Host {
    fn new() -> Self {
        let config = tq_host::runner::Config {
            slots: 2,
            queue_max: 64,
        };
        let (pool, events) = Pool::start(config, &ENGINE).unwrap();
        Self {
            pool,
            events,
            log: Vec::new(),
            others: Vec::new(),
        }
    }

    fn start(&self, attempt: Attempt) {
        self.pool.run(Box::new(attempt)).unwrap();
    }

    /// The next end of an attempt; what comes before it is kept.
    fn finished(&mut self) -> Finished {
        loop {
            match self.event() {
                Event::Finished(finished) => return *finished,
                Event::Log { text, .. } => self.log.extend_from_slice(&text),
                other => self.others.push(other),
            }
        }
    }

    fn event(&mut self) -> Event {
        let next = async {
            // No guest here takes as long.
            tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await
        };
        RUNTIME.block_on(next).unwrap().unwrap()
    }

    fn log(&self) -> &str {
        std::str::from_utf8(&self.log).unwrap()
    }
}

/// Runs one attempt alone.
fn run(attempt: Attempt) -> (Finished, Host) {
    let mut host = Host::new();
    host.start(attempt);
    let finished = host.finished();
    (finished, host)
}

/// Runs a component and checks how it ends: the outcome, and what its message contains.
#[track_caller]
fn check(wasm: Vec<u8>, limits: Limits, outcome: Outcome, message: &str) -> Finished {
    let (finished, _) = run(Attempt {
        limits,
        ..attempt(1, ready(wasm))
    });
    let said = finished
        .failure
        .as_ref()
        .map_or("", |failure| failure.message.as_str());
    assert_eq!(finished.outcome, outcome, "{said}");
    assert!(said.contains(message), "{said}");
    finished
}
