//! What ten times too much does to a broker: `overload [--seconds N] [--times N] [--function NAME]`. Measures how many tasks a
//! broker and a host get done in a second (their *capacity*), then offers N times as many for so long, a third of them in each
//! tier, by clients that do not wait when they are told to, and then half of the capacity. Fails if less than 90 % of the
//! capacity was done meanwhile, if settlements had to wait, if memory grew, or if it took longer than a minute until
//! everything was as before. `cargo xtask evidence overload` calls it.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;
use tq_client::{Client, Error, NewTask};
use tq_tests::load::Flood;
use tq_tests::usage::Usage;
use tq_tests::{Broker, Host, guest, metrics};

/// A priority of each tier, and its name.
const TIERS: [(u32, &str); 3] = [(40, "low"), (127, "normal"), (210, "high")];
/// Tasks of one request.
const BATCH: u64 = 100;
/// Requests that are under way at once, at most: what a client would send beyond that counts as offered and not sent.
const OPEN_MAX: usize = 2_000;
/// What waits at most, as a multiple of what gets done in a second.
const WAITING_SECONDS: f64 = 4.0;
/// How long the capacity is measured.
const CAPACITY: Duration = Duration::from_secs(20);
/// How long it may take until all is as before.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// How much of the capacity has to get done, how much longer than a quiet settlement one may take, and how much the memory
/// of a process may grow.
const GOODPUT_MIN: f64 = 0.9;
const SETTLEMENT_MAX: f64 = 1.0;
const GROWTH_MAX: u64 = 256 << 20;

struct Options {
    seconds: u64,
    times: f64,
    function: String,
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        seconds: 300,
        times: 10.0,
        function: "sleep".to_owned(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{flag} needs a value"))?;
        let not_one = || format!("{flag} `{value}` is not a number");
        match flag.as_str() {
            "--seconds" => options.seconds = value.parse().with_context(not_one)?,
            "--times" => options.times = value.parse().with_context(not_one)?,
            "--function" => options.function = value,
            _ => bail!("`{flag}` is not a flag; there are --seconds, --times and --function"),
        }
    }
    ensure!(options.seconds >= 10, "--seconds is at least 10");
    Ok(options)
}

/// What became of what was offered in a span of time.
#[derive(Default)]
struct Offered {
    /// Tasks that could not be sent, since too many requests were under way.
    unsent: u64,
    /// Tasks taken in and refused, by tier.
    taken: BTreeMap<&'static str, u64>,
    refused: BTreeMap<&'static str, u64>,
    /// How long answers took, in milliseconds.
    taken_ms: Vec<f64>,
    refused_ms: Vec<f64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = options()?;
    tokio::runtime::Runtime::new()?.block_on(measure(&options))
}

