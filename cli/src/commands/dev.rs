//! `tq dev`

use std::future;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tq_client::Client;

use crate::commands::deploy::{self, Deployable};
use crate::commands::describe;
use crate::config::{Config, Origin};
use crate::exit::{self, Exit, Failure};
use crate::nodes::{Pair, StopSignals, check_connects_by_no_tls, check_listen};
use crate::output;
use crate::watch::Source;

pub(crate) async fn run(config: &Config, watched: Option<PathBuf>) -> anyhow::Result<Exit> {
    let data_dir = &config.dev_data_dir.value;
    let listen = config.dev_listen.value;
    check_listen(listen)?;
    check_connects_by_no_tls(config, "`tq dev`")?;
    let networks = config.dev_allow_networks.value.0.clone();
    // Before anything is there, so that a folder that is none shows at once.
    let source = watched.as_deref().map(checked).transpose()?;
    let mut stop = StopSignals::listen()?;
    let (slots, isolation) = (config.dev_slots.value, config.dev_isolation.value);
    let pair = tokio::select! {
        started = Pair::start(data_dir, listen, slots, isolation, networks) => started?,
        () = stop.next() => return Ok(Exit::Interrupted),
    };
    let url = pair.url();
    output::note(format!(
        "tq dev is ready at {url}, with its data in {}",
        data_dir.display()
    ));
    // Clients that are told nothing look at the default address.
    let address = match config.dev_listen.origin {
        Origin::Default => String::new(),
        Origin::Flag | Origin::Variable(_) | Origin::File(_) => {
            format!("export TQ_BROKER={url} && ")
        }
    };
    if watched.is_none() {
        output::note(format!(
            "next, in another terminal: {address}tq new greet && cd greet && tq deploy && tq run greet '{{\"name\":\"Ada\"}}'"
        ));
    }
    let deploying = async {
        match (source, watched) {
            (Some(source), Some(path)) => {
                deploy_again(&url, source, path, &config.namespace.value).await
            }
            _ => future::pending().await,
        }
    };
    let failed = tokio::select! {
        error = pair.failed() => Some(error),
        error = deploying => Some(error),
        () = stop.next() => None,
    };
    let exit = stop.shut_down(pair.shutdown()).await;
    match failed {
        Some(error) => Err(error),
        None => exit,
    }
}

/// Watches what is at `path`, if anything is.
fn checked(path: &Path) -> anyhow::Result<Source> {
    let is_there = path.try_exists();
    if !is_there.with_context(|| format!("failed to look for `{}`", path.display()))? {
        let missing = format!("there is no file or folder `{}`", path.display());
        return Err(Failure::not_found(missing)
            .hint("`tq new NAME` makes a module")
            .into());
    }
    Source::watch(path)
}

/// Deploys the module at `path`, and again after every change of its source. What goes wrong with that is said, and waits for the next
/// change; returns why there can be none.
async fn deploy_again(
    url: &str,
    mut source: Source,
    path: PathBuf,
    namespace: &str,
) -> anyhow::Error {
    loop {
        if let Err(error) = deploy_once(url, &path, namespace).await {
            output::note(exit::text(&error));
            output::note("not deployed; waiting for the next change");
        }
        source.was_built();
        match source.changed().await {
            Ok(changed) => output::note(format!("\n{} changed", few(&changed))),
            Err(error) => return error,
        }
    }
}

async fn deploy_once(url: &str, path: &Path, namespace: &str) -> anyhow::Result<()> {
    let path = path.to_owned();
    // In a thread of its own, so that a signal is heard during a build.
    let prepared = tokio::task::spawn_blocking(move || deploy::prepare(&path, None));
    let Deployable {
        component, upload, ..
    } = prepared.await.context("the build has panicked")??;
    let client = Client::connect(url).await?.with_namespace(namespace);
    let answer = client.upload_module(component, upload, |_| {}).await?;
    let module = answer.module.as_ref();
    let module = module.ok_or_else(|| deploy::lacking(&client))?;
    let (name, version) = (&module.name, module.version);
    if answer.unchanged {
        output::note(format!("{name}@{version} is as it was"));
        return Ok(());
    }
    let functions: Vec<_> = module
        .functions
        .iter()
        .map(|function| function.name.as_str())
        .collect();
    output::note(format!(
        "deployed {name}@{version}: {}",
        functions.join(", ")
    ));
    if !answer.newly_granted.is_empty() {
        let granted = output::escaped(&answer.newly_granted.join(", "));
        output::note(format!("newly granted: {granted}"));
    }
    if let Some(function) = module.functions.first() {
        output::note(format!("run it: {}", describe::run_line(module, function)));
    }
    Ok(())
}

/// Names of files, and how many more there are.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
