//! Rights that a process gives away before it touches foreign code, so that whoever takes it over has little in hand.
//!
//! Each layer stands by itself, and most of what one forbids another forbids too: system calls by number and argument
//! (seccomp), files, TCP, signals and abstract sockets by what they name (Landlock), and what a process may become or show
//! of itself (flags and limits). None of it can be taken back.
//!
//! A system call that such a process never makes ends it on the spot: after the first one nothing that it does can be
//! trusted, an error would only tell the intruder to try something else, and the parent sees the signal (`SIGSYS`) as the
//! kernel's log sees the call. Opening files is answered with `EACCES` instead, because libraries do it in passing and get
//! along without: to count processors, to name the frames of a backtrace.

mod calls;

use std::fmt;
use std::io;
use std::os::fd::RawFd;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, RestrictSelfAttr as _, Ruleset,
    RulesetAttr as _, RulesetStatus, Scope,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getpid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::set_no_new_privs;

/// What a process does, and so what it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Compiler,
    Runner,
}

/// One of the things that confine a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// No program that it starts has more rights than itself (`no_new_privs`).
    NoNewPrivileges,
    /// No other process of the same user may read or trace it, and it leaves no core file.
    Undumpable,
    /// It ends with the thread that started it.
    ParentDeath,
    /// What it may name: no file, no TCP port, no process and no abstract socket outside.
    Landlock,
    /// Which system calls it may make, with which arguments, in all of its threads.
    Seccomp,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNewPrivileges => "no_new_privs",
            Self::Undumpable => "undumpable",
            Self::ParentDeath => "parent-death signal",
            Self::Landlock => "Landlock",
            Self::Seccomp => "seccomp",
        })
    }
}

/// What confines this process from now on.
#[derive(Debug)]
#[must_use = "it says which layers are missing, and an operator should hear of that"]
pub struct Confined {
    layers: Vec<Layer>,
    missing: Vec<String>,
}

impl Confined {
    /// The layers that hold, in full or in part.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// What does not hold because the kernel lacks it, each with the reason: a whole layer, or a part of one. Empty on
    /// Linux 6.12 and later.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }
}

/// The process cannot be confined, though its kernel could. It must not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of the process's own settings was refused.
    #[error("failed to give up rights ({layer})")]
    Set {
        /// The layer.
        layer: Layer,
        /// The cause.
        source: io::Error,
    },
    /// The filter of system calls is wrong, or this processor has none.
    #[error("failed to make the filter of system calls")]
    Filter(#[from] seccompiler::BackendError),
}

/// Leaves this process what a compiler needs that reads standard input and writes standard output and error: memory that
/// cannot be executed, threads, clocks. Nothing can be opened.
///
/// To be called before the input is read, by a process with one thread. Its parent's thread has to live as long as it does.
///
/// # Errors
/// [`Error`] if it is confined in part only through another cause than its kernel; it has to end then.
pub fn compiler() -> Result<Confined, Error> {
    confine(Profile::Compiler)
}

/// Leaves this process what running guests takes: memory, threads, clocks, signals of its own, and what it has open already.
/// It cannot open, connect, execute, fork or signal anything, nor wait for anything but one descriptor at a time.
///
/// To be called when the engine is made (it opens `/proc/self/pagemap`) and before the first guest is loaded. Threads may be
/// started before and after: system calls are filtered in all of them; but before Linux 7.0 Landlock, the second wall, does
/// not hold in threads that are there already. The thread that started this process has to live as long as it does.
///
/// # Errors
/// [`Error`] if it is confined in part only through another cause than its kernel; it has to end then.
pub fn runner() -> Result<Confined, Error> {
    confine(Profile::Runner)
}

/// Closes all but the three streams and `kept`, which are in ascending order: what the host's own parent left open would pass
/// through the host, and no confinement takes away what is open. To be called first of all.
pub(crate) fn close_inherited(kept: &[RawFd]) -> io::Result<()> {
    let mut from = 3;
    let ends = kept.iter().map(|fd| fd - 1).chain([RawFd::MAX]);
    for (end, kept) in ends.zip(kept.iter().map(Some).chain([None])) {
        if from <= end {
            #[expect(
                unsafe_code,
                reason = "the standard library closes only what it has opened"
            )]
            // SAFETY: the process has just begun. Nothing in it owns a descriptor but what stays.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, from, end, 0) };
            match io::Error::last_os_error() {
                _ if closed == 0 => {}
                // Before Linux 5.9, which lacks Landlock too, so that the host has said that it is too old.
                error if error.raw_os_error() == Some(libc::ENOSYS) => {}
                error => return Err(error),
            }
        }
        from = kept.map_or(from, |kept| kept + 1);
    }
    Ok(())
}

