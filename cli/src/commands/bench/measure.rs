//! What is measured of tq itself.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tq_client::{Client, NewTask, Task, TaskState, Watch, Watching};

use super::{MODULE, Stopwatch, percentile};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::traceparent;

/// Tasks of one submit.
const BATCH: u64 = 500;
/// Submits under way at once.
const SUBMITS: usize = 8;
/// Tasks that were submitted and have not ended: beyond it, the next submit waits. So what is measured is a broker that
/// keeps up, not one that gathers a backlog.
const OUTSTANDING_MAX: u64 = SUBMITS as u64 * BATCH;
/// Tasks that are measured one at a time.
const SINGLES: usize = 500;
/// Tasks before them that are not measured: the first one waits until the host has compiled the module.
const WARM_UP: usize = 50;
/// What is echoed.
const PAYLOAD: &[u8] =
    br#"{"name":"Ada","note":"a payload of the size that many small tasks have"}"#;

/// How much is submitted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// So many tasks.
    Tasks(u64),
    /// As many as are acknowledged in this time.
    Time(Duration),
}

/// Many tasks at once.
#[derive(Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) tasks: u64,
    /// From the first submit to the last end.
    pub(crate) seconds: f64,
    /// Submitted, run and settled, each on disk.
    pub(crate) tasks_per_second: f64,
    pub(crate) batch_tasks: u64,
    pub(crate) submits_at_once: usize,
    pub(crate) submit_p50_ns: u64,
    pub(crate) submit_p99_ns: u64,
}

/// One task at a time, from its submit to its result.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) tasks: usize,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
}

pub(crate) async fn latency(client: &Client) -> anyhow::Result<Latency> {
    let mut watching = watch_all(client, true).await?;
    let mut samples = Vec::with_capacity(SINGLES);
    for index in 0..WARM_UP + SINGLES {
        let task = task()?;
        let start = Stopwatch::start();
        client.submit(vec![task]).await?;
        // Nobody else submits in this namespace, and nothing else is under way.
        let ended = loop {
            let ended = next(&mut watching).await?;
            if let Some(task) = ended.into_iter().next() {
                break task;
            }
        };
        let elapsed = start.nanos();
        check(&ended)?;
        if ended.result.as_deref() != Some(PAYLOAD) {
            return Err(Failure::new(Exit::Ended, "echo did not return its payload").into());
        }
        if index >= WARM_UP {
            samples.push(elapsed);
        }
    }
    Ok(Latency {
        tasks: samples.len(),
        p50_ns: percentile(&mut samples, 0.5),
        p99_ns: percentile(&mut samples, 0.99),
    })
}

pub(crate) async fn throughput(client: &Client, amount: Amount) -> anyhow::Result<Throughput> {
    let mut watching = watch_all(client, false).await?;
    let bar = match amount {
        Amount::Tasks(tasks) => output::task_bar(tasks),
        Amount::Time(span) => output::spinner(format!("submitting for {} s", span.as_secs())),
    };
    let template = task()?;
    let start = Stopwatch::start();
    let left = |submitted: u64| match amount {
        Amount::Tasks(tasks) => tasks.saturating_sub(submitted),
        Amount::Time(span) if start.elapsed() < span => BATCH,
        Amount::Time(_) => 0,
    };
    let mut submits = FuturesUnordered::new();
    let (mut submitted, mut ended) = (0, 0);
    let mut samples = Vec::new();
    loop {
        while submits.len() < SUBMITS && submitted - ended < OUTSTANDING_MAX {
            let size = left(submitted).min(BATCH);
            if size == 0 {
                break;
            }
            submitted += size;
            let tasks: Vec<NewTask> = (0..size).map(|_| template.clone()).collect();
            submits.push(async move {
                let start = Stopwatch::start();
                client.submit(tasks).await.map(|_| start.nanos())
            });
        }
        if ended == submitted && submits.is_empty() {
            break;
        }
        tokio::select! {
            Some(acknowledged) = submits.next() => samples.push(acknowledged?),
            tasks = next(&mut watching) => {
                let tasks = tasks?;
                tasks.iter().try_for_each(check)?;
                ended += tasks.len() as u64;
                bar.set_position(ended);
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    Ok(Throughput {
        tasks: ended,
        seconds,
        tasks_per_second: ended as f64 / seconds,
        batch_tasks: BATCH,
        submits_at_once: SUBMITS,
        submit_p50_ns: percentile(&mut samples, 0.5),
        submit_p99_ns: percentile(&mut samples, 0.99),
    })
}

/// Watches every task that ends from when this returns.
async fn watch_all(client: &Client, include_result: bool) -> anyhow::Result<Watching> {
    let mut watching = client.watch(Watch::All { after_seq: None }, include_result);
    next(&mut watching).await?;
    Ok(watching)
}

async fn next(watching: &mut Watching) -> anyhow::Result<Vec<Task>> {
    watching
        .next()
        .await?
        .context("a watch over all tasks has ended")
}

fn task() -> Result<NewTask, std::io::Error> {
    Ok(NewTask {
        function: MODULE.to_owned(),
        payload: Bytes::from_static(PAYLOAD),
        content_type: "application/json".to_owned(),
        traceparent: traceparent::current()?,
        ..NewTask::default()
    })
}

fn check(task: &Task) -> Result<(), Failure> {
    if task.state() == TaskState::Succeeded {
        return Ok(());
    }
    let why = task
        .attempts
        .last()
        .and_then(crate::output::table::failure)
        .unwrap_or_default();
    Err(Failure::new(
        Exit::Ended,
        format!(
            "task {} of the measurement ended {}: {why}",
            task.id, task.outcome
        ),
    ))
}
