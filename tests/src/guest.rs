//! Components to deploy: the examples, and small ones written out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The component of an example of `guest-examples`, built if it is not fresh. Blocks while cargo works, the first time.
///
/// Tests run in several processes at once; cargo's own lock on the target directory lets one of them build.
///
/// # Panics
/// The examples do not build, or have none of this name.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(build);
    let path = folder.join(format!("{name}.wasm"));
    assert!(
        path.is_file(),
        "there is no example `{name}`: `{}` was not built",
        path.display()
    );
    path
}

/// The root of the source tree.
#[must_use]
pub fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is in a folder of the source tree")
}

fn build() -> PathBuf {
    let examples = source().join("guest-examples");
    // Where whoever runs the tests keeps built guests, or where `tq deploy` puts them too.
    let target = std::env::var_os("TQ_GUESTS_TARGET_DIR")
        .map_or_else(|| examples.join("target"), PathBuf::from);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            "wasm32-wasip2",
            "--manifest-path",
        ])
        .arg(examples.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo can be started");
    assert!(
        built.status.success(),
        "guest-examples do not build: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    target.join("wasm32-wasip2").join("release")
}

/// Makes a folder below `folder` that can be deployed: an example, tried once, with `manifest` behind that. Returns its path.
///
/// # Panics
/// There is no such example, or the folder cannot be written.
#[must_use]
pub fn placed(folder: &Path, name: &str, manifest: &str) -> String {
    let place = folder.join(name);
    let manifest = format!(
        "[module]\nname = \"{name}\"\nartifact = \"{name}.wasm\"\n[retry]\nmax_attempts = 1\n{manifest}"
    );
    std::fs::create_dir_all(&place).expect("the folder can be made");
    std::fs::copy(example(name), place.join(format!("{name}.wasm"))).expect("it was built");
    std::fs::write(place.join("tq.toml"), manifest).expect("the disk takes it");
    place.display().to_string()
}

/// Writes a component that is given as text into `folder`, and returns its file.
///
/// # Panics
/// The text is not valid.
#[must_use]
pub fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let bytes =
        wat::parse_str(text).unwrap_or_else(|error| panic!("`{name}` is not valid: {error}"));
    let path = folder.join(format!("{name}.wasm"));
    std::fs::write(&path, bytes).expect("the folder can be written");
    path
}
