//! `tq task cancel`

use serde_json::json;
use tq_client::{TaskState, WhichLive};

use crate::args::{LiveArg, TaskCancelArgs};
use crate::commands::{connect, task};
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};
use crate::units::{self, Count};

pub(crate) async fn run(config: &Config, args: TaskCancelArgs) -> anyhow::Result<Exit> {
    let TaskCancelArgs {
        ids,
        state,
        function,
        queue,
        submitted_before,
        all: _,
        dry_run,
    } = args;
    let client = connect(config).await?;
    if !ids.is_empty() {
        for id in &ids {
            // One after the other, so that it is clear which are cancelled when one is refused.
            let cancelled = client.cancel_task(id).await?;
            task::print_state(config, &cancelled)?;
        }
        return Ok(Exit::Succeeded);
    }
    let which = WhichLive {
        state: state.map(wire),
        function,
        queue,
        submitted_before_ms: submitted_before.map(|past| past.at_ms(units::now_ms())),
    };
    let (mut cancelled, mut stopping, mut next) = (0, 0, String::new());
    // Each call looks at a bounded number of tasks, so that none holds up the broker.
    loop {
        let answer = client.cancel_tasks(&which, dry_run, &next).await?;
        cancelled += u64::from(answer.cancelled);
        stopping += u64::from(answer.stopping);
        next = answer.next;
        if next.is_empty() {
            break;
        }
    }
    match config.output.value {
        Format::Json => {
            json::print(&json!({"cancelled": cancelled, "stopping": stopping, "dry_run": dry_run}))?
        }
        Format::Table => {
            let (waiting, running) = match dry_run {
                true => ("would be cancelled", "would be told to stop"),
                false => ("cancelled", "told to stop"),
            };
            let tasks = if cancelled == 1 { "task" } else { "tasks" };
            output::line(format!(
                "{} {tasks} {waiting}, {} {running}",
                Count(cancelled),
                Count(stopping)
            ))?;
        }
    }
    Ok(Exit::Succeeded)
}

fn wire(state: LiveArg) -> TaskState {
    match state {
        LiveArg::Blocked => TaskState::Blocked,
        LiveArg::Scheduled => TaskState::Scheduled,
        LiveArg::Ready => TaskState::Ready,
        LiveArg::Running => TaskState::Running,
    }
}
