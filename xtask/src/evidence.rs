//! Measurements and long runs, and code that is written anew: what somebody asks for by name.

use std::process::Command;

use crate::fuzz;
use crate::instructions;
use crate::toolchains;
use crate::tools::{self, Failed, SIMULATION, WORKSPACE, cargo, is_installed};

/// What can be asked for: its name, what it takes, and what it does.
const EVIDENCE: &[(&str, &str, &str)] = &[
    (
        "layouts",
        "[--layout NAME] [--scenario passed|backlog] [--tasks N] …",
        "layouts of a task's rows on disk against each other (docs/adr/0001)",
    ),
    (
        "kill-runs",
        "[--seeds N]",
        "brokers and hosts killed at random under load, histories checked",
    ),
    (
        "fuzz",
        "[--minutes N] [TARGET …]",
        "everything that reads foreign bytes under LLVM's fuzzer: one hour of processor time over all targets if no other is asked for",
    ),
    (
        "power-losses",
        "[--seeds N]",
        "machines that lose their power under load, 500 if no other number is asked for (Linux, as root)",
    ),
    (
        "simulation",
        "[--seeds N] [--first N] [--verbose]",
        "random histories in simulated time: 100,000 if no other number is asked for",
    ),
    (
        "bench",
        "[SCENARIO …] [--quick] [--compare FILE] …",
        "all of `tq bench`: tq beside this machine's floors",
    ),
    (
        "micro",
        "[ARGS of criterion]",
        "times of the micro-benchmarks' workloads; `cargo xtask instructions` counts their instructions",
    ),
    (
        "costs",
        "[--backlogs N,N,…] [--hosts N,N,…] [--out DIR] …",
        "processor time of a task against the backlog and against the number of hosts, as figures",
    ),
    (
        "soak",
        "[--minutes N] [--rate N] [--out FILE.svg] …",
        "a broker and a host under steady load: memory, files, disk and latency over time, as a figure",
    ),
    (
        "fairness",
        "[--flood N] [--seconds N]",
        "how long the tasks of two tenants wait while a third floods the broker",
    ),
    (
        "overload",
        "[--seconds N] [--times N] [--function sleep|echo]",
        "ten times as many tasks as get done, for five minutes: what is done, refused and held up, and how it ends",
    ),
    (
        "idle",
        "[--seconds N]",
        "what wakes, thread by thread, when there is nothing to do",
    ),
    (
        "languages",
        "[--runs N]",
        "size, first run, time and memory of a small module in each language, as a table",
    ),
    (
        "retention",
        "[--tasks N] [--seconds N]",
        "the longest pause between starts of tasks while 100,000 that are over their time are removed",
    ),
    (
        "programs",
        "[NAME …]",
        "programs of crates.io, built unchanged, deployed and run on real input",
    ),
    (
        "spin",
        "[--runs N]",
        "how long after its limit an endless loop ends, and what it does to its neighbours",
    ),
    (
        "sandbox",
        "",
        "what running one task in the sandbox costs by itself",
    ),
    (
        "coverage",
        "[ARGS of cargo llvm-cov]",
        "line coverage of the tests",
    ),
];

/// All that can be asked for, for people.
pub(crate) fn list() -> String {
    let lines = EVIDENCE
        .iter()
        .map(|(name, takes, does)| format!("\n  {:<72}{does}", format!("{name} {takes}")));
    format!(
        "cargo xtask evidence NAME, where NAME is one of{}",
        lines.collect::<String>()
    )
}

/// Collects what `name` stands for, with arguments of its own.
///
/// # Errors
/// There is no such name, a tool is not there, or what ran did not succeed.
pub(crate) fn run(name: &str, arguments: &[&str]) -> Result<(), Failed> {
    match name {
        "layouts" | "sandbox" => {
            // Of the whole workspace: the features of its dependencies are then the ones that are built already.
            let mut bench = cargo(&["bench", "--bench", name]);
            tools::run(bench.args(WORKSPACE).arg("--").args(arguments))
        }
        "micro" => {
            let mut bench = cargo(&["bench"]);
            bench.args(WORKSPACE);
            for name in instructions::BENCHES {
                bench.args(["--bench", name]);
            }
            tools::run(bench.arg("--").args(arguments))
        }
        "simulation" => {
            let mut run = cargo(&["run", "--release", "--package", SIMULATION, "--"]);
            tools::run(run.args(arguments))
        }
        "fuzz" => fuzz::run(arguments),
        "kill-runs" => program("kill_runs", arguments),
        "power-losses" => {
            // What is asked for comes later, and counts.
            let defaults = ["--power-losses", "--seeds", "500", "--tasks", "2000"];
            program("kill_runs", &[&defaults, arguments].concat())
        }
        "languages" => {
            toolchains::run()?;
            program(name, arguments)
        }
        "costs" | "fairness" | "idle" | "overload" | "programs" | "retention" | "soak" | "spin" => {
            program(name, arguments)
        }
        "bench" => {
            let mut bench = cargo(&["run", "--release", "--", "bench"]);
            tools::run(bench.args(arguments))
        }
        "coverage" => coverage(arguments),
        _ => Err(Failed(format!("`{name}` is not there\n{}", list()))),
    }
}

/// Builds and runs a program of the tests' harness, which runs `tq` itself.
fn program(name: &str, arguments: &[&str]) -> Result<(), Failed> {
    tools::run(&mut cargo(&["build", "--release"]))?;
    let mut build = cargo(&["build", "--release", "--bin", name]);
    tools::run(build.args(WORKSPACE))?;
    tools::run(Command::new(tools::programs()?.join(name)).args(arguments))
}

/// Runs the tests with counters in them, and prints which lines they reached.
fn coverage(arguments: &[&str]) -> Result<(), Failed> {
    if !is_installed("cargo-llvm-cov") {
        let fix = "rustup component add llvm-tools && cargo install cargo-llvm-cov --locked";
        return Err(Failed(format!(
            "cargo-llvm-cov is not there; install it with\n  {fix}"
        )));
    }
    let mut coverage = cargo(&["llvm-cov", "--release"]);
    tools::run(coverage.args(WORKSPACE).args(arguments))
}

/// Writes committed generated code anew, by way of the tests that check it.
///
/// # Errors
/// It does not compile, or cannot be written.
pub(crate) fn generate() -> Result<(), Failed> {
    // The reference of the command line is what the binary says of itself.
    tools::run(&mut cargo(&["build", "--release"]))?;
    let mut command = cargo(&["test", "--release"]);
    command.args(WORKSPACE);
    command.args(["--test", "generated_is_fresh"]);
    command.args(["--test", "sdk_bindings_are_fresh"]);
    command.args(["--test", "docs_are_true"]);
    tools::run(command.env("TQ_BLESS", "1"))?;
    // It is made of what only the broker knows.
    let mut command = cargo(&["test", "--release", "--package", "tq-broker", "--lib"]);
    tools::run(command.arg("is_fresh").env("TQ_BLESS", "1"))
}
