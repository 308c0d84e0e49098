//! Measures one ledger thread: tasks a second from submit over claim to settlement, with a host that answers at once.
//!
//! `cargo bench -p tq-broker --bench ledger -- [--store memory|fjall] [--tasks N] [--batch N] [--rows]`. With `--rows` no
//! window holds a task, so that each one is read back from its row. Prints a line for each run.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures how long things take"
)]

use std::error::Error;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use tq_broker::dispatch::SessionId;
use tq_broker::dispatch::hosts::Link;
use tq_broker::dispatch::message::{Assignment, AttemptOutcome, Data, FromHost, Hello, ToHost};
use tq_broker::ledger::{Command, Config, Deploy, Ledger, Now, Submission, Submit};
use tq_broker::modules::Entry;
use tq_broker::modules::registry::{Function, Module};
use tq_broker::observe::Metrics;
use tq_broker::store::memory::Disk;
use tq_broker::store::{OpenOptions, Store, Syncer, open};
use tq_core::outcome::{Outcome, Usage};
use tq_core::task::{DataRef, Spec};
use tq_core::{Digest, Limits, Priority, RetryPolicy, Timestamp};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MODULE: Digest = Digest([7; 32]);
const NAMESPACE: &str = "default";

/// Keeps what the broker says.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<ToHost>>>);

impl Link for Wire {
    fn is_open(&self) -> bool {
        true
    }

    fn send(&self, message: ToHost) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(message);
        true
    }
}

struct Bench {
    ledger: Ledger,
    syncer: Box<dyn Syncer>,
    began: Instant,
    wire: Wire,
}

impl Bench {
    fn new(store: Box<dyn Store>, config: Config) -> Result<Self> {
        let now = Now {
            wall: Timestamp(1),
            mono: Duration::ZERO,
        };
        let ledger = Ledger::open(store, config, now, Metrics::default())?;
        Ok(Self {
            syncer: ledger.syncer(),
            ledger,
            began: Instant::now(),
            wire: Wire::default(),
        })
    }

    fn step(&mut self, commands: Vec<Command>) -> Result<()> {
        let mono = self.began.elapsed();
        let wall = Timestamp(1_700_000_000_000).after(mono);
        let stepped = self.ledger.step(Now { wall, mono }, commands)?;
        let durable_seq = self.syncer.sync()?;
        stepped.answers.give(durable_seq);
        Ok(())
    }

    fn connect(&mut self) -> Result<SessionId> {
        let (reply, _) = oneshot::channel();
        let deploy = Deploy {
            namespace: NAMESPACE.to_owned(),
            module: module(),
            reply,
        };
        let hello = Hello {
            name: "a".to_owned(),
            incarnation: [1; 16],
            slots: 4_096,
            ready: vec![MODULE],
            held: Vec::new(),
            outcomes: Vec::new(),
            seen: None,
            version: String::new(),
        };
        let (reply, mut session) = oneshot::channel();
        let hello = Command::Hello {
            hello: Box::new(hello),
            link: Arc::new(self.wire.clone()),
            reply,
        };
        self.step(vec![Command::Deploy(Box::new(deploy)), hello])?;
        let session = session.try_recv()??;
        self.step(vec![Command::FromHost(
            session,
            FromHost::Credits(u64::MAX),
        )])?;
        Ok(session)
    }

    /// What was assigned since the last call, and how many outcomes were acknowledged.
    fn heard(&mut self) -> (Vec<Assignment>, usize) {
        let messages =
            std::mem::take(&mut *self.wire.0.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut assigned, mut acked) = (Vec::new(), 0);
        for message in messages {
            match message {
                ToHost::Assignments { assignments, .. } => assigned.extend(assignments),
                ToHost::Acks { acks, .. } => acked += acks.len(),
                ToHost::Welcome { .. }
                | ToHost::Prepare { .. }
                | ToHost::Stop { .. }
                | ToHost::Heartbeat => {}
            }
        }
        (assigned, acked)
    }
}

