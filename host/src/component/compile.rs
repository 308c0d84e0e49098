//! Compiling, in a process of its own.
//!
//! The compiler cannot be interrupted and its cost is not bounded by the size of its input; the engine's authors do not
//! count that as a security bug. So it runs where the operating system bounds it. And it reads what anybody may have
//! written, in a language that is large: so the process has no rights but to read that and to write what comes of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use tq_core::limits::{
    COMPILE_CPU, COMPILE_MEMORY_BYTES, COMPILE_MESSAGE_BYTES_MAX, COMPILE_THREADS_MAX,
    COMPILE_WALL, COMPILED_BYTES_MAX, MODULE_BYTES_MAX,
};

use crate::confine;
use crate::sandbox::{Layout, compiler};

/// The exit code that means: the input is refused, and standard error says why.
const REFUSED: u8 = 3;
/// The exit code that means: the child could not bound itself or do its own part.
const BROKEN: u8 = 4;

/// The argument upon which the child confines itself and says what is missing of that.
const CONFINEMENT: &str = "confinement";

/// How to start the compiler's process.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments, upon which it calls [`compile_child`] with those that follow.
    pub arguments: Vec<OsString>,
    /// What one compilation may use.
    pub limits: Limits,
}

/// What one compilation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time on processors, in whole seconds, at least 1.
    pub cpu: Duration,
    /// Wall time.
    pub wall: Duration,
    /// Address space, in bytes.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu: COMPILE_CPU,
            wall: COMPILE_WALL,
            memory_bytes: COMPILE_MEMORY_BYTES,
        }
    }
}

impl Default for Compiler {
    /// This program itself, with the argument `__compile`.
    fn default() -> Self {
        Self {
            // The link stays right when the program's file is replaced while it runs.
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec![OsString::from("__compile")],
            limits: Limits::default(),
        }
    }
}

/// A component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The component is invalid, or needs what the engine does not offer.
    #[error("{0}")]
    Invalid(String),
    /// It took longer than it may.
    #[error("compiling it took more than {} s of processor time", .limit.as_secs())]
    Cpu {
        /// How long it may take.
        limit: Duration,
    },
    /// It waited longer than it may.
    #[error("compiling it took more than {} s", .limit.as_secs())]
    Wall {
        /// How long it may take.
        limit: Duration,
    },
    /// What comes of it is larger than it may be.
    #[error("its compiled form has more than {limit} bytes")]
    TooLarge {
        /// How large it may be.
        limit: u64,
    },
    /// It needs more memory than it may have.
    #[error("compiling it took more than {limit} bytes of memory")]
    Memory {
        /// How much it may have.
        limit: u64,
    },
    /// The compiler did what no compiler does, such as opening a socket, and was ended for it.
    #[error("compiling it led to a system call that is forbidden there")]
    Forbidden,
    /// The compiler itself failed.
    #[error("the compiler failed: {0}")]
    Crashed(String),
    /// Its process could not be run.
    #[error("failed to run the compiler")]
    Process(#[source] std::io::Error),
}

impl Compiler {
    /// Starts the process without an input, and returns which layers of its confinement this machine's kernel lacks.
    ///
    /// # Errors
    /// [`Error::Process`] and [`Error::Crashed`]; nothing can be compiled then either.
    ///
    /// # Cancel safety
    /// Dropped, it kills the process.
    pub async fn missing_confinement(&self) -> Result<Vec<String>, Error> {
        let started = self.command([CONFINEMENT.to_owned()]).output();
        let output = tokio::time::timeout(self.limits.wall, started)
            .await
            .map_err(|_| Error::Wall {
                limit: self.limits.wall,
            })?
            .map_err(Error::Process)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        self.judge(output.status, text(&output.stderr))?;
        Ok(text(&output.stdout).lines().map(str::to_owned).collect())
    }

