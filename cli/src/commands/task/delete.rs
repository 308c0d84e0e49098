//! `tq task delete`

use serde_json::json;
use tq_client::{TaskState, Which};

use crate::args::{EndArg, TaskDeleteArgs};
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};
use crate::units;

pub(crate) async fn run(config: &Config, args: TaskDeleteArgs) -> anyhow::Result<Exit> {
    let TaskDeleteArgs {
        ids,
        state,
        function,
        ended_before,
        dry_run,
    } = args;
    let client = connect(config).await?;
    if !ids.is_empty() {
        for id in &ids {
            // One after the other, so that it is clear which are gone when one is refused.
            client.delete_task(id).await?;
            if config.output.value == Format::Table {
                output::line(format!("{id} deleted"))?;
            }
        }
        return match config.output.value {
            Format::Table => Ok(Exit::Succeeded),
            Format::Json => done(config, ids.len() as u64, false),
        };
    }
    let which = Which {
        state: state.map(wire),
        function,
        ended_before_ms: ended_before.map(|past| past.at_ms(units::now_ms())),
    };
    let (mut deleted, mut next) = (0, String::new());
    // Each call looks at a bounded number of tasks, so that none holds up the broker.
    loop {
        let answer = client.delete_tasks(&which, dry_run, &next).await?;
        deleted += u64::from(answer.deleted);
        next = answer.next;
        if next.is_empty() {
            return done(config, deleted, dry_run);
        }
    }
}

fn done(config: &Config, deleted: u64, dry_run: bool) -> anyhow::Result<Exit> {
    match config.output.value {
        Format::Json => json::print(&json!({"deleted": deleted, "dry_run": dry_run}))?,
        Format::Table => {
            let tasks = if deleted == 1 { "task" } else { "tasks" };
            let what = if dry_run {
                "would be deleted"
            } else {
                "deleted"
            };
            output::line(format!("{deleted} {tasks} {what}"))?;
        }
    }
    Ok(Exit::Succeeded)
}

fn wire(state: EndArg) -> TaskState {
    match state {
        EndArg::Succeeded => TaskState::Succeeded,
        EndArg::Dead => TaskState::Dead,
        EndArg::Cancelled => TaskState::Cancelled,
        EndArg::Expired => TaskState::Expired,
    }
}
