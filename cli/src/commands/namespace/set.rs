//! `tq namespace set`

use crate::args::{NamespaceSetArgs, NamespaceSetting};
use crate::commands::{call, connect};
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config, args: NamespaceSetArgs) -> anyhow::Result<Exit> {
    let NamespaceSetArgs { name, reset, retry } = args;
    let reset = reset.into_iter().map(|setting| {
        match setting {
            NamespaceSetting::MaxAttempts => "max_attempts",
            NamespaceSetting::Backoff => "backoff",
            NamespaceSetting::BackoffCap => "cap",
        }
        .to_owned()
    });
    let client = connect(config).await?;
    let settings = client
        .set_namespace(&name, call::retry(retry), reset.collect())
        .await?;
    super::print(config, &settings)?;
    Ok(Exit::Succeeded)
}
