//! Namespaces.

use tq_client::NamespaceSettings;

use super::print;
use crate::limits::{self, Amount};
use crate::units::Span;

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
    )
}
