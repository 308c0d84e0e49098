//! Runs histories: `simulate [--seeds N] [--first N] [--verbose]`. Ends with 1 if a promise is broken.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program for people"
)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tq_simulation::{Options, Report, run};

/// Histories that are run if none are asked for.
const SEEDS: u64 = 100_000;

fn main() -> ExitCode {
    let (mut seeds, mut first, mut verbose) = (SEEDS, 0, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok());
        match (argument.as_str(), &mut seeds, &mut first) {
            ("--verbose", ..) => verbose = true,
            ("--seeds", seeds, _) => match number() {
                Some(number) => *seeds = number,
                None => return usage(&argument),
            },
            ("--first", _, first) => match number() {
                Some(number) => *first = number,
                None => return usage(&argument),
            },
            _ => return usage(&argument),
        }
    }
    let watcher: Option<fn(Duration, &str)> = match verbose {
        true => Some(|now, what| println!("{:>12.6} {what}", now.as_secs_f64())),
        false => None,
    };
    let options = Options { bug: None, watcher };
    if !verbose {
        // What a broken promise says is printed once, at the end of its history.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let began = now();
    let next = AtomicU64::new(first);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let (mut sum, mut broken) = (Report::default(), 0);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return (sum, broken);
            }
            match run(seed, options) {
                Ok(report) => sum = sum.plus(&report),
                Err(why) => {
                    broken += 1;
                    println!("history {seed}: {why}");
                }
            }
        }
    };
    let (sum, broken) = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let sums = threads.into_iter().map(|thread| thread.join());
        sums.fold((Report::default(), 0), |(all, broken), one| match one {
            Ok((sum, more)) => (all.plus(&sum), broken + more),
            Err(_) => (all, broken + 1),
        })
    });
    let Report {
        events,
        steps,
        tasks,
        attempts,
        openings,
        refused,
        crashes,
        ..
    } = sum;
    println!(
        "{seeds} histories in {:.0?}: {events} events, {steps} steps, {crashes} crashes of the broker, {tasks} tasks, {attempts} attempts, {openings} openings of breakers, {refused} tasks refused; {broken} broken",
        began.elapsed()
    );
    ExitCode::from(u8::from(broken > 0))
}

/// How long it takes is all that is not simulated.
#[expect(clippy::disallowed_methods, reason = "the one clock of this program")]
fn now() -> Instant {
    Instant::now()
}

fn usage(argument: &str) -> ExitCode {
    eprintln!("`{argument}` is not understood; simulate [--seeds N] [--first N] [--verbose]");
    ExitCode::from(2)
}
