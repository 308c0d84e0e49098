//! `tq queue …`

pub(crate) mod change;
pub(crate) mod list;
pub(crate) mod show;

use tq_client::Queue;

use crate::config::Config;
use crate::output::{Format, json, table};

/// Shows a queue as it is now.
fn print(config: &Config, queue: &Queue) -> anyhow::Result<()> {
    match config.output.value {
        Format::Table => table::print_queue(queue),
        Format::Json => json::print(&json::QueueInfo::from(queue)),
    }
}
