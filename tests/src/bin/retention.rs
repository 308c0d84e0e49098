//! Whether removing what is over its time holds up anybody: `retention [--tasks N] [--seconds N]`. Lets N tasks end,
//! measures the longest pause between the starts of others while all of them stay, makes their time 1 s, and measures
//! again until the last of them is gone. `cargo xtask evidence retention` calls it.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tq_client::{Client, NewTask, RetentionChange, Watch};
use tq_tests::{Broker, Host, guest, metrics};

/// Loops that submit a few tasks and wait for them, at once.
const LOOPS: usize = 4;
/// Tasks of one turn of a loop.
const TURN: usize = 20;
/// How often the broker is asked how far it is.
const LOOK: Duration = Duration::from_millis(50);

/// What was seen in a span of time.
struct Seen {
    took: Duration,
    starts: usize,
    /// The longest pause between two starts, in milliseconds, and the one that 1 % are longer than.
    longest_ms: u64,
    p99_ms: u64,
}

fn main() -> anyhow::Result<()> {
    let (mut tasks, mut seconds) = (100_000_usize, 10_u64);
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{flag} needs a number"))?;
        let not_one = || format!("{flag} `{value}` is not a number");
        match flag.as_str() {
            "--tasks" => tasks = value.parse().with_context(not_one)?,
            "--seconds" => seconds = value.parse().with_context(not_one)?,
            _ => bail!("`{flag}` is not a flag; there are --tasks and --seconds"),
        }
    }
    let example = guest::example("faults");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let broker = Broker::start(&folder.path().join("broker")).await;
        let host = Host::start(&broker, &folder.path().join("host"), "retention", 8).await;
        broker.tq().deploy(&example, "faults", &[]).await;
        let client = broker.client().await;
        let all = (0..tasks).map(|_| call());
        client.submit_many(all, drop).await?;
        let ended = r#"tq_tasks{state="succeeded"}"#;
        until(broker.url(), ended, tasks as f64).await;
        let without = measure(&client, async {
            tokio::time::sleep(Duration::from_secs(seconds)).await
        })
        .await?;
        say("all of them stay", &without)?;
        let change = RetentionChange {
            succeeded: Some(Duration::from_secs(1)),
            ..RetentionChange::default()
        };
        let removal = async {
            let before = Instant::now();
            client.set_retention(change).await?;
            until(broker.url(), "tq_tasks_removed_total", tasks as f64).await;
            anyhow::Ok(before.elapsed())
        };
        let (took, told) = watch::channel(None);
        let during = measure(&client, async move {
            drop(took.send(Some(removal.await)));
        });
        let during = during.await?;
        say("they are removed", &during)?;
        let took = told
            .borrow()
            .as_ref()
            .and_then(|took| took.as_ref().ok().copied());
        let took = took.context("their time could not be set")?;
        let line = format!(
            "{tasks} tasks are gone after {:.1} s, {:.0} a second\n",
            took.as_secs_f64(),
            tasks as f64 / took.as_secs_f64()
        );
        io::stdout().write_all(line.as_bytes())?;
        host.process.stop().await;
        broker.process.stop().await;
        Ok(())
    })
}

fn call() -> NewTask {
    NewTask {
        function: "faults/echo".to_owned(),
        payload: "x".into(),
        ..NewTask::default()
    }
}

/// Waits until a metric is at least so much.
async fn until(url: &str, name: &str, least: f64) {
    while metrics::sample(url, name).await < least {
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs tasks while `other` goes on, and looks at when they started.
async fn measure(client: &Client, other: impl Future<Output = ()>) -> anyhow::Result<Seen> {
    let (stop, stopped) = watch::channel(false);
    let mut loops = JoinSet::new();
    for _ in 0..LOOPS {
        let (client, stopped) = (client.clone(), stopped.clone());
        loops.spawn(async move {
            let mut starts = Vec::new();
            while !*stopped.borrow() {
                let submitted = client.submit((0..TURN).map(|_| call()).collect()).await?;
                let ids = submitted.into_iter().map(|task| task.id).collect();
                let mut watching = client.watch(Watch::Ids(ids), false);
                while let Some(ended) = watching.next().await? {
                    let attempts = ended.iter().flat_map(|task| &task.attempts);
                    starts.extend(attempts.map(|attempt| attempt.started_ms));
                }
            }
            Ok::<_, tq_client::Error>(starts)
        });
    }
    let began = Instant::now();
    other.await;
    let took = began.elapsed();
    stop.send_replace(true);
    let mut starts = Vec::new();
    while let Some(of_one) = loops.join_next().await {
        starts.extend(of_one??);
    }
    starts.sort_unstable();
    let mut pauses: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    pauses.sort_unstable();
    ensure!(!pauses.is_empty(), "nothing ran");
    Ok(Seen {
        took,
        starts: starts.len(),
        longest_ms: pauses.last().copied().unwrap_or_default(),
        p99_ms: pauses[pauses.len() * 99 / 100],
    })
}

fn say(what: &str, seen: &Seen) -> io::Result<()> {
    let Seen {
        took,
        starts,
        longest_ms,
        p99_ms,
    } = seen;
    let line = format!(
        "{what}: {starts} starts in {:.1} s, {:.0} a second; longest pause {longest_ms} ms, 1 % over {p99_ms} ms\n",
        took.as_secs_f64(),
        *starts as f64 / took.as_secs_f64()
    );
    io::stdout().write_all(line.as_bytes())
}
