//! What a tenant that floods the broker does to others: `fairness [--flood N] [--seconds N]`. Starts a broker and a host
//! with two slots, lets two small tenants run one task after the other, and then again while a third one has N tasks of
//! 5 ms waiting (100,000 if no other number is asked for). Fails if a small task waited for longer than a host's credits
//! explain, or if the flood got less than what the small ones left. `cargo xtask evidence fairness` calls it.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::Instant;
use tq_client::{Client, NewTask, Task, Watch};
use tq_tests::{Broker, Host, guest, within};

const SLOTS: u32 = 2;
const FLOOD_TASK_MS: u64 = 5;
const SMALL_TASK_MS: u64 = 1;
/// What may be before a small task when it comes: what the host has been given for each of its slots already, and one
/// start of each other tenant. Beyond that, a shared machine needs some room.
const WAIT_MAX: Duration = Duration::from_millis(20 * FLOOD_TASK_MS);

fn main() -> anyhow::Result<ExitCode> {
    let (mut flood, mut seconds) = (100_000_u32, 10_u64);
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{flag} needs a number"))?;
        let not_a_number = || format!("{flag} `{value}` is not a number");
        match flag.as_str() {
            "--flood" => flood = value.parse().with_context(not_a_number)?,
            "--seconds" => seconds = value.parse().with_context(not_a_number)?,
            _ => bail!("`{flag}` is not a flag; there are --flood and --seconds"),
        }
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(flood, Duration::from_secs(seconds)))
}

async fn measure(flood: u32, span: Duration) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::start(&folder.path().join("broker")).await;
    let _host = Host::start(&broker, &folder.path().join("host"), "only", SLOTS).await;
    let client = broker.client().await;
    let mut tenants = Vec::new();
    for name in ["one", "two", "flood"] {
        let tenant = client.clone().with_namespace(name);
        let words = ["deploy", "--name", "work", "--namespace", name];
        let example = guest::example("faults");
        broker
            .tq()
            .run(words.iter().map(AsRef::as_ref).chain([example.as_os_str()]))
            .await
            .ok();
        // Its first task finds the module compiled.
        one_after_the_other(&tenant, Duration::ZERO).await?;
        tenants.push(tenant);
    }
    let [one, two, flooding] = &tenants[..] else {
        bail!("there are three tenants");
    };
    let alone = tokio::try_join!(
        one_after_the_other(one, span),
        one_after_the_other(two, span)
    )?;

    let task = NewTask {
        function: "work/sleep".to_owned(),
        payload: FLOOD_TASK_MS.to_string().into(),
        ..NewTask::default()
    };
    let tasks = (0..flood).map(|_| task.clone());
    flooding.submit_many(tasks, drop).await?;
    let before = flooding.queue("default").await?;
    let began = Instant::now();
    let beside = tokio::try_join!(
        one_after_the_other(one, span),
        one_after_the_other(two, span)
    )?;
    let took = began.elapsed();
    let after = flooding.queue("default").await?;
    let flooded = after.succeeded - before.succeeded;
    // What its attempts measured themselves, beside what they asked for.
    let slot_time = took * SLOTS;
    let of_flood = Duration::from_millis(flooded * FLOOD_TASK_MS);
    let share = of_flood.as_secs_f64() / slot_time.as_secs_f64();

    let mut stdout = io::stdout();
    writeln!(
        stdout,
        "two tenants with one task of {SMALL_TASK_MS} ms at a time, {SLOTS} slots; the third has {} tasks of {FLOOD_TASK_MS} ms waiting\n{:<28}{:>8}{:>12}{:>12}{:>12}",
        after.ready, "waits from submit to start", "tasks", "p50 ms", "p99 ms", "longest ms"
    )?;
    let mut longest = 0;
    for (name, waits) in [
        ("one, alone", &alone.0),
        ("two, alone", &alone.1),
        ("one, beside the flood", &beside.0),
        ("two, beside the flood", &beside.1),
    ] {
        let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
        longest = longest.max(at(1.0));
        writeln!(
            stdout,
            "{name:<28}{:>8}{:>12}{:>12}{:>12}",
            waits.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        )?;
    }
    writeln!(
        stdout,
        "the flood ran {flooded} tasks meanwhile, {:.0} % of the slots' time",
        share * 100.0
    )?;
    let is_fair = Duration::from_millis(longest) <= WAIT_MAX && after.ready > 0 && share > 0.3;
    Ok(match is_fair {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Runs one task after the other, one at least, and tells how long each waited, the shortest first, in milliseconds.
async fn one_after_the_other(client: &Client, span: Duration) -> anyhow::Result<Vec<u64>> {
    let until = Instant::now() + span;
    let mut waits = Vec::new();
    loop {
        let task = NewTask {
            function: "work/sleep".to_owned(),
            payload: SMALL_TASK_MS.to_string().into(),
            ..NewTask::default()
        };
        let id = client.submit(vec![task]).await?.remove(0).id;
        let mut watching = client.watch(Watch::Ids(vec![id.clone()]), false);
        within("a small task ends", async {
            while watching.next().await?.is_some() {}
            anyhow::Ok(())
        })
        .await?;
        let Task {
            submitted_ms,
            attempts,
            ..
        } = client.task(&id, false, false).await?;
        let first = attempts.first().context("it has run")?;
        waits.push(first.started_ms.saturating_sub(submitted_ms));
        if Instant::now() >= until {
            break;
        }
    }
    waits.sort_unstable();
    Ok(waits)
}
