//! `tq run --local`

use std::path::{Path, PathBuf};

use tq_client::Client;

use super::{given, submit_and_wait, tell};
use crate::args::CallArgs;
use crate::commands::call;
use crate::commands::deploy::{self, Deployable};
use crate::config::Config;
use crate::exit::Exit;
use crate::manifest;
use crate::nodes::{self, Isolation, Passing, StopSignals};

/// Tasks at once.
const SLOTS: u32 = 1;

pub(super) async fn run(config: &Config, call: CallArgs) -> anyhow::Result<Exit> {
    nodes::check_asks_for_no_broker(config, "`tq run --local`")?;
    let (path, function) = parted(&call.function);
    let mut task = call::task(call)?;
    let given = given(&task.payload, &task.content_type);
    let mut stop = StopSignals::listen()?;
    // Before there is a broker, so that mistakes show at once.
    let Deployable {
        component, upload, ..
    } = tokio::task::block_in_place(|| deploy::prepare_for_here(&path))?;
    task.function = called(&upload.name, function.as_deref());
    let networks = config.dev_allow_networks.value.0.clone();
    let pair = Passing::start(SLOTS, Isolation::None, networks).await?;
    let url = pair.url();
    let calling = async {
        let client = Client::connect(&url).await?;
        client.upload_module(component, upload, |_| {}).await?;
        let ended = submit_and_wait(&client, task, &mut None).await?;
        tell(config, &client, &ended, &given, None).await
    };
    pair.during(&mut stop, Box::pin(calling)).await
}

/// A function as a broker knows it.
pub(crate) fn called(module: &str, function: Option<&str>) -> String {
    match function {
        Some(function) => format!("{module}/{function}"),
        None => module.to_owned(),
    }
}

/// Where the module is, and which function of it is meant. What is there as a whole has no function behind it; else the longest
/// beginning that is a component or a module's folder is the path. Where nothing is, all of it is, and is missed there.
fn parted(text: &str) -> (PathBuf, Option<String>) {
    let is_module = |path: &Path| {
        path.is_file() || path.join("Cargo.toml").is_file() || path.join(manifest::FILE).is_file()
    };
    if !is_module(Path::new(text)) {
        for (at, _) in text.rmatch_indices('/') {
            // What begins at the root, or in the name of an interface, has nothing before it.
            let (path, function) = (&text[..at], &text[at + 1..]);
            if !path.is_empty() && !function.is_empty() && is_module(Path::new(path)) {
                return (path.into(), Some(function.to_owned()));
            }
        }
    }
    (text.into(), None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn path_is_what_is_there_and_the_rest_is_the_function() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let root = folder.path();
        fs::create_dir_all(root.join("images/resize")).expect("it can be written");
        fs::create_dir(root.join("plain")).expect("it can be written");
        for file in ["images/tq.toml", "images/resize/Cargo.toml", "a.wasm"] {
            fs::write(root.join(file), "").expect("it can be written");
        }
        for (text, path, function) in [
            ("images", "images", None),
            ("images/", "images/", None),
            ("images/crop", "images", Some("crop")),
            // A module of its own wins over a function of that name.
            ("images/resize", "images/resize", None),
            ("images/resize/f", "images/resize", Some("f")),
            ("a.wasm", "a.wasm", None),
            (
                "a.wasm/demo:shop/orders@0.1.0#total",
                "a.wasm",
                Some("demo:shop/orders@0.1.0#total"),
            ),
            ("plain", "plain", None),
            ("nowhere/f", "nowhere/f", None),
        ] {
            let parted = parted(&root.join(text).display().to_string());
            assert_eq!(
                parted,
                (root.join(path), function.map(str::to_owned)),
                "{text}"
            );
        }
    }
}
