//! `tq breaker …`

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum BreakerCommand {
    /// List breakers: those that are not closed, that someone forced, or that changed lately
    #[command(after_help = "Example:\n  tq breaker list --output json")]
    List,
    /// Show the breaker of one function, and what has become of it
    #[command(after_help = "Examples:\n  tq breaker show mail/send\n  tq breaker show mail@3/send")]
    Show {
        /// The function: MODULE/FUNCTION, or MODULE@VERSION/FUNCTION
        function: String,
    },
    /// Open or close a breaker, whatever its function does; it stays so over restarts, until it is released
    #[command(after_help = "Examples:
  tq breaker force mail/send open --reason \"the provider is being moved\"
  tq breaker force mail/send closed")]
    Force(BreakerForceArgs),
    /// Leave a breaker to itself; if it is open, forced or not, one task is tried at once
    #[command(after_help = "Example:\n  tq breaker release mail/send")]
    Release {
        /// The function: MODULE/FUNCTION, or MODULE@VERSION/FUNCTION
        function: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BreakerForceArgs {
    /// The function: MODULE/FUNCTION, or MODULE@VERSION/FUNCTION
    pub(crate) function: String,
    /// What the breaker is to be
    pub(crate) state: ForcedArg,
    /// Why, for whoever looks at it later
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) reason: String,
}

/// What a breaker is forced to be.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ForcedArg {
    /// Nothing of the function starts; what runs goes on
    Open,
    /// Everything starts, however it ends
    Closed,
}
