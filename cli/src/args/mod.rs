//! The command line as it is typed.

mod access;
mod admin;
mod attempt;
mod bench;
mod breaker;
mod broker;
mod call;
mod config;
mod cost;
mod dead;
mod deploy;
mod dev;
mod host;
mod kv;
mod module;
mod namespace;
mod new;
mod queue;
mod retention;
mod run;
mod search;
mod secret;
mod submit;
mod task;
mod test;
mod webhook;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::output::Format;
use crate::telemetry::LogFormat;

pub(crate) use access::{AuditCommand, AuditListArgs, KeyCommand, KeyCreateArgs, RoleArg};
pub(crate) use admin::{AdminArgs, AdminCommand};
pub(crate) use attempt::{LimitArgs, RetryArgs};
pub(crate) use bench::{BenchArgs, BenchScenario};
pub(crate) use breaker::{BreakerCommand, BreakerForceArgs, ForcedArg};
pub(crate) use broker::{BrokerArgs, BrokerCommand, BrokerVerb};
pub(crate) use call::{CallArgs, PlacementArgs};
pub(crate) use config::ConfigCommand;
pub(crate) use cost::{CostArgs, CostBy};
pub(crate) use dead::{
    DeadCommand, DeadDiscardArgs, DeadFilterArgs, DeadListArgs, DeadRedriveArgs,
};
pub(crate) use deploy::DeployArgs;
pub(crate) use dev::DevArgs;
pub(crate) use host::{HostArgs, HostCommand, HostVerb};
pub(crate) use kv::KvCommand;
pub(crate) use module::{ModuleCommand, ModuleVersion};
pub(crate) use namespace::{NamespaceCommand, NamespaceSetArgs, NamespaceSetting, QuotaArgs};
pub(crate) use new::NewArgs;
pub(crate) use queue::{OrderArg, QueueCommand, QueueSetArgs};
pub(crate) use retention::{RetentionArgs, RetentionCommand};
pub(crate) use run::RunArgs;
pub(crate) use search::{
    BulkArg, ExportArg, FilterArgs, TaskBulkArgs, TaskExportArgs, TaskListArgs,
};
pub(crate) use secret::SecretCommand;
pub(crate) use submit::SubmitArgs;
pub(crate) use task::{
    EndArg, LOGS_HELP, LiveArg, LogsArgs, StateArg, TaskCancelArgs, TaskCommand, TaskDeleteArgs,
    TaskUpdateArgs,
};
pub(crate) use test::TestArgs;
pub(crate) use webhook::{WebhookCommand, WebhookCreateArgs};

/// Runs other people's code as background tasks, each call in its own WebAssembly sandbox.
#[derive(Debug, Parser)]
#[command(
    name = "tq",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  tq dev                                  a broker and a host, here, in one process
  tq new greet && cd greet && tq deploy   a module of your own
  tq run greet '{\"name\":\"Ada\"}'           a call, and its result

