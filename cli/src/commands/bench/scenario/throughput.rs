//! Many tasks at once: submitted, durable, dispatched, run in a fresh sandbox each, settled durably, results seen.

use std::time::Duration;

use super::{Stage, warm_echo};
use crate::commands::bench::guests::PAYLOAD;
use crate::commands::bench::load::{Amount, Load};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::process::Usage;
use crate::commands::bench::report::Figure;

/// Tasks before those that are timed.
const WARM_UP: u64 = 10_000;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let measure = async |nodes: &Nodes| measure(stage, nodes).await;
    stage
        .on_nodes("throughput", stage.plan.slots, measure)
        .await
}

async fn measure(stage: &Stage<'_>, nodes: &Nodes) -> anyhow::Result<Vec<Figure>> {
    let amount = stage.plan.throughput;
    let warm_up = match amount {
        Amount::Tasks(tasks) => WARM_UP.min(tasks / 10).max(1),
        Amount::Time(_) => stage.plan.count(WARM_UP),
    };
    let make = warm_echo(nodes.client(), warm_up).await?;
    let usage = || anyhow::Ok((nodes.broker_usage()?, nodes.host_usage()?, Usage::own()?));
    let before = usage()?;
    let mut ran = Load::peak(make, PAYLOAD, amount)
        .run(nodes.client())
        .await?;
    let after = usage()?;

    let tasks = ran.tasks;
    let mut figures = vec![
        Figure::rate("throughput.tasks_per_second", tasks, ran.elapsed)
            .beside(&stage.floors.engine_rate)
            .goal(40_000.0)
            .goal_share(0.3),
        Figure::time("throughput.submit_p50", ran.submits.p50()),
        Figure::time("throughput.submit_p99", ran.submits.p99()),
    ];
    let cpu = |before: Usage, after: Usage| after.cpu.saturating_sub(before.cpu);
    let mut whole = Duration::ZERO;
    if let ((Some(broker), Some(host), _), (Some(broker_after), Some(host_after), _)) =
        (before, after)
    {
        let broker_cpu = cpu(broker, broker_after);
        let host_cpu = cpu(host, host_after);
        whole += broker_cpu + host_cpu;
        let written = broker_after
            .written_bytes
            .saturating_sub(broker.written_bytes);
        figures.extend([
            Figure::time_each("throughput.broker_cpu_per_task", broker_cpu, tasks),
            Figure::time_each("throughput.host_cpu_per_task", host_cpu, tasks)
                .beside(&stage.floors.sandbox_cpu),
            Figure::bytes_each("throughput.broker_written_per_task", written, tasks)
                .beside(&stage.floors.data_bytes),
            Figure::bytes(
                "throughput.broker_resident_peak",
                broker_after.resident_peak_bytes,
            ),
            Figure::bytes(
                "throughput.host_resident_peak",
                host_after.resident_peak_bytes,
            ),
        ]);
    }
    let client_cpu = cpu(before.2, after.2);
    figures.push(Figure::time_each(
        "throughput.client_cpu_per_task",
        client_cpu,
        tasks,
    ));
    if whole > Duration::ZERO {
        // Processors over this is the most that this machine could do if nobody ever waited.
        whole += client_cpu;
        figures.push(Figure::time_each("throughput.cpu_per_task", whole, tasks));
    }
    Ok(figures)
}
