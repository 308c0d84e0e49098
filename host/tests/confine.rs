//! What confined processes can and cannot do, each thing in a process of its own.

#![expect(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::fmt;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

use Ends::{Done, Errno, Killed};

/// How the process ends that does it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// It went well.
    Done,
    /// The system call was answered with this error.
    Errno(i32),
    /// The system call ended the process.
    Killed,
    /// By another signal.
    Signal(i32),
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Done => f.write_str("done"),
            Errno(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
            Killed => f.write_str("killed by SIGSYS"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

fn start(profile: &str, deed: &str, file: &str) -> Output {
    // What is killed leaves its files behind.
    let directory = tempfile::TempDir::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tq-host-confined"))
        .args([profile, deed, file])
        .env("RUST_BACKTRACE", "1")
        .env("TMPDIR", directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Those that read nothing may have ended.
    child.stdin.take().unwrap().write_all(b"hello").ok();
    child.wait_with_output().unwrap()
}

fn ends(profile: &str, deed: &str, file: &str) -> Ends {
    let output = start(profile, deed, file);
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => Done,
        (Some(errno), _) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("panicked"), "{profile} {deed}: {said}");
            Errno(errno)
        }
        (None, Some(libc::SIGSYS)) => Killed,
        (None, signal) => Ends::Signal(signal.unwrap()),
    }
}

/// Checks a row: what is done, and how it ends in a compiler's process and in a runner's. It is done once without
/// confinement too, where no system call may kill, so that what is killed is killed by that and nothing else.
fn check((deed, compiler, runner): (&str, Ends, Ends)) -> Result<(), String> {
    let got = ["none", "compiler", "runner"].map(|profile| ends(profile, deed, ""));
    if got[0] == Killed {
        return Err(format!("{deed}: killed without confinement"));
    }
    if got[1..] != [compiler, runner] {
        return Err(format!(
            "{deed}: {:?}, not {:?}",
            &got[1..],
            [compiler, runner]
        ));
    }
    Ok(())
}

#[track_caller]
fn check_all(rows: &[(&str, Ends, Ends)]) {
    let wrong: Vec<String> = rows.iter().filter_map(|row| check(*row).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const DENIED: Ends = Errno(libc::EACCES);

#[test]
fn what_is_forbidden_does_not_happen() {
    check_all(&[
        // The network, and other processes by way of it.
        ("socket-tcp", Killed, Killed),
        ("socket-udp", Killed, Killed),
        ("socket-unix", Killed, Killed),
        ("socket-netlink", Killed, Killed),
        ("socketpair", Killed, Killed),
        ("socketpair-datagram", Killed, Killed),
        ("pass-descriptor", Killed, Killed),
        ("wait-for-many", Killed, Killed),
        ("give-memory-of-others-back", Killed, Killed),
        ("connect", Killed, Killed),
        ("accept", Killed, Killed),
        ("send-to-address", Killed, Killed),
        // Files.
        ("open", DENIED, DENIED),
        ("open-new", DENIED, DENIED),
        ("open-proc", DENIED, DENIED),
        ("list", DENIED, DENIED),
        ("metadata", DENIED, DENIED),
        ("openat2", Killed, Killed),
        ("remove", Killed, Killed),
        // Processes.
        ("exec", Killed, Killed),
        ("fork", Killed, Killed),
        ("vfork", Killed, Killed),
        ("clone3", Errno(libc::ENOSYS), Errno(libc::ENOSYS)),
        ("kill-parent", Killed, Killed),
        ("signal-thread-of-parent", Killed, Killed),
        ("queue-signal", Killed, Killed),
        ("own-socket-signals", Killed, Killed),
        ("ptrace", Killed, Killed),
        ("read-memory-of-parent", Killed, Killed),
        ("pidfd", Killed, Killed),
        // Wide parts of the kernel.
        ("io_uring", Killed, Killed),
        ("userfaultfd", Killed, Killed),
        ("bpf", Killed, Killed),
        ("keyctl", Killed, Killed),
        ("perf", Killed, Killed),
        ("shared-memory", Killed, Killed),
        ("type-into-terminal", Killed, Killed),
        // Its own confinement.
        ("namespace", Killed, Killed),
        ("mount", Killed, Killed),
        ("chroot", Killed, Killed),
        ("setuid", Killed, Killed),
        ("filter", Killed, Killed),
        ("dumpable", Killed, Killed),
        ("set-limit", Killed, Killed),
        ("personality", Killed, Killed),
        ("x32", Killed, Killed),
    ]);
}

#[test]
fn what_running_takes_is_not_given_to_the_compiler() {
    check_all(&[
        ("map-code", Killed, Done),
        ("make-code", Killed, Done),
        ("memory-file", Killed, Done),
        ("give-memory-back", Killed, Done),
    ]);
}

#[test]
fn what_is_permitted_works() {
    check_all(&[
        ("nothing", Done, Done),
        ("threads", Done, Done),
        ("runtime", Done, Done),
        ("memory", Done, Done),
        ("time", Done, Done),
        ("processors", Done, Done),
        ("random", Done, Done),
        ("streams", Done, Done),
        ("panic", Done, Done),
        ("size-of-file", Done, Done),
        (
            "abort",
            Ends::Signal(libc::SIGABRT),
            Ends::Signal(libc::SIGABRT),
        ),
    ]);
}

#[test]
fn modules_are_compiled_and_guests_run() {
    let functions: String = (0..64)
        .map(|n| format!("(func (result i32) (i32.mul (i32.const {n}) (i32.const 3)))"))
        .collect();
    let module = wat::parse_str(format!(
        r#"(module (memory 2) (table 4 funcref) (data (i32.const 70000) "\07") {functions}
            (func (export "fill") (result i32)
                (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536))
                (drop (memory.grow (i32.const 1)))
                (i32.load8_u (i32.const 70000)))
            (func (export "trap") (result i32) unreachable)
            (func (export "outside") (result i32) (i32.load (i32.const 100000000))))"#
    ));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), module.unwrap()).unwrap();
    let file = file.path().to_str().unwrap();
    assert_eq!(ends("compiler", "compile", file), Done);
    assert_eq!(ends("runner", "compile", file), Done);
    assert_eq!(ends("runner", "guest", file), Done);
    assert_eq!(ends("compiler", "guest", file), Killed);
}

