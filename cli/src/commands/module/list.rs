//! `tq module list`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let modules = connect(config).await?.modules().await?;
    match config.output.value {
        Format::Table => table::print_modules(&modules)?,
        Format::Json => json::print(&json::ModuleList::new(&modules))?,
    }
    Ok(Exit::Succeeded)
}
