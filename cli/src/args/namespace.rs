//! `tq namespace …`

use clap::{Args, Subcommand, ValueEnum};

use super::attempt::RetryArgs;
use crate::limits::Limit;

#[derive(Debug, Subcommand)]
pub(crate) enum NamespaceCommand {
    /// Show the settings of a namespace
    #[command(after_help = "Example:\n  tq namespace show default")]
    Show {
        /// The namespace's name
        name: String,
    },
    /// Change the settings of a namespace; it is made if it is not there
    #[command(
        after_help = "The retry policy is what tasks inherit that say nothing themselves, and whose function and module say nothing either. It holds for \
tasks that are submitted from then on. A ceiling is what no attempt may have more of: a function that asks for more is not deployed, and tasks of one that was \
deployed before get no more.

Examples:
  tq namespace set default --max-attempts 5 --backoff 10s
  tq namespace set tenant-7 --ceiling memory=256MiB --ceiling timeout=5m
  tq namespace set default --reset max-attempts"
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
    pub(crate) retry: RetryArgs,
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
}
