//! Many tasks that wait in the line that hosts are fed from.
//!
//! The tasks are submitted while there is no host, and then one comes. From then on each task that ends is replaced by one
//! that goes to the end of the line, so that the backlog stays as long as it is: everything that is dispatched has waited,
//! as a row on disk, and everything that is submitted has to wait. Tasks that no host can run, or ones of a lower priority
//! that the timed ones pass by, would be easier: those never leave the disk.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tq_client::{Client, NewTask};

use super::{Stage, warm_echo};
use crate::commands::bench::guests::{Make, PAYLOAD};
use crate::commands::bench::load::{Amount, Load, one_call};
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::{Samples, Stopwatch};
use crate::commands::bench::{STALL, within};
use crate::output;

/// What the queue is filled with.
const BATCH: u64 = 1_000;
const SUBMITS: usize = 8;
/// Tasks of the highest priority that are timed beside the backlog.
const URGENT: u64 = 200;
const HIGHEST_PRIORITY: u32 = 255;
const WARM_UP: u64 = 5_000;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let plan = stage.plan;
    let waiting = plan.waiting;
    let mut nodes = stage.nodes("backlog", plan.slots).await?;
    let client = nodes.client().clone();
    let data_dir = nodes.data_dir().context("there is no data directory")?;
    let empty = async {
        let make = warm_echo(&client, plan.count(WARM_UP)).await?;
        let load = Load::peak(make.clone(), PAYLOAD, Amount::Tasks(plan.backlog_tasks));
        anyhow::Ok((make, load.clone(), load.run(&client).await?))
    };
    let (make, load, empty) = nodes.watch_over(empty).await?;
    let empty = Figure::rate("backlog.empty_tasks_per_second", empty.tasks, empty.elapsed);

    nodes.stop_host().await?;
    // In order, so that what was in journals is in tables, before and after.
    nodes.restart_broker().await?;
    let disk_before = disk_bytes(&data_dir)?;
    let start = Stopwatch::start();
    nodes.watch_over(fill(&client, &make, waiting)).await?;
    let filled = Figure::rate("backlog.filled_per_second", waiting, start.elapsed());
    let filled_peak = nodes
        .broker_usage()?
        .unwrap_or_default()
        .resident_peak_bytes;
    let restart = nodes.restart_broker().await?;
    let disk = disk_bytes(&data_dir)?.saturating_sub(disk_before);
    let payloads = waiting * PAYLOAD.len() as u64;

    nodes.start_host().await?;
    let measure = async {
        let ran = load.run(&client).await?;
        let mut urgent = Samples::default();
        for _ in 0..plan.count(URGENT) {
            let task = NewTask {
                priority: Some(HIGHEST_PRIORITY),
                ..make()
            };
            urgent.push(one_call(&client, task, PAYLOAD).await?);
        }
        anyhow::Ok((ran, urgent))
    };
    let (ran, mut urgent) = nodes.watch_over(measure).await?;
    let peak = nodes
        .broker_usage()?
        .unwrap_or_default()
        .resident_peak_bytes;
    stage.end(nodes, "backlog").await?;
    Ok(vec![
        Figure::rate("backlog.tasks_per_second", ran.tasks, ran.elapsed)
            .beside(&empty)
            .goal_share(0.9),
        empty,
        filled,
        Figure::time("backlog.urgent_p50", urgent.p50()),
        Figure::time("backlog.urgent_p99", urgent.p99()),
        Figure::bytes("backlog.broker_resident_peak", peak.max(filled_peak))
            .goal(f64::from(300 << 20)),
        Figure::bytes_each(
            "backlog.disk_per_waiting_task",
            disk.saturating_sub(payloads),
            waiting,
        )
        .goal(600.0),
        Figure::time("backlog.broker_restart", restart).goal(10.0),
    ])
}

/// Submits so many tasks, and does not wait for any.
async fn fill(client: &Client, make: &Make, count: u64) -> anyhow::Result<()> {
    let bar = output::task_bar(count);
    let mut under_way = FuturesUnordered::new();
    let (mut submitted, mut acknowledged) = (0, 0);
    while acknowledged < count {
        while under_way.len() < SUBMITS && submitted < count {
            let size = BATCH.min(count - submitted);
            submitted += size;
            let tasks: Vec<NewTask> = (0..size).map(|_| make()).collect();
            under_way.push(async move { client.submit(tasks).await.map(|_| size) });
        }
        let what = format!("a submit ({acknowledged} of {count} tasks are acknowledged)");
        let next = async { under_way.next().await.context("no submit is under way") };
        acknowledged += within(&what, STALL, next).await??;
        bar.set_position(acknowledged);
    }
    bar.finish_and_clear();
    Ok(())
}

/// What a folder takes on its disk, with all that is below it.
fn disk_bytes(folder: &Path) -> anyhow::Result<u64> {
    /// `st_blocks` counts in these, whatever the file system does (stat(2)).
    const BLOCK_BYTES: u64 = 512;
    let shown = folder.display();
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read `{shown}`"))?;
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path())?,
            Ok(metadata) => metadata.blocks() * BLOCK_BYTES,
            // The store gives back files that it has rewritten.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(bytes)
}
