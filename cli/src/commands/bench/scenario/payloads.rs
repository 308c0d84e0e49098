//! Payloads and results from 100 bytes to 1 MiB. Each payload differs from all others, and each result from its payload:
//! large ones are kept under their digest, and the same one twice would be written once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tq_client::NewTask;

use super::Stage;
use crate::commands::bench::guests::{self, Make};
use crate::commands::bench::load::{Amount, Load};
use crate::commands::bench::nodes::Nodes;
use crate::commands::bench::random::Random;
use crate::commands::bench::report::Figure;

/// What is submitted at once, and what is outstanding, in bytes.
const BATCH_BYTES: u64 = 4 << 20;
const OUTSTANDING_BYTES: u64 = 32 << 20;
/// Tasks before those that are timed.
const WARM_UP: u64 = 64;

/// A size, and how many tasks have it.
struct Case {
    name: &'static str,
    bytes: u64,
    tasks: u64,
}

const CASES: [Case; 5] = [
    Case {
        name: "100b",
        bytes: 100,
        tasks: 30_000,
    },
    Case {
        name: "1kib",
        bytes: 1 << 10,
        tasks: 30_000,
    },
    Case {
        name: "16kib",
        bytes: 16 << 10,
        tasks: 10_000,
    },
    Case {
        name: "128kib",
        bytes: 128 << 10,
        tasks: 1_000,
    },
    Case {
        name: "1mib",
        bytes: 1 << 20,
        tasks: 200,
    },
];

pub(super) async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let measure = async |nodes: &Nodes| {
        let client = nodes.client();
        guests::deploy_work(client).await?;
        let mut random = Random::new(stage.plan.seed);
        let mut figures = Vec::new();
        for Case { name, bytes, tasks } in CASES {
            let tasks = stage.plan.count(tasks);
            let load = Load {
                make: payloads(usize::try_from(bytes)?, &mut random)?,
                result: None,
                amount: Amount::Tasks(tasks),
                batch: (BATCH_BYTES / bytes).clamp(1, 500),
                submits: 8,
                outstanding_max: (OUTSTANDING_BYTES / bytes).clamp(1, 4_000),
                is_shown: true,
            };
            let warm_up = Load {
                amount: Amount::Tasks(stage.plan.count(WARM_UP)),
                ..load.clone()
            };
            warm_up.run(client).await?;
            let ran = load.run(client).await?;
            let id = |what: &str| format!("payloads.{name}.{what}");
            let byte_rate = Figure::byte_rate(id("bytes_per_second"), tasks * bytes, ran.elapsed);
            figures.extend([
                Figure::rate(id("tasks_per_second"), tasks, ran.elapsed)
                    .beside(&stage.floors.engine_rate),
                match name {
                    "1mib" => byte_rate.goal(f64::from(150 << 20)),
                    _ => byte_rate,
                },
            ]);
        }
        Ok(figures)
    };
    stage.on_nodes("payloads", stage.plan.slots, measure).await
}

/// Makes tasks with payloads that begin with a number of their own.
fn payloads(bytes: usize, random: &mut Random) -> anyhow::Result<Make> {
    let template = guests::mark(random.bytes(bytes).into())?;
    let next = AtomicU64::new(0);
    Ok(Arc::new(move || {
        let mut payload = template.payload.to_vec();
        // The guest changes the first byte, so that the number stands behind it.
        let number = next.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        for (byte, digit) in payload.iter_mut().skip(1).zip(number) {
            *byte = digit;
        }
        NewTask {
            payload: Bytes::from(payload),
            ..template.clone()
        }
    }))
}
