//! One runner process, as its host sees it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tq_core::Epoch;
use tq_core::limits::{RUNNER_START_WAIT, RUNNER_WORDS_BYTES_MAX};

use super::Program;
use super::wire::{Ear, Ready, Told, Violation};

/// How long a process whose pipes are closed, or that was killed, may take to be gone.
const END_WAIT: Duration = Duration::from_secs(2);
/// The bytes that a pipe holds, if the system permits: fewer turns between the processes.
const PIPE_BYTES: usize = 256 << 10;

/// A runner process was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system does not start it.
    #[error("failed to start a runner process")]
    Spawn(#[source] io::Error),
    /// It ended before it was ready.
    #[error("a runner process ended before it was ready: {0}")]
    Ended(String),
    /// It is not ready in time.
    #[error("a runner process was not ready within {0:?}")]
    Late(Duration),
    /// It is none of ours.
    #[error("a runner process does not keep to its protocol: {0}")]
    Protocol(String),
    /// Nothing can be compiled for it.
    #[error("runner processes and this one do not fit together: {0}")]
    Engine(#[from] crate::sandbox::EngineError),
}

/// A runner process that is ready. Dropped, it is killed.
pub(super) struct Process {
    child: Child,
    /// None once it was taken.
    pub(super) orders: Option<ChildStdin>,
    pub(super) told: Ear<ChildStdout>,
    pub(super) words: Words,
    begun: Begun,
}

/// Where the slots of a runner process note what they run, each at a place of its own. It outlives the process.
pub(super) struct Begun(File);

impl Begun {
    fn new() -> io::Result<Self> {
        Ok(Self(memfd_create("tq-begun", MemfdFlags::CLOEXEC)?.into()))
    }

    /// What each of so many slots ran last; slots that never ran anything are left out.
    pub(super) fn epochs(&self, slots: usize) -> Vec<Epoch> {
        let mut bytes = vec![0; slots * size_of::<u64>()];
        // What is not there was never written.
        let len = self.0.read_at(&mut bytes, 0).unwrap_or(0);
        let (cells, _) = bytes[..len].as_chunks();
        cells
            .iter()
            .map(|cell| Epoch(u64::from_le_bytes(*cell)))
            .filter(|epoch| epoch.0 != 0)
            .collect()
    }
}

/// What a process says on standard error: that it panicked, mostly.
pub(super) struct Words {
    pipe: ChildStderr,
    said: Vec<u8>,
}

impl Words {
    /// Reads until the pipe ends, and logs the beginning of it, so that a process that talks on neither waits nor fills the log.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn hear(&mut self) {
        let mut chunk = [0; 512];
        while let Ok(len @ 1..) = self.pipe.read(&mut chunk).await {
            let room = RUNNER_WORDS_BYTES_MAX.saturating_sub(self.said.len());
            let new = &chunk[..len.min(room)];
            if !new.is_empty() {
                let words = String::from_utf8_lossy(new);
                tracing::warn!(words = %words.escape_debug(), "a runner process says something");
            }
            self.said.extend_from_slice(new);
        }
    }
}

impl Process {
    /// Waits until it is ready.
    async fn greeted(mut self) -> Result<(Self, Ready), StartError> {
        let protocol = |violation: &Violation| StartError::Protocol(violation.to_string());
        match tokio::time::timeout(RUNNER_START_WAIT, self.told.next()).await {
            Err(_) => Err(StartError::Late(RUNNER_START_WAIT)),
            Ok(Ok(Some(Told::Ready(ready)))) => Ok((self, ready)),
            Ok(Ok(Some(_))) => Err(protocol(&Violation::OutOfPlace(
                "it speaks before it is ready",
            ))),
            Ok(Ok(None)) => Err(StartError::Ended(self.end().await.0)),
            Ok(Err(violation)) => Err(protocol(&violation)),
        }
    }

