//! `tq task …`

use clap::{Args, Subcommand, ValueEnum};

use super::search::{TaskBulkArgs, TaskExportArgs, TaskListArgs};

use crate::labels::LabelList;
use crate::units::{Deadline, Moment, OrNone, Past, Span};

/// What a filter is, behind the help of commands that have one.
macro_rules! filter_help {
    () => {
        "A filter is tests joined by AND, OR, NOT and parentheses: FIELD = != < <= > >= VALUE, FIELD : PART for texts that have a part in \
them, FIELD IN (VALUE, VALUE).
  texts    id function module queue outcome host error label.NAME idempotency_key unique_key concurrency_key
  numbers  priority attempts round version fuel memory payload_bytes result_bytes
  times    submitted started ended run_at (`-2h`, `today`, `2030-01-31`), duration (`1.5s`)
  state    blocked scheduled ready running succeeded dead cancelled expired, or open, ended, failed"
    };
}

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Show one task: its state, attempts, usage and result
    #[command(after_help = "Example:\n  tq task show 01980c5e-… --output json")]
    Show {
        /// The task's id
        id: String,
        /// Show the payload too
        #[arg(long)]
        payload: bool,
    },
    /// List tasks that a filter takes; all of them, the newest first, without one
    #[command(after_help = concat!("Examples:
  tq task list --preset failed_today
  tq task list --filter 'module = mail AND duration > 5s' --sort -duration
  tq task list --filter 'state = failed AND error : timeout' --output json
  tq task list --cursor CURSOR      with the `next` of the list before

", filter_help!()))]
    List(TaskListArgs),
    /// Print tasks that a filter takes as CSV or as lines of JSON, however many they are
    #[command(after_help = concat!("Examples:
  tq task export > tasks.jsonl
  tq task export --format csv --filter 'ended >= today' > today.csv

", filter_help!()))]
    Export(TaskExportArgs),
    /// Do one thing to all tasks that a filter takes
    #[command(after_help = concat!("Which tasks they are is settled first: what is submitted or ends afterwards is not among them. When the broker is away it waits for up to a \
minute and goes on. Made again after it broke off, it does the rest.

Examples:
  tq task bulk redrive --preset failed_today --dry-run
  tq task bulk redrive --filter 'module = mail AND error : timeout'
  tq task bulk reprioritise --priority 250 --filter 'label.customer = acme'
  tq task bulk cancel --filter 'queue = imports AND submitted < -1h'

", filter_help!()))]
    Bulk(TaskBulkArgs),
    /// Watch a task until it has ended: its attempts, its progress, its log; exit code 0 if it has succeeded
    #[command(
        after_help = "On a terminal there is a bar of the task's progress. If the connection is lost, it goes on where it was: no line comes \
twice, and what is missing of the log is said in its place.

Examples:
  tq task watch 01980c5e-…
  tq task watch $(tq submit greet '\"Ada\"')
  tq task watch 01980c5e-… --no-log --output json"
    )]
    Watch {
        /// The task's id
        id: String,
        /// Leave the log out
        #[arg(long)]
        no_log: bool,
    },
    /// Print what a task's attempts wrote to their logs, as `tq logs` does
    #[command(after_help = LOGS_HELP)]
    Logs(LogsArgs),
    /// Cancel tasks that have not ended: by id, or all that match
    #[command(
        after_help = "A task that waits is cancelled at once. One that runs is told to stop, interrupted a little later, and ends as cancelled unless \
its success comes first.

Examples:
  tq task cancel 01980c5e-…
  tq task cancel --function thumbnail --state ready --dry-run
  tq task cancel --queue imports --submitted-before 1h"
    )]
    Cancel(TaskCancelArgs),
    /// Change a task that has not ended: its priority, time, deadline or labels
    #[command(after_help = "Examples:
  tq task update 01980c5e-… --priority 250
  tq task update 01980c5e-… --delay 1h --deadline 2h
  tq task update 01980c5e-… --deadline none --require gpu=h100")]
    Update(TaskUpdateArgs),
    /// Give a task that ended without success another round of attempts
    #[command(after_help = "Example:\n  tq task redrive 01980c5e-…")]
    Redrive {
        /// The task's id
        id: String,
    },
    /// Delete tasks that have ended: by id, or all that match
    #[command(
        after_help = "A deleted task is gone for good, with its payload, result and logs; its idempotency key can be used again. One that has not \
ended is refused: cancel it first.

