//! Lists as one text, with commas between their parts: as variables and the configuration file have them.

use std::fmt::{self, Display};

/// The parts of a text, without the blanks around them and without empty ones.
pub(crate) fn parts(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty())
}

/// Writes parts with commas between them.
pub(crate) fn write(
    f: &mut fmt::Formatter<'_>,
    parts: impl IntoIterator<Item: Display>,
) -> fmt::Result {
    for (index, part) in parts.into_iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(f, "{comma}{part}")?;
    }
    Ok(())
}
