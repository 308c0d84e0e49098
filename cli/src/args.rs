//! The command line as it is typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::labels::{Label, LabelList};
use crate::output::Format;
use crate::telemetry::LogFormat;
use crate::units::{Count, Deadline, Moment, OrNone, Past, Rate, ResultSpan, Size, Span};

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
    /// Tenant that everything is done in [env: TQ_NAMESPACE] [default: default]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// How results are printed [env: TQ_OUTPUT] [default: table]
    #[arg(long, short, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
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
    Broker(BrokerArgs),
    /// Run a host: a node that executes; or look at hosts, and act on them
    Host(HostCommand),
    /// Make a new module: a Rust crate that builds as it stands
    New(NewArgs),
    /// Build a module and upload it
    Deploy(DeployArgs),
    /// Submit a task and wait for its result
    Run(RunArgs),
    /// Submit tasks and print their ids
    Submit(SubmitArgs),
    /// Look at tasks, and act on them
    #[command(subcommand)]
    Task(TaskCommand),
    /// Look at dead letters, tasks that will not be tried again, and give them another chance
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Look at queues, set them up, pause and resume them
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Look at modules, and act on them
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Look at the settings of a namespace, and change them
    #[command(subcommand)]
    Namespace(NamespaceCommand),
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

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tq dev
  tq dev --data-dir /tmp/try --listen 127.0.0.1:9000")]
pub(crate) struct DevArgs {
    /// Where everything is kept [env: TQ_DEV_DATA_DIR] [default: ./.tq]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to serve on; loopback only [env: TQ_DEV_LISTEN] [default: 127.0.0.1:7171]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Tasks that run at once [env: TQ_DEV_SLOTS] [default: by the number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  tq broker --data-dir /var/lib/tq --listen 127.0.0.1:7171")]
pub(crate) struct BrokerArgs {
    /// Where tasks and modules are kept [env: TQ_BROKER_DATA_DIR] [default: `tq/broker` in the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to serve on; loopback only, until there is access control [env: TQ_BROKER_LISTEN] [default: 127.0.0.1:7171]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  tq host --broker http://127.0.0.1:7171 --name worker-1 --slots 8
  tq host --label gpu=a100 --label zone=eu --memory 8GiB
  tq host list
  tq host drain worker-1 --deadline 60s")]
pub(crate) struct HostCommand {
    #[command(subcommand)]
    pub(crate) command: Option<HostVerb>,
    #[command(flatten)]
    pub(crate) args: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HostArgs {
    /// Name of this host, the same at every start [env: TQ_HOST_NAME] [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Tasks that run at once [env: TQ_HOST_SLOTS] [default: by the number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    /// What this host says of itself, such as `zone=eu`; may be given again [env: TQ_HOST_LABELS, with commas between them]
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,
    /// What the memory limits of its tasks may add up to, such as `8GiB`; only slots limit it if this is not given [env: TQ_HOST_MEMORY]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Size>,
    /// Where compiled modules and unacknowledged outcomes are kept [env: TQ_HOST_DATA_DIR] [default: `tq/hosts/NAME` in the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to serve /metrics on; loopback only; not served if it is not given [env: TQ_HOST_METRICS_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_listen: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// List the hosts that the broker knows
    #[command(after_help = "Example:\n  tq host list --output json")]
    List,
    /// Show one host: its state and why, what it runs, its labels and memory
    #[command(after_help = "Example:\n  tq host show worker-1")]
    Show {
        /// The host's name
        name: String,
    },
    /// Let a host take nothing new; it finishes what it has, and stays paused over restarts
    #[command(after_help = "Example:\n  tq host pause worker-1")]
    Pause {
        /// The host's name
        name: String,
    },
    /// Let a host work again: ends a pause, a drain and a quarantine
    #[command(after_help = "Example:\n  tq host resume worker-1")]
    Resume {
        /// The host's name
        name: String,
    },
    /// Empty a host, and wait until it is: what it has not begun goes to others at once
    #[command(
        after_help = "What still runs at the deadline is stopped and goes back to its queue; that counts neither as a failure nor as a loss.
The host is `drained` then, until `tq host resume`. Interrupted, the drain goes on.

Examples:
  tq host drain worker-1
  tq host drain worker-1 --deadline 1h --no-wait"
    )]
    Drain {
        /// The host's name
        name: String,
        /// How long what runs may go on
        #[arg(long, value_name = "DURATION", default_value = "60s")]
        deadline: Span,
        /// Do not wait until the host is empty
        #[arg(long)]
        no_wait: bool,
    },
    /// Forget a host; one that is connected is told to end, and its work goes to others at once
    #[command(
        after_help = "Drain it first if its work is to be finished where it is. A later start under the name is a new host.

Example:
  tq host remove worker-1"
    )]
    Remove {
        /// The host's name
        name: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tq new greet
  tq new greet --path ~/src/greet")]
pub(crate) struct NewArgs {
    /// Name of the module and of its crate
    pub(crate) name: String,
    /// Folder to make; `./NAME` if it is not given
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
}

/// Limits that are set for a module, or lowered for a task.
#[derive(Clone, Copy, Debug, Default, Args)]
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

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tq deploy                                       the crate in this folder, with its tq.toml
  tq deploy examples/thumbnail --memory 256MiB
  tq deploy jaq.wasm --name jaq                   a component that was built elsewhere

Flags win over tq.toml.")]
pub(crate) struct DeployArgs {
    /// A folder with a Cargo.toml or a tq.toml, or a component
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Name of the module; else the one in tq.toml, the crate's or the file's
    #[arg(long)]
    pub(crate) name: Option<String>,
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
    /// Tasks with one key in one namespace are one task, for 24 hours
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Its result goes so long after its end, if that is before the task itself goes, such as `1h`; what the function or the
    /// namespace says if it is not given
    #[arg(long, value_name = "DURATION")]
    pub(crate) result_ttl: Option<Span>,
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

#[derive(Debug, Args)]
#[command(
    after_help = "The result goes to standard output as it is; why a task failed goes to standard error.
Interrupted, it prints the task's id, and the task goes on.

Examples:
  tq run greet '{\"name\":\"Ada\"}'
  tq run thumbnail @photo.jpg > small.png
  cargo metadata | tq run json-query - -- '.packages | length'
  tq run greet '{}' --output json | jq .attempts[0].usage"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) call: CallArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Prints the ids, one a line, in the order of submission. When they are printed, the tasks are on the broker's disk.

Examples:
  tq submit greet '{\"name\":\"Ada\"}' --delay 10m
  tq submit report --run-at 2030-01-31T06:00:00Z --idempotency-key report-2030-01
  tq submit greet '{}' --count 10000 --idempotency-key load    with keys load-0 to load-9999"
)]
pub(crate) struct SubmitArgs {
    /// Submit this many equal tasks, in batches of 1,000; with --idempotency-key K their keys are K-0, K-1 and so on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// Start not before so long from now
    #[arg(long, value_name = "DURATION", conflicts_with = "run_at")]
    pub(crate) delay: Option<Span>,
    /// Start not before this time: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    pub(crate) run_at: Option<Moment>,
    /// Wait until all have ended, as `tq task wait` does
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) call: CallArgs,
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
    /// List tasks, the newest first
    #[command(after_help = "Examples:
  tq task list --state dead
  tq task list --limit 1000 --output json
  tq task list --cursor CURSOR      with the `next` of the list before")]
    List(TaskListArgs),
    /// Print what a task's attempts wrote to their logs
    #[command(after_help = "Example:\n  tq task logs 01980c5e-…")]
    Logs {
        /// The task's id
        id: String,
    },
    /// Cancel a task
    #[command(after_help = "Example:\n  tq task cancel 01980c5e-…")]
    Cancel {
        /// The task's id
        id: String,
    },
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

