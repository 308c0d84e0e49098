//! Measures one ledger thread: tasks a second from submit over claim to settlement, with a host that answers at once.
//!
//! `cargo bench -p tq-broker --bench ledger -- [--store memory|fjall] [--tasks N] [--batch N]`. Prints a line for each run. What
//! a step costs without the disk is in `steps`, which can be compared from one change to the next.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures how long things take"
)]

mod one_host;

use std::io::Write;
use std::time::Instant;

use tq_broker::ledger::Config;
use tq_broker::store::memory::Disk;
use tq_broker::store::{OpenOptions, Store, open};

use one_host::{OneHost, Result};

/// Passes `tasks` through a ledger and returns how many of them a second.
fn run(store: Box<dyn Store>, config: Config, tasks: usize, batch: usize) -> Result<f64> {
    let mut one = OneHost::open(store, config)?;
    one.grant(u64::MAX);
    let (mut submitted, mut settled) = (0, 0);
    let began = Instant::now();
    while settled < tasks {
        let count = batch.min(tasks - submitted);
        submitted += count;
        settled += one.pass(count)?;
    }
    let rate = tasks as f64 / began.elapsed().as_secs_f64();
    one.close()?;
    Ok(rate)
}

fn main() -> Result<()> {
    let mut stores = vec!["memory", "fjall"];
    let (mut tasks, mut batch) = (100_000, 500);
    let config = Config {
        seed: 1,
        ..Config::default()
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--store" => match arguments.next().as_deref() {
                Some("memory") => stores = vec!["memory"],
                Some("fjall") => stores = vec!["fjall"],
                Some(_) | None => return Err("--store is memory or fjall".into()),
            },
            "--tasks" => tasks = arguments.next().unwrap_or_default().parse()?,
            "--batch" => batch = arguments.next().unwrap_or_default().parse()?,
            // What cargo itself adds.
            "--bench" => {}
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    for name in stores {
        let dir = tempfile::tempdir()?;
        let store: Box<dyn Store> = match name {
            "memory" => Box::new(Disk::new().open()?),
            _ => Box::new(open(&dir.path().join("store"), &OpenOptions::default())?),
        };
        let rate = run(store, config, tasks, batch)?;
        let mut out = std::io::stdout();
        writeln!(
            out,
            "{name}: {rate:.0} tasks/s ({tasks} tasks, batches of {batch})"
        )?;
    }
    Ok(())
}
