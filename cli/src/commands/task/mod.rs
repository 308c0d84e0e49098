//! `tq task …`

pub(crate) mod bulk;
pub(crate) mod cancel;
pub(crate) mod delete;
pub(crate) mod export;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod redrive;
pub(crate) mod show;
pub(crate) mod update;
pub(crate) mod wait;
pub(crate) mod watch;

use tq_client::Task;

use crate::config::Config;
use crate::output::{self, Format, json};

/// Says what a task has become.
fn print_state(config: &Config, task: &Task) -> anyhow::Result<()> {
    match config.output.value {
        Format::Json => json::print(&json::Task::from(task)),
        Format::Table => {
            let stop = if task.stop.is_empty() {
                ""
            } else {
                " (told to stop)"
            };
            Ok(output::line(format!(
                "{} {}{stop}",
                task.id,
                json::state(task.state())
            ))?)
        }
    }
}
