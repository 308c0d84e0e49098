//! `tq whoami`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json, table};

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let identity = connect(config).await?.who_am_i().await?;
    match config.output.value {
        Format::Table if identity.name.is_empty() => output::line(
            "everyone may do everything: this broker has no access control (`tq broker init` turns it on)",
        )?,
        Format::Table => table::print_identity(&identity)?,
        Format::Json => json::print(&json::IdentityInfo::from(&identity))?,
    }
    Ok(Exit::Succeeded)
}