fn confine(profile: Profile) -> Result<Confined, Error> {
    let set = |layer| {
        move |errno: rustix::io::Errno| Error::Set {
            layer,
            source: errno.into(),
        }
    };
    // Built first: nothing is given away if it cannot be.
    let filters = calls::filters(profile, getpid())?;
    set_no_new_privs(true).map_err(set(Layer::NoNewPrivileges))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(set(Layer::Undumpable))?;
    let no_core = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, no_core).map_err(set(Layer::Undumpable))?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(set(Layer::ParentDeath))?;

    let mut confined = Confined {
        layers: vec![
            Layer::NoNewPrivileges,
            Layer::Undumpable,
            Layer::ParentDeath,
        ],
        missing: Vec::new(),
    };
    match landlock(true) {
        Ok(lacks) => {
            confined.layers.push(Layer::Landlock);
            confined.missing.extend(lacks);
        }
        Err(why) => confined.missing.push(format!("Landlock: {why}")),
    }
    // Last, since it forbids all of the above.
    let apply = |filter| seccompiler::apply_filter_all_threads(filter);
    match filters.iter().map(Vec::as_slice).try_for_each(apply) {
        Ok(()) => confined.layers.push(Layer::Seccomp),
        Err(error) => confined.missing.push(format!("seccomp: {}", cause(&error))),
    }
    Ok(confined)
}

/// Denies everything that Landlock knows of, in this thread and those that it starts; with `all_threads`, in the others
/// too where the kernel can. Returns the part that this kernel does not know, or why it does nothing at all.
fn landlock(all_threads: bool) -> Result<Option<String>, String> {
    // What all these can deny was first complete in ABI 6 (Linux 6.12); a kernel with less does what it can.
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V4)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .and_then(|created| created.all_threads(all_threads))
        .and_then(|created| created.restrict_self());
    let status = restricted.map_err(|error| cause(&error))?;
    match (status.ruleset, status.landlock) {
        (_, LandlockStatus::NotImplemented) => {
            Err("this kernel has none (it needs Linux 5.13)".to_owned())
        }
        (_, LandlockStatus::NotEnabled) => {
            Err("it is switched off at boot (`lsm=` on the kernel's command line)".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => Err("the kernel does not enforce it".to_owned()),
        (_, LandlockStatus::Available { effective_abi, .. }) if effective_abi < ABI::V6 => {
            Ok(Some(format!(
                "Landlock: this kernel's has ABI {}: TCP needs 4 (Linux 6.7), devices 5 (6.10), signals and abstract \
             sockets 6 (6.12)",
                effective_abi as i32
            )))
        }
        (RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced, _) => Ok(None),
    }
}

/// The innermost cause, which is the kernel's answer.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use rustix::process::{getppid, test_kill_process};

    use super::*;

    /// The other layers hide this one in a confined process, and a thread can be confined by itself.
    #[test]
    fn landlock_by_itself_denies_files_programs_ports_and_signals() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (parent, directory) = (getppid().unwrap(), tempfile::TempDir::new().unwrap());
        let file = directory.path().join("new");
        let tries = move || {
            let denied = |result: io::Result<()>| result.map_err(|error| error.kind());
            [
                ("read", denied(File::open("/etc/passwd").map(drop))),
                ("list", denied(std::fs::read_dir("/").map(drop))),
                ("create", denied(File::create(&file).map(drop))),
                (
                    "execute",
                    denied(Command::new("/bin/true").spawn().map(drop)),
                ),
                ("connect", denied(TcpStream::connect(address).map(drop))),
                ("bind", denied(TcpListener::bind("127.0.0.1:0").map(drop))),
                (
                    "signal",
                    denied(test_kill_process(parent).map_err(io::Error::from)),
                ),
            ]
        };
        for (what, result) in tries() {
            assert_eq!(result, Ok(()), "{what}, not yet confined");
        }
        let confined = std::thread::spawn(move || landlock(false).map(|lacks| (lacks, tries())));
        let results = match confined.join().unwrap() {
            Ok((None, results)) => results,
            // A kernel that cannot do it says so, and there is nothing to check.
            Ok((Some(lacks), _)) => return assert!(lacks.contains("ABI"), "{lacks}"),
            Err(why) => return assert!(!why.is_empty()),
        };
        for (what, result) in results {
            assert_eq!(result, Err(ErrorKind::PermissionDenied), "{what}");
        }
    }
}
