//! The engine: bare, and with tq's sandbox around each call.

use std::path::Path;

use bytes::Bytes;
use tq_host::floor::{Cost, Error, Floor};

use super::ROUNDS;
use crate::commands::bench::guests::{ECHO, ECHO_FUNCTION, PAYLOAD};
use crate::commands::bench::plan::Plan;
use crate::commands::bench::report::Figure;

/// Calls of one round.
const TASKS: u64 = 20_000;

/// What was measured.
pub(super) struct Engine {
    pub(super) bare_rate: Figure,
    pub(super) bare_cpu: Figure,
    pub(super) sandbox_rate: Figure,
    pub(super) sandbox_cpu: Figure,
}

pub(super) async fn measure(folder: &Path, plan: &Plan) -> anyhow::Result<Engine> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = u32::try_from(threads)?;
    let floor = Floor::prepare(Bytes::from_static(ECHO), threads, &folder.join("engine")).await?;
    let tasks = u32::try_from(plan.count(TASKS))?;
    let payload = Bytes::from_static(PAYLOAD);
    let mut bare = Vec::new();
    let mut slots = Vec::new();
    tokio::task::block_in_place(|| {
        // In turn, so that both meet the same machine.
        for _ in 0..ROUNDS {
            bare.push(floor.bare(threads, tasks, ECHO_FUNCTION, PAYLOAD)?);
            slots.push(floor.slots(threads, tasks, ECHO_FUNCTION, &payload)?);
        }
        Ok::<_, Error>(())
    })?;
    let bare_rate = rate("engine.tasks_per_second", &bare);
    let bare_cpu = cpu("engine.cpu_per_task", &bare);
    Ok(Engine {
        sandbox_rate: rate("sandbox.tasks_per_second", &slots).beside(&bare_rate),
        sandbox_cpu: cpu("sandbox.cpu_per_task", &slots)
            .beside(&bare_cpu)
            .goal(12e-6)
            .goal_share(1.4),
        bare_rate,
        bare_cpu,
    })
}

fn rate(id: &str, rounds: &[Cost]) -> Figure {
    let least = rounds.iter().map(|cost| cost.wall).min();
    Figure::rate(id, tasks_of(rounds), least.unwrap_or_default())
}

fn cpu(id: &str, rounds: &[Cost]) -> Figure {
    let least = rounds.iter().map(|cost| cost.cpu).min();
    Figure::time_each(id, least.unwrap_or_default(), tasks_of(rounds))
}

fn tasks_of(rounds: &[Cost]) -> u64 {
    rounds.first().map_or(0, |cost| cost.tasks.into())
}
