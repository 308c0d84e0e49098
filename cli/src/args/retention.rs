//! `tq retention …`

use clap::{Args, Subcommand};

use crate::units::{ResultSpan, Span};

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Show how long the namespace keeps what has ended
    #[command(after_help = "Example:\n  tq retention show --namespace shop")]
    Show,
    /// Change how long the namespace keeps what has ended; what is not named stays as it is
    #[command(
        after_help = "It holds for what has ended already, too. Each duration is 1s to 3660d.

Examples:
  tq retention set --succeeded 2d --dead 90d --namespace shop
  tq retention set --results 1h
  tq retention set --results task"
    )]
    Set(RetentionArgs),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct RetentionArgs {
    /// Keep tasks that succeeded so long; 7d if nothing was set
    #[arg(long, value_name = "DURATION")]
    pub(crate) succeeded: Option<Span>,
    /// Keep dead tasks so long; 30d if nothing was set
    #[arg(long, value_name = "DURATION")]
    pub(crate) dead: Option<Span>,
    /// Keep cancelled tasks so long; 7d if nothing was set
    #[arg(long, value_name = "DURATION")]
    pub(crate) cancelled: Option<Span>,
    /// Keep expired tasks so long; 7d if nothing was set
    #[arg(long, value_name = "DURATION")]
    pub(crate) expired: Option<Span>,
    /// Keep results so long, or as long as their tasks: `task`, which is so if nothing was set
    #[arg(long, value_name = "DURATION")]
    pub(crate) results: Option<ResultSpan>,
    /// Keep versions of modules that no task needs so long after another took their place; 30d if nothing was set. The
    /// current one and the one before it stay
    #[arg(long, value_name = "DURATION")]
    pub(crate) modules: Option<Span>,
}
