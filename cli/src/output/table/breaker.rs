//! Circuit breakers.

use tq_client::Breaker;

use super::{dash, print, print_fields, time};
use crate::output::{self, escaped, json};
use crate::units::Moment;

/// Prints breakers, one a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_breakers(breakers: &[Breaker]) -> anyhow::Result<()> {
    print(
        [
            "function", "state", "forced", "until", "failed", "since", "reason",
        ],
        breakers.iter().map(|breaker| {
            let last = breaker.changes.last();
            [
                escaped(&breaker.function),
                json::breaker_state(breaker.state()).to_owned(),
                if breaker.forced { "yes" } else { "-" }.to_owned(),
                dash(&time(breaker.until_ms)),
                dash(&failed(breaker)),
                dash(&last.map_or_else(String::new, |change| time(change.at_ms))),
                dash(last.map_or("", |change| &change.reason)),
            ]
        }),
    )
}

/// Prints one breaker, and what has become of it, the newest first.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_breaker(breaker: &Breaker) -> anyhow::Result<()> {
    let forced = if breaker.forced {
        "yes; `tq breaker release` leaves it to itself"
    } else {
        ""
    };
    print_fields([
        ("function", escaped(&breaker.function)),
        ("digest", breaker.digest.clone()),
        ("namespace", breaker.namespace.clone()),
        ("state", json::breaker_state(breaker.state()).to_owned()),
        ("forced", forced.to_owned()),
        ("until", time(breaker.until_ms)),
        ("failed", failed(breaker)),
    ])?;
    if breaker.changes.is_empty() {
        return Ok(());
    }
    output::line("")?;
    print(
        ["time", "state", "reason"],
        breaker.changes.iter().rev().map(|change| {
            [
                Moment(change.at_ms).to_string(),
                json::breaker_state(change.state()).to_owned(),
                escaped(&change.reason),
            ]
        }),
    )
}

/// How many attempts failed lately, if any did.
fn failed(breaker: &Breaker) -> String {
    match breaker.failed {
        0 => String::new(),
        failed => format!("{failed} of {}", breaker.ended),
    }
}
