//! `tq queue list`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let queues = connect(config).await?.queues().await?;
    match config.output.value {
        Format::Table => table::print_queues(&queues)?,
        Format::Json => json::print(&json::QueueList::new(&queues))?,
    }
    Ok(Exit::Succeeded)
}
