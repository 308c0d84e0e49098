//! Many tasks at once, as fast as they can be submitted, until the last has ended.

use super::{Stage, warm_echo};
use crate::commands::bench::guests::PAYLOAD;
use crate::commands::bench::load::{Amount, Load};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::report::Figure;

const WARM_UP: u64 = 2_000;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let tasks = stage.plan.burst_tasks;
    let measure = async |nodes: &Nodes| {
        let make = warm_echo(nodes.client(), stage.plan.count(WARM_UP)).await?;
        let load = Load {
            batch: 1_000,
            // Nothing holds it back.
            outstanding_max: u64::MAX,
            ..Load::peak(make, PAYLOAD, Amount::Tasks(tasks))
        };
        let ran = load.run(nodes.client()).await?;
        Ok(vec![
            Figure::time("burst.until_all_ended", ran.elapsed),
            Figure::rate("burst.tasks_per_second", ran.tasks, ran.elapsed)
                .beside(&stage.floors.engine_rate),
        ])
    };
    stage.on_nodes("burst", stage.plan.slots, measure).await
}
