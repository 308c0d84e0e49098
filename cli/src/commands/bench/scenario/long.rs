//! Short tasks beside long ones that compute: as many long ones as there are processors, and as many slots free as before.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{Stage, warm_echo};
use crate::commands::bench::guests::{self, PAYLOAD, all_alike};
use crate::commands::bench::load::{Amount, Load, one_at_a_time, one_call};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::report::Figure;

const SPAN: Duration = Duration::from_secs(3);
/// Rounds of the loop of a long task: some tenths of a second.
const ROUNDS: u64 = 200_000_000;
const WARM_UP: u64 = 100;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let processors = u32::try_from(processors)?;
    let measure = async |nodes: &Nodes| {
        let span = stage.plan.span(SPAN);
        let short = nodes.client();
        let make = warm_echo(short, stage.plan.count(WARM_UP)).await?;
        let long = short.clone().with_namespace("bench-long");
        guests::deploy_work(&long).await?;
        let spin = guests::spin(stage.plan.count(ROUNDS))?;
        let expected = spin.payload.clone();
        let took = one_call(&long, spin.clone(), &expected).await?;

        let mut alone = one_at_a_time(short, &make, PAYLOAD, Amount::Time(span / 3)).await?;
        let load = Load {
            make: all_alike(spin),
            result: None,
            amount: Amount::Time(span),
            batch: 1,
            submits: 1,
            outstanding_max: processors.into(),
            is_shown: false,
        };
        let mut running = JoinSet::new();
        running.spawn(async move { load.run(&long).await });
        let mut beside = one_at_a_time(short, &make, PAYLOAD, Amount::Time(span)).await?;
        while let Some(done) = running.join_next().await {
            done??;
        }
        let alone_p50 = Figure::time("long.short_alone_p50", alone.p50());
        let alone_p99 = Figure::time("long.short_alone_p99", alone.p99());
        Ok(vec![
            Figure::time("long.long_takes", took),
            Figure::time("long.short_beside_p50", beside.p50()).beside(&alone_p50),
            Figure::time("long.short_beside_p99", beside.p99()).beside(&alone_p99),
            alone_p50,
            alone_p99,
        ])
    };
    let slots = stage.plan.slots.max(2 * processors);
    stage.on_nodes("long", slots, measure).await
}
