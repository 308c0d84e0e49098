//! `tq dead show`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, card, json, table};

pub(crate) async fn run(config: &Config, id: &str) -> anyhow::Result<Exit> {
    let shown = connect(config).await?.crash_card(id).await?;
    match config.output.value {
        Format::Table => {
            output::line(card::head(&shown))?;
            let attempts = shown.task.as_ref().map(|task| &task.attempts[..]);
            output::line("")?;
            table::print_attempts(attempts.unwrap_or_default())?;
            output::line(format!("\n{}", card::foot(&shown)))?;
        }
        Format::Json => json::print(&json::Card::from(&shown))?,
    }
    Ok(Exit::Succeeded)
}
