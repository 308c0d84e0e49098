//! Throughput after many tasks have passed through the store, beside that of a fresh one.

use super::{Stage, warm_echo};
use crate::commands::bench::guests::PAYLOAD;
use crate::commands::bench::load::{Amount, Load};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::report::Figure;

const WARM_UP: u64 = 5_000;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let plan = stage.plan;
    let measure = async |nodes: &Nodes| {
        let client = nodes.client();
        let make = warm_echo(client, plan.count(WARM_UP)).await?;
        let load = |tasks| Load::peak(make.clone(), PAYLOAD, Amount::Tasks(tasks));
        let fresh = load(plan.aged_tasks).run(client).await?;
        let passing = load(plan.passed).run(client).await?;
        let aged = load(plan.aged_tasks).run(client).await?;
        let fresh = Figure::rate("aged.fresh_tasks_per_second", fresh.tasks, fresh.elapsed);
        let passing = Figure::rate(
            "aged.passing_tasks_per_second",
            passing.tasks,
            passing.elapsed,
        );
        let aged = Figure::rate("aged.tasks_per_second", aged.tasks, aged.elapsed);
        let mut figures = vec![
            aged.beside(&fresh).goal_share(0.8),
            passing.beside(&fresh),
            fresh,
        ];
        if let Some(broker) = nodes.broker_usage()? {
            let peak = broker.resident_peak_bytes;
            figures.push(Figure::bytes("aged.broker_resident_peak", peak));
        }
        Ok(figures)
    };
    stage.on_nodes("aged", plan.slots, measure).await
}
