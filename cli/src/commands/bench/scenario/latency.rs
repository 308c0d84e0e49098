//! One task at a time, from its submit to its result: nothing else is under way.

use super::{Stage, warm_echo};
use crate::commands::bench::guests::PAYLOAD;
use crate::commands::bench::load::{Amount, one_at_a_time};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::report::Figure;

const TASKS: u64 = 1_000;
/// Tasks before them that are not timed.
const WARM_UP: u64 = 100;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let measure = async |nodes: &Nodes| {
        let tasks = Amount::Tasks(stage.plan.count(TASKS));
        let make = warm_echo(nodes.client(), stage.plan.count(WARM_UP)).await?;
        let mut samples = one_at_a_time(nodes.client(), &make, PAYLOAD, tasks).await?;
        Ok(vec![
            Figure::time("latency.p50", samples.p50())
                .beside(&stage.floors.durable_call)
                .goal(1e-3),
            Figure::time("latency.p99", samples.p99()).goal(4e-3),
        ])
    };
    stage.on_nodes("latency", stage.plan.slots, measure).await
}
