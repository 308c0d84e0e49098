//! Tables for people: plain columns, so that they can be read by `grep` and `awk` as well.

use std::collections::BTreeMap;

use comfy_table::{ContentArrangement, Table, presets};
use tq_client::{
    Attempt, DeadLetter, Host, Limits, Module, NamespaceSettings, Queue, RetryPolicy,
    SignatureSummary, Task, Usage,
};

use tq_core::Signature;
use tq_core::placement::is_default_queue;

use crate::output::{self, escaped, json};
use crate::units::{Count, Moment, Rate, Size, Span, nanoseconds, now_ms};

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
        ("queue", named_queue(&task.queue)),
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

/// Prints attempts, one a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_attempts(attempts: &[Attempt]) -> anyhow::Result<()> {
    print(
        [
            "attempt", "host", "outcome", "started", "fuel", "memory", "wall", "cpu",
        ],
        attempts.iter().map(|attempt| {
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
    )
}

/// Prints dead letters, one a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_dead_letters(dead_letters: &[DeadLetter]) -> anyhow::Result<()> {
    print(
        ["id", "function", "outcome", "signature", "died", "message"],
        dead_letters.iter().map(|dead| {
            [
                dead.id.clone(),
                format!("{}@{}", dead.function, dead.module_version),
                dash(&dead.outcome),
                digits(&dead.signature),
                time(dead.died_ms),
                first_line(&dead.message),
            ]
        }),
    )
}

/// Prints ways in which tasks died, one a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_signatures(signatures: &[SignatureSummary]) -> anyhow::Result<()> {
    print(
        [
            "signature",
            "dead",
            "function",
            "outcome",
            "first",
            "last",
            "message",
        ],
        signatures.iter().map(|summary| {
            let example = summary.example.clone().unwrap_or_default();
            [
                digits(&summary.signature),
                at_least(summary.count, summary.at_least),
                dash(&example.function),
                dash(&example.outcome),
                time(summary.first_ms),
                time(summary.last_ms),
                first_line(&example.message),
            ]
        }),
    )
}

/// Prints the settings of a namespace, each with whether it was set.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_namespace(settings: &NamespaceSettings) -> anyhow::Result<()> {
    let set = settings.retry.unwrap_or_default();
    let holds = settings.retry_default.unwrap_or_default();
    let origin = |is_set| if is_set { "set" } else { "built-in" }.to_owned();
    print(
        ["setting", "value", "origin"],
        [
            (
                "max_attempts",
                holds.max_attempts.to_string(),
                set.max_attempts.is_some(),
            ),
            (
                "backoff",
                Span(holds.backoff_ms).to_string(),
                set.backoff_ms.is_some(),
            ),
            (
                "backoff_cap",
                Span(holds.cap_ms).to_string(),
                set.cap_ms.is_some(),
            ),
        ]
        .map(|(name, value, is_set)| [name.to_owned(), value, origin(is_set)]),
    )
}

/// A count that may be more: `1,000+`.
pub(crate) fn at_least(count: u64, is_at_least: bool) -> String {
    format!("{}{}", Count(count), if is_at_least { "+" } else { "" })
}

/// As many digits of a signature as commands take.
pub(crate) fn digits(signature: &str) -> String {
    signature.chars().take(Signature::DIGITS_MIN).collect()
}

/// The first line of a message, as far as it fits into a column. A panic of Rust says where on the first line and what on the
/// second, so that both are shown.
fn first_line(message: &str) -> String {
    const SHOWN_CHARS: usize = 72;
    let mut lines = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let mut line = escaped(lines.next().unwrap_or_default());
    if line.ends_with(':')
        && let Some(second) = lines.next()
    {
        line.push(' ');
        line.push_str(&escaped(second));
    }
    match line.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
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
            "memory",
            "modules",
            "version",
            "connected",
            "labels",
            "reason",
        ],
        hosts.iter().map(|host| {
            [
                host.name.clone(),
                json::host_state(host.state()).to_owned(),
                host.running.to_string(),
                host.slots.to_string(),
                memory(host),
                host.modules_ready.to_string(),
                dash(&host.version),
                dash(&time(host.connected_ms)),
                dash(&labels(&host.labels)),
                dash(&host.reason),
            ]
        }),
    )
}

