//! `tq config …`

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print each setting with its value and where it comes from
    #[command(after_help = "Example:\n  TQ_BROKER=http://127.0.0.1:9000 tq config show")]
    Show,
}