#[derive(Debug, Args)]
pub(crate) struct TaskListArgs {
    /// Only tasks in this state
    #[arg(long)]
    pub(crate) state: Option<StateArg>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Every task there is
    #[arg(long, conflicts_with_all = ["limit", "cursor"])]
    pub(crate) all: bool,
    /// Where to go on: the `next` of the list before
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
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

#[derive(Debug, Subcommand)]
pub(crate) enum NamespaceCommand {
    /// Show the settings of a namespace
    #[command(after_help = "Example:\n  tq namespace show default")]
    Show {
        /// The namespace's name
        name: String,
    },
    /// Change the settings of a namespace; it is made if it is not there
    #[command(
        after_help = "The retry policy is what tasks inherit that say nothing themselves, and whose function and module say nothing either. It holds for \
tasks that are submitted from then on.

Examples:
  tq namespace set default --max-attempts 5 --backoff 10s
  tq namespace set default --reset max-attempts"
    )]
    Set(NamespaceSetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NamespaceSetArgs {
    /// The namespace's name
    pub(crate) name: String,
    /// Let a setting go back to its built-in default
    #[arg(long, value_name = "SETTING")]
    pub(crate) reset: Vec<NamespaceSetting>,
    #[command(flatten)]
    pub(crate) retry: RetryArgs,
}

/// A setting of a namespace.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum NamespaceSetting {
    /// Attempts in all
    MaxAttempts,
    /// The first pause between attempts
    Backoff,
    /// The longest pause between attempts
    BackoffCap,
}

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
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Check a broker's data directory, without changing it; exit code 1 if something is wrong
    #[command(after_help = "Example:\n  tq admin check --data-dir .tq")]
    Check(AdminArgs),
    /// Accept what a damaged or rolled-back data directory has lost, so that a broker serves it again
    #[command(
        after_help = "Keep a copy of the directory first.\n\nExample:\n  tq admin repair --data-dir .tq"
    )]
    Repair(AdminArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// What `tq broker` or `tq dev` was given as its data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print each setting with its value and where it comes from
    #[command(after_help = "Example:\n  TQ_BROKER=http://127.0.0.1:9000 tq config show")]
    Show,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without SCENARIO it measures all that are standard, each on a broker and a host of its own: processes of their own, on an \
empty data directory. With --broker (or TQ_BROKER) it measures a broker that is there, in namespaces of its own, as far as that can be \
done from outside.

First come the floors: what this machine does at least for a task, without tq. Each figure stands beside the floor that it is compared \
with, and beside tq's own goal for two processors. What else the machine does meanwhile is in the figures.

Examples:
  tq bench                                   the standard run, a few minutes
  tq bench --quick                           half a minute
  tq bench throughput latency --tasks 500k
  tq bench backlog --waiting 10M --dir /mnt/nvme
  tq bench --output json > today.json
  tq bench --compare today.json              the same again, and what has changed
  tq bench --read today.json                 show it as a table, without measuring
  tq bench --list"
)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenarios: Vec<BenchScenario>,
    /// Tasks of `throughput`, `burst`, `aged` and `backlog` that are timed [default: 200k, burst 20k, backlog 50k]
    #[arg(long, value_name = "N")]
    pub(crate) tasks: Option<Count>,
    /// Submit in `throughput` for so many seconds instead
    #[arg(long, value_name = "S", conflicts_with = "tasks", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: Option<u32>,
    /// Tasks that wait in `backlog` [default: 200k]
    #[arg(long, value_name = "N")]
    pub(crate) waiting: Option<Count>,
    /// Tasks that pass in `aged` before it measures again [default: 1M]
    #[arg(long, value_name = "N")]
    pub(crate) passed: Option<Count>,
    /// Slots of the host, except where a scenario says otherwise [default: as of `tq host`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(tq_core::limits::SLOTS_MAX)))]
    pub(crate) slots: Option<u32>,
    /// What arrivals, payloads and modules are drawn from [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// A tenth of everything whose size no flag names: for a look, and not for a comparison
    #[arg(long)]
    pub(crate) quick: bool,
    /// Folder for the data directories, on the disk that is to be measured; the system's temporary folder if it is not given
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Results of an earlier run, as `--output json` printed them: measures the same again, as far as nothing else is named, and
    /// shows old, new and their ratio
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    /// Results to show or to compare instead of measuring
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenarios", "tasks", "seconds", "waiting", "passed", "slots", "seed", "quick", "dir"])]
    pub(crate) read: Option<PathBuf>,
    /// List the scenarios
    #[arg(long, conflicts_with_all = ["scenarios", "tasks", "seconds", "waiting", "passed", "slots", "seed", "quick", "dir", "compare", "read"])]
    pub(crate) list: bool,
}

