//! Many runs with kills, each after a seed of its own: `kill_runs [--seeds N] [--first SEED] [--tasks N]`. Prints a line for
//! each and a summary, and fails if any had a violation. `cargo xtask evidence kill-runs` calls it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tq_tests::{Plan, kill_run};

fn main() -> anyhow::Result<ExitCode> {
    let (mut seeds, mut first, mut tasks) = (200_u64, 1_u64, 10_000_u64);
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let setting = match flag.as_str() {
            "--seeds" => &mut seeds,
            "--first" => &mut first,
            "--tasks" => &mut tasks,
            _ => bail!("`{flag}` is not a flag; there are --seeds, --first and --tasks"),
        };
        let value = words
            .next()
            .with_context(|| format!("{flag} needs a number"))?;
        *setting = value
            .parse()
            .with_context(|| format!("{flag} `{value}` is not a number"))?;
    }
    let tasks = usize::try_from(tasks)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut stdout = io::stdout();
    let (mut violations, mut broker_kills, mut host_kills, mut lost) = (0, 0, 0, 0);
    for seed in first..first.saturating_add(seeds) {
        // Said first, so that a run that panics has a seed to be repeated with.
        write!(stdout, "seed {seed} … ")?;
        stdout.flush()?;
        let report = runtime.block_on(kill_run(Plan { seed, tasks }));
        writeln!(stdout, "{report}")?;
        violations += report.violations.len();
        broker_kills += report.broker_kills;
        host_kills += report.host_kills;
        lost += report.attempts_lost;
    }
    writeln!(
        stdout,
        "{seeds} runs of {tasks} tasks: {broker_kills} kills of the broker, {host_kills} of the host, {lost} attempts lost, {violations} violations"
    )?;
    Ok(if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
