//! Many small clients, each with a connection of its own: it submits one task, waits for the result, and submits the next.

use std::time::Duration;

use tokio::task::JoinSet;
use tq_client::{Client, NewTask};

use super::{Stage, warm_echo};
use crate::commands::bench::guests::{self, PAYLOAD};
use crate::commands::bench::load::one_call;
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::{Samples, Stopwatch};
use crate::commands::bench::{STALL, within};

const CLIENTS: [usize; 2] = [64, 256];
const SPAN: Duration = Duration::from_secs(3);
const WARM_UP: u64 = 2_000;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let measure = async |nodes: &Nodes| {
        warm_echo(nodes.client(), stage.plan.count(WARM_UP)).await?;
        let mut figures = Vec::new();
        for count in CLIENTS {
            let (mut samples, elapsed) =
                clients(nodes.client(), count, stage.plan.span(SPAN)).await?;
            let tasks = samples.len() as u64;
            figures.extend([
                Figure::rate(
                    format!("fan_in.clients_{count}.tasks_per_second"),
                    tasks,
                    elapsed,
                )
                .beside(&stage.floors.engine_rate),
                Figure::time(format!("fan_in.clients_{count}.p50"), samples.p50()),
                Figure::time(format!("fan_in.clients_{count}.p99"), samples.p99()),
            ]);
        }
        Ok(figures)
    };
    stage.on_nodes("fan-in", stage.plan.slots, measure).await
}

async fn clients(
    client: &Client,
    count: usize,
    span: Duration,
) -> anyhow::Result<(Samples, Duration)> {
    // All are connected before the first begins.
    let mut connected = Vec::with_capacity(count);
    for _ in 0..count {
        let another = within("a connection", STALL, async {
            Ok(Client::connect(client.url()).await?)
        });
        connected.push(another.await?.with_namespace(client.namespace()));
    }
    let task = guests::echo()?;
    let start = Stopwatch::start();
    let mut working = JoinSet::new();
    for client in connected {
        working.spawn(one_client(client, task.clone(), start, span));
    }
    let mut samples = Samples::default();
    while let Some(done) = working.join_next().await {
        samples.extend(done??);
    }
    Ok((samples, start.elapsed()))
}

async fn one_client(
    client: Client,
    task: NewTask,
    start: Stopwatch,
    span: Duration,
) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    while start.elapsed() < span {
        samples.push(one_call(&client, task.clone(), PAYLOAD).await?);
    }
    Ok(samples)
}
