//! `tq module delete`

use std::num::NonZeroU32;

use serde_json::json;

use crate::args::ModuleVersion;
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};

pub(crate) async fn run(config: &Config, module: &ModuleVersion) -> anyhow::Result<Exit> {
    let ModuleVersion { name, version } = module;
    // On the wire, 0 is all versions.
    let version = version.map_or(0, NonZeroU32::get);
    let deleted = connect(config).await?.delete_module(name, version).await?;
    match config.output.value {
        Format::Table => output::line(format!("{module} deleted"))?,
        Format::Json => json::print(&json!({"module": module.to_string(), "deleted": deleted}))?,
    }
    Ok(Exit::Succeeded)
}
