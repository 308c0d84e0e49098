//! `tq host remove`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};

pub(crate) async fn run(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let taken_back = connect(config).await?.remove_host(name).await?;
    match config.output.value {
        Format::Table => output::line(format!(
            "host `{name}` is removed; {taken_back} of its attempts go to others"
        ))?,
        Format::Json => json::print(&json::HostRemoved { name, taken_back })?,
    }
    Ok(Exit::Succeeded)
}
