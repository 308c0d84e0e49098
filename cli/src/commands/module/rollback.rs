//! `tq module rollback`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};

pub(crate) async fn run(config: &Config, name: &str, to: Option<u32>) -> anyhow::Result<Exit> {
    // On the wire, 0 is the version before the current one.
    let module = connect(config)
        .await?
        .rollback_module(name, to.unwrap_or(0))
        .await?;
    match config.output.value {
        Format::Table => output::line(format!(
            "{} is now {}@{}",
            name, module.name, module.version
        ))?,
        Format::Json => json::print(&json::ModuleInfo::from(&module))?,
    }
    Ok(Exit::Succeeded)
}
