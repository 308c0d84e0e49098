//! `tq dead …`

use clap::{Args, Subcommand};

use crate::units::Past;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters, those that died last first
    #[command(after_help = "Examples:
  tq dead list
  tq dead list --function mail/send --since 2h
  tq dead list --outcome memory_limit --output json
  tq dead list --cursor CURSOR      with the `next` of the list before")]
    List(DeadListArgs),
    /// Show why a task died: the limit that it ran into, its message, backtrace and log, and how many others died so
    #[command(after_help = "Example:\n  tq dead show 01980c5e-…")]
    Show {
        /// The task's id
        id: String,
    },
    /// List the ways in which tasks died, the most frequent first
    #[command(
        after_help = "Tasks that died the same way share a signature: the same module, function, outcome, message and place, whatever the numbers, \
ids and quoted texts in the message are.

Example:
  tq dead signatures"
    )]
    Signatures {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Give dead letters another round of attempts: one, all that match, or one with another payload
    #[command(
        after_help = "They run the module's current version and its limits, unless --same-version is given. The ids of those that were redriven go to \
standard output, one a line. With --payload the call is submitted again as a new task, whose id is printed; the dead letter stays as it is.

Examples:
  tq dead redrive 01980c5e-…
  tq dead redrive 01980c5e-… --payload @fixed.json
  tq dead redrive --signature 3fa94c1d20b7 --dry-run
  tq dead redrive --function mail/send --since 2h
  tq dead redrive --all"
    )]
    Redrive(DeadRedriveArgs),
    /// Remove dead letters for good, with their payloads and logs: one, or all that match
    #[command(after_help = "Examples:
  tq dead discard 01980c5e-…
  tq dead discard --signature 3fa94c1d20b7 --dry-run
  tq dead discard --until 30d")]
    Discard(DeadDiscardArgs),
}

/// What dead letters have to be.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filter")]
pub(crate) struct DeadFilterArgs {
    /// Only those of this function, MODULE/FUNCTION, or of all functions of a MODULE
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) function: Option<String>,
    /// Only those whose last attempt ended so, such as `trap`
    #[arg(long, value_name = "OUTCOME")]
    pub(crate) outcome: Option<String>,
    /// Only those that died this way: at least 12 digits of a signature
    #[arg(long, value_name = "DIGITS")]
    pub(crate) signature: Option<String>,
    /// Only those that died at this time or later, or at most so long ago: `2h`, `2030-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Past>,
    /// Only those that died before this time, or longer ago than this
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Past>,
}

#[derive(Debug, Args)]
pub(crate) struct DeadListArgs {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Where to go on: the `next` of the list before
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
    #[command(flatten)]
    pub(crate) filter: DeadFilterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeadRedriveArgs {
    /// The id of one dead letter
    #[arg(conflicts_with_all = ["all", "function", "outcome", "signature", "since", "until"])]
    pub(crate) id: Option<String>,
    /// Every dead letter of the namespace
    #[arg(long, conflicts_with_all = ["function", "outcome", "signature", "since", "until"])]
    pub(crate) all: bool,
    /// Only say which ones would be redriven
    #[arg(long, conflicts_with = "payload")]
    pub(crate) dry_run: bool,
    /// Run the version that they died with, under the limits that it had
    #[arg(long)]
    pub(crate) same_version: bool,
    /// What the function is given this time: text, `@FILE`, or `-` for standard input
    #[arg(long, requires = "id", allow_hyphen_values = true)]
    pub(crate) payload: Option<String>,
    /// Media type of the payload; guessed if it is not given
    #[arg(long, value_name = "TYPE", requires = "payload")]
    pub(crate) content_type: Option<String>,
    #[command(flatten)]
    pub(crate) filter: DeadFilterArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeadDiscardArgs {
    /// The id of one dead letter
    #[arg(conflicts_with_all = ["all", "function", "outcome", "signature", "since", "until"])]
    pub(crate) id: Option<String>,
    /// Every dead letter of the namespace
    #[arg(long, conflicts_with_all = ["function", "outcome", "signature", "since", "until"])]
    pub(crate) all: bool,
    /// Only say how many there are
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) filter: DeadFilterArgs,
}
