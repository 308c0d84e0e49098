//! Tables for people: plain columns, so that they can be read by `grep` and `awk` as well.

mod access;
mod attempt;
mod breaker;
mod cost;
mod dead;
mod describe;
mod host;
mod kv;
mod module;
mod namespace;
mod overload;
mod queue;
mod secret;
mod task;
mod webhook;

use std::collections::BTreeMap;

use comfy_table::{ContentArrangement, Table, presets};

use crate::output::{self, escaped};
use crate::units::Moment;

pub(crate) use access::{print_access_keys, print_audit, print_identity};
pub(crate) use attempt::{failure, print_attempts};
pub(crate) use breaker::{print_breaker, print_breakers};
pub(crate) use cost::print_cost;
pub(crate) use dead::{at_least, digits, print_dead_letters, print_signatures};
pub(crate) use describe::{print_description, print_uncallable};
pub(crate) use host::{print_host, print_hosts};
pub(crate) use kv::{print_buckets, print_keys};
pub(crate) use module::{print_functions, print_module, print_modules};
pub(crate) use namespace::print_namespace;
pub(crate) use overload::print_overload;
pub(crate) use queue::{print_queue, print_queues};
pub(crate) use secret::print_secrets;
pub(crate) use task::{print_task, print_tasks};
pub(crate) use webhook::{print_deliveries, print_ping, print_webhook, print_webhooks};

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

fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = labels
        .iter()
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    escaped(&pairs.join(","))
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
}
