//! Rows of tasks: encoded as every submit and settlement does, and decoded as a task is that no window holds.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use tq_broker::tables::row::{
    Beside, Claim, decode_task, encode_call, encode_claims, encode_state,
};
use tq_broker::tables::{Namespace, Position, key};
use tq_core::outcome::{Outcome, Usage};
use tq_core::task::{DataRef, Lease, Report, Spec, Task};
use tq_core::transition::{claim, report, submit};
use tq_core::{Digest, Epoch, Limits, Placement, Priority, RetryPolicy, TaskId, Timestamp};
use tq_micro::{Run, Workload};

const ID: TaskId = TaskId([7; 16]);
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const BYTES: &[u8] = &[b'x'; 100];

const WORKLOADS: &[Workload] = &[
    // What becomes of most tasks: a call and its key, a claim, an end.
    Workload {
        name: "codecs/encode",
        tasks: 1,
        rounds: 2_000,
        start: encode,
    },
    Workload {
        name: "codecs/decode_waiting",
        tasks: 1,
        rounds: 2_000,
        start: || {
            let call = encode_call(&spec(), NOW, Some(Position(1_000_000)), BYTES);
            decode(call, None)
        },
    },
    Workload {
        name: "codecs/decode_ended",
        tasks: 1,
        rounds: 2_000,
        start: || {
            let ended = ended(&running(&submitted()));
            let state = encode_state(&ended, &Beside::default(), BYTES);
            decode(encode_call(&spec(), NOW, None, BYTES), Some(state))
        },
    },
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tq_micro::main(WORKLOADS)
}

fn encode() -> Run {
    let submitted = submitted();
    let running = running(&submitted);
    let ended = ended(&running);
    let claim = Claim {
        namespace: Namespace(1),
        id: running.id,
        lease: running.lease().expect("it runs").clone(),
    };
    let beside = Beside::default();
    Box::new(move |rounds| {
        for _ in 0..rounds {
            let namespace = black_box(Namespace(1));
            black_box(key::call(namespace, submitted.id));
            black_box(encode_call(black_box(&submitted.spec), NOW, None, BYTES));
            black_box(encode_claims(black_box(std::slice::from_ref(&claim))));
            black_box(key::state(namespace, ended.id));
            black_box(encode_state(black_box(&ended), &beside, BYTES));
        }
    })
}

fn decode(call: Vec<u8>, state: Option<Vec<u8>>) -> Run {
    let (call, state) = (Bytes::from(call), state.map(Bytes::from));
    Box::new(move |rounds| {
        for _ in 0..rounds {
            let record = decode_task(ID, black_box(call.clone()), state.clone());
            black_box(record.expect("it was encoded here"));
        }
    })
}

fn submitted() -> Task {
    let made = submit(ID, Arc::new(spec()), 0, NOW);
    made.expect("it has no deadline").next
}

fn running(task: &Task) -> Task {
    let lease = Lease {
        epoch: Epoch(1 << 32),
        host: Arc::from("host-1"),
        started_at: NOW,
    };
    claim(task, lease).expect("it is ready").next
}

fn ended(task: &Task) -> Task {
    let ended = Report {
        epoch: Epoch(1 << 32),
        outcome: Outcome::Succeeded,
        result: Some(DataRef::Row {
            len: BYTES.len() as u64,
        }),
        failure: None,
        retry_after: None,
        usage: Usage {
            fuel: 12_345,
            memory_bytes_peak: 1 << 20,
            wall_ns: 35_000,
            cpu_ns: 34_000,
            log_bytes: 0,
        },
    };
    report(task, &ended, NOW).expect("it runs").next
}

fn spec() -> Spec {
    Spec {
        namespace: "default".to_owned(),
        module: "echo".to_owned(),
        version: 1,
        digest: Digest([7; 32]),
        function: "echo".to_owned(),
        payload: DataRef::Row {
            len: BYTES.len() as u64,
        },
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
        submitted_at: NOW,
        labels: tq_core::label::Labels::new(),
        redriven_from: None,
    }
}
