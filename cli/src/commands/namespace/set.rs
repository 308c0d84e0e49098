//! `tq namespace set`

use tq_client::LimitOverrides;

use crate::args::{NamespaceSetArgs, NamespaceSetting};
use crate::commands::{call, connect};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::limits;

pub(crate) async fn run(config: &Config, args: NamespaceSetArgs) -> anyhow::Result<Exit> {
    let NamespaceSetArgs {
        name,
        reset,
        ceiling,
        no_ceiling,
        retry,
    } = args;
    let mut ceilings = LimitOverrides::default();
    limits::gather(&ceiling, &mut ceilings).map_err(Failure::usage)?;
    let reset = reset.into_iter().map(|setting| {
        match setting {
            NamespaceSetting::MaxAttempts => "max_attempts",
            NamespaceSetting::Backoff => "backoff",
            NamespaceSetting::BackoffCap => "cap",
        }
        .to_owned()
    });
    let no_ceiling = no_ceiling.iter().map(|name| format!("ceiling.{name}"));
    let client = connect(config).await?;
    let settings = client
        .set_namespace(
            &name,
            call::retry(retry),
            ceilings,
            reset.chain(no_ceiling).collect(),
        )
        .await?;
    super::print(config, &settings)?;
    Ok(Exit::Succeeded)
}
