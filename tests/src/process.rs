//! A process of `tq`: started, watched, disturbed and ended.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::wait::{eventually, within};

/// Lines of standard error that are kept.
const LINES_KEPT: usize = 2_000;

/// Where threads of a stopped process may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleeps {
    /// All are stopped.
    Nowhere,
    /// Some may be in the middle of a call of the kernel, such as a sync.
    InTheKernel,
}

/// A process, which is killed when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    lines: watch::Receiver<VecDeque<String>>,
    /// Reads standard error to its end, so that the process is never held up by a full pipe.
    reader: JoinSet<()>,
}

/// The `tq` binary: the one in `TQ_BIN`, or else the one that cargo puts beside the directory of the tests.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TQ_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a process knows its own file");
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("tq"))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("there is no `tq` near `{}`; build it with `cargo build --release`, or name it in TQ_BIN", own.display()))
}

/// Whether a variable is a setting of whoever runs the tests, or of the cargo that started them, which a stranger's shell
/// has not: `TQ_*`, `CARGO_TARGET_DIR`, `CARGO_MANIFEST_DIR`, `RUSTFLAGS`, `RUST_LOG` and so on. Where cargo and rustup keep
/// what they have, which toolchain they use and how they reach a registry belongs to the machine, and stays.
fn is_setting(name: &str) -> bool {
    const OF_THE_MACHINE: &[&str] = &[
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "RUSTUP_",
    ];
    ["TQ_", "CARGO", "RUST"]
        .iter()
        .any(|start| name.starts_with(start))
        && !OF_THE_MACHINE.iter().any(|start| name.starts_with(start))
}

/// A command of `program` that knows nothing of the settings of whoever runs the tests.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if is_setting(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    // A folder that is not there, so that nobody's config.toml is read, and nobody's width of a terminal.
    command
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
        .env_remove("COLUMNS")
        .env("TQ_LOG", "info,fjall=warn,lsm_tree=warn")
        .kill_on_drop(true);
    command
}

