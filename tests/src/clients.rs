//! The clients in other languages than Rust, built and installed as their users do it, of a copy of their source.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{Ran, Tq};
use crate::requirement::has_program;
use crate::{guest, toolchains};

/// How many times longer than another command a build may take.
const SLOWNESS: u32 = 4;

/// Where the document is that they are generated of.
const DOCUMENT: &str = "broker/src/api/rest/openapi.json";

/// The client in Python, installed by pip.
pub struct Python {
    interpreter: PathBuf,
    source: PathBuf,
    site: PathBuf,
}

impl Python {
    /// Installs it below `folder`; `None` if what it takes is not there.
    ///
    /// # Panics
    /// It cannot be installed.
    pub async fn install(folder: &Path) -> Option<Self> {
        let interpreter = toolchains::installed("clients-python", ".venv/bin/python")?;
        let python = Self {
            source: copied("python", folder),
            site: folder.join("site"),
            interpreter,
        };
        // Offline: what it is built with and what it needs is there, in the versions that are pinned.
        let install = "-m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --target";
        let site = python.site.to_str().expect("it is text");
        let words = install.split(' ').chain([site, "."]);
        python.tq(&Tq::default()).run(words).await.ok();
        Some(python)
    }

    /// Runs a program of its source for a broker.
    pub async fn run(&self, tq: &Tq, words: &[&str]) -> Ran {
        self.tq(tq).run(words).await
    }

    fn tq(&self, tq: &Tq) -> Tq {
        tq.other(&self.interpreter)
            .inside(&self.source)
            .with_env("PYTHONPATH", &self.site)
            .slowly(SLOWNESS)
    }
}

/// The client in TypeScript, built by npm.
pub struct TypeScript {
    source: PathBuf,
}

impl TypeScript {
    /// Builds it and its examples below `folder`; `None` if what it takes is not there.
    ///
    /// # Panics
    /// It cannot be built.
    pub async fn build(folder: &Path) -> Option<Self> {
        let packages = toolchains::installed("clients-typescript", "node_modules")?;
        if !has_program("npm") {
            return None;
        }
        let source = copied("typescript", folder);
        std::os::unix::fs::symlink(packages, source.join("node_modules"))
            .expect("the folder can be written");
        let npm = Tq::default().other("npm").inside(&source).slowly(SLOWNESS);
        for script in ["build", "examples"] {
            npm.run(["run", script]).await.ok();
        }
        Some(Self { source })
    }

    /// Runs a program of its source for a broker.
    pub async fn run(&self, tq: &Tq, words: &[&str]) -> Ran {
        let node = tq.other("node").inside(&self.source);
        node.slowly(SLOWNESS).run(words).await
    }

    /// Runs a program that is given as text.
    ///
    /// # Panics
    /// It cannot be written.
    pub async fn run_text(&self, tq: &Tq, text: &str) -> Ran {
        // Among its own source, so that it finds the client by its name.
        fs::write(self.source.join("program.mjs"), text).expect("the folder can be written");
        self.run(tq, &["program.mjs"]).await
    }
}

/// Copies a client to where it finds the document as it does in the tree.
fn copied(client: &str, folder: &Path) -> PathBuf {
    let tree = guest::source();
    let place = folder.join("clients").join(client);
    toolchains::copy(&tree.join("clients").join(client), &place);
    let document = folder.join(DOCUMENT);
    fs::create_dir_all(document.parent().expect("it is in a folder"))
        .expect("the folder can be made");
    fs::copy(tree.join(DOCUMENT), document).expect("the disk takes it");
    // What whoever works on it has generated may be of another day.
    for made in ["src/tq/types.py", "src/tq/_sync", "src/schema.ts"] {
        let made = place.join(made);
        drop(fs::remove_file(&made).or_else(|_| fs::remove_dir_all(&made)));
    }
    place
}
