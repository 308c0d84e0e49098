//! What a module says of its functions: read from a component as the broker does, without running it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};
use wasmparser::{Parser, Payload};

/// Builds an example as the other tests do, in their folder, and gives the lines of its sections.
fn described(example: &str) -> Vec<Map<String, Value>> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples");
    let target = std::env::var_os("TQ_GUESTS_TARGET_DIR")
        .map_or_else(|| examples.join("target"), PathBuf::from);
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            "wasm32-wasip2",
        ])
        .args(["--package", example, "--manifest-path"])
        .arg(examples.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo can be started");
    assert!(
        built.status.success(),
        "`{example}` does not build: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    let component = target.join(format!("wasm32-wasip2/release/{example}.wasm"));
    let component = std::fs::read(component).expect("it was built");
    let mut lines = Vec::new();
    for payload in Parser::new(0).parse_all(&component) {
        if let Payload::CustomSection(section) = payload.expect("the component is valid")
            && section.name() == "tq:functions"
        {
            let text = std::str::from_utf8(section.data()).expect("lines are text");
            assert!(text.ends_with('\n'), "{text}");
            lines.extend(
                text.lines()
                    .map(|line| serde_json::from_str(line).expect("each line is a JSON object")),
            );
        }
    }
    lines
}

#[test]
fn module_carries_the_schemas_of_its_functions() {
    let lines = described("word-count");
    let line = |name: &str| {
        lines
            .iter()
            .find(|line| line["name"] == name)
            .unwrap_or_else(|| panic!("there is no line of `{name}`: {lines:?}"))
    };
    // A module's `usize` has 32 bits, wherever it is built.
    let number = json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
    let count = line("count");
    assert_eq!(
        (&count["input"], &count["output"]),
        (&json!("text"), &json!("json"))
    );
    assert!(!count.contains_key("input_schema"), "{count:?}");
    assert_eq!(
        count["output_schema"],
        json!({
            "title": "Counts",
            "type": "object",
            "properties": { "lines": number, "words": number, "bytes": number },
            "required": ["lines", "words", "bytes"],
        })
    );
    let top = line("top");
    let mut n = number.clone();
    n["description"] = json!("How many words to return; at least 1.");
    assert_eq!(
        top["input_schema"],
        json!({
            "title": "Top",
            "type": "object",
            "properties": { "text": { "type": "string" }, "n": n },
            "required": ["text", "n"],
        })
    );
    assert_eq!(
        top["output_schema"],
        json!({
            "type": "array",
            "items": {
                "title": "Word",
                "type": "object",
                "properties": { "word": { "type": "string" }, "count": number },
                "required": ["word", "count"],
            },
        })
    );
    assert_eq!(lines.len(), 2);
}
