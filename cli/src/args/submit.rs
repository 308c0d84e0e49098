//! `tq submit`

use clap::Args;

use super::call::CallArgs;
use crate::units::{Moment, Span};

#[derive(Debug, Args)]
#[command(
    after_help = "Prints the ids, one a line, in the order of submission. When they are printed, the tasks are on the broker's disk.

Examples:
  tq submit greet '{\"name\":\"Ada\"}' --delay 10m
  tq submit report --run-at 2030-01-31T06:00:00Z --idempotency-key report-2030-01
  tq submit reindex '{\"customer\":42}' --unique-key reindex-42    one of them waits at a time
  tq submit greet '{}' --count 10000 --idempotency-key load    with keys load-0 to load-9999"
)]
pub(crate) struct SubmitArgs {
    /// Submit this many equal tasks, in batches of 1,000; with --idempotency-key K their keys are K-0, K-1 and so on
    #[arg(long, value_name = "N", conflicts_with = "unique_key", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// Start not before so long from now
    #[arg(long, value_name = "DURATION", conflicts_with = "run_at")]
    pub(crate) delay: Option<Span>,
    /// Start not before this time: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    pub(crate) run_at: Option<Moment>,
    /// Wait until all have ended, as `tq task wait` does
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) call: CallArgs,
}
