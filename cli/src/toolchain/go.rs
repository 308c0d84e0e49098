//! Go, by the compiler of the Go project: a plain program.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{COMPONENT, check_has, printed, step};
use crate::exit::{Exit, Failure};

const INSTALL: &str = "install Go 1.21 or later from https://go.dev/dl; Debian 13 and Ubuntu 24.04 have it: `sudo apt-get install golang-go`";

/// The first `go1.MINOR` that builds for WASI.
const MINOR_MIN: u32 = 21;

/// Where Debian puts the versions of Go, each in a folder of its own.
const VERSIONED: &str = "/usr/lib";

pub(super) fn build(folder: &Path) -> anyhow::Result<()> {
    check_has(folder, "go.mod", "which names the module")?;
    let mut build = Command::new(find()?);
    build.args(["build", "-trimpath", "-ldflags=-s -w", "-o", COMPONENT, "."]);
    build.env("GOOS", "wasip1").env("GOARCH", "wasm");
    step(folder, &mut build, INSTALL)
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
