//! `tq host show`, and how every command shows a host.

use tq_client::Host;

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let host = connect(config).await?.host(name).await?;
    print(config, &host)
}

/// Prints one host.
pub(super) fn print(config: &Config, host: &Host) -> anyhow::Result<Exit> {
    match config.output.value {
        Format::Table => table::print_host(host)?,
        Format::Json => json::print(&json::HostInfo::from(host))?,
    }
    Ok(Exit::Succeeded)
}
