//! Attempts of tasks, and what holds for them.

use tq_client::{Attempt, RetryPolicy, Usage};

use super::{print, time};
use crate::output::escaped;
use crate::units::{Count, Size, Span, nanoseconds};

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
                log_bytes: _,
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

pub(super) fn retry(retry: &RetryPolicy) -> String {
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