Examples:
  tq task delete 01980c5e-…
  tq task delete --state dead --ended-before 30d --dry-run
  tq task delete --function thumbnail --ended-before 2030-01-31T12:00:00Z"
    )]
    Delete(TaskDeleteArgs),
    /// Wait until tasks have ended; exit code 0 if all have succeeded
    #[command(after_help = "Example:\n  tq task wait $(tq submit greet '{}' --count 10)")]
    Wait {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Behind the help of `tq logs`.
pub(crate) const LOGS_HELP: &str = "Lines of the attempts stand one after the other; what is missing of a log is said in its place, in a line that begins with `[tq:`.

Examples:
  tq logs 01980c5e-…
  tq logs -f 01980c5e-…";

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The task's id
    pub(crate) id: String,
    /// Go on until the task has ended
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// A task's state.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StateArg {
    /// Waits for other tasks
    Blocked,
    /// Waits for a time
    Scheduled,
    /// Waits for a host
    Ready,
    /// Is being run
    Running,
    /// Has a result
    Succeeded,
    /// Will not be tried again, unless it is redriven
    Dead,
    /// Was cancelled
    Cancelled,
    /// Its deadline passed
    Expired,
}

#[derive(Debug, Args)]
pub(crate) struct TaskUpdateArgs {
    /// The task's id
    pub(crate) id: String,
    /// 0 to 255, higher first
    #[arg(long, value_name = "N")]
    pub(crate) priority: Option<u8>,
    /// Start not before this time: RFC 3339, or milliseconds since 1970; not while it runs
    #[arg(long, value_name = "TIME", conflicts_with = "delay")]
    pub(crate) run_at: Option<Moment>,
    /// Start not before so long from now; not while it runs
    #[arg(long, value_name = "DURATION")]
    pub(crate) delay: Option<Span>,
    /// It expires at this time, or so long from now; `none` takes its deadline away
    #[arg(long, value_name = "TIME")]
    pub(crate) deadline: Option<OrNone<Deadline>>,
    /// Labels that its host has to have, instead of those it asks for: `gpu=a100,zone=eu`, or `none`
    #[arg(long, value_name = "LABELS")]
    pub(crate) require: Option<OrNone<LabelList>>,
    /// Labels of hosts that are taken first, likewise
    #[arg(long, value_name = "LABELS")]
    pub(crate) prefer: Option<OrNone<LabelList>>,
}

#[derive(Debug, Args)]
pub(crate) struct TaskCancelArgs {
    /// Their ids
    #[arg(value_name = "ID", conflicts_with_all = ["state", "function", "queue", "submitted_before", "all", "dry_run"], required_unless_present_any = ["state", "function", "queue", "submitted_before", "all"])]
    pub(crate) ids: Vec<String>,
    /// Every task in this state
    #[arg(long)]
    pub(crate) state: Option<LiveArg>,
    /// Every task of MODULE, or of MODULE/FUNCTION
    #[arg(long)]
    pub(crate) function: Option<String>,
    /// Every task of this queue
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Every task that was submitted before this time, or longer ago: `2030-01-31T12:00:00Z`, `30d`
    #[arg(long, value_name = "TIME")]
    pub(crate) submitted_before: Option<Past>,
    /// Every task of the namespace
    #[arg(long, conflicts_with_all = ["state", "function", "queue", "submitted_before"])]
    pub(crate) all: bool,
    /// Only say how many there are
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The state of a task that has not ended.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LiveArg {
    /// Waits for other tasks
    Blocked,
    /// Waits for a time
    Scheduled,
    /// Waits for a host
    Ready,
    /// Is being run
    Running,
}

#[derive(Debug, Args)]
pub(crate) struct TaskDeleteArgs {
    /// Their ids
    #[arg(value_name = "ID", conflicts_with_all = ["state", "function", "ended_before", "dry_run"], required_unless_present_any = ["state", "function", "ended_before"])]
    pub(crate) ids: Vec<String>,
    /// Every task that ended in this way
    #[arg(long)]
    pub(crate) state: Option<EndArg>,
    /// Every ended task of MODULE, or of MODULE/FUNCTION
    #[arg(long)]
    pub(crate) function: Option<String>,
    /// Every task that ended before this time, or longer ago: `2030-01-31T12:00:00Z`, `30d`
    #[arg(long, value_name = "TIME")]
    pub(crate) ended_before: Option<Past>,
    /// Only say how many there are
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum EndArg {
    /// Has a result
    Succeeded,
    /// Will not be tried again, unless it is redriven
    Dead,
    /// Was cancelled
    Cancelled,
    /// Its deadline passed
    Expired,
}
