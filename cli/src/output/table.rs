//! Tables for people: plain columns, so that they can be read by `grep` and `awk` as well.

use comfy_table::{ContentArrangement, Table, presets};
use tq_client::{Attempt, Host, Limits, Module, RetryPolicy, Task, Usage};

use crate::output::{self, escaped, json};
use crate::units::{Count, Moment, Size, Span, nanoseconds};

/// Prints rows under a header.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> anyhow::Result<()> {
    Ok(output::data(
        columns(&header.map(str::to_uppercase), rows).as_bytes(),
    )?)
}

/// Aligned columns; the last one is not padded.
fn columns<const N: usize>(
    header: &[String; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if header.iter().any(|title| !title.is_empty()) {
        table.set_header(header.iter());
    }
    for row in rows {
        table.add_row(row);
    }
    let mut text = String::new();
    for line in table.lines() {
        // The style puts a space before each column.
        text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
        text.push('\n');
    }
    text
}

/// Prints names and values, leaving out those that are empty.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_fields(
    fields: impl IntoIterator<Item = (&'static str, String)>,
) -> anyhow::Result<()> {
    let rows = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| [name.to_owned(), value]);
    Ok(output::data(
        columns(&[String::new(), String::new()], rows).as_bytes(),
    )?)
}

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
        ("progress", progress.unwrap_or_default()),
        ("submitted", time(task.submitted_ms)),
        ("not before", time(task.run_at_ms)),
        ("deadline", time(task.deadline_ms)),
        ("ended", time(task.ended_ms)),
        (
            "limits",
            task.limits.as_ref().map(limits).unwrap_or_default(),
        ),
        ("retry", task.retry.as_ref().map(retry).unwrap_or_default()),
        ("key", task.idempotency_key.clone()),
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
    print(
        [
            "attempt", "host", "outcome", "started", "fuel", "memory", "wall", "cpu",
        ],
        task.attempts.iter().map(|attempt| {
            let Usage {
                fuel,
                memory_bytes_peak,
                wall_ns,
                cpu_ns,
            } = attempt.usage.unwrap_or_default();
            [
                attempt.number.to_string(),
                attempt.host.clone(),
                if attempt.outcome.is_empty() {
                    "(running)".to_owned()
                } else {
                    attempt.outcome.clone()
                },
                time(attempt.started_ms),
                Count(fuel).to_string(),
                Size(memory_bytes_peak).to_string(),
                nanoseconds(wall_ns),
                nanoseconds(cpu_ns),
            ]
        }),
    )?;
    for attempt in &task.attempts {
        if let Some(text) = failure(attempt) {
            output::line(format!("\nattempt {}: {text}", attempt.number))?;
        }
    }
    Ok(())
}

/// Why an attempt failed, with the guest's backtrace below it, escaped; `None` if it has no failure.
pub(crate) fn failure(attempt: &Attempt) -> Option<String> {
    let failure = attempt.failure.as_ref()?;
    let mut text = escaped(failure.message.trim_end());
    for frame in failure.backtrace.lines() {
        text.push_str("\n  ");
        text.push_str(&escaped(frame));
    }
    Some(text)
}

/// Prints modules, one a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_modules(modules: &[Module]) -> anyhow::Result<()> {
    print(
        [
            "module",
            "functions",
            "size",
            "digest",
            "uploaded",
            "ready on",
        ],
        modules.iter().map(|module| {
            [
                format!("{}@{}", module.name, module.version),
                module
                    .functions
                    .iter()
                    .map(|function| function.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
                Size(module.size_bytes).to_string(),
                module.digest.chars().take("sha256:".len() + 12).collect(),
                time(module.uploaded_ms),
                if module.compile_error.is_empty() {
                    dash(&module.ready_on.join(", "))
                } else {
                    "(does not compile)".to_owned()
                },
            ]
        }),
    )
}

/// Prints all there is to know about a module.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_module(module: &Module) -> anyhow::Result<()> {
    let versions: Vec<String> = module.versions.iter().map(u32::to_string).collect();
    print_fields([
        (
            "module",
            format!(
                "{}@{}{}",
                module.name,
                module.version,
                if module.current { "" } else { " (not current)" }
            ),
        ),
        ("namespace", module.namespace.clone()),
        ("versions", versions.join(", ")),
        ("digest", module.digest.clone()),
        ("size", Size(module.size_bytes).to_string()),
        ("entry", json::entry(module.entry()).to_owned()),
        ("uploaded", time(module.uploaded_ms)),
        ("ready on", module.ready_on.join(", ")),
        ("does not compile", escaped(&module.compile_error)),
    ])?;
    output::line("")?;
    print_functions(module)
}

/// Prints a module's functions.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_functions(module: &Module) -> anyhow::Result<()> {
    print(
        ["function", "takes", "gives", "limits", "retry", "does"],
        module.functions.iter().map(|function| {
            [
                escaped(&function.name),
                dash(&function.input),
                dash(&function.output),
                function.limits.as_ref().map(limits).unwrap_or_default(),
                function.retry.as_ref().map(retry).unwrap_or_default(),
                escaped(function.doc.lines().next().unwrap_or_default()),
            ]
        }),
    )
}

/// Prints hosts, one a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_hosts(hosts: &[Host]) -> anyhow::Result<()> {
    print(
        [
            "host",
            "state",
            "running",
            "slots",
            "modules",
            "version",
            "connected",
        ],
        hosts.iter().map(|host| {
            [
                host.name.clone(),
                json::host_state(host.state()).to_owned(),
                host.running.to_string(),
                host.slots.to_string(),
                host.modules_ready.to_string(),
                host.version.clone(),
                time(host.connected_ms),
            ]
        }),
    )
}

fn limits(limits: &Limits) -> String {
    format!(
        "fuel {}, memory {}, timeout {}",
        Count(limits.fuel),
        Size(limits.memory_bytes),
        Span(limits.timeout_ms)
    )
}

fn retry(retry: &RetryPolicy) -> String {
    match retry.max_attempts {
        1 => "1 attempt".to_owned(),
        attempts => {
            format!(
                "{attempts} attempts, backoff {} to {}",
                Span(retry.backoff_ms),
                Span(retry.cap_ms)
            )
        }
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

fn dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        escaped(text)
    }
}

fn time(ms: u64) -> String {
    if ms == 0 {
        String::new()
    } else {
        Moment(ms).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_have_no_trailing_space() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["long name".to_owned(), String::new()],
        ];
        let text = columns(&["NAME", "N"].map(String::from), rows);
        assert_eq!(text, "NAME       N\na          1\nlong name\n");
    }

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
