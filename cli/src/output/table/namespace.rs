//! Namespaces.

use tq_client::{NamespaceSettings, QuotaUse, Quotas};

use super::print;
use crate::limits::{self, Amount};
use crate::output;
use crate::units::{Count, Moment, PerSecond, Size, Span};

/// Prints the settings of a namespace, each with whether it was set.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_namespace(settings: &NamespaceSettings) -> anyhow::Result<()> {
    let set = settings.retry.unwrap_or_default();
    let holds = settings.retry_default.unwrap_or_default();
    let origin = |is_set| if is_set { "set" } else { "built-in" }.to_owned();
    let mut ceilings = settings.ceilings.unwrap_or_default();
    let ceilings = limits::slots(&mut ceilings).filter_map(|(name, unit, slot)| {
        let value = Amount((*slot)?).shown(unit);
        Some([format!("ceiling.{name}"), value, origin(true)])
    });
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
        .map(|(name, value, is_set)| [name.to_owned(), value, origin(is_set)])
        .into_iter()
        .chain(ceilings),
    )?;
    print_quotas(
        &settings.quotas.unwrap_or_default(),
        settings.quota_use.as_ref(),
    )
}

/// Prints quotas, and how much is used of each that counts what there is.
fn print_quotas(quotas: &Quotas, used: Option<&QuotaUse>) -> anyhow::Result<()> {
    let Some(used) = used else {
        return Ok(());
    };
    let QuotaUse {
        waiting,
        running,
        stored_bytes,
        fuel,
        fuel_reserved,
        fuel_resets_ms,
        reason,
        holds_back,
    } = used;
    let count = |count: u64| Count(count).to_string();
    let size = |bytes: u64| Size(bytes).to_string();
    let rate = quotas.submits_per_second;
    let fuel_used = match fuel_reserved {
        0 => count(*fuel),
        reserved => format!("{} and {} reserved", Count(*fuel), Count(*reserved)),
    };
    let resets = Moment(*fuel_resets_ms).to_string();
    let none = || "none".to_owned();
    output::line("")?;
    print(
        ["quota", "limit", "used", "resets"],
        [
            ("waiting", quotas.waiting.map(count), count(*waiting), ""),
            (
                "running",
                quotas.running.map(|limit| count(limit.into())),
                count((*running).into()),
                "",
            ),
            (
                "stored",
                quotas.stored_bytes.map(size),
                size(*stored_bytes),
                "",
            ),
            (
                "submit_rate",
                rate.map(|tasks| PerSecond(tasks).to_string()),
                String::new(),
                "",
            ),
            (
                "fuel_per_day",
                quotas.fuel_per_day.map(count),
                fuel_used,
                &*resets,
            ),
        ]
        .map(|(name, limit, used, resets)| {
            let limit = limit.unwrap_or_else(none);
            [name.to_owned(), limit, used, resets.to_owned()]
        }),
    )?;
    if !reason.is_empty() {
        output::note(format!("tasks wait: {}", output::escaped(reason)));
    }
    if *holds_back {
        output::note(
            "some tasks wait: an attempt of theirs may use more fuel than the whole budget of a day, and never starts under it",
        );
    }
    Ok(())
}
