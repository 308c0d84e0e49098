//! Folder names are the architecture (docs/architecture.md): a dependency between crates that is not in the picture
//! has to be drawn there, and here, first.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Each crate of the workspace, and the crates of the workspace that it may depend on.
const PICTURE: &[(&str, &[&str])] = &[
    (
        "tq",
        &["tq-broker", "tq-client", "tq-core", "tq-host", "tq-proto"],
    ),
    (
        "tq-broker",
        &["tq-core", "tq-micro", "tq-proto", "tq-tls", "tq-typed"],
    ),
    ("tq-client", &["tq-core", "tq-proto", "tq-tls"]),
    ("tq-core", &["tq-micro"]),
    (
        "tq-host",
        &["tq-core", "tq-micro", "tq-proto", "tq-tls", "tq-typed"],
    ),
    // The frame of the benches, for their benches alone.
    ("tq-micro", &[]),
    ("tq-proto", &[]),
    ("tq-sdk", &["tq-sdk-macros"]),
    ("tq-sdk-macros", &[]),
    (
        "tq-tests",
        &[
            "tq-broker",
            "tq-client",
            "tq-core",
            "tq-host",
            "tq-proto",
            "tq-typed",
            "tq-worlds",
        ],
    ),
    (
        "tq-simulation",
        &["tq-broker", "tq-core", "tq-host", "tq-proto"],
    ),
    // TLS knows nothing of tasks.
    ("tq-tls", &[]),
    ("tq-typed", &["tq-core"]),
    (
        "tq-fuzz",
        &[
            "tq-broker",
            "tq-core",
            "tq-host",
            "tq-proto",
            "tq-typed",
            "tq-worlds",
        ],
    ),
    // What tests and the fuzzer draw typed functions with.
    ("tq-worlds", &["tq-core", "tq-typed"]),
    ("xtask", &[]),
];

/// Crates of which some may have nothing at all, or only what is named here, from outside of the workspace: `core` cannot
/// do I/O or leak a format, and an author's macro and the set-up build in seconds.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("tq-core", &["proptest", "thiserror"]),
    ("tq-sdk-macros", &[]),
    ("xtask", &[]),
];

/// Every breach of the two tables in what `cargo metadata` says.
fn breaches(metadata: &Value) -> anyhow::Result<Vec<String>> {
    let picture: BTreeMap<_, _> = PICTURE.iter().copied().collect();
    let outside: BTreeMap<_, _> = OUTSIDE.iter().copied().collect();
    let mut breaches = Vec::new();
    let mut missing: Vec<&str> = picture.keys().copied().collect();
    for package in metadata["packages"].as_array().context("packages")? {
        let name = package["name"].as_str().context("name")?;
        missing.retain(|crate_| *crate_ != name);
        let Some(allowed) = picture.get(name) else {
            breaches.push(format!("crate `{name}` is not in the picture"));
            continue;
        };
        // Of every kind: a development dependency that points the wrong way is a tangle too.
        for dependency in package["dependencies"].as_array().context("dependencies")? {
            let on = dependency["name"].as_str().context("dependency's name")?;
            let is_allowed = match outside.get(name) {
                // What measures is no part of what is measured.
                _ if on == "tq-micro" => allowed.contains(&on) && dependency["kind"] == "dev",
                _ if picture.contains_key(on) => allowed.contains(&on),
                Some(outside) => outside.contains(&on),
                None => true,
            };
            if !is_allowed {
                breaches.push(format!("`{name}` depends on `{on}`"));
            }
        }
    }
    breaches.extend(
        missing
            .iter()
            .map(|name| format!("crate `{name}` is in the picture, but not in the workspace")),
    );
    Ok(breaches)
}

fn metadata() -> anyhow::Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("running cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn dependencies_are_the_ones_in_the_picture() -> anyhow::Result<()> {
    let breaches = breaches(&metadata()?)?;
    ensure!(
        breaches.is_empty(),
        "not in the picture of docs/architecture.md: {}",
        breaches.join("; ")
    );
    Ok(())
}

#[test]
fn wrong_edges_are_found() -> anyhow::Result<()> {
    let mut metadata = metadata()?;
    let packages = metadata["packages"].as_array_mut().context("packages")?;
    for (name, on) in [
        ("tq-broker", "tq-host"),
        ("tq-core", "tokio"),
        ("tq-host", "tq-micro"),
        ("tq-sdk", "tq-core"),
        ("tq-typed", "tq-proto"),
        ("xtask", "serde"),
    ] {
        let package = packages
            .iter_mut()
            .find(|package| package["name"] == name)
            .context(name)?;
        package["dependencies"]
            .as_array_mut()
            .context("dependencies")?
            .push(serde_json::json!({ "name": on }));
    }
    packages.retain(|package| package["name"] != "tq-client");
    packages.push(serde_json::json!({ "name": "tq-utils", "dependencies": [] }));
    let mut found = breaches(&metadata)?;
    found.sort();
    ensure!(
        found
            == [
                "`tq-broker` depends on `tq-host`",
                "`tq-core` depends on `tokio`",
                "`tq-host` depends on `tq-micro`",
                "`tq-sdk` depends on `tq-core`",
                "`tq-typed` depends on `tq-proto`",
                "`xtask` depends on `serde`",
                "crate `tq-client` is in the picture, but not in the workspace",
                "crate `tq-utils` is not in the picture",
            ],
        "{found:?}"
    );
    Ok(())
}
