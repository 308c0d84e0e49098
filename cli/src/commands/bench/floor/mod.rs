//! What this machine does at least for a task, without tq: each figure of tq stands beside one of these.

mod disk;
mod engine;
mod rpc;
mod store;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::guests::PAYLOAD;
use super::plan::Plan;
use super::report::Figure;

/// How long each round of a floor takes.
const SPAN: Duration = Duration::from_millis(150);
/// The best round counts: what the others took longer was other work of the machine.
const ROUNDS: u64 = 5;
/// A small task's rows together, and what one message about it has.
const ROW_BYTES: usize = 300;

/// The floors that figures are compared with.
pub(crate) struct Floors {
    /// Tasks a second in the bare engine, on as many threads as there are processors.
    pub(crate) engine_rate: Figure,
    /// Processor time of one task in a sandbox that no broker feeds.
    pub(crate) sandbox_cpu: Figure,
    /// The least that a durable call of one task takes: two synced appends (its submit and its end) and two round trips
    /// (client to broker, broker to host).
    pub(crate) durable_call: Figure,
    /// The least that a durable submit takes: a round trip and a synced append.
    pub(crate) durable_submit: Figure,
    /// What a task's payload and result have.
    pub(crate) data_bytes: Figure,
    /// All that was measured.
    pub(crate) figures: Vec<Figure>,
}

impl Floors {
    /// Measures all of them, on the disk that `folder` is on.
    pub(crate) async fn measure(folder: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let folder = folder.join("floor");
        std::fs::create_dir(&folder)?;
        let engine = engine::measure(&folder, plan).await?;
        let store = tokio::task::block_in_place(|| store::measure(&folder.join("store"), plan))?;
        let rpc = rpc::measure(plan).await?;
        let disk = tokio::task::block_in_place(|| disk::measure(&folder, plan))?;
        let seconds = |figure: &Figure| Duration::from_secs_f64(figure.value);
        let submit = seconds(&rpc.round_trip_p50) + seconds(&disk.sync_p50);
        let durable_submit = Figure::time("floor.durable_submit_p50", submit);
        let durable_call = Figure::time("floor.durable_call_p50", 2 * submit);
        let data_bytes = Figure::bytes("floor.data_per_task", 2 * PAYLOAD.len() as u64);
        let figures = [
            &engine.bare_rate,
            &engine.bare_cpu,
            &engine.sandbox_rate,
            &engine.sandbox_cpu,
        ]
        .into_iter()
        .chain(&store)
        .chain([
            &rpc.streamed,
            &rpc.round_trip_p50,
            &rpc.round_trip_p99,
            &disk.sync_p50,
            &disk.sync_p99,
            &durable_submit,
            &durable_call,
            &data_bytes,
        ])
        .cloned()
        .collect();
        Ok(Self {
            engine_rate: engine.bare_rate,
            sandbox_cpu: engine.sandbox_cpu,
            durable_call,
            durable_submit,
            data_bytes,
            figures,
        })
    }
}

/// The best of several rounds that are made one after the other.
fn best(round: impl FnMut() -> anyhow::Result<Figure>) -> anyhow::Result<Figure> {
    let rounds = std::iter::repeat_with(round).take(usize::try_from(ROUNDS)?);
    best_of(rounds.collect::<Result<_, _>>()?)
}

/// The best of several rounds.
fn best_of(rounds: Vec<Figure>) -> anyhow::Result<Figure> {
    let better = |best: Figure, next: Figure| match next.is_better_than(&best) {
        true => next,
        false => best,
    };
    rounds
        .into_iter()
        .reduce(better)
        .context("a floor needs a round")
}
