//! A call, and where it may run.

use clap::Args;

use super::attempt::{LimitArgs, RetryArgs};
use crate::labels::Label;
use crate::units::{Deadline, Span};

/// One call, as `run` and `submit` take it. What has a heading of its own comes last: it covers all that follows.
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// MODULE/FUNCTION, or MODULE when it has one function. MODULE is a name, or NAME@VERSION
    pub(crate) function: String,
    /// What the function is given: text, `@FILE`, or `-` for standard input
    #[arg(allow_negative_numbers = true)]
    pub(crate) payload: Option<String>,
    /// Media type of the payload; guessed if it is not given
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// 0 to 255, higher first [default: 127]
    #[arg(long, value_name = "N")]
    pub(crate) priority: Option<u8>,
    /// The task expires at this time, or so long from now: `10m`, `2030-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME")]
    pub(crate) deadline: Option<Deadline>,
    /// Tasks with one key in one namespace are one task, as long as its window lasts
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// How long the idempotency key is remembered, up to 30 days [default: 24h]
    #[arg(long, value_name = "DURATION", requires = "idempotency_key")]
    pub(crate) idempotency_window: Option<Span>,
    /// While a task with this key in the namespace waits for its first start, this call is that task, whatever else it asks for
    #[arg(long, value_name = "KEY", conflicts_with = "idempotency_key")]
    pub(crate) unique_key: Option<String>,
    /// Its result goes so long after its end, if that is before the task itself goes, such as `1h`; what the function or the
    /// namespace says if it is not given
    #[arg(long, value_name = "DURATION")]
    pub(crate) result_ttl: Option<Span>,
    /// Label that it is found by, such as `customer=acme`; may be given several times
    #[arg(long, value_name = "LABEL=VALUE")]
    pub(crate) label: Vec<Label>,
    /// Arguments of a plain program
    #[arg(last = true, value_name = "ARG")]
    pub(crate) arguments: Vec<String>,
    #[command(flatten)]
    pub(crate) placement: PlacementArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) retry: RetryArgs,
}

/// Where a task may run, and beside what.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Placement")]
pub(crate) struct PlacementArgs {
    /// Queue that it waits in [default: the function's, or else `default`]
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Label that its host has to have, such as `gpu=a100`; may be given several times
    #[arg(long, value_name = "LABEL=VALUE")]
    pub(crate) require: Vec<Label>,
    /// Label of hosts that are taken first; may be given several times
    #[arg(long, value_name = "LABEL=VALUE")]
    pub(crate) prefer: Vec<Label>,
    /// Tasks of this key run beside each other only as far as --concurrency says
    #[arg(long, value_name = "KEY")]
    pub(crate) concurrency_key: Option<String>,
    /// How many tasks of the concurrency key run at once [default: 1]
    #[arg(long, value_name = "N", requires = "concurrency_key", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: Option<u32>,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[track_caller]
    fn run_args(line: &[&str]) -> CallArgs {
        let cli = Cli::try_parse_from(line).expect("the line is valid");
        match cli.command {
            Command::Run(run) => run.call,
            other => panic!("`{line:?}` is {other:?}"),
        }
    }

    #[test]
    fn arguments_behind_two_dashes_are_the_programs() {
        let call = run_args(&[
            "tq",
            "run",
            "jaq",
            "-",
            "--priority",
            "200",
            "--",
            "-r",
            ".a",
        ]);
        assert_eq!(call.payload.as_deref(), Some("-"));
        assert_eq!(call.priority, Some(200));
        assert_eq!(call.arguments, ["-r", ".a"]);
        assert_eq!(run_args(&["tq", "run", "f", "--", "x"]).payload, None);
        assert_eq!(
            run_args(&["tq", "run", "f", "-5"]).payload.as_deref(),
            Some("-5")
        );
    }
}