async fn measure(options: &Options) -> anyhow::Result<ExitCode> {
    let example = guest::example("faults");
    let (function, payload, slots) = match options.function.as_str() {
        // What waits leaves the processor to others, so that the slots are what is short.
        "sleep" => ("faults/sleep", "10", 24),
        // The processors are, which the clients use too.
        "echo" => ("faults/echo", "x", 4),
        other => bail!("--function is `sleep` or `echo`, not `{other}`"),
    };
    let folder = tempfile::tempdir()?;
    let capacity = {
        let broker = Broker::start(&folder.path().join("first")).await;
        let _host = Host::start(&broker, &folder.path().join("host"), "a", slots).await;
        broker.tq().deploy(&example, "faults", &[]).await;
        let client = broker.client().await;
        let mut flood = Flood::of(client, function, payload.into()).await?;
        let open = 4_000;
        flood.run(open, Instant::now() + CAPACITY / 4).await?;
        let passed = flood.run(open, Instant::now() + CAPACITY).await?;
        passed.ended as f64 / CAPACITY.as_secs_f64()
    };
    let waiting = (capacity * WAITING_SECONDS).max(1_000.0) as u64;
    say(format!(
        "capacity: {capacity:.0} tasks of `{function} {payload}` a second, {slots} slots; at most {waiting} may wait\n\n{:<22}{:>10}{:>10}{:>10}{:>11}{:>11}{:>12}{:>13}{:>13}",
        "",
        "done/s",
        "taken/s",
        "refused/s",
        "waiting",
        "p99 taken",
        "p99 refused",
        "broker MiB",
        "host MiB"
    ))?;
    let flag = waiting.to_string();
    let broker = Broker::start_with(&folder.path().join("second"), &["--max-waiting", &flag]).await;
    let host = Host::start(&broker, &folder.path().join("host"), "a", slots).await;
    broker.tq().deploy(&example, "faults", &[]).await;
    let task = NewTask {
        function: function.to_owned(),
        payload: payload.into(),
        ..NewTask::default()
    };
    let mut load = Load {
        client: broker.client().await,
        task,
        broker: &broker,
        host: &host,
        ended: 0.0,
        largest: 0,
    };
    load.run("half of it, before", capacity / 2.0, 15).await?;
    let (quiet, settled_before) = (load.largest, settlements(&broker).await);
    let (mut done, mut spans, mut refused) = (0.0, 0.0, BTreeMap::new());
    let rate = capacity * options.times;
    let mut left = options.seconds;
    while left > 0 {
        let span = left.min(30);
        left -= span;
        let name = format!(
            "{:.0} times, to {} s",
            options.times,
            options.seconds - left
        );
        let (per_second, offered) = load.run(&name, rate, span).await?;
        done += per_second * span as f64;
        spans += span as f64;
        for (tier, _) in TIERS.map(|(_, tier)| (tier, ())) {
            let (yes, no) = (offered.taken.get(tier), offered.refused.get(tier));
            let sum: &mut (u64, u64) = refused.entry(tier).or_default();
            sum.0 += yes.copied().unwrap_or(0);
            sum.1 += no.copied().unwrap_or(0);
        }
    }
    let settled = settlements(&broker).await;
    let grown = load.largest.saturating_sub(quiet);
    let over = Instant::now();
    let mut recovered = None;
    while recovered.is_none() && over.elapsed() < RECOVERY_MAX * 2 {
        let (_, offered) = load.run("half of it, after", capacity / 2.0, 5).await?;
        let level = metrics::sample(broker.url(), "tq_overload_level").await;
        let waits = waiting_now(&broker).await;
        if offered.refused.is_empty() && level < 1.0 && waits < capacity {
            recovered = Some(over.elapsed());
        }
    }
    let share = done / spans / capacity;
    for (_, tier) in TIERS {
        let (taken, refused): (u64, u64) = refused[tier];
        let part = refused as f64 / (taken + refused).max(1) as f64;
        say(format!(
            "{tier:<8} {taken:>12} taken in, {refused:>12} refused, {:.1} %",
            part * 100.0
        ))?;
    }
    let slowest = settled.slowest_since(&settled_before);
    let recovery = recovered.map_or_else(
        || "not".to_owned(),
        |took| format!("after {:.0} s", took.as_secs_f64()),
    );
    say(format!(
        "done {:.1} % of the capacity; a settlement waited for the ledger at most {slowest:.4} s; memory grew by {} MiB; as before {recovery}",
        share * 100.0,
        grown >> 20
    ))?;
    let is_well = share >= GOODPUT_MIN
        && slowest <= SETTLEMENT_MAX
        && grown <= GROWTH_MAX
        && recovered.is_some_and(|took| took <= RECOVERY_MAX);
    Ok(match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn say(line: String) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Clients that submit at a rate that does not depend on how they fare.
struct Load<'a> {
    client: Client,
    task: NewTask,
    broker: &'a Broker,
    host: &'a Host,
    /// Tasks that had ended when it was looked last.
    ended: f64,
    /// The most memory that one of the processes had, in bytes.
    largest: u64,
}

impl Load<'_> {
    /// Submits so many tasks a second for so many seconds. Returns how many ended in a second, and what was offered.
    async fn run(&mut self, name: &str, rate: f64, seconds: u64) -> anyhow::Result<(f64, Offered)> {
        let mut offered = Offered::default();
        let began = Instant::now();
        let until = began + Duration::from_secs(seconds);
        let mut submits = FuturesUnordered::new();
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let mut sent = 0_u64;
        self.ended = ended(self.broker).await;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                Some(answer) = submits.next() => offered.note(answer)?,
                _ = tick.tick() => {
                    let due = (began.elapsed().as_secs_f64() * rate) as u64 / BATCH;
                    while sent < due {
                        let tier = TIERS[(sent % 3) as usize];
                        sent += 1;
                        match submits.len() < OPEN_MAX {
                            true => submits.push(submit(self.client.clone(), self.task.clone(), tier)),
                            false => offered.unsent += BATCH,
                        }
                    }
                }
            }
        }
        let took = began.elapsed().as_secs_f64();
        let done = (ended(self.broker).await - self.ended) / took;
        // What is under way is no part of the next span.
        while let Some(answer) = submits.next().await {
            offered.note(answer)?;
        }
        let resident = |process| anyhow::Ok(Usage::of(process)?.resident_bytes);
        let (broker, host) = (
            resident(&self.broker.process)?,
            resident(&self.host.process)?,
        );
        self.largest = self.largest.max(broker).max(host);
        let sum = |counts: &BTreeMap<_, u64>| counts.values().sum::<u64>() as f64 / took;
        say(format!(
            "{name:<22}{done:>10.0}{:>10.0}{:>10.0}{:>11.0}{:>8.1} ms{:>9.1} ms{:>13}{:>13}{}",
            sum(&offered.taken),
            sum(&offered.refused),
            waiting_now(self.broker).await,
            p99(&mut offered.taken_ms),
            p99(&mut offered.refused_ms),
            broker >> 20,
            host >> 20,
            match offered.unsent {
                0 => String::new(),
                unsent => format!("  ({:.0}/s not sent)", unsent as f64 / took),
            }
        ))?;
        Ok((done, offered))
    }
}

