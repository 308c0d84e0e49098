//! `tq host list`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let hosts = connect(config).await?.hosts().await?;
    match config.output.value {
        Format::Table => table::print_hosts(&hosts)?,
        Format::Json => json::print(&json::HostList::new(&hosts))?,
    }
    Ok(Exit::Succeeded)
}
