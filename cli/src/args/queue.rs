//! `tq queue …`

use clap::{Args, Subcommand, ValueEnum};

use crate::units::{OrNone, Rate};

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List queues: how many tasks are in them, how long the oldest has waited, and what holds them up
    #[command(after_help = "Example:\n  tq queue list --output json")]
    List,
    /// Show one queue
    #[command(after_help = "Example:\n  tq queue show mail")]
    Show {
        /// The queue's name
        name: String,
    },
    /// Set a queue up, or to something else; what is not named stays
    #[command(after_help = "Examples:
  tq queue set mail --concurrency 20 --rate 100/s
  tq queue set mail --rate 1000/h --burst 50
  tq queue set mail --concurrency none
  tq queue set ledger --order fifo --concurrency 1")]
    Set(QueueSetArgs),
    /// Let nothing of a queue start; what runs goes on
    #[command(after_help = "Example:\n  tq queue pause mail")]
    Pause {
        /// The queue's name
        name: String,
    },
    /// Let a paused queue go on
    #[command(after_help = "Example:\n  tq queue resume mail")]
    Resume {
        /// The queue's name
        name: String,
    },
    /// Delete a queue in which no task waits or runs
    #[command(after_help = "Example:\n  tq queue delete mail")]
    Delete {
        /// The queue's name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct QueueSetArgs {
    /// The queue's name
    pub(crate) name: String,
    /// How many of its tasks run at once; `none` is no limit
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<OrNone<std::num::NonZeroU32>>,
    /// How many of its tasks start: `100/s`, `5/10s`, `1000/h`; `none` is no limit
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<OrNone<Rate>>,
    /// How many start at once after a pause [default: as many as in one span of the rate]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) burst: Option<u32>,
    /// In which order its tasks run; it can change while none of them is ready
    #[arg(long, value_name = "ORDER")]
    pub(crate) order: Option<OrderArg>,
}

/// In which order the tasks of a queue run.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OrderArg {
    /// The higher priority first, and the first in of those that have the same
    Priority,
    /// The first in first, whatever its priority
    Fifo,
}