type Answer = (&'static str, Duration, Result<(), Error>);

async fn submit(client: Client, task: NewTask, (priority, tier): (u32, &'static str)) -> Answer {
    let began = Instant::now();
    let task = NewTask {
        priority: Some(priority),
        ..task
    };
    let answer = client.submit(vec![task; BATCH as usize]).await;
    (tier, began.elapsed(), answer.map(drop))
}

impl Offered {
    fn note(&mut self, (tier, took, answer): Answer) -> anyhow::Result<()> {
        let ms = took.as_secs_f64() * 1e3;
        match answer {
            Ok(()) => {
                *self.taken.entry(tier).or_default() += BATCH;
                self.taken_ms.push(ms);
            }
            Err(Error::Overloaded { .. }) => {
                *self.refused.entry(tier).or_default() += BATCH;
                self.refused_ms.push(ms);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn p99(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = values.len() * 99 / 100;
    values.get(index).copied().unwrap_or(0.0)
}

async fn ended(broker: &Broker) -> f64 {
    metrics::sample(broker.url(), r#"tq_tasks_ended_total{state="succeeded"}"#).await
}

async fn waiting_now(broker: &Broker) -> f64 {
    metrics::sample(broker.url(), r#"tq_tasks{state="ready"}"#).await
}

/// How many settlements had waited for the ledger for at most how long, as of some time.
struct Settlements(Vec<(f64, f64)>);

async fn settlements(broker: &Broker) -> Settlements {
    let text = metrics::text(broker.url()).await;
    let buckets = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("tq_ledger_wait_seconds_bucket{")?;
        let (labels, count) = rest.split_once("} ")?;
        let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
        let is_settlement = labels.contains("class=\"settlement\"");
        let bound = bound.parse().unwrap_or(f64::INFINITY);
        is_settlement.then(|| Some((bound, count.parse().ok()?)))?
    });
    Settlements(buckets.collect())
}

impl Settlements {
    /// A bound on how long the one took that took longest since, in seconds.
    fn slowest_since(&self, before: &Self) -> f64 {
        let all = |of: &Self| of.0.last().map_or(0.0, |(_, count)| *count);
        let total = all(self) - all(before);
        let buckets = self.0.iter().zip(&before.0);
        let within = buckets.filter(|((_, now), (_, then))| now - then >= total);
        let bound = within.map(|((bound, _), _)| *bound).next();
        bound.unwrap_or(f64::INFINITY)
    }
}
