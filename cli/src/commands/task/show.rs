//! `tq task show`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config, id: &str, with_payload: bool) -> anyhow::Result<Exit> {
    let task = connect(config).await?.task(id, true, with_payload).await?;
    match config.output.value {
        Format::Table => table::print_task(&task)?,
        Format::Json => json::print(&json::Task::from(&task))?,
    }
    Ok(Exit::Succeeded)
}
