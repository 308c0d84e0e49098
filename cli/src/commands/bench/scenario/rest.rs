//! Nodes with nothing to do: what they hold in memory, and what they do nevertheless.

use std::time::Duration;

use anyhow::Context as _;

use super::Stage;
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::process::Usage;
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::Stopwatch;

/// What follows a start is over after this.
const SETTLED: Duration = Duration::from_secs(3);
const SPAN: Duration = Duration::from_secs(5);

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let measure = async |nodes: &Nodes| measure(nodes, stage.plan.span(SPAN)).await;
    stage.on_nodes("rest", stage.plan.slots, measure).await
}

async fn measure(nodes: &Nodes, span: Duration) -> anyhow::Result<Vec<Figure>> {
    let broker = nodes.broker_pid().context("there is no broker")?;
    let host = nodes.host_pid().context("there is no host")?;
    tokio::time::sleep(SETTLED).await;
    let cpu = || anyhow::Ok(Usage::fine_cpu(broker)? + Usage::fine_cpu(host)?);
    let before = cpu()?;
    let start = Stopwatch::start();
    tokio::time::sleep(span).await;
    let busy = cpu()?.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    let (broker, host) = (Usage::of(broker)?, Usage::of_family(host)?);
    let both = broker.resident_bytes + host.resident_bytes;
    Ok(vec![
        Figure::bytes("rest.resident", both).goal(f64::from(60 << 20)),
        Figure::bytes("rest.broker_resident", broker.resident_bytes),
        Figure::bytes("rest.host_resident", host.resident_bytes),
        // Of one processor. A thousandth is a wake-up now and then: heartbeats.
        Figure::part("rest.cpu", busy).goal(1e-3),
    ])
}
