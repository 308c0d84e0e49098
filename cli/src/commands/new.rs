//! `tq new`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::args::NewArgs;
use crate::exit::{Exit, Failure};
use crate::manifest;
use crate::output;
use crate::toolchain::Language;

/// What stands in the template for the name.
const NAME: &str = "{{name}}";

/// A file that this binary carries: its place below the new folder, and its text.
type Carried = (&'static str, &'static str);

macro_rules! carried {
    ($below:literal from $folder:literal: $($file:literal)+) => {
        &[$((concat!($below, $file), include_str!(concat!("../../", $folder, "/", $file))),)+]
    };
}

const RUST: &[Carried] = carried!("" from "templates/rust":
    ".gitignore" "Cargo.toml" "cases/greet.json" "src/main.rs" "tq.toml");
const JAVASCRIPT: &[Carried] = carried!("" from "templates/js":
    ".gitignore" "package.json" "src/main.ts" "src/task.ts" "src/tq.d.ts" "tq.toml" "wit/world.wit");
const PYTHON: &[Carried] = carried!("" from "templates/python":
    ".gitignore" "requirements.txt" "src/app.py" "tq.toml" "wit/world.wit");
const C: &[Carried] = carried!("" from "templates/c":
    ".gitignore" "src/main.c" "tq.toml");
const GO: &[Carried] = carried!("" from "templates/go":
    ".gitignore" "go.mod" "main.go" "tq.toml");

/// The contract, for languages that bind it themselves.
const WIT: &[Carried] = carried!("wit/deps/tq-task/" from "../wit": "task.wit");

/// The SDK is on no registry, so its source is written beside the code that uses it.
const SDK: &[Carried] = carried!("tq-sdk/" from "../sdk":
    "Cargo.toml" "src/bindings.rs" "src/context.rs" "src/error.rs" "src/host_native.rs" "src/host_wasm.rs"
    "src/keyvalue/bindings.rs" "src/keyvalue/mod.rs" "src/keyvalue/native.rs" "src/keyvalue/wasm.rs" "src/lib.rs" "src/payload.rs"
    "src/registry.rs" "src/schema/mod.rs" "src/schema/types.rs" "src/schema/write.rs" "macros/Cargo.toml" "macros/src/case.rs"
    "macros/src/doc.rs" "macros/src/item.rs" "macros/src/lib.rs" "macros/src/schema.rs" "macros/src/serde.rs"
    "macros/src/signature.rs" "macros/src/tokens.rs");

pub(crate) fn run(args: &NewArgs) -> anyhow::Result<Exit> {
    let NewArgs { name, lang, path } = args;
    check_name(name)?;
    let folder = path.clone().unwrap_or_else(|| PathBuf::from(name));
    write(name, *lang, &folder)?;
    let shown = folder.display();
    let made = match lang {
        Language::Rust => {
            format!("a crate with one function, `greet`, and the SDK's source in `{shown}/tq-sdk`")
        }
        Language::JavaScript => {
            "a package with one function, `greet`, in src/main.ts; its types are in wit/world.wit"
                .to_owned()
        }
        Language::Python => {
            "one function, `greet`, in src/app.py; its types are in wit/world.wit".to_owned()
        }
        Language::C => "a program that greets, in src/main.c".to_owned(),
        Language::Go => "a program that greets, in main.go".to_owned(),
    };
    let payload = match lang {
        Language::C => "Ada",
        Language::Rust | Language::JavaScript | Language::Python | Language::Go => {
            r#"'{"name":"Ada"}'"#
        }
    };
    output::note(format!(
        "made `{shown}`: {made}
next:
  tq dev                             in another terminal, if no broker is there yet
  cd {shown}
  tq deploy
  tq run {name} {payload}"
    ));
    Ok(Exit::Succeeded)
}

/// The files of a new module, each with its place in the module's folder.
fn files(lang: Language) -> impl Iterator<Item = &'static Carried> {
    let (template, rest): (_, &[Carried]) = match lang {
        Language::Rust => (RUST, SDK),
        Language::JavaScript => (JAVASCRIPT, WIT),
        Language::Python => (PYTHON, WIT),
        Language::C => (C, &[]),
        Language::Go => (GO, &[]),
    };
    template.iter().chain(rest)
}

/// The name is that of a crate or a package, too, and their tools are stricter than tq.
fn check_name(name: &str) -> Result<(), Failure> {
    tq_core::name::check("module name", name).map_err(|error| Failure::usage(error.to_string()))?;
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || name.contains('.') {
        return Err(Failure::usage(format!(
            "`{name}` cannot be the name of a crate or a package; use letters, digits, `-` and `_`, beginning with a letter"
        )));
    }
    Ok(())
}

fn write(name: &str, lang: Language, folder: &Path) -> anyhow::Result<()> {
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
    let schema = format!("{:#}\n", manifest::schema());
    let carried = files(lang).map(|(place, text)| (*place, text.replace(NAME, name)));
    for (place, text) in carried.chain([(manifest::SCHEMA_FILE, schema)]) {
        let path = folder.join(place);
        let failed = || format!("failed to write `{}`", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(failed)?;
        }
        fs::write(&path, text).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum as _;

    use super::*;
    use crate::manifest::Manifest;

    /// The files below `folder`, without tests and what a build leaves behind.
    fn present(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the folder is in the tree") {
            let entry = entry.expect("the folder can be read");
            let name = entry.file_name().into_string().expect("names are text");
            let path = entry.path();
            if path.is_file() && name != "Cargo.lock" {
                found.insert(format!("{below}{name}"));
            } else if path.is_dir() && !matches!(name.as_str(), "target" | "tests") {
                present(&path, &format!("{below}{name}/"), found);
            }
        }
    }

    #[test]
    fn all_of_each_template_is_carried() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for lang in Language::value_variants() {
            let value = lang.to_possible_value().expect("none is hidden");
            let template = root.join("templates").join(value.get_name());
            let mut expected = BTreeSet::new();
            present(&template, "", &mut expected);
            match lang {
                Language::Rust => present(&root.join("../sdk"), "tq-sdk/", &mut expected),
                Language::JavaScript | Language::Python => {
                    expected.insert("wit/deps/tq-task/task.wit".to_owned());
                }
                Language::C | Language::Go => {}
            }
            let carried: BTreeSet<_> = files(*lang).map(|(place, _)| (*place).to_owned()).collect();
            assert_eq!(carried, expected, "{lang:?}");
        }
    }

    #[test]
    fn module_has_its_name_and_language_and_nothing_of_the_template_is_left() {
        for lang in Language::value_variants() {
            let parent = tempfile::tempdir().expect("a folder can be made");
            let folder = parent.path().join("deep/hello");
            write("hello", *lang, &folder).expect("the folder can be written");
            for (place, _) in files(*lang) {
                let text = fs::read_to_string(folder.join(place)).expect("it was written");
                assert!(!text.contains(NAME), "{place}: {text}");
            }
            let manifest = Manifest::read(&folder)
                .expect("it is valid")
                .expect("it is there");
            assert_eq!(manifest.name.as_deref(), Some("hello"));
            let expected = (*lang != Language::Rust).then_some(*lang);
            assert_eq!(manifest.language, expected);
            let schema = fs::read(folder.join("tq.schema.json")).expect("it was written");
            let schema: serde_json::Value = serde_json::from_slice(&schema).expect("it is JSON");
            assert_eq!(schema["title"], "tq.toml");
            let again = write("hello", *lang, &folder).expect_err("it is there");
            assert_eq!(crate::exit::code(&again), Exit::Usage);
        }
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
