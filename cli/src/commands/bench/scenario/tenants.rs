//! Namespaces of unequal load: one that asks for all there is, some that keep up, and one with a task at a time.

use std::time::Duration;

use tokio::task::JoinSet;
use tq_client::Client;

use super::{Stage, warm_echo};
use crate::commands::bench::guests::PAYLOAD;
use crate::commands::bench::load::{Amount, Load, Ran, one_at_a_time};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::report::Figure;

const SPAN: Duration = Duration::from_secs(4);
/// What the heavy one and each of the others have outstanding.
const HEAVY: u64 = 4_000;
const MIDDLE: u64 = 100;
const MIDDLE_TENANTS: usize = 6;
const WARM_UP: u64 = 200;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let measure = async |nodes: &Nodes| measure(stage, nodes.client()).await;
    stage.on_nodes("tenants", stage.plan.slots, measure).await
}

async fn measure(stage: &Stage<'_>, client: &Client) -> anyhow::Result<Vec<Figure>> {
    let (span, warm_up) = (stage.plan.span(SPAN), stage.plan.count(WARM_UP));
    let tenant = |name: String| {
        let namespace = match client.namespace() {
            "" => name,
            namespace => format!("{namespace}-{name}"),
        };
        client.clone().with_namespace(&namespace)
    };
    let mut loads = Vec::new();
    for index in 0..=MIDDLE_TENANTS {
        let client = tenant(format!("tenant-{index}"));
        let make = warm_echo(&client, warm_up).await?;
        let outstanding = if index == 0 { HEAVY } else { MIDDLE };
        let load = Load {
            batch: outstanding / 8,
            outstanding_max: outstanding,
            is_shown: false,
            ..Load::peak(make, PAYLOAD, Amount::Time(span))
        };
        loads.push((client, load));
    }
    let small = tenant("small".to_owned());
    let make = warm_echo(&small, warm_up).await?;

    let mut heavy = JoinSet::new();
    let mut middle = JoinSet::new();
    for (index, (client, load)) in loads.into_iter().enumerate() {
        let set = if index == 0 { &mut heavy } else { &mut middle };
        set.spawn(async move { load.run(&client).await });
    }
    let mut samples = one_at_a_time(&small, &make, PAYLOAD, Amount::Time(span)).await?;
    let (heavy, heavy_span) = together(heavy).await?;
    let (middle, middle_span) = together(middle).await?;
    let all = heavy + middle + samples.len() as u64;
    Ok(vec![
        Figure::rate("tenants.tasks_per_second", all, heavy_span.max(middle_span))
            .beside(&stage.floors.engine_rate),
        Figure::rate("tenants.heavy_tasks_per_second", heavy, heavy_span),
        Figure::rate("tenants.middle_tasks_per_second", middle, middle_span),
        Figure::time("tenants.small_p50", samples.p50()).beside(&stage.floors.durable_call),
        Figure::time("tenants.small_p99", samples.p99()),
    ])
}

/// Tasks of several loads, and the time until the last of them was over.
async fn together(mut loads: JoinSet<anyhow::Result<Ran>>) -> anyhow::Result<(u64, Duration)> {
    let (mut tasks, mut longest) = (0, Duration::ZERO);
    while let Some(done) = loads.join_next().await {
        let ran = done??;
        tasks += ran.tasks;
        longest = longest.max(ran.elapsed);
    }
    Ok((tasks, longest))
}
