//! What the domain takes to decide: transitions along the lives that tasks have, each with the check of its invariants, as
//! the ledger makes them.

use std::hint::black_box;
use std::sync::Arc;

use tq_core::invariants;
use tq_core::outcome::{Outcome, Usage};
use tq_core::task::{DataRef, Failure, Lease, Report, Spec, Task};
use tq_core::transition::{self, Rejected, Transition};
use tq_core::{Digest, Epoch, Limits, Placement, Priority, RetryPolicy, TaskId, Timestamp};
use tq_micro::{Run, Workload};

const SUBMITTED: Timestamp = Timestamp(1_700_000_000_000);
/// After every backoff of the default policy.
const LATER: Timestamp = Timestamp(1_700_000_600_000);

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "core/succeeds",
        tasks: 1,
        rounds: 2_000,
        start: || lives(succeeds),
    },
    Workload {
        name: "core/fails_once",
        tasks: 1,
        rounds: 2_000,
        start: || lives(fails_once),
    },
    Workload {
        name: "core/is_cancelled",
        tasks: 1,
        rounds: 2_000,
        start: || lives(is_cancelled),
    },
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tq_micro::main(WORKLOADS)
}

/// One life after the other.
fn lives(life: fn(&mut World, TaskId) -> Task) -> Run {
    let mut world = World {
        spec: Arc::new(spec()),
        host: Arc::from("host-1"),
        epoch: 0,
    };
    let mut id = 0_u128;
    Box::new(move |rounds| {
        for _ in 0..rounds {
            id += 1;
            black_box(life(&mut world, TaskId(id.to_be_bytes())));
        }
    })
}

/// What tasks share.
struct World {
    spec: Arc<Spec>,
    host: Arc<str>,
    epoch: u64,
}

fn succeeds(world: &mut World, id: TaskId) -> Task {
    let task = world.submit(id);
    let (task, epoch) = world.claim(task, SUBMITTED);
    report(task, epoch, Outcome::Succeeded, LATER)
}

fn fails_once(world: &mut World, id: TaskId) -> Task {
    let task = world.submit(id);
    let (task, epoch) = world.claim(task, SUBMITTED);
    let task = report(task, epoch, Outcome::Trap, SUBMITTED);
    let task = then(task, |task| transition::wake(task, LATER));
    let (task, epoch) = world.claim(task, LATER);
    report(task, epoch, Outcome::Succeeded, LATER)
}

fn is_cancelled(world: &mut World, id: TaskId) -> Task {
    let task = world.submit(id);
    let (task, epoch) = world.claim(task, SUBMITTED);
    let task = then(task, |task| transition::cancel(task, SUBMITTED));
    report(task, epoch, Outcome::Cancelled, LATER)
}

impl World {
    fn submit(&self, id: TaskId) -> Task {
        let made = transition::submit(id, Arc::clone(&self.spec), 0, SUBMITTED);
        checked(None, made)
    }

    fn claim(&mut self, task: Task, now: Timestamp) -> (Task, Epoch) {
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        let lease = Lease {
            epoch,
            host: Arc::clone(&self.host),
            started_at: now,
        };
        (then(task, |task| transition::claim(task, lease)), epoch)
    }
}

fn report(task: Task, epoch: Epoch, outcome: Outcome, now: Timestamp) -> Task {
    let is_success = outcome == Outcome::Succeeded;
    let report = Report {
        epoch,
        outcome,
        result: is_success.then_some(DataRef::Row { len: 100 }),
        failure: (!is_success).then(|| Failure {
            message: "wasm trap: wasm `unreachable` instruction executed".to_owned(),
            backtrace: String::new(),
        }),
        retry_after: None,
        usage: Usage::default(),
    };
    then(task, |task| transition::report(task, &report, now))
}

fn then(task: Task, command: impl FnOnce(&Task) -> Result<Transition, Rejected>) -> Task {
    let made = command(&task);
    checked(Some(&task), made)
}

fn checked(before: Option<&Task>, made: Result<Transition, Rejected>) -> Task {
    let next = made.expect("the command fits the state").next;
    invariants::check(before, &next).expect("the domain keeps its invariants");
    next
}

fn spec() -> Spec {
    Spec {
        namespace: "default".to_owned(),
        module: "echo".to_owned(),
        version: 1,
        digest: Digest([7; 32]),
        function: "echo".to_owned(),
        payload: DataRef::Row { len: 100 },
        content_type: "application/json".to_owned(),
        arguments: Vec::new(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy::DEFAULT,
        priority: Priority::DEFAULT,
        placement: Placement::default(),
        run_at: None,
        deadline: None,
        result_ttl: None,
        idempotency_key: String::new(),
        unique_key: String::new(),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        submitted_at: SUBMITTED,
        labels: tq_core::label::Labels::new(),
        redriven_from: None,
    }
}
