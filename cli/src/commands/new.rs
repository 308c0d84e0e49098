//! `tq new`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::args::NewArgs;
use crate::exit::{Exit, Failure};
use crate::output;

/// What stands in the template for the name.
const NAME: &str = "{{name}}";

/// A file that this binary carries: its place below the new folder, and its text.
type Carried = (&'static str, &'static str);

macro_rules! carried {
    ($below:literal from $folder:literal: $($file:literal)+) => {
        &[$((concat!($below, $file), include_str!(concat!("../../", $folder, "/", $file))),)+]
    };
}

const TEMPLATE: &[Carried] = carried!("" from "templates/rust":
    ".gitignore" "Cargo.toml" "src/main.rs" "tq.toml");

/// The SDK is on no registry, so its source is written beside the code that uses it.
const SDK: &[Carried] = carried!("tq-sdk/" from "../sdk":
    "Cargo.toml" "src/bindings.rs" "src/context.rs" "src/error.rs" "src/host_native.rs" "src/host_wasm.rs"
    "src/keyvalue/bindings.rs" "src/keyvalue/mod.rs" "src/keyvalue/native.rs" "src/keyvalue/wasm.rs" "src/lib.rs" "src/payload.rs"
    "src/registry.rs" "src/schema/mod.rs" "src/schema/types.rs" "src/schema/write.rs" "macros/Cargo.toml" "macros/src/case.rs"
    "macros/src/doc.rs" "macros/src/item.rs" "macros/src/lib.rs" "macros/src/schema.rs" "macros/src/serde.rs"
    "macros/src/signature.rs" "macros/src/tokens.rs");

pub(crate) fn run(args: &NewArgs) -> anyhow::Result<Exit> {
    let NewArgs { name, path } = args;
    check_name(name)?;
    let folder = path.clone().unwrap_or_else(|| PathBuf::from(name));
    write(name, &folder)?;
    output::note(format!(
        "made `{shown}`: a crate with one function, `greet`, and the SDK's source in `{shown}/tq-sdk`
next:
  tq dev                             in another terminal, if no broker is there yet
  cd {shown}
  tq deploy
  tq run {name} '{{\"name\":\"Ada\"}}'",
        shown = folder.display()
    ));
    Ok(Exit::Succeeded)
}

/// The name is that of a crate, too, and cargo is stricter than tq.
fn check_name(name: &str) -> Result<(), Failure> {
    tq_core::name::check("module name", name).map_err(|error| Failure::usage(error.to_string()))?;
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || name.contains('.') {
        return Err(Failure::usage(format!(
            "`{name}` cannot be the name of a crate; use letters, digits, `-` and `_`, beginning with a letter"
        )));
    }
    Ok(())
}

fn write(name: &str, folder: &Path) -> anyhow::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("failed to make the folder `{}`", parent.display()))?;
    }
    // Fails if anything is there, also if it came this moment.
    fs::create_dir(folder).map_err(|error| {
        let failure = Failure::usage(format!(
            "failed to make the folder `{}`: {error}",
            folder.display()
        ));
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                failure.hint("choose another name, or another place with --path")
            }
            _ => failure,
        }
    })?;
    for (place, text) in TEMPLATE.iter().chain(SDK) {
        let path = folder.join(place);
        let failed = || format!("failed to write `{}`", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(failed)?;
        }
        fs::write(&path, text.replace(NAME, name)).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The files below `folder`, without tests and what a build leaves behind.
    fn files(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the folder is in the tree") {
            let entry = entry.expect("the folder can be read");
            let name = entry.file_name().into_string().expect("names are text");
            let path = entry.path();
            if path.is_file() && name != "Cargo.lock" {
                found.insert(format!("{below}{name}"));
            } else if path.is_dir() && !matches!(name.as_str(), "target" | "tests") {
                files(&path, &format!("{below}{name}/"), found);
            }
        }
    }

    #[test]
    fn all_of_the_template_and_the_sdk_is_carried() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut expected = BTreeSet::new();
        files(&root.join("templates/rust"), "", &mut expected);
        files(&root.join("../sdk"), "tq-sdk/", &mut expected);
        let carried = TEMPLATE
            .iter()
            .chain(SDK)
            .map(|(place, _)| (*place).to_owned());
        assert_eq!(carried.collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn crate_has_its_name_and_nothing_of_the_template_is_left() {
        let parent = tempfile::tempdir().expect("a folder can be made");
        let folder = parent.path().join("deep/hello");
        write("hello", &folder).expect("the folder can be written");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("it was written");
        assert!(manifest.contains("name = \"hello\""), "{manifest}");
        for (place, _) in TEMPLATE {
            let text = fs::read_to_string(folder.join(place)).expect("it was written");
            assert!(!text.contains("{{"), "{place}: {text}");
        }
        let again = write("hello", &folder).expect_err("it is there");
        assert_eq!(crate::exit::code(&again), Exit::Usage);
    }

    #[test]
    fn names_are_those_of_crates() {
        for name in ["greet", "word-count_2"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "2fast", "a.b", "a/b", "../a"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
