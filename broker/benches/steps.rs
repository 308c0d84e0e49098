//! What a step of the ledger costs without a disk: each settles the tasks of the one before, takes in as many new ones, and
//! hands them to the host.

#[expect(dead_code, reason = "what is only counted is not closed")]
mod one_host;

use tq_broker::ledger::Config;
use tq_broker::store::memory::Disk;
use tq_micro::{Run, Workload};

use one_host::OneHost;

/// As many as a full inbox gives.
const BATCH: usize = 500;

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "ledger/batch_500",
        tasks: BATCH as u64,
        rounds: 16,
        start: || steps(BATCH, Config::default().ready_window),
    },
    // No window holds a task, so that each one is read back from its row.
    Workload {
        name: "ledger/batch_500_from_rows",
        tasks: BATCH as u64,
        rounds: 16,
        start: || steps(BATCH, 1),
    },
    // What a step costs by itself, which a broker with little to do pays for every task.
    Workload {
        name: "ledger/batch_1",
        tasks: 1,
        rounds: 1_000,
        start: || steps(1, Config::default().ready_window),
    },
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tq_micro::main(WORKLOADS)
}

fn steps(batch: usize, ready_window: usize) -> Run {
    let config = Config {
        seed: 1,
        ready_window,
        ..Config::default()
    };
    let store = Disk::new().open().expect("nothing holds it open");
    let mut one = OneHost::open(Box::new(store), config).expect("the store is empty");
    // From the second step on, each one has both: tasks that end, and tasks that are new.
    one.pass(batch).expect("the store takes everything");
    Box::new(move |rounds| {
        for _ in 0..rounds {
            let settled = one.pass(batch).expect("the store takes everything");
            assert_eq!(
                settled, batch,
                "a step settles what the one before has given"
            );
        }
    })
}
