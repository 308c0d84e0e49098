//! Runner processes: guests run in children of the host, one for each namespace, so that what breaks out of a sandbox, or
//! breaks it down, meets the walls of the operating system.
//!
//! A runner process is this program again. It is confined ([`crate::confine`]) before it sees a guest: it has three pipes,
//! opens nothing, and knows no secret but those of the attempts that it runs. The host's agent keeps everything else: the
//! session, the lease tokens, the cache of compiled forms, and which attempt runs where.
//!
//! ```text
//!  agent ── Runners ──┬── orders ──> runner process of namespace a: reader ─> Pool ─> slots
//!     ^               │<── events ──         (one for each namespace, one for each suspect)
//!     └── events ─────┘   ... b
//! ```
//!
//! A process that ends while it runs attempts costs those attempts and nothing else: they end as
//! [`RunnerCrashed`](tq_core::Outcome::RunnerCrashed). What was sent to it and had not begun goes to another one, once.

mod answering;
mod asking;
mod child;
mod forms;
mod orders;
mod process;
mod runners;
mod tcp;
mod wire;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tq_core::limits::{RUNNER_AGE_MIN, RUNNER_ATTEMPTS, RUNNER_IDLE};

pub use child::run_child;
pub use process::StartError;
pub(crate) use runners::{Parts, Runners};
pub use wire::read_told;

/// How runner processes are started, and when they make room for fresh ones.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments, upon which it calls [`run_child`] with those that follow.
    pub arguments: Vec<OsString>,
    /// A process is replaced when it has begun so many attempts and is older than `age_min`.
    pub attempts: u64,
    /// The least age at which a process is replaced for having run many attempts.
    pub age_min: Duration,
    /// A process that runs nothing for so long is ended.
    pub idle: Duration,
}

impl Default for Program {
    /// This program itself, with the argument `__run`.
    fn default() -> Self {
        Self {
            // The link stays right when the program's file is replaced while it runs.
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec![OsString::from("__run")],
            attempts: RUNNER_ATTEMPTS,
            age_min: RUNNER_AGE_MIN,
            idle: RUNNER_IDLE,
        }
    }
}
