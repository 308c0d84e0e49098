//! Python, by componentize-py in a virtual environment of the module's own.

use std::path::Path;
use std::process::Command;

use super::{COMPONENT, check_has, step};
use crate::output;

const INSTALL: &str = "install Python 3.10 or later from https://www.python.org/downloads; Debian and Ubuntu have it: `sudo apt-get install python3 python3-venv`";

/// The virtual environment, below the module's folder.
const VENV: &str = ".venv";

/// Makes the virtual environment where there is none with componentize-py, and makes a component of `src/app.py`, of what that
/// imports, and of the world in `wit`.
pub(super) fn build(folder: &Path) -> anyhow::Result<()> {
    check_has(folder, "src/app.py", "where the module's functions are")?;
    // Absolute, since a relative program is looked for from one folder or the other.
    let venv = std::path::absolute(folder.join(VENV))?;
    let componentize = venv.join("bin/componentize-py");
    if !componentize.is_file() {
        check_has(folder, "requirements.txt", "which names componentize-py")?;
        output::note(format!(
            "packages are not installed; installing those of requirements.txt into {VENV}"
        ));
        let mut make = Command::new("python3");
        step(folder, make.args(["-m", "venv", VENV]), INSTALL)?;
        let mut install = Command::new(venv.join("bin/python"));
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]);
        step(folder, install.args(["-r", "requirements.txt"]), INSTALL)?;
    }
    let mut build = Command::new(componentize);
    build.args([
        "--quiet",
        "-d",
        "wit",
        "componentize",
        "app",
        "-p",
        "src",
        "-o",
        COMPONENT,
    ]);
    // Where packages are looked for that the program imports.
    build.env("VIRTUAL_ENV", &venv);
    step(
        folder,
        &mut build,
        "name `componentize-py` in requirements.txt, remove the folder `.venv` and deploy again",
    )
}
