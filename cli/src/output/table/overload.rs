//! Overload.

use tq_client::{Overload, OverloadGauge};

use super::{print, print_fields};
use crate::output::{self, escaped, json};
use crate::units::Moment;

/// Prints what a broker refuses, what may run short, and how that has changed, the newest first.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_overload(overload: &Overload) -> anyhow::Result<()> {
    let refuses: Vec<_> = overload.refuses().map(json::tier).collect();
    let refuses = match refuses.is_empty() {
        true => "nothing".to_owned(),
        false => format!("tasks of {} priority", refuses.join(" and ")),
    };
    let Overload {
        refused_low: low,
        refused_normal: normal,
        refused_high: high,
        ..
    } = overload;
    print_fields([
        ("level", format!("{} of 3", overload.level)),
        ("refuses", refuses),
        (
            "refused",
            format!("{low} low, {normal} normal, {high} high since the broker started"),
        ),
    ])?;
    output::line("")?;
    print(
        ["resource", "taken", "low", "normal", "high"],
        overload.gauges.iter().map(|gauge| {
            let OverloadGauge {
                resource,
                taken,
                low_share,
                normal_share,
                limit,
            } = gauge;
            [
                escaped(resource),
                taken.to_string(),
                format!("< {low_share}"),
                format!("< {normal_share}"),
                format!("< {limit}"),
            ]
        }),
    )?;
    if overload.changes.is_empty() {
        return Ok(());
    }
    output::line("")?;
    print(
        ["time", "level", "reason"],
        overload.changes.iter().rev().map(|change| {
            [
                Moment(change.at_ms).to_string(),
                change.level.to_string(),
                escaped(&change.reason),
            ]
        }),
    )
}