Exit codes: 0 succeeded, 1 ended otherwise, 2 usage, 3 not found, 4 refused, 5 broker unreachable, 130 interrupted.
Settings: flags, then TQ_* variables, then config.toml, then defaults; `tq config show` says which is which.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Address of the broker [env: TQ_BROKER] [default: http://127.0.0.1:7171]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// Tenant that everything is done in [env: TQ_NAMESPACE] [default: the key's, if that is for one; else `default`]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// File with the key that says who you are; TQ_KEY has the key itself [env: TQ_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// How results are printed [env: TQ_OUTPUT] [default: table]
    #[arg(long, short, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Certificate of the authority that the broker's is of, in PEM, instead of those that this machine trusts; for https [env: TQ_TLS_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Certificate that the broker is shown, in PEM; for https [env: TQ_TLS_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of that certificate, in PEM [env: TQ_TLS_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The network to the broker is private, or a proxy on the way speaks TLS: a key may go over it without TLS [env: TQ_PLAINTEXT]
    #[arg(long, global = true)]
    pub(crate) plaintext: bool,
    /// Configuration file instead of the one in the user's configuration folder [env: TQ_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How the log is written to standard error; TQ_LOG filters it [env: TQ_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log: Option<LogFormat>,
    /// Collector that nodes send traces to, by OTLP over gRPC [env: TQ_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker and a host in one process, for development
    Dev(DevArgs),
    /// Run a broker: the node that remembers and decides
    Broker(BrokerCommand),
    /// Run a host: a node that executes; or look at hosts, and act on them
    Host(HostCommand),
    /// Make a new module: a Rust crate that builds as it stands
    New(NewArgs),
    /// Run a module's functions on cases that are written down, under the limits and grants of production
    Test(TestArgs),
    /// Build a module and upload it
    Deploy(DeployArgs),
    /// Say what a module's functions take and give, and how to call them
    #[command(after_help = "Examples:
  tq describe images
  tq describe images@2/resize
  tq describe images --output json    with the JSON Schema of each function")]
    Describe {
        /// MODULE or MODULE/FUNCTION. MODULE is a name, or NAME@VERSION
        function: String,
    },
    /// Submit a task and wait for its result
    Run(RunArgs),
    /// Submit tasks and print their ids
    Submit(SubmitArgs),
    /// Look at tasks, and act on them
    #[command(subcommand)]
    Task(TaskCommand),
    /// Print what a task's attempts wrote to their logs, and follow it with `-f`
    #[command(after_help = LOGS_HELP)]
    Logs(LogsArgs),
    /// Look at dead letters, tasks that will not be tried again, and give them another chance
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Look at queues, set them up, pause and resume them
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Look at circuit breakers, which hold the tasks of functions that fail; force and release them
    #[command(subcommand)]
    Breaker(BreakerCommand),
    /// Show what the broker refuses because there is too much of it, what is short, and how that has changed
    #[command(after_help = "Examples:
  tq overload
  tq overload --output json

Tasks of a low priority (0 to 84) are refused first, then those of a normal one (85 to 169); `tq broker --max-waiting` sets the limit.")]
    Overload,
    /// Look at modules, and act on them
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Look at the settings of a namespace, and change them
    #[command(subcommand)]
    Namespace(NamespaceCommand),
    /// Show who the broker takes you for, and what you may do
    #[command(after_help = "Examples:\n  tq whoami\n  TQ_KEY_FILE=ci.key tq whoami --output json")]
    Whoami,
    /// Make keys that let people, programs and hosts in; list, rotate and revoke them
    #[command(subcommand)]
    Key(KeyCommand),
    /// Look at the record of who did what, export and verify it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show what attempts of a namespace cost: fuel, memory, time and bytes, by day and function
    #[command(after_help = "Examples:
  tq cost
  tq cost --by day --from 2026-11-01 --to 2026-11-30 --namespace shop
  tq cost --by both --output json

An attempt counts in the day, of UTC, in which its end was settled. Costs are kept for 400 days.")]
    Cost(CostArgs),
    /// Set secrets for functions that are granted them, list and delete them
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Have ends of tasks told to an endpoint, look at what was told, and tell it again
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// Look at buckets of keys and values, which functions share, and change them
    #[command(subcommand)]
    Kv(KvCommand),
    /// Say how long what has ended is kept
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Look after a broker's data directory, while no broker runs on it
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Look at the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run the examples on real files, with a broker and a host of their own
    #[command(after_help = "Needs the source tree that this binary was built from, and cargo.")]
    Demo,
    /// Measure throughput and latency, beside the floors that this machine sets
    Bench(BenchArgs),
    /// Print a shell's completions
    #[command(
        after_help = "Example:\n  tq completions bash > ~/.local/share/bash-completion/completions/tq"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn definitions_are_consistent_and_every_command_has_help() {
        fn visit(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                assert!(
                    sub.get_about().is_some(),
                    "`{path}` says nothing about itself"
                );
                assert!(
                    sub.has_subcommands() || sub.get_after_help().is_some(),
                    "`{path}` has no example"
                );
                visit(sub, &path);
            }
        }
        Cli::command().debug_assert();
        visit(&Cli::command(), "tq");
    }

    #[test]
    fn headings_stand_over_their_own_options_only() {
        for command in Cli::command().get_subcommands() {
            let under = |heading: &str| {
                let arguments = command.get_arguments();
                let under =
                    arguments.filter(|argument| argument.get_help_heading() == Some(heading));
                under
                    .map(|argument| argument.get_id().as_str().to_owned())
                    .collect::<Vec<_>>()
            };
            let (limits, retry) = (under("Limits of an attempt"), under("Retry policy"));
            if !limits.is_empty() {
                assert_eq!(
                    limits,
                    ["fuel", "memory", "timeout", "limit"],
                    "{}",
                    command.get_name()
                );
                assert_eq!(
                    retry,
                    ["max_attempts", "backoff", "backoff_cap"],
                    "{}",
                    command.get_name()
                );
            }
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "tq submit f --delay 1s --run-at 2030-01-01T00:00:00Z",
            "tq submit f --count 0",
            "tq run f --priority 256",
            "tq task list --all --limit 5",
            "tq dead redrive 01980c5e --signature 3fa94c1d20b7",
            "tq dead redrive --all --function f",
            "tq dead redrive --payload x",
            "tq dead redrive 01980c5e --payload x --dry-run",
            "tq dead redrive 01980c5e --content-type text/plain",
            "tq task delete",
            "tq retention set",
            "tq task delete --dry-run",
            "tq task delete 01980c5e --state dead",
            "tq bench --tasks 1 --seconds 1",
            "tq run --local . --queue q",
            "tq run --local . --idempotency-key k",
        ] {
            let refused = Cli::try_parse_from(line.split(' '));
            assert!(refused.is_err(), "{line}");
        }
    }
}
