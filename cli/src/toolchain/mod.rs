//! Building a module's component with the tools that its author has installed.

mod c;
mod go;
mod javascript;
mod python;
mod rust;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::exit::{Exit, Failure};

/// Where the component is that is built of anything but Rust, below the module's folder.
const COMPONENT: &str = "build/module.wasm";

/// A language whose tools are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// A crate with the SDK, built by cargo
    Rust,
    /// JavaScript or TypeScript, built by npm
    #[value(name = "js", aliases = ["javascript", "typescript", "ts"])]
    JavaScript,
    /// Python, built by componentize-py
    Python,
    /// C, built by clang with wasi-libc
    C,
    /// Go, built by go
    Go,
}

impl Language {
    /// The names of all of them.
    pub(crate) fn names() -> Vec<String> {
        let variants = Self::value_variants().iter();
        let values = variants.filter_map(ValueEnum::to_possible_value);
        values.map(|value| value.get_name().to_owned()).collect()
    }
}

/// As `language` in a manifest.
impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        <Self as ValueEnum>::from_str(text, false).map_err(|_| {
            format!(
                "`{text}` is no language that is known here; known are `{}`; for others there are `build` and `artifact`",
                Self::names().join("`, `")
            )
        })
    }
}

/// A component that was built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// The file.
    pub(crate) path: PathBuf,
    /// A name for the module if nothing else gives one.
    pub(crate) name: String,
    /// Whether the SDK was compiled along with it.
    pub(crate) has_sdk: bool,
}

/// Builds the module in `folder`, with the tools' own output on standard error.
///
/// # Errors
/// A tool or a file is missing, the code does not compile, or it makes no component or several.
pub(crate) fn build(language: Language, folder: &Path) -> anyhow::Result<Artifact> {
    let build = match language {
        Language::Rust => return rust::build(folder),
        Language::JavaScript => javascript::build,
        Language::Python => python::build,
        Language::C => c::build,
        Language::Go => go::build,
    };
    let path = folder.join(COMPONENT);
    let failed = || format!("failed to make room for `{}`", path.display());
    // What an earlier build left must not be taken for what this one makes.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(failed);
        }
        _ => {}
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(failed)?;
    }
    build(folder)?;
    if !path.is_file() {
        let message = format!("build of `{}` made no `{COMPONENT}`", folder.display());
        return Err(Failure::not_found(message)
            .hint("a component elsewhere is deployed by `build` and `artifact` in place of `language`")
            .into());
    }
    built(folder, path)
}

/// Where [`build`] puts the component of a module in `folder`; `None` for Rust, where cargo knows, and builds the same bytes again.
pub(crate) fn component_of(language: Language, folder: &Path) -> Option<PathBuf> {
    (language != Language::Rust).then(|| folder.join(COMPONENT))
}

/// The component at `path` as the one that [`build`] made of `folder`.
///
/// # Errors
/// The folder is gone.
pub(crate) fn built(folder: &Path, path: PathBuf) -> anyhow::Result<Artifact> {
    let failed = || format!("failed to find `{}`", folder.display());
    let name = folder.canonicalize().with_context(failed)?;
    let name = name.file_name().unwrap_or_default();
    Ok(Artifact {
        name: name.to_string_lossy().into_owned(),
        path,
        has_sdk: false,
    })
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

/// Runs one step of a build in the module's folder, with its output on standard error. `install` says how to get the program.
///
/// # Errors
/// The program is not there, or ends with anything but 0.
fn step(folder: &Path, command: &mut Command, install: &str) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .map_err(|error| missing(&program, &error, install))?;
    if status.success() {
        return Ok(());
    }
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    let message = format!(
        "`{}` did not build: `{}` ended with {status}",
        folder.display(),
        words.join(" ")
    );
    Err(Failure::new(Exit::Ended, message).into())
}

/// What a program printed on standard output, without white space around it; `None` if it is not there or did not succeed.
fn printed(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Checks that the module has the file that its language's tools begin with.
fn check_has(folder: &Path, file: &str, what: &str) -> Result<(), Failure> {
    if folder.join(file).is_file() {
        return Ok(());
    }
    let message = format!("folder `{}` has no `{file}`, {what}", folder.display());
    Err(Failure::usage(message).hint("`tq new NAME --lang LANGUAGE` makes a module to begin with"))
}

fn missing(program: &str, error: &io::Error, install: &str) -> Failure {
    let failure = Failure::new(Exit::Ended, format!("failed to run `{program}`: {error}"));
    match error.kind() {
        io::ErrorKind::NotFound => failure.hint(install),
        _ => failure,
    }
}
