//! Many runs with kills, or with `--power-losses` ones in which the machine loses its power, each after a seed of its own:
//! `kill_runs [--seeds N] [--first SEED] [--tasks N] [--power-losses]`. Prints a line for each and a summary, and fails if
//! any had a violation. `cargo xtask evidence kill-runs` and `power-losses` call it.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tq_tests::{Faults, Plan, kill_run};

fn main() -> anyhow::Result<ExitCode> {
    let (mut seeds, mut first, mut tasks) = (200_u64, 1_u64, 10_000_u64);
    let mut faults = Faults::Kills;
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let setting = match flag.as_str() {
            "--seeds" => &mut seeds,
            "--first" => &mut first,
            "--tasks" => &mut tasks,
            "--power-losses" => {
                faults = Faults::PowerLosses;
                continue;
            }
            _ => bail!(
                "`{flag}` is not a flag; there are --seeds, --first, --tasks and --power-losses"
            ),
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
    let (mut violations, mut broker_kills, mut power_losses, mut host_kills, mut lost) =
        (0, 0, 0, 0, 0);
    for seed in first..first.saturating_add(seeds) {
        // Said first, so that a run that panics has a seed to be repeated with.
        write!(stdout, "seed {seed} … ")?;
        stdout.flush()?;
        let report = runtime.block_on(kill_run(Plan {
            seed,
            tasks,
            faults,
        }));
        writeln!(stdout, "{report}")?;
        violations += report.violations.len();
        broker_kills += report.broker_kills;
        power_losses += report.power_losses;
        host_kills += report.host_kills;
        lost += report.attempts_lost;
    }
    writeln!(
        stdout,
        "{seeds} runs of {tasks} tasks: {broker_kills} kills of the broker, {host_kills} of the host, {power_losses} losses of power, {lost} attempts lost, {violations} violations"
    )?;
    Ok(if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
