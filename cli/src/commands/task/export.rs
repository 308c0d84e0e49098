//! `tq task export`

use futures_util::StreamExt as _;
use tq_client::ExportFormat;

use super::list::search;
use crate::args::{ExportArg, TaskExportArgs};
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output;

pub(crate) async fn run(config: &Config, args: TaskExportArgs) -> anyhow::Result<Exit> {
    let TaskExportArgs {
        which,
        sort,
        format,
    } = args;
    let search = search(which, None, sort);
    let format = match format {
        ExportArg::Jsonl => ExportFormat::JsonLines,
        ExportArg::Csv => ExportFormat::Csv,
    };
    let client = connect(config).await?;
    let mut lines = client.export_tasks(&search, format).await?;
    while let Some(lines) = lines.next().await {
        output::guest_text(&lines?)?;
    }
    Ok(Exit::Succeeded)
}
