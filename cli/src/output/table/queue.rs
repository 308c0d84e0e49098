//! Queues.

use tq_client::Queue;

use super::{dash, print, print_fields, time};
use crate::output::json;
use crate::units::{Count, Rate, Span, now_ms};

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

/// How long the task has waited that has waited longest: to the second, once it is one.
fn age(queue: &Queue, now_ms: u64) -> String {
    match queue.oldest_ready_ms {
        0 => String::new(),
        since => match now_ms.saturating_sub(since) {
            waited @ ..1_000 => Span(waited).to_string(),
            waited => Span(waited / 1_000 * 1_000).to_string(),
        },
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
