//! `tq module show`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let module = connect(config).await?.module(name).await?;
    match config.output.value {
        Format::Table => table::print_module(&module)?,
        Format::Json => json::print(&json::ModuleInfo::from(&module))?,
    }
    Ok(Exit::Succeeded)
}
