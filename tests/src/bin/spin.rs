//! How long after its limit an endless loop ends, and what it does to its neighbours: `spin [--runs N]`. Each run is one task
//! that loops until its time, or its fuel, is used up, beside short tasks that follow each other on the same host. Fails
//! if one ends later than 100 ms after its limit. `cargo xtask evidence spin` calls it.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::sync::watch;
use tokio::time::Instant;
use tq_client::{Client, Forced, LimitOverrides, NewTask, RetryOverrides, Task, Watch, Watching};
use tq_tests::{Dev, guest, only_number};

const SLOTS: u32 = 4;
const TIMEOUT: Duration = Duration::from_millis(200);
/// Lasts for about as long as [`TIMEOUT`] on one processor.
const FUEL: u64 = 1_000_000_000;
/// What the project promises.
const LATE_MAX_MS: f64 = 100.0;

/// What ends the loop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Timeout,
    Fuel,
}

fn main() -> anyhow::Result<ExitCode> {
    let runs = usize::try_from(only_number("--runs", 50)?)?;
    ensure!(runs > 0, "--runs is 0; it is at least 1");
    let example = guest::example("faults");
    let latest = tokio::runtime::Runtime::new()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let dev = Dev::start(&folder.path().join("data"), SLOTS).await;
        dev.tq().deploy(&example, "faults", &[]).await;
        dev.tq().run(["run", "faults/echo", "warm"]).await.ok();
        let client = dev.client().await;
        // Every one of them fails, and none is to wait.
        client
            .force_breaker("faults/spin", Forced::Closed, "")
            .await?;
        let mut latest = 0_f64;
        writeln!(
            io::stdout(),
            "{:<26}{:>6}  {:^30}  {:^38}\n{:<26}{:>6}  {:>10}{:>10}{:>10}  {:>8}{:>10}{:>10}{:>10}",
            "",
            "",
            "ended after its limit, ms",
            "short tasks beside it, ms",
            "loops",
            "runs",
            "p50",
            "p99",
            "max",
            "tasks",
            "p50",
            "p99",
            "max"
        )?;
        let quiet = beside(&client, tokio::time::sleep(TIMEOUT * 10)).await?;
        print("none", &[], &quiet.1)?;
        // One of the slots is left to the short tasks.
        for (name, limit, at_once) in [
            ("timeout, one at a time", Limit::Timeout, 1),
            ("timeout, three at once", Limit::Timeout, 3),
            ("fuel, one at a time", Limit::Fuel, 1),
            ("fuel, three at once", Limit::Fuel, 3),
        ] {
            let (late, short) = beside(&client, spins(&client, limit, runs, at_once)).await?;
            let late = late?;
            print(name, &late, &short)?;
            latest = late.into_iter().fold(latest, f64::max);
        }
        dev.process.stop().await;
        anyhow::Ok(latest)
    })?;
    Ok(if latest <= LATE_MAX_MS {
        ExitCode::SUCCESS
    } else {
        writeln!(
            io::stdout(),
            "the latest is over the limit of {LATE_MAX_MS} ms"
        )?;
        ExitCode::FAILURE
    })
}

/// Runs short tasks one after the other for as long as `work` takes. Returns what it made, and the milliseconds from each
/// submit to its result.
async fn beside<T>(
    client: &Client,
    work: impl Future<Output = T>,
) -> anyhow::Result<(T, Vec<f64>)> {
    let (over, is_over) = watch::channel(false);
    let short = async {
        let mut took = Vec::new();
        let mut ends = ends(client).await?;
        while !*is_over.borrow() {
            let started = Instant::now();
            let task = NewTask {
                function: "faults/echo".to_owned(),
                payload: "short".into(),
                ..NewTask::default()
            };
            let ended = run(client, &mut ends, vec![task]).await?;
            ensure!(ended.iter().all(|task| task.outcome == "succeeded"));
            took.push(started.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took)
    };
    let work = async {
        let made = work.await;
        over.send_replace(true);
        made
    };
    let (made, took) = tokio::join!(work, short);
    Ok((made, took?))
}

/// Runs loops, and returns how many milliseconds after its limit each ended by the broker's record.
async fn spins(
    client: &Client,
    limit: Limit,
    runs: usize,
    at_once: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut late = Vec::new();
    let mut ends = ends(client).await?;
    while late.len() < runs {
        let limits = match limit {
            Limit::Timeout => LimitOverrides {
                timeout_ms: Some(u64::try_from(TIMEOUT.as_millis())?),
                ..LimitOverrides::default()
            },
            Limit::Fuel => LimitOverrides {
                fuel: Some(FUEL),
                ..LimitOverrides::default()
            },
        };
        let task = NewTask {
            function: "faults/spin".to_owned(),
            limits: Some(limits),
            retry: Some(RetryOverrides {
                max_attempts: Some(1),
                ..RetryOverrides::default()
            }),
            ..NewTask::default()
        };
        let count = at_once.min(runs - late.len());
        for task in run(client, &mut ends, vec![task; count]).await? {
            late.push(lateness(&task, limit)?);
        }
    }
    Ok(late)
}

fn lateness(task: &Task, limit: Limit) -> anyhow::Result<f64> {
    let attempt = task.attempts.last().context("it had an attempt")?;
    let usage = attempt.usage.context("its use is recorded")?;
    let recorded = (attempt.ended_ms - attempt.started_ms) as f64;
    let allowed = match limit {
        Limit::Timeout => {
            ensure!(task.outcome == "timeout", "it ended as {}", task.outcome);
            TIMEOUT.as_secs_f64() * 1e3
        }
        // Fuel is no time. When it was used up the guest ended: what comes after that is late.
        Limit::Fuel => {
            ensure!(
                task.outcome == "fuel_exhausted",
                "it ended as {}",
                task.outcome
            );
            ensure!(usage.fuel <= FUEL, "it used {} of {FUEL} fuel", usage.fuel);
            usage.wall_ns as f64 / 1e6
        }
    };
    Ok(recorded - allowed)
}

/// A watch over every end from now on: one stream, where a stream for each task would be measured too.
async fn ends(client: &Client) -> anyhow::Result<Watching> {
    let mut ends = client.watch(Watch::All { after_seq: None }, false);
    ends.next().await?;
    Ok(ends)
}

/// Submits tasks and waits until all have ended.
async fn run(
    client: &Client,
    ends: &mut Watching,
    tasks: Vec<NewTask>,
) -> anyhow::Result<Vec<Task>> {
    let submitted = client.submit(tasks).await?;
    let mut open: HashSet<String> = submitted.into_iter().map(|task| task.id).collect();
    let mut ended = Vec::new();
    while !open.is_empty() {
        let tasks = ends
            .next()
            .await?
            .context("a watch over all does not end")?;
        ended.extend(tasks.into_iter().filter(|task| open.remove(&task.id)));
    }
    Ok(ended)
}

fn print(name: &str, late: &[f64], short: &[f64]) -> io::Result<()> {
    let row = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        [0.5, 0.99, 1.0].map(|part| at(&sorted, part)).concat()
    };
    writeln!(
        io::stdout(),
        "{name:<26}{:>6}  {}  {:>8}{}",
        late.len(),
        row(late),
        short.len(),
        row(short)
    )
}

/// The value below which this part of all sorted values is.
fn at(sorted: &[f64], part: f64) -> String {
    let index = (part * sorted.len() as f64).ceil() as usize;
    match sorted.get(index.saturating_sub(1)) {
        Some(value) => format!("{value:>10.1}"),
        None => format!("{:>10}", "-"),
    }
}
