//! Building a module's component with the tools that its author has installed.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde::Deserialize;

use crate::exit::{Exit, Failure};
use crate::output;

/// What components are built for.
const TARGET: &str = "wasm32-wasip2";

/// A component that was built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// The file.
    pub(crate) path: PathBuf,
    /// The crate's binary or library, a name for the module if nothing else gives one.
    pub(crate) name: String,
}

/// Builds the crate in `folder` for WASI 0.2, with cargo's own output on standard error. Installs the target if `rustup`
/// is there to do it.
///
/// # Errors
/// No cargo, no target, code that does not compile, or a crate that makes none or several components.
pub(crate) fn build_crate(folder: &Path) -> anyhow::Result<Artifact> {
    ensure_target(folder)?;
    let mut command = Command::new("cargo");
    command
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut cargo = command.spawn().map_err(|error| missing("cargo", &error))?;
    let stdout = cargo
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().unwrap_or(manifest);
    let mut artifacts = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("failed to read what cargo built")?;
        artifacts.extend(artifact(&line, &manifest));
    }
    let status = cargo.wait().context("failed to wait for cargo")?;
    if !status.success() {
        return Err(Failure::new(
            Exit::Ended,
            format!(
                "`{}` did not build: cargo ended with {status}",
                folder.display()
            ),
        )
        .into());
    }
    one(artifacts, folder).map_err(Into::into)
}

/// Runs a manifest's own build command in its folder, with its output on standard error.
///
/// # Errors
/// It ends with anything but 0.
pub(crate) fn run_build(folder: &Path, command: &str) -> anyhow::Result<()> {
    let status = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .context("failed to run `sh`")?;
    if !status.success() {
        return Err(Failure::new(
            Exit::Ended,
            format!("build command `{command}` ended with {status}"),
        )
        .into());
    }
    Ok(())
}

/// One line of cargo's messages, if it is a component of the crate whose manifest this is.
fn artifact(line: &str, manifest: &Path) -> Option<Artifact> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        #[serde(default)]
        manifest_path: PathBuf,
        target: Option<Target>,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    // A build script may print anything; what is no message is not ours.
    let message: Message = serde_json::from_str(line).ok()?;
    if message.reason != "compiler-artifact" || message.manifest_path != manifest {
        return None;
    }
    let is_component = |path: &PathBuf| path.extension() == Some(OsStr::new("wasm"));
    let path = message.filenames.into_iter().find(is_component)?;
    Some(Artifact {
        path,
        name: message.target?.name,
    })
}

fn one(mut artifacts: Vec<Artifact>, folder: &Path) -> Result<Artifact, Failure> {
    match (artifacts.pop(), artifacts.as_slice()) {
        (Some(artifact), []) => Ok(artifact),
        (None, _) => Err(Failure::usage(format!(
            "crate in `{}` makes no component",
            folder.display()
        ))
        .hint(
            "it needs a `src/main.rs` with an empty `fn main() {}`, or `crate-type = [\"cdylib\"]`",
        )),
        (Some(last), others) => {
            let names: Vec<_> = others
                .iter()
                .chain([&last])
                .map(|artifact| artifact.name.as_str())
                .collect();
            Err(Failure::usage(format!(
                "crate in `{}` makes {} components: {}",
                folder.display(),
                names.len(),
                names.join(", ")
            ))
            .hint("build it, and deploy one of the .wasm files"))
        }
    }
}

/// Sees to it that the target is installed for the toolchain that is active in `folder`.
fn ensure_target(folder: &Path) -> anyhow::Result<()> {
    if is_target_installed(folder)? {
        return Ok(());
    }
    output::note(format!(
        "target {TARGET} is not installed; running `rustup target add {TARGET}`"
    ));
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(folder)
        .stdout(io::stderr())
        .status();
    let is_added = match added {
        Ok(status) => status.success(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error).context("failed to run `rustup`"),
    };
    if is_added && is_target_installed(folder)? {
        return Ok(());
    }
    Err(Failure::new(Exit::Ended, format!("target {TARGET} is not installed"))
        .hint(format!(
            "run `rustup target add {TARGET}`; without rustup, install your system's Rust standard library for {TARGET}"
        ))
        .into())
}

/// A toolchain that has the target has its libraries.
fn is_target_installed(folder: &Path) -> anyhow::Result<bool> {
    let asked = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing("rustc", &error))?;
    if !asked.status.success() {
        // Too old to know the target.
        return Ok(false);
    }
    let folder = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    Ok(std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

fn missing(program: &str, error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::Ended, format!("failed to run `{program}`: {error}"));
    match error.kind() {
        io::ErrorKind::NotFound => failure.hint("install Rust from https://rustup.rs"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: &str = r#"{"reason":"compiler-artifact","package_id":"x","manifest_path":"/a/Cargo.toml",
        "target":{"kind":["bin"],"name":"greet"},"filenames":["/t/greet.wasm"],"executable":"/t/greet.wasm"}"#;

    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        let found = artifact(line, Path::new("/a/Cargo.toml")).map(|artifact| artifact.name);
        assert_eq!(found.as_deref(), expected, "{line}");
    }

    #[test]
    fn only_components_of_this_crate_are_artifacts() {
        check(BUILT, Some("greet"));
        check(&BUILT.replace("/a/", "/dependency/"), None);
        check(&BUILT.replace(".wasm", ".rlib"), None);
        check(r#"{"reason":"build-finished","success":true}"#, None);
        check("what a build script said", None);
    }

    #[test]
    fn several_components_are_refused_by_name() {
        let artifact = |name: &str| Artifact {
            path: name.into(),
            name: name.into(),
        };
        let refused =
            one(vec![artifact("a"), artifact("b")], Path::new("x")).expect_err("there are two");
        assert_eq!(refused.to_string(), "crate in `x` makes 2 components: a, b");
        let refused = one(Vec::new(), Path::new("x")).expect_err("there is none");
        assert_eq!(refused.to_string(), "crate in `x` makes no component");
        assert_eq!(
            one(vec![artifact("a")], Path::new("x")).expect("there is one"),
            artifact("a")
        );
    }
}
