//! Go, by the compiler of the Go project: a plain program.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::{COMPONENT, check_has, printed, step};
use crate::exit::{Exit, Failure};

const INSTALL: &str = "install Go 1.21 or later from https://go.dev/dl; Debian 13 and Ubuntu 24.04 have it: `sudo apt-get install golang-go`";

/// The first `go1.MINOR` that builds for WASI.
const MINOR_MIN: u32 = 21;

/// Where Debian puts the versions of Go, each in a folder of its own.
const VERSIONED: &str = "/usr/lib";

pub(super) fn build(folder: &Path) -> anyhow::Result<()> {
    check_has(folder, "go.mod", "which names the module")?;
    let go = find()?;
    let mut build = Command::new(&go);
    build.args(["build", "-trimpath", "-ldflags=-s -w", "-o", COMPONENT]);
    if let Some(overlay) = overlay(folder, &go)? {
        build.arg("-overlay").arg(overlay);
    }
    build.arg(".").env("GOOS", "wasip1").env("GOARCH", "wasm");
    step(folder, &mut build, INSTALL)
}

/// From 1.24 on, Go's allocator takes all memory above its data for its own (`sbrk` in `runtime/mem_wasm.go`; seen up to 1.27). A
/// program that is adapted has a page there that is the adapter's, and once its heap is over some 15 MiB it writes into that page
/// and traps. So it is built with an allocator that begins behind whatever memory somebody else has added. Returns the file that
/// tells the compiler so; `None` if this Go has another allocator, as older ones do.
fn overlay(folder: &Path, go: &OsStr) -> anyhow::Result<Option<PathBuf>> {
    const BEGINS: &str = "\tbl := bloc\n";
    const BEGINS_ABOVE: &str = "\tif top := uintptr(currentMemory()) * physPageSize; top != blocMax {\n\t\tbloc, blocMax = top, top\n\t}\n\tbl := bloc\n";
    let Some(root) = printed(go, &["env", "GOROOT"]) else {
        return Ok(None);
    };
    let original = Path::new(&root).join("src/runtime/mem_wasm.go");
    let Ok(source) = fs::read_to_string(&original) else {
        return Ok(None);
    };
    if !source.contains("func currentMemory() int32") || source.matches(BEGINS).count() != 1 {
        return Ok(None);
    }
    let build = std::path::absolute(folder.join("build"))?;
    let (replaced, overlay) = (build.join("mem_wasm.go"), build.join("overlay.json"));
    let paths = serde_json::json!({ "Replace": { original.display().to_string(): replaced } });
    for (path, text) in [
        (&replaced, source.replace(BEGINS, BEGINS_ABOVE)),
        (&overlay, paths.to_string()),
    ] {
        fs::write(path, text).with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    Ok(Some(overlay))
}

/// `go`, or the newest of those that have their version in their folder's name.
fn find() -> Result<OsString, Failure> {
    let version = |program: &str| {
        let version = printed(program, &["env", "GOVERSION"])?;
        Some((minor(&version)?, version))
    };
    let named = version("go");
    if named.as_ref().is_some_and(|(minor, _)| *minor >= MINOR_MIN) {
        return Ok("go".into());
    }
    let folders = fs::read_dir(VERSIONED).into_iter().flatten().flatten();
    let programs = folders
        .filter(|folder| folder.file_name().to_string_lossy().starts_with("go-1."))
        .map(|folder| folder.path().join("bin/go").display().to_string());
    let newest = programs
        .filter_map(|program| Some((version(&program)?.0, program)))
        .max()
        .filter(|(minor, _)| *minor >= MINOR_MIN);
    match (newest, named) {
        (Some((_, program)), _) => Ok(program.into()),
        (None, Some((_, version))) => {
            let message = format!("`go` is {version}, which does not build for WASI");
            Err(Failure::new(Exit::Ended, message).hint(INSTALL))
        }
        (None, None) => Err(Failure::new(Exit::Ended, "there is no `go`").hint(INSTALL)),
    }
}

/// The 23 of `go1.23.5`.
fn minor(version: &str) -> Option<u32> {
    let digits = version.strip_prefix("go1.")?;
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (version, expected) in [
            ("go1.23.5", Some(23)),
            ("go1.27", Some(27)),
            ("go1.24rc1", Some(24)),
            ("devel go1.25-abc", None),
            ("", None),
        ] {
            assert_eq!(minor(version), expected, "{version}");
        }
    }
}
