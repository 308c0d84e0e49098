//! `tq breaker …`

pub(crate) mod change;
pub(crate) mod list;
pub(crate) mod show;

use tq_client::Breaker;

use crate::config::Config;
use crate::output::{Format, json, table};

/// Shows a breaker as it is now.
fn print(config: &Config, breaker: &Breaker) -> anyhow::Result<()> {
    match config.output.value {
        Format::Table => table::print_breaker(breaker),
        Format::Json => json::print(&json::BreakerInfo::from(breaker)),
    }
}
