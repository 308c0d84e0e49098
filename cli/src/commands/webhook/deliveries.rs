//! `tq webhook deliveries`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(
    config: &Config,
    name: &str,
    failed: bool,
    limit: u32,
) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    let deliveries = client.deliveries(name, failed, limit).await?;
    match config.output.value {
        Format::Table => table::print_deliveries(&deliveries)?,
        Format::Json => json::print(&json::DeliveryList::new(&deliveries))?,
    }
    Ok(Exit::Succeeded)
}
