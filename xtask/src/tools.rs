//! Finding and starting other programs.

use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What guests are built for.
pub(crate) const WASM: &str = "wasm32-wasip2";

/// Everything that is built together. The simulation and the fuzzer have builds of their own, in which bugs can be planted and
/// more can be reached.
pub(crate) const WORKSPACE: &[&str] = &["--workspace", "--exclude", SIMULATION, "--exclude", FUZZ];

/// The package of the simulation.
pub(crate) const SIMULATION: &str = "tq-simulation";

/// The package of the fuzzer.
pub(crate) const FUZZ: &str = "tq-fuzz";

/// Why a command of `cargo xtask` did not succeed, for whoever reads the terminal.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

/// The top of the clone.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The cargo that started this program, at the top of the clone.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root());
    command
}

/// The target of this machine, as the compiler calls it.
///
/// # Errors
/// The compiler does not say.
pub(crate) fn host_target() -> Result<String, Failed> {
    let failed = || Failed("`rustc -vV` does not name its host".to_owned());
    let output = Command::new("rustc")
        .arg("-vV")
        .current_dir(root())
        .output();
    let said = output.map_err(|_| failed())?.stdout;
    let said = String::from_utf8_lossy(&said);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(failed)
}

/// Where cargo puts programs of the release profile: this one is there too, wherever the target directory is.
pub(crate) fn programs() -> Result<PathBuf, Failed> {
    let this = std::env::current_exe()
        .map_err(|error| Failed(format!("this program's own path is not known: {error}")))?;
    Ok(this.parent().map(Path::to_owned).unwrap_or_default())
}

/// Whether the shell would find this program.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether this runs as root.
pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Has a program by the package of its name, where that takes no question. Where it cannot, it is left to whoever needs it
/// to say so.
///
/// # Errors
/// The package cannot be installed.
pub(crate) fn install(program: &str) -> Result<(), Failed> {
    if is_installed(program) || !is_installed("apt-get") || !is_root() {
        return Ok(());
    }
    apt_install(&[program])
}

/// Installs packages of Debian or Ubuntu, as root.
///
/// # Errors
/// They cannot be installed.
pub(crate) fn apt_install(packages: &[&str]) -> Result<(), Failed> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        run(command.args(arguments))
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
}

/// Whether rustc has a standard library for guests.
pub(crate) fn has_wasm() -> bool {
    let printed = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM])
        .current_dir(root())
        .output();
    printed.is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout);
        output.status.success() && Path::new(folder.trim()).is_dir()
    })
}

/// Runs a program with its output on this terminal.
pub(crate) fn run(command: &mut Command) -> Result<(), Failed> {
    eprintln!("$ {}", shown(command));
    let status = command
        .status()
        .map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failed(format!("`{}` ended with {status}", shown(command))))
}

/// Runs a program and hands over each line of its output, of both kinds in the order in which they were written. The
/// result is whether it succeeded.
pub(crate) fn read(command: &mut Command, mut each: impl FnMut(&str)) -> Result<bool, Failed> {
    eprintln!("$ {}", shown(command));
    let start = |command: &mut Command| -> io::Result<_> {
        let (lines, output) = io::pipe()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        // The command holds the pipe's other end, and the lines would never end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok((lines, child))
    };
    let (lines, mut child) = start(command).map_err(|error| not_started(command, &error))?;
    for line in BufReader::new(lines).split(b'\n') {
        let line = line.map_err(|error| Failed(format!("output cannot be read: {error}")))?;
        each(&String::from_utf8_lossy(&line));
    }
    let status = child
        .wait()
        .map_err(|error| Failed(format!("`{}` is lost: {error}", shown(command))))?;
    Ok(status.success())
}

/// Stages are timed; nothing is decided by it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of this program, which only shows how long stages took"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn not_started(command: &Command, error: &io::Error) -> Failed {
    Failed(format!("`{}` cannot be started: {error}", shown(command)))
}

/// A command as somebody would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let words = [program].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