/// Prints queues, one a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_queues(queues: &[Queue]) -> anyhow::Result<()> {
    let now = now_ms();
    print(
        [
            "queue",
            "ready",
            "oldest",
            "scheduled",
            "running",
            "concurrency",
            "rate",
            "order",
            "held up by",
        ],
        queues.iter().map(|queue| {
            [
                queue.name.clone(),
                queue.ready.to_string(),
                dash(&age(queue, now)),
                queue.scheduled.to_string(),
                queue.running.to_string(),
                dash(&limit(queue.concurrency)),
                dash(&rate(queue)),
                json::order(queue.order()).to_owned(),
                dash(&queue.closed),
            ]
        }),
    )
}

/// Prints all there is to know about a queue.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_queue(queue: &Queue) -> anyhow::Result<()> {
    let oldest = match age(queue, now_ms()) {
        age if age.is_empty() => age,
        age => format!("{age} ({})", time(queue.oldest_ready_ms)),
    };
    print_fields([
        ("queue", queue.name.clone()),
        ("namespace", queue.namespace.clone()),
        ("order", json::order(queue.order()).to_owned()),
        ("concurrency", limit(queue.concurrency)),
        ("rate", rate(queue)),
        ("held up by", queue.closed.clone()),
        ("blocked", count(queue.blocked)),
        ("scheduled", count(queue.scheduled)),
        ("ready", Count(queue.ready).to_string()),
        ("oldest ready", oldest),
        ("running", Count(queue.running).to_string()),
        ("succeeded", count(queue.succeeded)),
        ("dead", count(queue.dead)),
        ("cancelled", count(queue.cancelled)),
        ("expired", count(queue.expired)),
    ])
}

/// How long the task has waited that has waited longest, to the second.
fn age(queue: &Queue, now_ms: u64) -> String {
    match queue.oldest_ready_ms {
        0 => String::new(),
        since => Span(now_ms.saturating_sub(since) / 1_000 * 1_000).to_string(),
    }
}

fn rate(queue: &Queue) -> String {
    let Some(rate) = &queue.rate else {
        return String::new();
    };
    let text = Rate {
        tasks: rate.tasks,
        per: Span(rate.per_ms),
    }
    .to_string();
    if rate.burst == rate.tasks {
        text
    } else {
        format!("{text}, burst {}", Count(rate.burst.into()))
    }
}

fn limit(limit: u32) -> String {
    count(limit.into())
}

/// A number, unless it is 0.
fn count(count: u64) -> String {
    match count {
        0 => String::new(),
        count => Count(count).to_string(),
    }
}

fn named_queue(queue: &str) -> String {
    if is_default_queue(queue) {
        String::new()
    } else {
        queue.to_owned()
    }
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = labels
        .iter()
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    escaped(&pairs.join(","))
}

/// Prints one host, a field a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_host(host: &Host) -> anyhow::Result<()> {
    let session = match (host.connected, host.connected_ms) {
        (true, since) => format!("since {}", time(since)),
        (false, 0) => "none".to_owned(),
        (false, since) => format!("none; the last one began {}", time(since)),
    };
    print_fields([
        ("host", host.name.clone()),
        ("state", json::host_state(host.state()).to_owned()),
        ("reason", escaped(&host.reason)),
        ("until", time(host.until_ms)),
        ("session", session),
        (
            "running",
            format!("{} of {} slots", host.running, host.slots),
        ),
        ("memory", memory(host)),
        ("labels", labels(&host.labels)),
        ("modules", host.modules_ready.to_string()),
        ("version", host.version.clone()),
    ])
}

/// What attempts may use of a host's memory, and what it has.
fn memory(host: &Host) -> String {
    let reserved = Size(host.reserved_bytes);
    match host.memory_bytes {
        Some(most) => format!("{reserved} of {}", Size(most)),
        None => reserved.to_string(),
    }
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
    fn messages_are_one_line_each() {
        assert_eq!(first_line(""), "");
        assert_eq!(
            first_line("panicked at a.rs:1:2:\n\n boom \nmore"),
            "panicked at a.rs:1:2: boom"
        );
        assert_eq!(first_line("one\u{1b}[2J\ntwo"), "one\\u{1b}[2J");
        assert_eq!(first_line(&"ä".repeat(90)), format!("{}…", "ä".repeat(72)));
        assert_eq!(at_least(1_000, true), "1,000+");
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
