//! Examples and clients in other languages than Rust, and what `cargo xtask toolchains` has installed to build them, and to speak to
//! the broker.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::command::{Ran, Tq};
use crate::guest;
use crate::process::command;
use crate::requirement::has_program;
use crate::wait::within_times;

/// How to get what is missing.
pub const FIX: &str = "run `cargo xtask toolchains`";

/// How many times longer than a command of `tq` a program of the outside may take: some send thousands of requests.
const CLIENT_SLOWNESS: u32 = 5;

/// A language that has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// TypeScript, built by npm.
    TypeScript,
    /// Python, built by componentize-py.
    Python,
    /// C, built by clang.
    C,
    /// Go, built by go.
    Go,
}

impl Language {
    /// The example's folder in `guest-examples`, and its module's name.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::TypeScript => "markdown",
            Self::Python => "csv-statistics",
            Self::C => "checksum",
            Self::Go => "report",
        }
    }

    /// Whether everything is there that builds it.
    #[must_use]
    pub fn is_installed(self) -> bool {
        match self {
            Self::TypeScript => packages(self).is_some() && has_program("npm"),
            Self::Python => packages(self).is_some(),
            Self::C => has_program("clang-19") || std::env::var_os("WASI_SDK_PATH").is_some(),
            Self::Go => go().is_some(),
        }
    }

    /// Links the installed packages into a module's folder, where its own would be.
    ///
    /// # Panics
    /// They are not installed, or the folder cannot be written.
    pub fn link(self, module: &Path) {
        let name = match self {
            Self::TypeScript => "node_modules",
            Self::Python => ".venv",
            Self::C | Self::Go => return,
        };
        let packages = packages(self).expect("they are installed");
        std::os::unix::fs::symlink(packages, module.join(name)).expect("the folder can be written");
    }

    /// Copies the example into `folder`, with the packages that are installed for it. Returns the path of the copy.
    ///
    /// # Panics
    /// It cannot be copied, or its packages are not installed.
    #[must_use]
    pub fn placed(self, folder: &Path) -> PathBuf {
        let place = folder.join(self.example());
        copy(
            &guest::source().join("guest-examples").join(self.example()),
            &place,
        );
        self.link(&place);
        place
    }
}

/// `tq` as it is where Go is installed.
#[must_use]
pub fn with_go(tq: &Tq) -> Tq {
    let Some(folder) = folder() else {
        return tq.clone();
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [folder.join(GO)]
        .into_iter()
        .chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders).expect("folders of PATH have no colons");
    // Go writes where settings are kept, and the folder that tests name for that is to stay away.
    let settings = folder.join("go-config");
    tq.with_env("PATH", path)
        .with_env("GOCACHE", folder.join("go-cache"))
        .with_env("XDG_CONFIG_HOME", settings)
}

/// The program `go` that examples are built with; `None` if none is there.
#[must_use]
pub fn go() -> Option<PathBuf> {
    let installed = folder().map(|folder| folder.join(GO).join("go"));
    let installed = installed.filter(|go| go.is_file());
    installed.or_else(|| has_program("go").then(|| "go".into()))
}

/// Runs a program that speaks to the broker from the outside, out of the virtual environment that was made for them, in `folder`. `None`
/// if that is not there.
///
/// # Panics
/// It does not end in time.
pub async fn run_client<S: AsRef<OsStr>>(
    program: &str,
    words: impl IntoIterator<Item = S>,
    folder: &Path,
) -> Option<Ran> {
    let place = self::folder()?.join("clients");
    if !place.join("installed").is_file() {
        return None;
    }
    let mut command = command(place.join(".venv/bin").join(program));
    command.args(words).current_dir(folder).stdin(Stdio::null());
    let output = within_times(program, CLIENT_SLOWNESS, command.output()).await;
    let output = output.unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
    Some(Ran {
        line: program.to_owned(),
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Where the program `go` is, below [`folder`].
const GO: &str = "go/go/bin";

/// Where xtask/src/toolchains.rs installs.
fn folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = variable("TQ_CACHE").map(PathBuf::from).or_else(|| {
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(Path::new(&variable("HOME")?).join(".cache")));
        Some(cache?.join("tq"))
    });
    std::path::absolute(cache?.join("toolchains")).ok()
}

/// The packages of a language that has some, if all of them are there.
fn packages(language: Language) -> Option<PathBuf> {
    let (place, packages) = match language {
        Language::TypeScript => ("javascript", "node_modules"),
        Language::Python => ("python", ".venv"),
        Language::C | Language::Go => return None,
    };
    installed(place, packages)
}

/// What was installed in a folder, if all of it is there.
pub(crate) fn installed(place: &str, packages: &str) -> Option<PathBuf> {
    let place = folder()?.join(place);
    place
        .join("installed")
        .is_file()
        .then(|| place.join(packages))
}

/// Copies a folder of the source tree, without what building it leaves there.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder can be made");
    for entry in fs::read_dir(from).expect("the example is in the tree") {
        let entry = entry.expect("the folder can be read");
        let name = entry.file_name();
        let to = to.join(&name);
        if matches!(
            name.to_str(),
            Some("build" | "dist" | "node_modules" | ".venv" | "__pycache__" | ".mypy_cache")
        ) {
            continue;
        }
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("the disk takes it");
        }
    }
}
