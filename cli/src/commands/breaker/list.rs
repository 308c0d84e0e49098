//! `tq breaker list`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let breakers = connect(config).await?.breakers().await?;
    match config.output.value {
        Format::Table => table::print_breakers(&breakers)?,
        Format::Json => json::print(&json::BreakerList::new(&breakers))?,
    }
    Ok(Exit::Succeeded)
}
