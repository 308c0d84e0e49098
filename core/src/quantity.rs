//! Numbers with units, as people write them: `64MiB`, `30s`, `10_000_000`.

/// Units of sizes, each with its bytes; none is bytes.
pub const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// Units of spans of time, each with its milliseconds; one has to be given.
pub const SPANS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Units of large numbers.
pub const COUNTS: &[(&str, u64)] = &[
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

/// A decimal number with a unit of the list. Exact: what is not a whole number of the smallest unit is none.
#[must_use]
pub fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '_' || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).or_else(|| {
        units
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
    })?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (number, "0"),
    };
    let digits = |part: &str| -> Option<u64> {
        if !part.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        part.replace('_', "").parse().ok()
    };
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = digits(fraction)?.checked_mul(*factor)?;
    if !parts.is_multiple_of(scale) {
        return None;
    }
    digits(whole)?
        .checked_mul(*factor)?
        .checked_add(parts / scale)
}
