//! `tq overload`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let overload = connect(config).await?.overload().await?;
    match config.output.value {
        Format::Table => table::print_overload(&overload)?,
        Format::Json => json::print(&json::OverloadInfo::from(&overload))?,
    }
    Ok(Exit::Succeeded)
}
