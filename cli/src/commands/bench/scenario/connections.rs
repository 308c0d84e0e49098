//! Submits over a connection that is kept, and over a new one for each.

use tq_client::{Client, NewTask};

use super::{Stage, warm_echo};
use crate::commands::bench::guests;
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::{Samples, Stopwatch};
use crate::commands::bench::{STALL, within};

const SUBMITS: u64 = 300;
const WARM_UP: u64 = 100;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let measure = async |nodes: &Nodes| {
        let client = nodes.client();
        warm_echo(client, stage.plan.count(WARM_UP)).await?;
        let count = stage.plan.count(SUBMITS);
        let task = guests::echo()?;
        let mut kept = submits(count, &task, async || Ok(client.clone())).await?;
        let connect = async || {
            let fresh = Client::connect(client.url()).await?;
            Ok(fresh.with_namespace(client.namespace()))
        };
        let mut fresh = submits(count, &task, connect).await?;
        let kept_p50 = Figure::time("connections.kept_p50", kept.p50());
        Ok(vec![
            Figure::time("connections.new_p50", fresh.p50()).beside(&kept_p50),
            Figure::time("connections.new_p99", fresh.p99()),
            kept_p50.beside(&stage.floors.durable_submit),
            Figure::time("connections.kept_p99", kept.p99()),
        ])
    };
    stage
        .on_nodes("connections", stage.plan.slots, measure)
        .await
}

/// Times submits of one task, one after the other, each with the client that it is given.
async fn submits(
    count: u64,
    task: &NewTask,
    client: impl AsyncFn() -> anyhow::Result<Client>,
) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..count {
        let task = task.clone();
        let start = Stopwatch::start();
        within("the acknowledgement of a submit", STALL, async {
            Ok(client().await?.submit(vec![task]).await?)
        })
        .await?;
        samples.push(start.elapsed());
    }
    Ok(samples)
}
