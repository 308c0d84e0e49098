//! Tasks that wait for a clock and compute nothing, as many at once as there are slots.

use std::time::Duration;

use super::Stage;
use crate::commands::bench::guests::{self, all_alike};
use crate::commands::bench::load::{Amount, Load};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::report::Figure;

/// A host for tasks that wait has more slots than processors.
const SLOTS: u32 = 64;
const SPAN: Duration = Duration::from_millis(50);
/// Tasks of each slot.
const ROUNDS: u64 = 40;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let measure = async |nodes: &Nodes| {
        let client = nodes.client();
        guests::deploy_work(client).await?;
        let load = |tasks| {
            anyhow::Ok(Load {
                result: None,
                ..Load::peak(all_alike(guests::sleep(SPAN)?), &[], Amount::Tasks(tasks))
            })
        };
        load(SLOTS.into())?.run(client).await?;
        let before = nodes.host_usage()?;
        let ran = load(u64::from(SLOTS) * stage.plan.count(ROUNDS))?
            .run(client)
            .await?;
        let after = nodes.host_usage()?;
        let ideal = Figure::rate("waiting.slots_over_span", SLOTS.into(), SPAN);
        let mut figures = vec![
            Figure::rate("waiting.tasks_per_second", ran.tasks, ran.elapsed).beside(&ideal),
            ideal,
        ];
        if let (Some(before), Some(after)) = (before, after) {
            let cpu = after.cpu.saturating_sub(before.cpu);
            figures.push(Figure::time_each(
                "waiting.host_cpu_per_task",
                cpu,
                ran.tasks,
            ));
        }
        Ok(figures)
    };
    stage.on_nodes("waiting", SLOTS, measure).await
}
