//! The committed code is what the `.proto` files generate, so that a build needs neither protoc nor a build script.
//!
//! `TQ_BLESS=1 cargo test --release -p tq-proto` writes it anew.

use std::path::Path;

use prost::Message as _;

const FILES: [&str; 14] = [
    "common",
    "tasks",
    "queues",
    "dead_letters",
    "namespaces",
    "retention",
    "secrets",
    "webhooks",
    "keyvalue",
    "resilience",
    "modules",
    "hosts",
    "link",
    "access",
];

#[test]
fn generated_code_is_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = FILES
        .iter()
        .map(|name| root.join(format!("tq/v1/{name}.proto")))
        .collect();
    let descriptors = protox::compile(&files, [root]).expect("the protocol compiles");
    let out = tempfile::tempdir().expect("a temporary directory");
    tonic_prost_build::configure()
        .bytes(".")
        // In the order of their keys, so that the same message is the same bytes.
        .btree_map(".")
        .codec_path("crate::codec::Codec")
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(without_source(&descriptors))
        .expect("code is generated");
    let code = std::fs::read(out.path().join("tq.v1.rs")).expect("the generated file is there");
    check(&root.join("src/generated/tq.v1.rs"), &code);
    check(
        &root.join("src/generated/tq.v1.bin"),
        &without_source(&descriptors).encode_to_vec(),
    );
}

/// Comments become rustdoc, and lists in them may not be what rustdoc expects; the descriptors serve reflection, which needs none.
fn without_source(descriptors: &prost_types::FileDescriptorSet) -> prost_types::FileDescriptorSet {
    let mut descriptors = descriptors.clone();
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    descriptors
}

fn check(path: &Path, expected: &[u8]) {
    if std::env::var_os("TQ_BLESS").is_some() {
        std::fs::write(path, expected).expect("the generated file can be written");
    }
    let committed = std::fs::read(path).unwrap_or_default();
    assert!(
        committed == expected,
        "{} is stale: run `cargo xtask generate`",
        path.display()
    );
}
