//! The frame of the micro-benchmarks: a [`Workload`] is what is measured, and [`main`] is the whole of a bench.
//!
//! The same workload is timed by criterion (`cargo bench`, `cargo xtask evidence micro`) and has its instructions counted
//! by callgrind (`cargo xtask instructions`). Times are what matters and noise hides small changes in them; counts say
//! less and repeat, so that they can be a gate.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};

/// The one of `tq` itself: what allocating costs is a part of every workload.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Passes a workload as many rounds as it is given.
pub type Run = Box<dyn FnMut(u64)>;

/// One thing that is measured. It depends on nothing but the code: seeds are fixed, there are no threads, and no clock
/// is read.
#[derive(Clone, Copy)]
pub struct Workload {
    /// `ledger/batch_500`: what is measured, and how. Unique over all benches.
    pub name: &'static str,
    /// Tasks of a round; at least 1.
    pub tasks: u64,
    /// Rounds that are counted; at least 1. Timing chooses its own number.
    pub rounds: u64,
    /// Sets it up, which is not measured.
    pub start: fn() -> Run,
}

/// What the arguments ask for.
enum Asked<'a> {
    /// The names of all workloads, for `cargo xtask instructions`.
    Names,
    /// One of them, run for callgrind.
    Count(&'a Workload),
    /// Times of those that criterion's arguments select.
    Times,
}

/// Does what the arguments of the process ask for: `--workloads` lists, `--count NAME` runs one workload once, for
/// callgrind; all else is criterion's.
///
/// # Errors
/// There is no such workload, or standard output cannot be written.
pub fn main(workloads: &[Workload]) -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match asked(workloads, &words)? {
        Asked::Names => {
            let mut out = std::io::stdout();
            for workload in workloads {
                let tasks = workload.tasks * workload.rounds;
                writeln!(out, "{}\t{tasks}", workload.name)?;
            }
        }
        Asked::Count(workload) => {
            let mut run = (workload.start)();
            // What is made at first use is not what a task costs.
            run(1);
            counted(&mut run, workload.rounds);
        }
        Asked::Times => {
            let mut criterion = Criterion::default().configure_from_args();
            for workload in workloads {
                time(&mut criterion, workload);
            }
            criterion.final_summary();
        }
    }
    Ok(())
}

/// Whether the arguments of the process are meant for [`main`] and not for a bench that has some of its own.
#[must_use]
pub fn is_asked() -> bool {
    std::env::args().any(|word| matches!(word.as_str(), "--workloads" | "--count"))
}

fn asked<'a>(workloads: &'a [Workload], words: &[&str]) -> Result<Asked<'a>, String> {
    match words {
        ["--workloads"] => Ok(Asked::Names),
        ["--count", name] => {
            let found = workloads.iter().find(|workload| workload.name == *name);
            let found = found.ok_or_else(|| format!("there is no workload `{name}`"))?;
            Ok(Asked::Count(found))
        }
        _ => Ok(Asked::Times),
    }
}

/// Callgrind counts between its beginning and its end, and knows it by its name.
#[inline(never)]
fn counted(run: &mut Run, rounds: u64) {
    run(rounds);
    // Something that is left to do: otherwise the call would be a jump, and callgrind miss the end.
    black_box(rounds);
}

fn time(criterion: &mut Criterion, workload: &Workload) {
    let mut group = criterion.benchmark_group(workload.name);
    group.throughput(Throughput::Elements(workload.tasks));
    group.bench_function("round", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut run = (workload.start)();
            run(1);
            clocked(|| run(rounds))
        });
    });
    group.finish();
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of this crate: it measures how long things take"
)]
fn clocked(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}
