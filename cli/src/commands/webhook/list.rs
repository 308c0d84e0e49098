//! `tq webhook list`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let webhooks = connect(config).await?.webhooks().await?;
    match config.output.value {
        Format::Table => table::print_webhooks(&webhooks)?,
        Format::Json => json::print(&json::WebhookList::new(&webhooks))?,
    }
    Ok(Exit::Succeeded)
}
