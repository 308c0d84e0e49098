//! `tq namespace …`

pub(crate) mod set;
pub(crate) mod show;

use tq_client::NamespaceSettings;

use crate::config::Config;
use crate::output::{Format, json, table};

fn print(config: &Config, settings: &NamespaceSettings) -> anyhow::Result<()> {
    match config.output.value {
        Format::Table => table::print_namespace(settings),
        Format::Json => json::print(&json::NamespaceInfo::from(settings)),
    }
}
