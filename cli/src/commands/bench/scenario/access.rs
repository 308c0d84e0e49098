//! The smallest call, of a broker with access control and of one without: what checking a key and a right costs.

use std::time::Duration;

use anyhow::Context as _;
use tq_client::Client;

use super::Stage;
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::process::Usage;
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::{Samples, Stopwatch};
use crate::commands::bench::{STALL, within};

/// The two take turns, so that both meet the same neighbours.
const ROUNDS: u64 = 20;
const CALLS: u64 = 1_000;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let (slots, isolation) = (stage.plan.slots, stage.plan.isolation);
    let open = Nodes::start_broker(&stage.place("open"), slots, isolation).await?;
    let guarded = Nodes::start_guarded_broker(&stage.place("guarded"), slots, isolation).await?;
    let work = open.watch_over(measure(&open, &guarded, stage.plan.count(CALLS)));
    let figures = guarded.watch_over(work).await?;
    stage.end(open, "open").await?;
    stage.end(guarded, "guarded").await?;
    Ok(figures)
}

async fn measure(open: &Nodes, guarded: &Nodes, calls: u64) -> anyhow::Result<Vec<Figure>> {
    let mut without = Measured::default();
    let mut with = Measured::default();
    // Connections and caches are warm after the first round.
    Measured::default().add(open, calls).await?;
    Measured::default().add(guarded, calls).await?;
    for _ in 0..ROUNDS {
        without.add(open, calls).await?;
        with.add(guarded, calls).await?;
    }
    let p50 = Figure::time("access.open_p50", without.samples.p50());
    let cpu = Figure::time_each("access.open_cpu_per_call", without.cpu, ROUNDS * calls);
    Ok(vec![
        Figure::time("access.guarded_p50", with.samples.p50()).beside(&p50),
        p50,
        Figure::time_each("access.guarded_cpu_per_call", with.cpu, ROUNDS * calls).beside(&cpu),
        cpu,
    ])
}

/// What calls took.
#[derive(Default)]
struct Measured {
    samples: Samples,
    /// Of the broker.
    cpu: Duration,
}

impl Measured {
    async fn add(&mut self, nodes: &Nodes, calls: u64) -> anyhow::Result<()> {
        let broker = nodes.broker_pid().context("there is no broker")?;
        let before = Usage::fine_cpu(broker)?;
        for _ in 0..calls {
            self.samples.push(call(nodes.client()).await?);
        }
        self.cpu += Usage::fine_cpu(broker)?.saturating_sub(before);
        Ok(())
    }
}

async fn call(client: &Client) -> anyhow::Result<Duration> {
    let start = Stopwatch::start();
    within("the answer to a call", STALL, async {
        Ok(client.who_am_i().await?)
    })
    .await?;
    Ok(start.elapsed())
}
