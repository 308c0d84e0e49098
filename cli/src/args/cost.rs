//! `tq cost`

use clap::{Args, ValueEnum};
use tq_core::Day;

#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// The first day, such as `2026-11-28`, of UTC [default: 30 days up to the last one]
    #[arg(long, value_name = "DATE")]
    pub(crate) from: Option<Day>,
    /// The last day [default: today]
    #[arg(long, value_name = "DATE")]
    pub(crate) to: Option<Day>,
    /// What has a line of its own
    #[arg(long, value_name = "WHAT", default_value = "function")]
    pub(crate) by: CostBy,
}

/// What is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CostBy {
    /// Each day, over all functions
    Day,
    /// Each function, over all days
    Function,
    /// Each function of each day
    Both,
}
