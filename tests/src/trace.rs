//! System calls of a running process, by strace.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use crate::process::Process;

/// Begins to write the system calls by which process `pid` talks and syncs to `file`, a line each in the order in which they
/// ended or were interrupted, with the paths of what they work on. `None` if that is not allowed here.
///
/// # Panics
/// strace is not installed.
pub async fn attach(pid: u32, file: &Path) -> Option<Process> {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-y",
        "-s",
        "4096",
        "-e",
        "trace=fdatasync,fsync,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg",
        "-p",
    ]);
    command
        .arg(pid.to_string())
        .arg("-o")
        .arg(file)
        .kill_on_drop(true);
    let mut strace = Process::spawn("strace", command);
    let said = strace.line("ttach").await;
    // "Process 17 attached with 12 threads", or "attach: ptrace(PTRACE_SEIZE, 17): Operation not permitted".
    said.contains(" attached").then_some(strace)
}

/// Ends a trace. The process that it watched goes on.
pub async fn detach(strace: &mut Process) {
    let pid = i32::try_from(strace.pid())
        .ok()
        .and_then(Pid::from_raw)
        .expect("it is a process id");
    kill_process(pid, Signal::INT).expect("its own child can be signalled");
    strace.end().await;
}
