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
/// Tasks that wait, if they do.
const BACKLOG: usize = 4_096;
/// What a ledger that is to read them has in memory.
const WINDOW: usize = 256;

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "ledger/batch_500",
        tasks: BATCH as u64,
        rounds: 16,
        start: || steps(BATCH, 0),
    },
    // So many wait that each task is read back from its rows.
    Workload {
        name: "ledger/batch_500_from_rows",
        tasks: BATCH as u64,
        rounds: 16,
        start: || steps(BATCH, BACKLOG),
    },
    // What a step costs by itself, which a broker with little to do pays for every task.
    Workload {
        name: "ledger/batch_1",
        tasks: 1,
        rounds: 1_000,
        start: || steps(1, 0),
    },
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tq_micro::main(WORKLOADS)
}

/// A ledger on which `backlog` tasks wait.
fn steps(batch: usize, backlog: usize) -> Run {
    let mut config = Config {
        seed: 1,
        ..Config::default()
    };
    if backlog > 0 {
        // What is in the window is not read.
        config.ready_window = WINDOW;
    }
    let store = Disk::new().open().expect("nothing holds it open");
    let mut one = OneHost::open(Box::new(store), config).expect("the store is empty");
    if backlog > 0 {
        one.pass(backlog).expect("the store takes everything");
    }
    // From the second step on, each one has both: tasks that end, and tasks that are new.
    one.grant(batch as u64);
    one.pass(batch).expect("the store takes everything");
    Box::new(move |rounds| {
        for _ in 0..rounds {
            one.grant(batch as u64);
            let settled = one.pass(batch).expect("the store takes everything");
            assert_eq!(
                settled, batch,
                "a step settles what the one before has given"
            );
        }
    })
}