/// Something that `tq bench` measures. In the order in which a run measures them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum BenchScenario {
    /// Only the floors, which come first in every run
    Floors,
    /// Many tasks: submitted, durable, run in a fresh sandbox each, settled, results seen; and what each costs every process
    Throughput,
    /// One task at a time, from its submit to its result
    Latency,
    /// Tasks that arrive at random at half of the peak rate, each timed from when it was due
    HalfLoad,
    /// Many tasks at once, until the last has ended
    Burst,
    /// Many small clients, each with a connection and one task at a time
    FanIn,
    /// Payloads and results of 100 bytes to 1 MiB
    Payloads,
    /// The first task of a new module, and the first one after a restart of the host
    ColdStart,
    /// Many waiting tasks: throughput, an urgent task, memory, disk, and a restart of the broker
    Backlog,
    /// Namespaces of unequal load
    Tenants,
    /// Tasks that wait for a clock, on 64 slots
    Waiting,
    /// Short tasks beside long ones that compute
    Long,
    /// A connection that is kept against one for each call
    Connections,
    /// Memory and processor time of nodes with nothing to do
    Rest,
    /// Throughput after many tasks have passed; not standard
    Aged,
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
                    ["fuel", "memory", "timeout"],
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

    #[test]
    fn host_is_a_node_and_a_noun() {
        let node = Cli::try_parse_from([
            "tq", "host", "--broker", "b:1", "--name", "a", "--slots", "4",
        ]);
        let node = node.expect("a host can be started");
        assert_eq!(node.global.broker.as_deref(), Some("b:1"));
        assert!(matches!(
            node.command,
            Command::Host(HostCommand { command: None, .. })
        ));
        let list = Cli::try_parse_from(["tq", "host", "list", "--output", "json"]);
        let list = list.expect("hosts can be listed");
        assert!(matches!(
            list.command,
            Command::Host(HostCommand {
                command: Some(HostVerb::List),
                ..
            })
        ));
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
        ] {
            let refused = Cli::try_parse_from(line.split(' '));
            assert!(refused.is_err(), "{line}");
        }
    }
}
