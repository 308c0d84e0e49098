//! JavaScript and TypeScript, by npm: the module's own `package.json` says how they become a component.

use std::path::Path;
use std::process::Command;

use super::{check_has, step};
use crate::output;

const INSTALL: &str = "install Node.js 20 or later from https://nodejs.org/en/download; Debian 13 and Ubuntu 25.04 have it: `sudo apt-get install nodejs npm`";

/// What npm writes when all packages are installed.
const INSTALLED: &str = "node_modules/.package-lock.json";

/// Installs the packages where that was never done, and runs the script `build`.
pub(super) fn build(folder: &Path) -> anyhow::Result<()> {
    check_has(
        folder,
        "package.json",
        "whose script `build` makes the component",
    )?;
    if !folder.join(INSTALLED).is_file() {
        output::note("packages are not installed; running `npm install`");
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--loglevel=error"]);
        step(folder, &mut install, INSTALL)?;
    }
    let mut build = Command::new("npm");
    build.args(["run", "--silent", "build"]);
    step(folder, &mut build, INSTALL)
}
