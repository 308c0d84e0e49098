//! What holds for each attempt of a task, and how often there is another.

use clap::Args;

use crate::limits::Limit;
use crate::units::{Count, Size, Span};

/// Limits that are set for a module, or lowered for a task.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Limits of an attempt")]
pub(crate) struct LimitArgs {
    /// Fuel, about one for each WebAssembly instruction, such as `10G`
    #[arg(long, value_name = "N")]
    pub(crate) fuel: Option<Count>,
    /// Sum of all memories, such as `64MiB`
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Size>,
    /// Wall time, such as `30s`
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<Span>,
    /// Any other limit, such as `random=1MiB`; may be given several times. docs/reference/limits.md lists them
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) limit: Vec<Limit>,
}

/// A retry policy that is set for a module or a task.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Retry policy")]
pub(crate) struct RetryArgs {
    /// Attempts in all, the first one included; 3 if nothing says otherwise
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u32>,
    /// The first pause between attempts, doubled each time; the pause is drawn from zero to that; 1s if nothing says otherwise
    #[arg(long, value_name = "DURATION")]
    pub(crate) backoff: Option<Span>,
    /// The longest pause between attempts; 5m if nothing says otherwise
    #[arg(long, value_name = "DURATION")]
    pub(crate) backoff_cap: Option<Span>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn help_names_the_retry_policy_that_holds_by_default() {
        use tq_core::retry::RetryPolicy;
        let span = |time: std::time::Duration| Span(u64::try_from(time.as_millis()).unwrap());
        let command = Cli::command();
        let deploy = command.find_subcommand("deploy").expect("it is there");
        let RetryPolicy {
            max_attempts,
            backoff,
            cap,
        } = RetryPolicy::DEFAULT;
        for (argument, default) in [
            ("max_attempts", max_attempts.to_string()),
            ("backoff", span(backoff).to_string()),
            ("backoff_cap", span(cap).to_string()),
        ] {
            let mut arguments = deploy.get_arguments();
            let argument = arguments.find(|known| known.get_id() == argument);
            let help = argument.and_then(clap::Arg::get_help).expect("it has help");
            let expected = format!("; {default} if nothing says otherwise");
            assert!(help.to_string().ends_with(&expected), "{help}");
        }
    }
}
