//! `tq bench`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::nodes::Isolation;
use crate::units::Count;

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
    /// Tasks that pass in `aged` before it measures again, and in `search` before it searches [default: 1M]
    #[arg(long, value_name = "N")]
    pub(crate) passed: Option<Count>,
    /// Slots of the host, except where a scenario says otherwise [default: as of `tq host`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(tq_core::limits::SLOTS_MAX)))]
    pub(crate) slots: Option<u32>,
    /// Where the host runs guests, as of `tq host --isolation` [default: process]
    #[arg(long, value_name = "WHERE")]
    pub(crate) isolation: Option<Isolation>,
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
    /// The smallest call with and without access control
    Access,
    /// Memory and processor time of nodes with nothing to do
    Rest,
    /// Throughput after many tasks have passed; not standard
    Aged,
    /// Searches and exports among many tasks that have ended; not standard
    Search,
}
