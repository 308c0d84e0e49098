//! `tq webhook test`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{Format, json, table};

pub(crate) async fn run(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let answer = connect(config).await?.test_webhook(name).await?;
    match config.output.value {
        Format::Table => table::print_ping(&answer)?,
        Format::Json => json::print(&json::Ping::new(&answer))?,
    }
    Ok(if answer.error.is_empty() {
        Exit::Succeeded
    } else {
        Exit::Ended
    })
}
