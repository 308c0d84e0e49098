//! The SDK's bindings are generated from `wit/` and committed, so that building a task compiles no generator.

use std::path::Path;

use anyhow::{Context as _, ensure};
use wit_bindgen_core::{Files, WorldGenerator as _, wit_parser::Resolve};

/// Generates the bindings again and compares; `TQ_BLESS=1` writes them instead.
#[test]
fn committed_sdk_bindings_are_what_the_wit_generates() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("tests/ has a parent")?;
    check(root, "sdk/src/bindings.rs", "wit", "task")?;
    check(
        root,
        "sdk/src/keyvalue/bindings.rs",
        "wit/deps/wasi-keyvalue@0.2.0-draft2",
        "imports",
    )
}

fn check(root: &Path, committed: &str, wit: &str, world: &str) -> anyhow::Result<()> {
    let generated = generate(&root.join(wit), world)?;
    let committed = &root.join(committed);
    if std::env::var_os("TQ_BLESS").is_some() {
        std::fs::write(committed, generated)?;
        return Ok(());
    }
    let found = std::fs::read_to_string(committed)
        .with_context(|| format!("reading {}", committed.display()))?;
    ensure!(
        found == generated,
        "{} is not what {wit} generates; write it again with\n  \
         TQ_BLESS=1 cargo test --release -p tq-tests --test sdk_bindings_are_fresh",
        committed.display()
    );
    Ok(())
}

fn generate(wit: &Path, world: &str) -> anyhow::Result<String> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    let mut files = Files::default();
    wit_bindgen_rust::Opts {
        format: true,
        generate_all: true,
        ..Default::default()
    }
    .build()
    .generate(&mut resolve, world, &mut files)?;
    let mut files = files.iter();
    let (_, source) = files.next().context("the generator wrote no file")?;
    ensure!(
        files.next().is_none(),
        "the generator wrote more than one file"
    );
    Ok(String::from_utf8(source.to_vec())?)
}
