//! `tq run`

use std::pin::pin;

use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tq_client::{Client, NewTask, Task, TaskState, Watch};

use crate::args::RunArgs;
use crate::commands::{call, connect};
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json, table};

/// Lines of a failed task's log that are shown.
const LOG_LINES: usize = 20;
/// Bytes of it that are kept while it is read.
const LOG_BYTES: usize = 16 * 1024;

pub(crate) async fn run(config: &Config, args: RunArgs) -> anyhow::Result<Exit> {
    let task = call::task(args.call)?;
    // Before the task is there, so that from then on an interrupt finds its id.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let client = connect(config).await?;
    let mut id = None;
    let ended = tokio::select! {
        ended = submit_and_wait(&client, task, &mut id) => ended,
        _ = interrupts.recv() => {
            match id {
                Some(id) => {
                    output::note(format!("interrupted; task {id} goes on"));
                    output::note(format!("hint: `tq task wait {id}` waits for it again"));
                }
                None => output::note("interrupted while submitting; the task may be there or not"),
            }
            return Ok(Exit::Interrupted);
        }
    };
    let task = match (ended, id) {
        (Ok(task), _) => task,
        (Err(error), None) => return Err(error.into()),
        (Err(error), Some(id)) => {
            output::note(format!("task {id} was submitted, and goes on"));
            return Err(error.into());
        }
    };
    if config.output.value == Format::Json {
        json::print(&json::Task::from(&task))?;
    }
    if task.state() != TaskState::Succeeded {
        explain(&client, &task).await;
        return Ok(Exit::Ended);
    }
    if config.output.value == Format::Table {
        output::result(task.result.as_deref().unwrap_or_default())?;
    }
    Ok(Exit::Succeeded)
}

async fn submit_and_wait(
    client: &Client,
    task: NewTask,
    id: &mut Option<String>,
) -> Result<Task, tq_client::Error> {
    let submitted = client.submit(vec![task]).await?;
    let ids: Vec<String> = submitted.into_iter().map(|task| task.id).collect();
    *id = ids.first().cloned();
    let mut watching = client.watch(Watch::Ids(ids), true);
    loop {
        match watching.next().await? {
            // The one task that is watched; without it the list may be empty.
            Some(ended) => {
                if let Some(task) = ended.into_iter().next() {
                    return Ok(task);
                }
            }
            None => {
                return Err(tq_client::Error::Protocol {
                    url: client.url().to_owned(),
                    lacking: "end of the task",
                });
            }
        }
    }
}

/// Says on standard error why a task did not succeed.
async fn explain(client: &Client, task: &Task) {
    let state = json::state(task.state());
    let attempts = match task.attempts.len() {
        0 => "without an attempt".to_owned(),
        1 => "after 1 attempt".to_owned(),
        n => format!("after {n} attempts"),
    };
    let outcome = if task.outcome.is_empty() {
        state
    } else {
        &task.outcome
    };
    output::note(format!(
        "error: task {} ended {state} {attempts}: {outcome}",
        task.id
    ));
    let failure = task
        .attempts
        .last()
        .and_then(table::failure)
        .unwrap_or_default();
    if !failure.is_empty() {
        output::note(&failure);
    }
    let log = log_tail(client, &task.id).await;
    // A program's failure quotes the end of its log already.
    if let Some(last) = log.lines().last()
        && !failure.contains(last.trim())
    {
        output::note(format!("last lines of its log:\n{log}"));
    }
    output::note(format!(
        "hint: `tq task show {}` shows every attempt, `tq task redrive {}` tries it again",
        task.id, task.id
    ));
}

/// The last lines that the task logged, escaped and indented; empty if there are none to be had.
async fn log_tail(client: &Client, id: &str) -> String {
    let mut tail = Vec::new();
    if let Ok(chunks) = client.task_logs(id).await {
        let mut chunks = pin!(chunks);
        while let Some(Ok(chunk)) = chunks.next().await {
            tail.extend_from_slice(&chunk.text);
            if tail.len() > LOG_BYTES {
                tail.drain(..tail.len() - LOG_BYTES);
            }
        }
    }
    let text = output::escaped(&String::from_utf8_lossy(&tail));
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
    shown
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
