//! Searches and exports among many tasks that have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use tq_client::{Client, ExportFormat, TaskSearch};

use super::Stage;
use crate::commands::bench::guests::{self, Make, PAYLOAD};
use crate::commands::bench::load::{Amount, Load};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::{Samples, Stopwatch};
use crate::commands::bench::{STALL, within};

/// Tasks on a page.
const PAGE: u32 = 100;
/// First pages of each search that are timed.
const TIMES: usize = 20;
/// One task of so many has a customer that others have too.
const CUSTOMERS: u64 = 1_000;
/// One task of so many is marked.
const RARE: u64 = 100_000;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let plan = stage.plan;
    let measure = async |nodes: &Nodes| {
        let client = nodes.client();
        guests::deploy_echo(client).await?;
        let load = Load::peak(labelled()?, PAYLOAD, Amount::Tasks(plan.passed));
        load.run(client).await?;
        let mut figures = pages(client).await?;
        // Behind the newest page come so many that are none of it.
        let start = Stopwatch::start();
        let rare = all(client, &by("state = ended AND label.mark = rare", "")).await?;
        let wanted = usize::try_from(plan.passed.div_ceil(RARE))?;
        ensure!(rare == wanted, "{rare} rare tasks were found of {wanted}");
        figures.push(Figure::rate(
            "search.looked_at_per_second",
            plan.passed,
            start.elapsed(),
        ));
        let before = nodes.broker_usage()?.map(|usage| usage.resident_bytes);
        for (id, format) in [
            (
                "search.export_jsonl_tasks_per_second",
                ExportFormat::JsonLines,
            ),
            ("search.export_csv_tasks_per_second", ExportFormat::Csv),
        ] {
            let start = Stopwatch::start();
            let lines = export(client, format).await?;
            let names = u64::from(format == ExportFormat::Csv);
            ensure!(lines == plan.passed + names, "an export has {lines} lines");
            figures.push(Figure::rate(id, lines, start.elapsed()));
        }
        if let (Some(before), Some(after)) = (before, nodes.broker_usage()?) {
            let grown = after.resident_bytes.saturating_sub(before);
            figures.push(Figure::bytes("search.broker_grown_by_exports", grown));
        }
        Ok(figures)
    };
    stage.on_nodes("search", plan.slots, measure).await
}

/// First pages: of the newest, beside which those of searches stand.
async fn pages(client: &Client) -> anyhow::Result<Vec<Figure>> {
    let newest = Figure::time("search.newest_p50", first(client, &by("", "")).await?.p50());
    let mut figures = Vec::new();
    for (id, filter, sort) in [
        ("ended", "state = ended", ""),
        ("label", "state = ended AND label.customer = c7", ""),
        (
            "range",
            "ended > -1h AND duration >= 0s AND priority < 128",
            "ended",
        ),
        ("sorted", "state = ended", "-fuel"),
    ] {
        let mut samples = first(client, &by(filter, sort)).await?;
        let p50 = Figure::time(format!("search.{id}_p50"), samples.p50());
        figures.push(p50.beside(&newest));
        figures.push(Figure::time(format!("search.{id}_p99"), samples.p99()));
    }
    figures.push(newest);
    Ok(figures)
}

fn by(filter: &str, sort: &str) -> TaskSearch {
    TaskSearch {
        filter: filter.to_owned(),
        sort: sort.to_owned(),
        ..TaskSearch::default()
    }
}

/// Tasks with a customer, and with a mark on a few.
fn labelled() -> anyhow::Result<Make> {
    let (task, number) = (guests::echo()?, AtomicU64::new(0));
    Ok(Arc::new(move || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let mut task = task.clone();
        let customer = format!("c{}", number % CUSTOMERS);
        task.labels.insert("customer".to_owned(), customer);
        if number.is_multiple_of(RARE) {
            task.labels.insert("mark".to_owned(), "rare".to_owned());
        }
        task
    }))
}

async fn first(client: &Client, search: &TaskSearch) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..TIMES {
        let start = Stopwatch::start();
        let page = within("a page", STALL, async {
            Ok(client.search_page(search, PAGE, "").await?)
        });
        let found = page.await?.tasks.len();
        samples.push(start.elapsed());
        ensure!(found > 0, "`{}` found nothing", search.filter);
    }
    Ok(samples)
}

/// How many tasks there are, over all pages.
async fn all(client: &Client, search: &TaskSearch) -> anyhow::Result<usize> {
    let (mut found, mut next) = (0, String::new());
    loop {
        let page = within("a page", STALL, async {
            Ok(client.search_page(search, PAGE, &next).await?)
        });
        let page = page.await?;
        found += page.tasks.len();
        next = page.next;
        if next.is_empty() {
            return Ok(found);
        }
    }
}

/// How many lines an export has.
async fn export(client: &Client, format: ExportFormat) -> anyhow::Result<u64> {
    let mut lines = client.export_tasks(&by("", ""), format).await?;
    let mut count = 0;
    while let Some(data) = within("lines", STALL, async { Ok(lines.next().await) }).await? {
        let data = data.context("the export broke off")?;
        count += data.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
    Ok(count)
}
