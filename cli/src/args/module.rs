//! `tq module …`

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum ModuleCommand {
    /// List modules
    #[command(after_help = "Example:\n  tq module list --output json")]
    List,
    /// Show one module: its functions, limits, versions, and the hosts that hold it
    #[command(after_help = "Examples:\n  tq module show greet\n  tq module show greet@2")]
    Show {
        /// NAME or NAME@VERSION
        name: String,
    },
    /// Point a module's name at an earlier version
    #[command(
        after_help = "Tasks that were submitted before keep the version that they were submitted to.

Examples:
  tq module rollback greet
  tq module rollback greet --to 3"
    )]
    Rollback {
        /// The module's name
        name: String,
        /// The version; the one before the current if it is not given
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..))]
        to: Option<u32>,
    },
}
