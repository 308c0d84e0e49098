//! Values of a filter.

use jiff::Timestamp as Moment;
use tq_core::quantity::{COUNTS, SIZES, SPANS, quantity};
use tq_core::{Day, Timestamp};

use super::field::Unit;

/// Reads a value of a unit; times may be relative to `now`.
///
/// # Errors
/// What such a value looks like.
pub(super) fn parse(unit: Unit, text: &str, now: Timestamp) -> Result<u64, &'static str> {
    match unit {
        Unit::Time => time(text, now).ok_or(
            "a time is written like `-2h` (ago), `today`, `yesterday`, `2030-01-31` or `2030-01-31T12:00:00Z`",
        ),
        Unit::Span => {
            let ms = quantity(text, SPANS).and_then(|ms| ms.checked_mul(1_000_000));
            ms.ok_or("a duration is written like `200ms`, `30s` or `1.5h`")
        }
        Unit::Size => {
            quantity(text, SIZES).ok_or("a size is written like `64MiB`, `10MB` or `4096`")
        }
        Unit::Count => quantity(text, COUNTS).ok_or("a number is written like `10_000_000` or `50G`"),
    }
}

/// In UTC, in milliseconds since 1970.
fn time(text: &str, now: Timestamp) -> Option<u64> {
    let today = Day::of(now);
    match text {
        "now" => return Some(now.0),
        "today" => return Some(today.begins_at().0),
        "yesterday" => return Some(today.before(1).begins_at().0),
        _ => {}
    }
    if let Some(ago) = text.strip_prefix('-') {
        return Some(now.0.saturating_sub(quantity(ago, SPANS)?));
    }
    if let Some(ahead) = text.strip_prefix('+') {
        return Some(now.0.saturating_add(quantity(ahead, SPANS)?));
    }
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    let moment = match text.parse::<jiff::civil::Date>() {
        Ok(_) if text.len() == "2030-01-31".len() => format!("{text}T00:00:00Z").parse::<Moment>(),
        Ok(_) | Err(_) => text.parse::<Moment>(),
    };
    u64::try_from(moment.ok()?.as_millisecond()).ok()
}
