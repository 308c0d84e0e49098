//! Tasks.

use tq_client::Task;
use tq_core::limits::STRIKES_MAX;
use tq_core::placement::is_default_queue;

use super::attempt::{failure, print_attempts, retry};
use super::{dash, labels, print, print_fields, time};
use crate::limits;
use crate::output::{self, escaped, json};
use crate::units::{Moment, Size};

/// Prints tasks, one a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_tasks(tasks: &[Task]) -> anyhow::Result<()> {
    print(
        [
            "id",
            "function",
            "state",
            "outcome",
            "attempts",
            "submitted",
        ],
        tasks.iter().map(|task| {
            [
                task.id.clone(),
                task.function.clone(),
                json::state(task.state()).to_owned(),
                dash(&task.outcome),
                task.attempts.len().to_string(),
                Moment(task.submitted_ms).to_string(),
            ]
        }),
    )
}

/// Whether a task runs alone, and what came of that.
fn suspect(task: &Task) -> String {
    match task.strikes {
        None => String::new(),
        Some(0) => "of crashing its runner; it runs alone".to_owned(),
        Some(strikes) => format!("it crashed its runner alone, {strikes} of {STRIKES_MAX} times"),
    }
}

/// Prints all there is to know about a task.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_task(task: &Task) -> anyhow::Result<()> {
    let progress = task.progress.as_ref().map(|progress| {
        format!(
            "{:.0} % {}",
            progress.fraction * 100.0,
            escaped(&progress.note)
        )
    });
    let stop = if task.stop.is_empty() {
        String::new()
    } else {
        format!("told to stop: {}", task.stop)
    };
    print_fields([
        ("id", task.id.clone()),
        (
            "function",
            format!(
                "{} (version {}, {})",
                task.function, task.module_version, task.digest
            ),
        ),
        ("namespace", task.namespace.clone()),
        ("state", json::state(task.state()).to_owned()),
        ("stop", stop),
        ("outcome", task.outcome.clone()),
        ("priority", task.priority.to_string()),
        ("queue", named_queue(&task.queue)),
        ("labels", labels(&task.labels)),
        ("requires", labels(&task.required_labels)),
        ("prefers", labels(&task.preferred_labels)),
        (
            "concurrency",
            task.concurrency
                .as_ref()
                .map(|it| format!("{} at once of key {}", it.limit, escaped(&it.key)))
                .unwrap_or_default(),
        ),
        (
            "round",
            if task.round > 1 {
                task.round.to_string()
            } else {
                String::new()
            },
        ),
        (
            "hosts lost",
            if task.losses > 0 {
                task.losses.to_string()
            } else {
                String::new()
            },
        ),
        ("suspect", suspect(task)),
        ("progress", progress.unwrap_or_default()),
        ("submitted", time(task.submitted_ms)),
        ("not before", time(task.run_at_ms)),
        ("deadline", time(task.deadline_ms)),
        ("ended", time(task.ended_ms)),
        (
            "limits",
            task.limits.as_ref().map(limits::shown).unwrap_or_default(),
        ),
        ("retry", task.retry.as_ref().map(retry).unwrap_or_default()),
        ("key", task.idempotency_key.clone()),
        ("redriven from", task.redriven_from.clone()),
        (
            "arguments",
            task.arguments
                .iter()
                .map(|argument| format!("{argument:?}"))
                .collect::<Vec<_>>()
                .join(" "),
        ),
        (
            "payload",
            described(task.payload.as_deref(), task.payload_bytes),
        ),
        (
            "result",
            match task.result_expired_ms {
                0 => described(task.result.as_deref(), task.result_bytes),
                at => format!("gone since {}: its time was over", time(at)),
            },
        ),
    ])?;
    if task.attempts.is_empty() {
        return Ok(());
    }
    output::line("")?;
    print_attempts(&task.attempts)?;
    for attempt in &task.attempts {
        if let Some(text) = failure(attempt) {
            output::line(format!("\nattempt {}: {text}", attempt.number))?;
        }
    }
    Ok(())
}

fn named_queue(queue: &str) -> String {
    if is_default_queue(queue) {
        String::new()
    } else {
        queue.to_owned()
    }
}

/// Bytes as far as they fit on a line.
fn described(bytes: Option<&[u8]>, len: u64) -> String {
    const SHOWN_CHARS: usize = 200;
    let size = Size(len);
    match bytes.map(std::str::from_utf8) {
        None if len == 0 => String::new(),
        None => format!("({size})"),
        Some(Err(_)) => format!("({size}, not text)"),
        Some(Ok(text)) => {
            let line = escaped(text.trim_end()).replace('\n', "\\n");
            match line.char_indices().nth(SHOWN_CHARS) {
                Some((end, _)) => format!("{}… ({size})", &line[..end]),
                None => line,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_results_are_cut_and_bytes_are_not_shown() {
        assert_eq!(described(Some(b"a\nb\n"), 4), "a\\nb");
        assert_eq!(described(Some(&[0xff; 3]), 3), "(3 B, not text)");
        assert_eq!(described(None, 2048), "(2 KiB)");
        let long = "ä".repeat(300);
        let expected = format!("{}… (600 B)", "ä".repeat(200));
        assert_eq!(described(Some(long.as_bytes()), 600), expected);
    }
}
