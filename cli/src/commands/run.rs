//! `tq run`

mod local;

use std::pin::pin;

use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tq_client::{Client, NewTask, Task, TaskState, Watch};

use crate::args::RunArgs;
use crate::commands::{call, connect, waiting};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format, json, table};
use crate::units::Moment;

pub(crate) use local::called;

/// Lines of a failed task's log that are shown.
const LOG_LINES: usize = 20;
/// Bytes of it that are kept while it is read.
const LOG_BYTES: usize = 16 * 1024;

pub(crate) async fn run(config: &Config, args: RunArgs) -> anyhow::Result<Exit> {
    let RunArgs { local, call } = args;
    if local {
        return self::local::run(config, call).await;
    }
    let task = call::task(call)?;
    let given = given(&task.payload, &task.content_type);
    // Before the task is there, so that from then on an interrupt finds its id.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let client = connect(config).await?;
    let mut id = None;
    let ended = tokio::select! {
        ended = submit_and_wait(&client, task, &mut id) => ended,
        never = waiting::for_tasks(&client) => match never {},
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
    let hint = format!(
        "`tq task show {}` shows every attempt, `tq task redrive {}` tries it again",
        task.id, task.id
    );
    tell(config, &client, &task, &given, Some(&hint)).await
}

/// Prints what a task that has ended came to. `given` is what it was given, and `hint` what can be done with one that failed.
async fn tell(
    config: &Config,
    client: &Client,
    task: &Task,
    given: &str,
    hint: Option<&str>,
) -> anyhow::Result<Exit> {
    if config.output.value == Format::Json {
        json::print(&json::Task::from(task))?;
    }
    if task.state() != TaskState::Succeeded {
        explain(client, task, given, hint).await;
        return Ok(Exit::Ended);
    }
    if task.result_expired_ms != 0 {
        // One that was run before, under the same idempotency key.
        let since = Moment(task.result_expired_ms);
        let message = format!(
            "task {} succeeded, but its result is gone since {since}: its time was over",
            task.id
        );
        return Err(Failure::new(Exit::Ended, message)
            .hint("use another idempotency key to run it again")
            .into());
    }
    if config.output.value == Format::Table {
        output::result(task.result.as_deref().unwrap_or_default())?;
    }
    Ok(Exit::Succeeded)
}

/// Submits a task and waits for its end. `id` is filled in as soon as there is one.
pub(crate) async fn submit_and_wait(
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

/// Says on standard error why a task did not succeed. `given` is what it was given.
async fn explain(client: &Client, task: &Task, given: &str, hint: Option<&str>) {
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
    // It would find the same payload wrong again.
    if task.outcome == tq_core::outcome::Outcome::InvalidInput.name() {
        output::note(format!(
            "hint: it was given {given}; correct that, and run it again"
        ));
        return;
    }
    if let Some(hint) = hint {
        output::note(format!("hint: {hint}"));
    }
}

/// A payload for people: its beginning, and what it was taken for.
fn given(payload: &[u8], content_type: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let Ok(text) = std::str::from_utf8(payload) else {
        return format!("{} bytes of {content_type}", payload.len());
    };
    if text.is_empty() {
        return "no payload".to_owned();
    }
    let beginning: String = text.chars().take(SHOWN_CHARS).collect();
    let rest = if beginning.len() < text.len() {
        "…"
    } else {
        ""
    };
    let shown = output::escaped(&beginning).replace('\n', "\\n");
    // A shell takes quotes away that nothing protects.
    let quotes = if content_type == "text/plain" && text.starts_with(['{', '[']) {
        ", which is no JSON; a shell leaves JSON alone in single quotes"
    } else {
        ""
    };
    format!("`{shown}{rest}` ({content_type}){quotes}")
}

/// The last lines that the task logged, escaped and indented; empty if there are none to be had.
pub(crate) async fn log_tail(client: &Client, id: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(payload: &[u8], content_type: &str, expected: &str) {
        assert_eq!(given(payload, content_type), expected);
    }

    #[test]
    fn payload_is_shown_as_it_was_taken() {
        check(b"", "", "no payload");
        check(b"Ada", "text/plain", "`Ada` (text/plain)");
        check(b"[1]", "application/json", "`[1]` (application/json)");
        check(
            b"{name:Ada}",
            "text/plain",
            "`{name:Ada}` (text/plain), which is no JSON; a shell leaves JSON alone in single quotes",
        );
        check(b"a\nb\x1b", "text/plain", "`a\\nb\\u{1b}` (text/plain)");
        check(&[0xff; 3], "image/png", "3 bytes of image/png");
        let long = "x".repeat(81);
        let shown = format!("`{}…` (text/plain)", "x".repeat(80));
        check(long.as_bytes(), "text/plain", &shown);
    }
}