    fn command(&self, arguments: impl IntoIterator<Item = String>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args(arguments)
            .env_clear()
            .env("RAYON_NUM_THREADS", threads().to_string())
            // Each arena of the allocator reserves 64 MiB of the address space, which is limited.
            .env("MALLOC_ARENA_MAX", "2")
            .current_dir("/")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Compiles `wasm` into `compiled`, which is empty.
    ///
    /// # Cancel safety
    /// Dropped, it kills the process.
    pub(super) async fn compile(
        &self,
        wasm: &Bytes,
        layout: Layout,
        compiled: File,
    ) -> Result<(), Error> {
        let Limits {
            cpu,
            wall,
            memory_bytes,
        } = self.limits;
        let arguments = [
            layout.to_string(),
            cpu.as_secs().to_string(),
            memory_bytes.to_string(),
        ];
        // It dies with the thread that starts it. That is one of a run time, which keeps its threads for as long as it lives,
        // unless they block in place; nothing in a host does.
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(compiled)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::Process)?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A child that has died takes no more; its status says why.
                stdin.write_all(wasm).await.ok();
            }
        };
        let read = async {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                let max = COMPILE_MESSAGE_BYTES_MAX as u64;
                (&mut stderr).take(max).read_to_end(&mut said).await.ok();
                // The rest is read so that the child does not wait for it.
                tokio::io::copy(&mut stderr, &mut tokio::io::sink())
                    .await
                    .ok();
            }
            String::from_utf8_lossy(&said).trim().to_owned()
        };
        let whole = async { tokio::join!(write, read, child.wait()) };
        let (status, said) = match tokio::time::timeout(wall, whole).await {
            Ok(((), said, status)) => (status.map_err(Error::Process)?, said),
            Err(_) => {
                child.kill().await.map_err(Error::Process)?;
                return Err(Error::Wall { limit: wall });
            }
        };
        self.judge(status, said)
    }

    fn judge(&self, status: ExitStatus, said: String) -> Result<(), Error> {
        let is_killed_by = |signal: Signal| status.signal() == Some(signal.as_raw());
        if status.success() {
            Ok(())
        } else if status.code() == Some(i32::from(REFUSED)) {
            Err(Error::Invalid(said))
        } else if is_killed_by(Signal::XCPU) {
            Err(Error::Cpu {
                limit: self.limits.cpu,
            })
        } else if is_killed_by(Signal::XFSZ) {
            Err(Error::TooLarge {
                limit: COMPILED_BYTES_MAX,
            })
        } else if is_killed_by(Signal::SYS) {
            Err(Error::Forbidden)
        } else if is_killed_by(Signal::KILL) {
            let why = "it was killed from outside, by hand or by the kernel for want of memory";
            Err(Error::Crashed(why.to_owned()))
        } else if said.contains("memory allocation of") || said.contains("Cannot allocate memory") {
            Err(Error::Memory {
                limit: self.limits.memory_bytes,
            })
        } else {
            Err(Error::Crashed(format!("{status}; it said: {said}")))
        }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(COMPILE_THREADS_MAX))
}

/// The whole of the compiler's process: bounds and confines itself, reads a component from standard input and writes its
/// compiled form to standard output. `arguments` are those that [`Compiler`] appends to its own.
#[must_use]
pub fn compile_child(arguments: &[OsString]) -> ExitCode {
    let done = match arguments {
        [only] if only == CONFINEMENT => say_confinement(),
        arguments => bound(arguments)
            .map_err(|message| (BROKEN, message))
            .and_then(|layout| compile(layout, confine)),
    };
    ended(done)
}

/// What [`compile_child`] does, but for bounding and confining itself. For measurements by tools that cannot work within
/// its bounds.
#[must_use]
pub fn compile_unbounded(layout: Layout) -> ExitCode {
    ended(compile(layout, || Ok(())))
}

fn ended(done: Result<(), Failed>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => failed(code, &message),
    }
}

/// An exit code, and the message for standard error.
type Failed = (u8, String);

fn failed(code: u8, message: &str) -> ExitCode {
    // Nobody is there to be told if this fails; the exit code says it too.
    std::io::stderr().write_all(message.as_bytes()).ok();
    ExitCode::from(code)
}

fn bound(arguments: &[OsString]) -> Result<Layout, String> {
    let usage = "usage: LAYOUT CPU_SECONDS MEMORY_BYTES";
    let texts: Option<Vec<&str>> = arguments.iter().map(|argument| argument.to_str()).collect();
    let [layout, cpu, memory] = texts.as_deref().ok_or(usage)? else {
        return Err(usage.to_owned());
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|error| format!("`{text}`: {error}"))
    };
    let (cpu, memory) = (number(cpu)?, number(memory)?);
    confine::close_inherited(&[]).map_err(|error| format!("inherited descriptors: {error}"))?;
    let limits = [
        // The soft limit ends the process by a signal that says so; the hard one is there in case that is ignored.
        (Resource::Cpu, cpu, cpu.saturating_add(1)),
        (Resource::As, memory, memory),
        (Resource::Fsize, COMPILED_BYTES_MAX, COMPILED_BYTES_MAX),
        (Resource::Nofile, 32, 32),
        (Resource::Core, 0, 0),
    ];
    for (resource, soft, hard) in limits {
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        };
        setrlimit(resource, limit).map_err(|error| format!("{resource:?}: {error}"))?;
    }
    layout
        .parse()
        .map_err(|error: crate::sandbox::EngineError| error.to_string())
}

/// What is missing of it is not said each time: the host has asked once.
fn confine() -> Result<(), Failed> {
    confine::compiler()
        .map(drop)
        .map_err(|error| broken(&error))
}

fn say_confinement() -> Result<(), Failed> {
    let confined = confine::compiler().map_err(|error| broken(&error))?;
    let missing = confined.missing().join("\n");
    std::io::stdout()
        .write_all(missing.as_bytes())
        .map_err(|error| broken(&error))
}

fn broken(error: &dyn std::fmt::Display) -> Failed {
    (BROKEN, error.to_string())
}

fn compile(layout: Layout, confine: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    // The engine asks what the processor can do; the input is not touched before that is over.
    let compiler = compiler(layout).map_err(|error| broken(&error))?;
    confine()?;
    let mut wasm = Vec::new();
    std::io::stdin()
        .take(MODULE_BYTES_MAX as u64)
        .read_to_end(&mut wasm)
        .map_err(|error| broken(&error))?;
    let compiled = compiler
        .precompile_component(&wasm)
        .map_err(|error| (REFUSED, format!("{error:#}")))?;
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&compiled)
        .and_then(|()| stdout.flush())
        .map_err(|error| broken(&error))
}
