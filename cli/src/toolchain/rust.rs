//! Rust, by cargo.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde::Deserialize;

use super::{Artifact, missing};
use crate::exit::{Exit, Failure};
use crate::output;

/// What components are built for.
const TARGET: &str = "wasm32-wasip2";

const INSTALL: &str = "install Rust from https://rustup.rs";

/// Builds the crate in `folder` for WASI 0.2, with cargo's own output on standard error. Installs the target if `rustup`
/// is there to do it.
///
/// # Errors
/// No cargo, no target, code that does not compile, or a crate that makes none or several components.
pub(super) fn build(folder: &Path) -> anyhow::Result<Artifact> {
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
    let mut cargo = command
        .spawn()
        .map_err(|error| missing("cargo", &error, INSTALL))?;
    let stdout = cargo
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().unwrap_or(manifest);
    let mut products = Products::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("failed to read what cargo built")?;
        products.add(&line, &manifest);
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
    products.one(folder).map_err(Into::into)
}

/// What cargo says that it has built.
#[derive(Debug, Default)]
struct Products {
    /// Components of the crate itself, with their names.
    components: Vec<(PathBuf, String)>,
    /// Folders of other crates that make components: members of a workspace.
    members: Vec<PathBuf>,
    has_sdk: bool,
}

impl Products {
    /// Takes one line of cargo's messages; `manifest` is that of the crate.
    fn add(&mut self, line: &str, manifest: &Path) {
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
        let Ok(Message {
            reason,
            manifest_path,
            target: Some(Target { name }),
            filenames,
        }) = serde_json::from_str(line)
        else {
            return;
        };
        if reason != "compiler-artifact" {
            return;
        }
        self.has_sdk |= name == "tq_sdk";
        let is_component = |path: &PathBuf| path.extension() == Some(OsStr::new("wasm"));
        let Some(path) = filenames.into_iter().find(is_component) else {
            return;
        };
        if manifest_path == manifest {
            self.components.push((path, name));
        } else if let Some(member) = manifest_path.parent() {
            self.members.push(member.to_owned());
        }
    }

    /// The one component that the crate in `folder` makes.
    fn one(mut self, folder: &Path) -> Result<Artifact, Failure> {
        let shown = folder.display();
        match (self.components.pop(), self.components.as_slice()) {
            (Some((path, name)), []) => Ok(Artifact {
                path,
                name,
                has_sdk: self.has_sdk,
            }),
            (None, _) if !self.members.is_empty() => {
                let members = self
                    .members
                    .iter()
                    .map(|member| format!("`{}`", member.display()));
                let members: Vec<_> = members.collect();
                let message = format!("`{shown}` is a workspace, which makes no component itself");
                Err(Failure::usage(message)
                    .hint(format!("deploy one of its members: {}", members.join(", "))))
            }
            (None, _) => {
                let message = format!("crate in `{shown}` makes no component");
                Err(Failure::usage(message).hint(
                    "it needs a `src/main.rs` with an empty `fn main() {}`, or `crate-type = [\"cdylib\"]`",
                ))
            }
            (Some(last), others) => {
                let names: Vec<_> = others
                    .iter()
                    .chain([&last])
                    .map(|(_, name)| name.as_str())
                    .collect();
                let message = format!(
                    "crate in `{shown}` makes {} components: {}",
                    names.len(),
                    names.join(", ")
                );
                Err(Failure::usage(message).hint("build it, and deploy one of the .wasm files"))
            }
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
        .map_err(|error| missing("rustc", &error, INSTALL))?;
    if !asked.status.success() {
        // Too old to know the target.
        return Ok(false);
    }
    let folder = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    Ok(std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: &str = r#"{"reason":"compiler-artifact","package_id":"x","manifest_path":"/a/Cargo.toml",
        "target":{"kind":["bin"],"name":"greet"},"filenames":["/t/greet.wasm"],"executable":"/t/greet.wasm"}"#;

    fn products(lines: &[&str]) -> Products {
        let mut products = Products::default();
        for line in lines {
            products.add(line, Path::new("/a/Cargo.toml"));
        }
        products
    }

    #[track_caller]
    fn check_refused(lines: &[&str], expected: &str) {
        let refused = products(lines)
            .one(Path::new("x"))
            .expect_err("it is refused");
        let printed = crate::exit::text(&refused.into());
        assert!(printed.starts_with(expected), "{printed}");
    }

    #[test]
    fn only_components_of_this_crate_are_artifacts() {
        let sdk = BUILT
            .replace("/a/", "/sdk/")
            .replace("greet", "tq_sdk")
            .replace(".wasm", ".rlib");
        let artifact = |has_sdk| Artifact {
            path: "/t/greet.wasm".into(),
            name: "greet".into(),
            has_sdk,
        };
        let noise = r#"{"reason":"build-finished","success":true}"#;
        let one = |lines: &[&str]| products(lines).one(Path::new("x")).expect("there is one");
        assert_eq!(
            one(&["what a build script said", BUILT, noise]),
            artifact(false)
        );
        assert_eq!(one(&[&sdk, BUILT]), artifact(true));
    }

    #[test]
    fn crate_that_does_not_make_one_component_is_refused_with_what_it_makes() {
        check_refused(
            &[],
            "error: crate in `x` makes no component\nhint: it needs a `src/main.rs`",
        );
        let library = BUILT.replace(".wasm", ".rlib");
        check_refused(
            &[&library],
            "error: crate in `x` makes no component\nhint: ",
        );
        let other = BUILT.replace("greet", "other");
        check_refused(
            &[BUILT, &other],
            "error: crate in `x` makes 2 components: greet, other\nhint: ",
        );
        let member = BUILT.replace("/a/", "/a/member/");
        check_refused(
            &[&member],
            "error: `x` is a workspace, which makes no component itself\nhint: deploy one of its members: `/a/member`",
        );
    }
}
