//! The first task of a module that no host has seen, and the first task after the host was restarted.

use super::{Stage, warm_echo};
use crate::commands::bench::guests::{self, PAYLOAD, all_alike, large};
use crate::commands::bench::load::{Amount, Load, one_at_a_time};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::random::Random;
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::Samples;

/// What a small Rust component has.
const CODE_BYTES: usize = 50_000;
const MODULES: u64 = 10;
const RESTARTS: u64 = 3;

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut nodes = stage.nodes("cold-start", stage.plan.slots).await?;
    let new = nodes.watch_over(new_modules(stage, &nodes)).await?;
    let [mut first, mut compile, mut beyond] = new;
    let mut restarted = Samples::default();
    for _ in 0..stage.plan.count(RESTARTS) {
        nodes.stop_host().await?;
        nodes.start_host().await?;
        let one = async {
            let echo = all_alike(guests::echo()?);
            one_at_a_time(nodes.client(), &echo, PAYLOAD, Amount::Tasks(1)).await
        };
        restarted.extend(nodes.watch_over(one).await?);
    }
    stage.end(nodes, "cold-start").await?;
    let compile = Figure::time("cold_start.compile_p50", compile.p50());
    Ok(vec![
        Figure::time("cold_start.new_module_p50", first.p50()).beside(&compile),
        compile,
        // In its own right: the goal is on what comes to the compiler's own time.
        Figure::time("cold_start.beyond_compile_p50", beyond.p50()).goal(10e-3),
        Figure::time("cold_start.after_host_restart_p50", restarted.p50()).goal(5e-3),
    ])
}

/// For each module: the time of its first task, of its compilation here, and of the one beyond the other.
async fn new_modules(stage: &Stage<'_>, nodes: &Nodes) -> anyhow::Result<[Samples; 3]> {
    let client = nodes.client();
    warm_echo(client, 100).await?;
    let mut random = Random::new(stage.plan.seed);
    let [mut first, mut compile, mut beyond] = <[Samples; 3]>::default();
    for index in 0..stage.plan.count(MODULES) {
        let name = format!("tq-bench-new-{index}");
        let wasm = large(CODE_BYTES, &mut random);
        let compiled = tokio::task::block_in_place(|| tq_host::floor::compile(&wasm))?;
        // The upload is not part of it. The host begins to compile when that ends, which is now.
        guests::deploy(client, &name, wasm).await?;
        let make = all_alike(guests::echo_of(&name)?);
        let took = one_at_a_time(client, &make, PAYLOAD, Amount::Tasks(1))
            .await?
            .p50();
        first.push(took);
        compile.push(compiled);
        beyond.push(took.saturating_sub(compiled));
    }
    // The host was busy with it until now; what follows is about one that has nothing to do.
    let echo = all_alike(guests::echo()?);
    let last = Load::peak(echo, PAYLOAD, Amount::Tasks(100));
    last.run(client).await?;
    Ok([first, compile, beyond])
}