fn module() -> Module {
    let function = Function {
        name: "echo".to_owned(),
        doc: String::new(),
        input: "json".to_owned(),
        output: "json".to_owned(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy::DEFAULT,
    };
    Module {
        name: "echo".to_owned(),
        version: 0,
        digest: MODULE,
        size_bytes: 100,
        entry: Entry::Handler,
        functions: vec![function],
        uploaded_at: Timestamp::EPOCH,
        not_granted: Vec::new(),
    }
}

fn submission() -> Submission {
    let spec = Spec {
        namespace: NAMESPACE.to_owned(),
        module: "echo".to_owned(),
        version: 1,
        digest: MODULE,
        function: "echo".to_owned(),
        payload: DataRef::Row { len: 100 },
        content_type: "application/json".to_owned(),
        arguments: Vec::new(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy::DEFAULT,
        priority: Priority::DEFAULT,
        run_at: None,
        deadline: None,
        idempotency_key: String::new(),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        submitted_at: Timestamp(1_700_000_000_000),
    };
    Submission {
        spec,
        payload: Some(Bytes::from_static(&[b'x'; 100])),
        request: [0; 32],
    }
}

fn outcome(assignment: &Assignment) -> AttemptOutcome {
    AttemptOutcome {
        attempt: assignment.attempt(),
        outcome: Outcome::Succeeded,
        result: Some(Data::Inline(Bytes::from_static(&[b'y'; 100]))),
        failure: None,
        retry_after: None,
        usage: Usage::default(),
    }
}

/// Passes `tasks` through a ledger and returns how many of them a second.
fn run(store: Box<dyn Store>, config: Config, tasks: usize, batch: usize) -> Result<f64> {
    let mut bench = Bench::new(store, config)?;
    let session = bench.connect()?;
    let (mut submitted, mut settled) = (0, 0);
    let mut assigned = Vec::new();
    let began = Instant::now();
    while settled < tasks {
        let mut commands = Vec::new();
        let outcomes: Vec<_> = std::mem::take(&mut assigned).iter().map(outcome).collect();
        if !outcomes.is_empty() {
            commands.push(Command::FromHost(session, FromHost::Outcomes(outcomes)));
        }
        let count = batch.min(tasks - submitted);
        if count > 0 {
            let (reply, _) = oneshot::channel();
            let tasks = (0..count).map(|_| submission()).collect();
            let namespace = NAMESPACE.to_owned();
            commands.push(Command::Submit(Submit {
                namespace,
                tasks,
                reply,
            }));
            submitted += count;
        }
        bench.step(commands)?;
        let (more, acked) = bench.heard();
        assigned = more;
        settled += acked;
    }
    let rate = tasks as f64 / began.elapsed().as_secs_f64();
    bench.ledger.close()?;
    Ok(rate)
}

fn main() -> Result<()> {
    let mut stores = vec!["memory", "fjall"];
    let (mut tasks, mut batch) = (100_000, 500);
    let mut config = Config {
        seed: 1,
        ..Config::default()
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--store" => match arguments.next().as_deref() {
                Some("memory") => stores = vec!["memory"],
                Some("fjall") => stores = vec!["fjall"],
                Some(_) | None => return Err("--store is memory or fjall".into()),
            },
            "--tasks" => tasks = arguments.next().unwrap_or_default().parse()?,
            "--batch" => batch = arguments.next().unwrap_or_default().parse()?,
            "--rows" => config.ready_window = 1,
            // What cargo itself adds.
            "--bench" => {}
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    for name in stores {
        let dir = tempfile::tempdir()?;
        let store: Box<dyn Store> = match name {
            "memory" => Box::new(Disk::new().open()?),
            _ => Box::new(open(&dir.path().join("store"), &OpenOptions::default())?),
        };
        let rate = run(store, config, tasks, batch)?;
        let mut out = std::io::stdout();
        writeln!(
            out,
            "{name}: {rate:.0} tasks/s ({tasks} tasks, batches of {batch})"
        )?;
    }
    Ok(())
}