/// From outside, as an operator sees it.
#[test]
fn compiler_is_confined_before_it_reads() {
    // With something left open by whoever started the host.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "exec \"$@\" 7</dev/null", "sh"])
        .arg(env!("CARGO_BIN_EXE_tq-host-compile"))
        .args(["reserved", "10", "1073741824"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let process = format!("/proc/{}", child.id());
    let field = |name: &str| {
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        value.trim().to_owned()
    };
    // It has no input yet, and applies its three filters all the same. The shell, which comes first, has none.
    while field("Seccomp_filters:") != "3" {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("NoNewPrivs:"), "1");
    // Only root may look: the process cannot be inspected.
    if let Ok(open) = std::fs::read_dir(format!("{process}/fd")) {
        assert_eq!(open.count(), 3, "more than the three streams are open");
    }
    let component = wat::parse_str("(component (core module (func)))").unwrap();
    child.stdin.take().unwrap().write_all(&component).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with(b"\x7fELF"));
}

#[track_caller]
fn check_layers(profile: &str, layers: &str, missing: &str) {
    let output = start(profile, "nothing", "");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{profile}: {said}");
    assert!(said.contains(&format!("{layers}]\n")), "{said}");
    assert!(said.contains(missing), "{said}");
}

#[test]
fn kernel_that_lacks_a_layer_is_named_for_it() {
    check_layers("compiler", "Landlock, Seccomp", "");
    check_layers(
        "compiler-without-landlock",
        "ParentDeath, Seccomp",
        "Landlock: this kernel has none",
    );
    check_layers(
        "compiler-without-seccomp",
        "ParentDeath, Landlock",
        "seccomp: Invalid argument",
    );
    // What is left still holds.
    assert_eq!(ends("compiler-without-landlock", "open", ""), DENIED);
    assert_eq!(ends("compiler-without-seccomp", "open", ""), DENIED);
    assert_eq!(ends("compiler-without-seccomp", "exec", ""), DENIED);
    assert_eq!(ends("compiler-without-seccomp", "fork", ""), Done);
}
