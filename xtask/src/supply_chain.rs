//! `cargo xtask supply-chain`: what is built in, where it comes from, under which licence, and whether it is known to be weak.

use std::path::PathBuf;
use std::process::Command;

use crate::tools::{self, Failed, cargo, is_installed};

/// The version that deny.toml is written for, so that a new one does not change what passes.
const VERSION: &str = "0.20.2";

/// Each has a lock file.
const WORKSPACES: [&str; 2] = ["Cargo.toml", "guest-examples/Cargo.toml"];

/// Checks the lock files against deny.toml.
///
/// # Errors
/// Something is not allowed, cargo-deny cannot be had or, with `strict`, the advisories could not be fetched.
pub(crate) fn run(strict: bool) -> Result<(), Failed> {
    let program = program()?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(tools::root()).args(arguments);
        command
    };
    let check = |what: &[&str]| {
        WORKSPACES.iter().try_for_each(|manifest| {
            let place = ["--manifest-path", *manifest, "--config", "deny.toml"];
            tools::run(deny(&place).arg("check").args(what))
        })
    };
    check(&["bans", "licenses", "sources"])?;
    if let Err(Failed(why)) = tools::run(&mut deny(&["fetch", "db"])) {
        let skipped = format!(
            "SKIPPED advisories: their database cannot be fetched ({why}); bans, licences and sources were checked"
        );
        return match strict {
            true => Err(Failed(skipped)),
            false => {
                eprintln!("{skipped}");
                Ok(())
            }
        };
    }
    check(&["--disable-fetch", "advisories"])
}

/// cargo-deny: the one that is installed, or else one in the target directory, which is kept between runs.
fn program() -> Result<PathBuf, Failed> {
    if is_installed("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    // Under another name than the program's: while it is built, it is a file of that name in the target directory.
    let folder = tools::programs()?.join("installed");
    let program = folder.join("bin/cargo-deny");
    if !program.is_file() {
        let mut install = cargo(&["install", "cargo-deny", "--locked", "--version", VERSION]);
        tools::run(install.arg("--root").arg(&folder))?;
    }
    Ok(program)
}