    /// Waits for the end of a process that has closed its pipes; kills it if it is slow. Returns how it ended, with its last
    /// words, and what it had begun.
    pub(super) async fn end(self) -> (String, Begun) {
        let Self {
            mut child,
            orders,
            told,
            mut words,
            begun,
        } = self;
        drop((orders, told));
        let status = match tokio::time::timeout(END_WAIT, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                child.kill().await.ok();
                child.wait().await
            }
        };
        let ended = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        tokio::time::timeout(END_WAIT, words.hear()).await.ok();
        let said = String::from_utf8_lossy(&words.said);
        let how = match said.trim() {
            "" => ended,
            said => format!("{ended}; it said: {}", said.escape_debug()),
        };
        (how, begun)
    }

    /// Ends it by force, and waits until it is gone. Returns what it had begun.
    pub(super) async fn kill(mut self) -> Begun {
        // It may have ended by itself.
        self.child.kill().await.ok();
        self.begun
    }
}

/// Starts runner processes, all from one thread: the kernel ends a child with the thread that started it. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Spawner {
    requests: mpsc::Sender<oneshot::Sender<io::Result<Process>>>,
}

impl Spawner {
    /// Starts the thread, which ends with the last clone of this. To be called in a run time, which waits for the processes.
    pub(super) fn new(program: &Program, slots: u32, queue_max: usize) -> io::Result<Self> {
        let (requests, received) = mpsc::channel::<oneshot::Sender<io::Result<Process>>>();
        let runtime = tokio::runtime::Handle::current();
        let program = program.clone();
        std::thread::Builder::new()
            .name("tq-spawner".to_owned())
            .spawn(move || {
                let _entered = runtime.enter();
                for answer in received {
                    // Whoever asked may have gone; the process goes with the answer then.
                    answer.send(spawn(&program, slots, queue_max)).ok();
                }
            })?;
        Ok(Self { requests })
    }

    /// Starts a process and waits until it is ready.
    ///
    /// # Cancel safety
    /// Dropped, it ends the process.
    pub(super) async fn start(&self) -> Result<(Process, Ready), StartError> {
        let gone = || StartError::Spawn(io::Error::other("the thread that starts them has ended"));
        let (answer, answered) = oneshot::channel();
        self.requests.send(answer).map_err(|_| gone())?;
        let process = answered.await.map_err(|_| gone())?;
        process.map_err(StartError::Spawn)?.greeted().await
    }
}

fn spawn(program: &Program, slots: u32, queue_max: usize) -> io::Result<Process> {
    let begun = Begun::new()?;
    let mut command = Command::new(&program.program);
    command
        // What lists of processes show.
        .arg0("tq-runner")
        .args(&program.arguments)
        .args([slots.to_string(), queue_max.to_string()])
        .arg(begun.0.as_raw_fd().to_string())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What a terminal sends to the host is the host's to answer.
        .process_group(0)
        .kill_on_drop(true);
    // Left open for this one child. A compiler that is started at this moment closes it.
    fcntl_setfd(&begun.0, FdFlags::empty())?;
    let spawned = command.spawn();
    fcntl_setfd(&begun.0, FdFlags::CLOEXEC)?;
    let mut child = spawned?;
    let (Some(orders), Some(told), Some(words)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("it has no pipes"));
    };
    for pipe in [&orders as &dyn std::os::fd::AsFd, &told] {
        // Those of a user may be used up; the usual size does as well.
        rustix::pipe::fcntl_setpipe_size(pipe.as_fd(), PIPE_BYTES).ok();
    }
    Ok(Process {
        child,
        orders: Some(orders),
        told: Ear::new(told),
        words: Words {
            pipe: words,
            said: Vec::new(),
        },
        begun,
    })
}

/// The end that a runner process has of [`Begun`].
pub(super) fn note_begun(file: &OwnedFd, slot: usize, epoch: Epoch) {
    let place = (slot * size_of::<u64>()) as u64;
    // If it fails the host believes that less has begun than has; what did not fit into memory will not do so now.
    rustix::io::pwrite(file, &epoch.0.to_le_bytes(), place).ok();
}
