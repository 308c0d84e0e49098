//! `tq namespace …`

use clap::{Args, Subcommand, ValueEnum};

use super::attempt::RetryArgs;

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
tasks that are submitted from then on.

Examples:
  tq namespace set default --max-attempts 5 --backoff 10s
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
