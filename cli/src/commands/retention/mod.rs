//! `tq retention …`

pub(crate) mod set;
pub(crate) mod show;

use serde_json::json;
use tq_client::Retention;

use crate::config::Config;
use crate::output::{Format, json, table};
use crate::units::Span;

/// Says how long a namespace keeps what has ended.
fn print(config: &Config, retention: &Retention) -> anyhow::Result<()> {
    // Destructured whole, so that a field that is added to the wire is thought about here.
    let Retention {
        namespace,
        succeeded_ms,
        dead_ms,
        cancelled_ms,
        expired_ms,
        results_ms,
        modules_ms,
    } = retention;
    match config.output.value {
        Format::Json => json::print(&json!({
            "namespace": namespace,
            "succeeded_ms": succeeded_ms,
            "dead_ms": dead_ms,
            "cancelled_ms": cancelled_ms,
            "expired_ms": expired_ms,
            "results_ms": (*results_ms != 0).then_some(results_ms),
            "modules_ms": modules_ms,
        })),
        Format::Table => {
            let span = |ms: &u64| Span(*ms).to_string();
            let results = match results_ms {
                0 => "as long as their tasks".to_owned(),
                ms => span(ms),
            };
            table::print_fields([
                ("namespace", namespace.clone()),
                ("succeeded", span(succeeded_ms)),
                ("dead", span(dead_ms)),
                ("cancelled", span(cancelled_ms)),
                ("expired", span(expired_ms)),
                ("results", results),
                ("modules", span(modules_ms)),
            ])
        }
    }
}
