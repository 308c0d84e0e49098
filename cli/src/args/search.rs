//! Which tasks are meant.

use clap::{Args, ValueEnum};

use super::task::StateArg;

/// A filter, a preset or both.
#[derive(Clone, Debug, Args)]
pub(crate) struct FilterArgs {
    /// Which tasks, such as `module = mail AND duration > 5s`
    #[arg(long, short, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// A filter and a sort that have a name
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<PresetArg>,
}

/// A search that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum PresetArg {
    /// Are being run
    Running,
    /// Wait, for whatever it is
    Waiting,
    /// Submitted more than an hour ago and not ended, the oldest first
    Stuck,
    /// Have not ended, with a priority over 127
    HighPriority,
    /// Ended as dead or expired
    Failed,
    /// The same since midnight, UTC
    FailedToday,
    /// Ended in the last 24 hours after more than one attempt
    Retried,
    /// Ended in the last 24 hours, those first whose last attempt took longest
    Slow,
    /// The same by fuel
    Expensive,
}

#[derive(Debug, Args)]
pub(crate) struct TaskListArgs {
    #[command(flatten)]
    pub(crate) which: FilterArgs,
    /// Only tasks in this state
    #[arg(long)]
    pub(crate) state: Option<StateArg>,
    /// submitted, ended, duration, fuel, memory, priority or attempts, with `-` before it for the highest first [default: -ended for tasks
    /// that have all ended, else -submitted]
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub(crate) sort: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Every task there is
    #[arg(long, conflicts_with_all = ["limit", "cursor"])]
    pub(crate) all: bool,
    /// Where to go on: the `next` of the list before
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TaskExportArgs {
    #[command(flatten)]
    pub(crate) which: FilterArgs,
    /// submitted or ended, with `-` before it for the newest first
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub(crate) sort: Option<String>,
    /// What a line is
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    pub(crate) format: ExportArg,
}

/// How tasks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportArg {
    /// A line of JSON for each task, as `GET /v1/tasks` has it
    Jsonl,
    /// A line of names, then one for each task
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct TaskBulkArgs {
    /// What is done to each task
    #[arg(value_name = "ACTION")]
    pub(crate) action: BulkArg,
    #[command(flatten)]
    pub(crate) which: FilterArgs,
    /// The new priority, with `reprioritise`: 0 to 255, higher first
    #[arg(long, value_name = "N", required_if_eq("action", "reprioritise"))]
    pub(crate) priority: Option<u8>,
    /// Only say how many there are
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What can be done to many tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BulkArg {
    /// Cancel those that have not ended
    Cancel,
    /// Have those start now that wait for a time, such as the end of a backoff
    Retry,
    /// Give those another round of attempts that ended without success
    Redrive,
    /// Give those another priority that have not ended
    Reprioritise,
    /// Remove those that have ended
    Delete,
}
