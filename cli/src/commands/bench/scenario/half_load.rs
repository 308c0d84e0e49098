//! Tasks that arrive at random, at half of the rate that the nodes can do at most.

use std::time::Duration;

use super::{Stage, warm_echo};
use crate::commands::bench::arrivals::Arrivals;
use crate::commands::bench::guests::PAYLOAD;
use crate::commands::bench::load::{Amount, Load};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::report::{Figure, Report};
use crate::commands::bench::sample::Stopwatch;

const SPAN: Duration = Duration::from_secs(5);
/// Tasks that find the peak, if no other scenario has.
const PEAK_TASKS: u64 = 30_000;
const WARM_UP: u64 = 5_000;

pub(super) async fn run(stage: &Stage<'_>, report: &Report) -> anyhow::Result<Vec<Figure>> {
    let known = report.figure("throughput.tasks_per_second");
    let measure = async |nodes: &Nodes| {
        let client = nodes.client();
        let make = warm_echo(client, stage.plan.count(WARM_UP)).await?;
        let peak = match known {
            Some(figure) => figure.clone(),
            None => {
                let load = Load::peak(
                    make.clone(),
                    PAYLOAD,
                    Amount::Tasks(stage.plan.count(PEAK_TASKS)),
                );
                let ran = load.run(client).await?;
                Figure::rate("half_load.peak_tasks_per_second", ran.tasks, ran.elapsed)
            }
        };
        let arrivals = Arrivals {
            make,
            result: PAYLOAD,
            per_second: peak.value / 2.0,
            span: stage.plan.span(SPAN),
            seed: stage.plan.seed,
        };
        let start = Stopwatch::start();
        let mut samples = arrivals.run(client).await?;
        let elapsed = start.elapsed();
        let tasks = samples.len() as u64;
        let rate = Figure::rate("half_load.tasks_per_second", tasks, elapsed).beside(&peak);
        let mut figures = vec![
            rate,
            Figure::time("half_load.p50", samples.p50()),
            Figure::time("half_load.p99", samples.p99()).goal(20e-3),
        ];
        if known.is_none() {
            figures.insert(0, peak);
        }
        Ok(figures)
    };
    stage.on_nodes("half-load", stage.plan.slots, measure).await
}
