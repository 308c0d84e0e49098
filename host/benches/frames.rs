//! What the host's session takes, from the bytes of an assignment to the bytes of its outcome, and the acknowledgement: all
//! that a host does for a task beside running it and reading sockets.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tq_core::TaskId;
use tq_core::id::Epoch;
use tq_core::outcome::{Outcome, Usage};
use tq_host::agent::session::{Command, Identity, Seen, Session};
use tq_host::runner::Finished;
use tq_micro::{Run, Workload};
use tq_proto::v1::broker_message::Kind;
use tq_proto::v1::data::Kind as DataKind;
use tq_proto::v1::{self, BrokerMessage};

const SLOTS: u32 = 64;
/// What a busy broker puts into a message.
const BATCH: usize = 64;
/// Messages that follow each other before the same bytes come again.
const RING: usize = 16;

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "session/batch_64",
        tasks: BATCH as u64,
        rounds: 100,
        start: || turns(BATCH),
    },
    Workload {
        name: "session/batch_1",
        tasks: 1,
        rounds: 2_000,
        start: || turns(1),
    },
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tq_micro::main(WORKLOADS)
}

/// What the broker sends for some tasks.
struct Turn {
    assignments: Bytes,
    acks: Bytes,
}

/// Rounds of one message of `batch` assignments each, every one of which succeeds and is acknowledged.
fn turns(batch: usize) -> Run {
    let identity = Identity {
        labels: tq_core::label::Labels::new(),
        memory_bytes: None,
        name: "host-1".to_owned(),
        incarnation: [1; 16],
        slots: SLOTS,
    };
    let mut session = Session::new(identity, Seen::default(), [].into(), Vec::new());
    let now = Duration::ZERO;
    session.connected(now);
    send(&mut session, now);
    let welcome = Kind::Welcome(v1::Welcome {
        store: Bytes::from_static(&[1; 16]),
        generation: 1,
        lease_ms: 10_000,
        heartbeat_ms: 2_000,
        fenced: Vec::new(),
        seq: 1,
    });
    receive(&mut session, encoded(welcome), now);
    send(&mut session, now);

    let ring: Vec<Turn> = (0..RING).map(|turn| turn_of(turn, batch)).collect();
    let mut turn = 0;
    let mut started = Vec::with_capacity(batch);
    Box::new(move |rounds| {
        for _ in 0..rounds {
            let Turn { assignments, acks } = &ring[turn];
            turn = (turn + 1) % RING;
            receive(&mut session, assignments.clone(), now);
            while let Some(command) = session.next_command() {
                match command {
                    Command::Start(assignment) => started.push(assignment),
                    Command::Stop { .. }
                    | Command::HandBack
                    | Command::Prepare { .. }
                    | Command::Upload { .. }
                    | Command::Spool(_)
                    | Command::Unspool(_)
                    | Command::Welcomed
                    | Command::Acknowledged { .. }
                    | Command::Disconnect(_) => {}
                }
            }
            assert_eq!(started.len(), batch, "all that is assigned is started");
            for assignment in started.drain(..) {
                session.finished(finished(Epoch(assignment.epoch)));
            }
            send(&mut session, now);
            receive(&mut session, acks.clone(), now);
            assert_eq!(session.kept(), 0, "every outcome is acknowledged");
        }
    })
}

/// Lets the session say all that it has to say, as its connection does.
fn send(session: &mut Session, now: Duration) {
    while let Some(message) = session.next_message(now) {
        black_box(message.encode_to_vec());
    }
}

fn receive(session: &mut Session, bytes: Bytes, now: Duration) {
    let message = BrokerMessage::decode(bytes).expect("it was encoded here");
    session.received(message, now);
}

fn turn_of(turn: usize, batch: usize) -> Turn {
    let epochs = (0..batch).map(|index| (1 << 32) + (turn * batch + index) as u64);
    let ack = |epoch| v1::Ack {
        epoch,
        fenced: false,
    };
    Turn {
        assignments: encoded(Kind::Assignments(v1::Assignments {
            assignments: epochs.clone().map(assignment).collect(),
            seq: 1,
        })),
        acks: encoded(Kind::Acks(v1::Acks {
            acks: epochs.map(ack).collect(),
            seq: 1,
        })),
    }
}

fn encoded(kind: Kind) -> Bytes {
    BrokerMessage { kind: Some(kind) }.encode_to_vec().into()
}

fn assignment(epoch: u64) -> v1::Assignment {
    v1::Assignment {
        task_id: TaskId(u128::from(epoch).to_be_bytes()).to_string(),
        namespace: "default".to_owned(),
        epoch,
        token: Bytes::from_static(&[9; 16]),
        digest: Bytes::from_static(&[7; 32]),
        function: "echo".to_owned(),
        payload: Some(inline(&[b'x'; 100])),
        content_type: "application/json".to_owned(),
        arguments: Vec::new(),
        // All of them have the default.
        limits: Some(v1::Limits::default()),
        deadline_ms: 0,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        attempt: 1,
        max_attempts: 3,
        checkpoint: None,
        alone: false,
        grants: None,
    }
}

fn finished(epoch: Epoch) -> Finished {
    Finished {
        epoch,
        outcome: Outcome::Succeeded,
        result: Some(Bytes::from_static(&[b'y'; 100])),
        failure: None,
        retry_after: None,
        usage: Usage {
            fuel: 12_345,
            memory_bytes_peak: 1 << 20,
            wall_ns: 35_000,
            cpu_ns: 34_000,
            log_bytes: 0,
        },
    }
}

fn inline(bytes: &'static [u8]) -> v1::Data {
    v1::Data {
        kind: Some(DataKind::Inline(Bytes::from_static(bytes))),
    }
}
