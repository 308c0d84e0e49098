//! The clients in other languages than Rust: what is generated of them written anew, and all of it checked and packed.

use std::fs;
use std::process::Command;

use crate::toolchains::{self, CLIENT_PYTHON, CLIENT_TYPESCRIPT};
use crate::tools::{self, Failed};

/// Generates, checks and packs them, by what the tests use too, and into `target/clients`.
///
/// # Errors
/// What they take cannot be installed, or the types do not fit.
pub(crate) fn run() -> Result<(), Failed> {
    toolchains::clients()?;
    let installed = toolchains::folder()?;
    let packed = tools::root().join("target/clients");
    fs::create_dir_all(&packed)
        .map_err(|error| Failed(format!("`{}` cannot be made: {error}", packed.display())))?;

    let source = tools::root().join("clients/python");
    let python = |words: &[&str]| {
        let interpreter = installed.join(CLIENT_PYTHON).join(".venv/bin/python");
        let mut python = Command::new(interpreter);
        python.args(words).current_dir(&source);
        python
    };
    tools::run(&mut python(&["generate.py"]))?;
    tools::run(&mut python(&["-m", "mypy"]))?;
    let pack = "-m pip wheel --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation . --wheel-dir";
    let pack: Vec<_> = pack.split(' ').collect();
    tools::run(python(&pack).arg(&packed))?;

    let source = tools::root().join("clients/typescript");
    let modules = source.join("node_modules");
    if fs::symlink_metadata(&modules).is_err() {
        let packages = installed.join(CLIENT_TYPESCRIPT).join("node_modules");
        std::os::unix::fs::symlink(packages, &modules)
            .map_err(|error| Failed(format!("`{}` cannot be made: {error}", modules.display())))?;
    }
    // Packing builds it first.
    let mut npm = Command::new("npm");
    npm.args(["pack", "--loglevel=error", "--pack-destination"]);
    tools::run(npm.arg(&packed).current_dir(&source))?;
    eprintln!("clients are in `{}`", packed.display());
    Ok(())
}
