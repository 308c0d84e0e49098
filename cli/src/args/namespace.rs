//! `tq namespace …`

use clap::{Args, Subcommand, ValueEnum};

use super::attempt::RetryArgs;
use crate::limits::Limit;
use crate::units::{Count, PerSecond, Size};

#[derive(Debug, Subcommand)]
pub(crate) enum NamespaceCommand {
    /// Show the settings of a namespace, and what it has of what its quotas count
    #[command(after_help = "Example:\n  tq namespace show default")]
    Show {
        /// The namespace's name
        name: String,
    },
    /// Change the settings of a namespace; it is made if it is not there
    #[command(
        after_help = "The retry policy is what tasks inherit that say nothing themselves, and whose function and module say nothing either. It holds for \
tasks that are submitted from then on. A ceiling is what no attempt may have more of: a function that asks for more is not deployed, and tasks of one that was \
deployed before get no more. A quota is how much the namespace may have in all; docs/guides/quotas.md says what each counts and what becomes of the rest.

Examples:
  tq namespace set default --max-attempts 5 --backoff 10s
  tq namespace set tenant-7 --ceiling memory=256MiB --ceiling timeout=5m
  tq namespace set tenant-7 --max-waiting 100k --max-running 50 --submit-rate 1000/s
  tq namespace set tenant-7 --max-stored 10GiB --fuel-per-day 1T
  tq namespace set default --reset max-attempts --reset quota.waiting"
    )]
    Set(NamespaceSetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NamespaceSetArgs {
    /// The namespace's name
    pub(crate) name: String,
    /// Let a setting go back to its built-in default
    #[arg(long, value_name = "SETTING")]
    pub(crate) reset: Vec<NamespaceSetting>,
    /// What no attempt may have more of, such as `memory=256MiB`; may be given several times. docs/reference/limits.md lists the names
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) ceiling: Vec<Limit>,
    /// Take away the ceiling of a limit; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) no_ceiling: Vec<String>,
    #[command(flatten)]
    pub(crate) quotas: QuotaArgs,
    #[command(flatten)]
    pub(crate) retry: RetryArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Quotas")]
pub(crate) struct QuotaArgs {
    /// Tasks that may wait; a submit beyond it is refused
    #[arg(long, value_name = "N")]
    pub(crate) max_waiting: Option<Count>,
    /// Attempts at once; others wait
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_running: Option<u32>,
    /// Bytes of payloads, results, checkpoints, modules and buckets; submits, deploys and values beyond it are refused
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_stored: Option<Size>,
    /// Tasks submitted in a second, and at once after a pause, such as `100/s`
    #[arg(long, value_name = "RATE")]
    pub(crate) submit_rate: Option<PerSecond>,
    /// Fuel that attempts may use in a day of UTC; others wait, and submits are refused when nothing is left
    #[arg(long, value_name = "FUEL")]
    pub(crate) fuel_per_day: Option<Count>,
}

/// A setting of a namespace.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum NamespaceSetting {
    /// Attempts in all
    MaxAttempts,
    /// The first pause between attempts
    Backoff,
    /// The longest pause between attempts
    BackoffCap,
    /// Tasks that may wait
    #[value(name = "quota.waiting")]
    QuotaWaiting,
    /// Attempts at once
    #[value(name = "quota.running")]
    QuotaRunning,
    /// Bytes that are kept
    #[value(name = "quota.stored")]
    QuotaStored,
    /// Tasks submitted in a second
    #[value(name = "quota.submit_rate")]
    QuotaSubmitRate,
    /// Fuel in a day
    #[value(name = "quota.fuel_per_day")]
    QuotaFuelPerDay,
}