impl Process {
    /// Starts `command`; `name` is what it is called in messages.
    pub(crate) fn spawn(name: &str, mut command: Command) -> Self {
        let started = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let stderr = child.stderr.take().expect("standard error is piped");
        let (sender, lines) = watch::channel(VecDeque::new());
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            let mut stderr = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = stderr.next_line().await {
                sender.send_modify(|lines: &mut VecDeque<String>| {
                    lines.push_back(line);
                    if lines.len() > LINES_KEPT {
                        lines.pop_front();
                    }
                });
            }
        });
        Self {
            name: name.to_owned(),
            child,
            lines,
            reader,
        }
    }

    /// Its process id.
    ///
    /// # Panics
    /// It has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child
            .id()
            .unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// What it holds in memory, in bytes.
    ///
    /// # Panics
    /// It has ended.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.pid()).expect("the process is there")
    }

    /// What it and its children hold in memory, in bytes.
    ///
    /// # Panics
    /// It has ended.
    pub fn family_resident_bytes(&self) -> u64 {
        let children = self.children();
        let held = children
            .iter()
            .filter_map(|child| resident_bytes(child.pid));
        self.resident_bytes() + held.sum::<u64>()
    }

    /// Its children that are alive, in no order.
    ///
    /// # Panics
    /// It has ended.
    pub fn children(&self) -> Vec<Subprocess> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let threads = threads.expect("the process is there");
        let lines = threads.filter_map(|thread| {
            std::fs::read_to_string(thread.ok()?.path().join("children")).ok()
        });
        let pids: Vec<u32> = lines
            .flat_map(|line| {
                let pids = line.split_whitespace().map(str::parse);
                pids.collect::<Result<Vec<u32>, _>>()
            })
            .flatten()
            .collect();
        // One may end between the two.
        let named = |pid: u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            let name = name.trim().to_owned();
            Some(Subprocess { pid, name })
        };
        pids.into_iter().filter_map(named).collect()
    }

    /// Waits for a line on standard error that has `text` in it, also among those that came before.
    ///
    /// # Panics
    /// The process ends without it, or it does not come in time.
    pub async fn line(&mut self, text: &str) -> String {
        let find =
            |lines: &VecDeque<String>| lines.iter().find(|line| line.contains(text)).cloned();
        let what = format!("{}: a line with `{text}`", self.name);
        let mut lines = self.lines.clone();
        let seen = within(&what, lines.wait_for(|lines| find(lines).is_some()))
            .await
            .ok()
            .and_then(|lines| find(&lines));
        seen.unwrap_or_else(|| panic!("{what}: it ended before"))
    }

    /// What it has written to standard error so far, a line each.
    #[must_use]
    pub fn log(&self) -> String {
        self.lines
            .borrow()
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Sends SIGKILL and waits until it is gone.
    pub async fn kill9(&mut self) {
        within("kill -9", self.child.kill())
            .await
            .expect("it was still there to be killed");
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// It ends otherwise than with exit code 0.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.end().await;
        assert_eq!(
            status.code(),
            Some(0),
            "{} after SIGTERM: {status}",
            self.name
        );
    }

    /// Stops the process where it is, as a machine that hangs.
    pub fn sigstop(&self) {
        self.signal(Signal::STOP);
    }

    /// Stops the process, and waits until none of its threads does anything but, maybe, to wait for the kernel. A call of
    /// the kernel that is under way goes on; what comes of it is not seen before [`Process::sigcont`].
    ///
    /// A file system must not be shut down while somebody could still tell what a sync returns that had begun before: `ext4`
    /// gives up what that sync was to write, and Linux 6.18 can return success all the same (`jbd2_complete_transaction`
    /// takes a transaction that is gone for one that is committed).
    pub(crate) async fn stand_still(&self, sleeps: Sleeps) {
        self.sigstop();
        let tasks = format!("/proc/{}/task", self.pid());
        eventually("all threads stand still", async || {
            let threads = std::fs::read_dir(&tasks).expect("the process is there");
            let state = |stat: &str| {
                // The name comes before it, in brackets, and may have any characters.
                let (_, rest) = stat.rsplit_once(") ")?;
                rest.chars().next()
            };
            let stands = |thread: std::fs::DirEntry| {
                let stat = std::fs::read_to_string(thread.path().join("stat"));
                // One that is gone has stopped for good.
                let state = stat.ok().and_then(|stat| state(&stat));
                match state {
                    None | Some('T') => true,
                    Some('D') => matches!(sleeps, Sleeps::InTheKernel),
                    Some(_) => false,
                }
            };
            let mut threads = threads.filter_map(Result::ok);
            threads.all(stands).then_some(())
        })
        .await;
    }

    /// Lets it go on.
    pub fn sigcont(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it ends by itself, and until all that it wrote is in [`Process::log`].
    pub async fn end(&mut self) -> ExitStatus {
        let status = within(&format!("{}: its end", self.name), self.child.wait()).await;
        within("the rest of its log", self.reader.join_next()).await;
        status.expect("a child can be waited for")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .expect("it is a process id");
        kill_process(pid, signal).expect("its own child can be signalled");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nothing is left to be done about a standard error that is gone.
            drop(write!(
                std::io::stderr(),
                "---- {} wrote:\n{}----\n",
                self.name,
                self.log()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_who_runs_the_tests_are_not_handed_on() {
        for name in [
            "TQ_BROKER",
            "CARGO",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "RUSTFLAGS",
            "RUST_LOG",
        ] {
            assert!(is_setting(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_X_INDEX",
            "RUSTUP_HOME",
            "PATH",
            "HOME",
        ] {
            assert!(!is_setting(name), "{name}");
        }
    }
}

/// A process that another one has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subprocess {
    /// Its id.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
}

impl Subprocess {
    /// Kills it, without a word of warning.
    ///
    /// # Panics
    /// It has ended.
    pub fn kill9(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let killed = kill_process(pid.expect("it is a process"), Signal::KILL);
        killed.expect("the process is there");
    }

    /// Whether it is gone.
    pub fn is_gone(&self) -> bool {
        let path = format!("/proc/{}/stat", self.pid);
        // One that is dead waits for its parent to look.
        std::fs::read_to_string(path).map_or(true, |stat| stat.contains(") Z "))
    }
}

/// What a process holds in memory, in bytes; nothing if it has ended.
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = resident.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
    Some(kib * 1024)
}
