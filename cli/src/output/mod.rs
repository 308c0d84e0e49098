//! The only place that prints. Data goes to standard output, everything else to standard error.

pub(crate) mod card;
pub(crate) mod json;
pub(crate) mod table;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs; stable.
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Json => "json",
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as ValueEnum>::from_str(text, false)
            .map_err(|_| format!("`{text}` is not a format; use `table` or `json`"))
    }
}

/// Writes bytes to standard output as they are.
///
/// # Errors
/// The write's; a reader that went away is `BrokenPipe`, which ends the program without a complaint.
pub(crate) fn data(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Writes a text and a line feed to standard output.
///
/// # Errors
/// As [`data`].
pub(crate) fn line(text: impl fmt::Display) -> io::Result<()> {
    data(format!("{text}\n").as_bytes())
}

/// Writes a result to standard output as it is; on a terminal with a line feed behind it if it has none.
///
/// # Errors
/// As [`data`].
pub(crate) fn result(bytes: &[u8]) -> io::Result<()> {
    data(bytes)?;
    if io::stdout().is_terminal() && !bytes.is_empty() && !bytes.ends_with(b"\n") {
        data(b"\n")?;
    }
    Ok(())
}

/// Writes what guests wrote: as it is into a pipe or file, and with its control characters made visible on a terminal.
///
/// # Errors
/// As [`data`].
pub(crate) fn guest_text(bytes: &[u8]) -> io::Result<()> {
    if io::stdout().is_terminal() {
        data(escaped(&String::from_utf8_lossy(bytes)).as_bytes())
    } else {
        data(bytes)
    }
}

/// Writes a text and a line feed to standard error. If even that fails there is nobody to tell.
pub(crate) fn note(text: impl fmt::Display) {
    drop(
        io::stderr()
            .lock()
            .write_all(format!("{text}\n").as_bytes()),
    );
}

/// What a guest wrote, with its control characters made visible: a terminal obeys them.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// A bar for an upload of so many bytes, on standard error; invisible where that is no terminal.
pub(crate) fn upload_bar(bytes: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("uploading {bar:30} {binary_bytes}/{binary_total_bytes}");
    bar(bytes, style)
}

/// A bar for so many tasks.
pub(crate) fn task_bar(tasks: u64) -> ProgressBar {
    bar(
        tasks,
        ProgressStyle::with_template("tasks {bar:30} {human_pos}/{human_len}"),
    )
}

/// A bar for how far one task is, in percent, with its note.
pub(crate) fn fraction_bar() -> ProgressBar {
    bar(
        100,
        ProgressStyle::with_template("{bar:30} {pos} % {msg} ({elapsed})"),
    )
}

/// A sign that something goes on, with a word on what; invisible where standard error is no terminal.
pub(crate) fn spinner(what: impl Into<String>) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what.into());
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

fn bar<E>(len: u64, style: Result<ProgressStyle, E>) -> ProgressBar {
    let bar = ProgressBar::new(len);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_cannot_command_the_terminal() {
        assert_eq!(
            escaped("a\tb\n\u{1b}[2J\u{9b}c\r"),
            "a\tb\n\\u{1b}[2J\\u{9b}c\\r"
        );
    }
}
