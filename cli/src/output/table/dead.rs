//! Dead letters.

use tq_client::{DeadLetter, SignatureSummary};
use tq_core::Signature;

use super::{dash, print, time};
use crate::output::escaped;
use crate::units::Count;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
