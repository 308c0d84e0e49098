//! C, by clang with wasi-libc: a plain program of all of `src/*.c`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{COMPONENT, printed, step};
use crate::exit::{Exit, Failure};

const INSTALL: &str = "run `sudo apt-get install --no-install-recommends clang-19 lld-19 libclang-rt-19-dev-wasm32 wasi-libc` (Debian, Ubuntu); \
     elsewhere, unpack https://github.com/WebAssembly/wasi-sdk/releases and give its folder in WASI_SDK_PATH";

const TARGET: &str = "--target=wasm32-wasi";

/// The versions of clang that are looked for where `clang` itself cannot build for WebAssembly.
const VERSIONS: std::ops::RangeInclusive<u32> = 14..=25;

pub(super) fn build(folder: &Path) -> anyhow::Result<()> {
    let sources = sources(folder)?;
    let clang = find().ok_or_else(|| {
        let message = "there is no clang that builds for WebAssembly with wasi-libc";
        Failure::new(Exit::Ended, message).hint(INSTALL)
    })?;
    let mut build = Command::new(clang);
    build
        .args([TARGET, "-O2", "-Wall", "-o", COMPONENT])
        .args(sources);
    step(folder, &mut build, INSTALL)
}

/// The module's sources in alphabetical order, relative to its folder.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let is_source = |path: &PathBuf| path.extension() == Some(OsStr::new("c"));
    let entries = fs::read_dir(folder.join("src")).into_iter().flatten();
    let mut sources: Vec<_> = entries
        .filter_map(|entry| Some(Path::new("src").join(entry.ok()?.file_name())))
        .filter(is_source)
        .collect();
    sources.sort();
    if sources.is_empty() {
        let message = format!("folder `{}` has no `src/*.c`", folder.display());
        return Err(
            Failure::usage(message).hint("`tq new NAME --lang c` makes a module to begin with")
        );
    }
    Ok(sources)
}

/// A clang that has all it takes: the one of wasi-sdk, `clang`, or the newest of those that have their version in their name.
fn find() -> Option<OsString> {
    if let Some(sdk) = std::env::var_os("WASI_SDK_PATH").filter(|sdk| !sdk.is_empty()) {
        return Some(Path::new(&sdk).join("bin/clang").into());
    }
    let versions = VERSIONS.rev().map(|version| format!("clang-{version}"));
    let mut names = ["clang".to_owned()].into_iter().chain(versions);
    names.find(|clang| is_complete(clang)).map(Into::into)
}

/// Whether this clang finds a linker, wasi-libc and its own runtime: what it does not find it names without a folder.
fn is_complete(clang: &str) -> bool {
    [
        "-print-prog-name=wasm-ld",
        "-print-file-name=crt1.o",
        "-print-libgcc-file-name",
    ]
    .into_iter()
    .all(|question| {
        let found = printed(clang, &[TARGET, question]);
        found.is_some_and(|path| Path::new(&path).is_absolute() && Path::new(&path).is_file())
    })
}
