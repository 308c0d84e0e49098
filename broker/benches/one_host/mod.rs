//! A ledger with one host, which answers at once: a bench without network, disk and guests.
//!
//! Time is made up, a millisecond a step, so that a run depends on nothing but the code.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tq_broker::dispatch::SessionId;
use tq_broker::dispatch::hosts::Link;
use tq_broker::dispatch::message::{Assignment, AttemptOutcome, Data, FromHost, Hello, ToHost};
use tq_broker::ledger::{Command, Config, Deploy, Ledger, Now, Submission, Submit};
use tq_broker::modules::Entry;
use tq_broker::modules::registry::{Function, Module};
use tq_broker::observe::Metrics;
use tq_broker::store::{Store, Syncer};
use tq_core::label::Labels;
use tq_core::outcome::{Outcome, Usage};
use tq_core::task::{DataRef, Spec};
use tq_core::{Digest, Limits, Placement, Priority, RetryPolicy, Timestamp};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MODULE: Digest = Digest([7; 32]);
const NAMESPACE: &str = "default";
const STEP: Duration = Duration::from_millis(1);

/// Keeps what the broker says.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<ToHost>>>);

impl Wire {
    fn take(&self) -> Vec<ToHost> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Link for Wire {
    fn send(&self, message: ToHost) -> bool {
        let mut messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push(message);
        true
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// The ledger and its time.
struct Steps {
    ledger: Ledger,
    syncer: Box<dyn Syncer>,
    time: Duration,
}

impl Steps {
    fn step(&mut self, commands: Vec<Command>) -> Result<()> {
        self.time += STEP;
        let now = Now {
            wall: Timestamp(1_700_000_000_000).after(self.time),
            mono: self.time,
        };
        let stepped = self.ledger.step(now, commands)?;
        let durable_seq = self.syncer.sync()?;
        stepped.answers.give(durable_seq);
        Ok(())
    }
}

/// A ledger, and what its host has not answered yet.
pub(crate) struct OneHost {
    steps: Steps,
    wire: Wire,
    session: SessionId,
    assigned: Vec<Assignment>,
    credits: u64,
}

impl OneHost {
    /// Opens a ledger on `store`, and has a module deployed and a host connected that takes what it is granted.
    pub(crate) fn open(store: Box<dyn Store>, config: Config) -> Result<Self> {
        let now = Now {
            wall: Timestamp(1),
            mono: Duration::ZERO,
        };
        let ledger = Ledger::open(store, config, now, Metrics::default())?;
        let mut steps = Steps {
            syncer: ledger.syncer(),
            ledger,
            time: Duration::ZERO,
        };
        let wire = Wire::default();
        let (reply, _) = oneshot::channel();
        let deploy = Deploy {
            namespace: NAMESPACE.to_owned(),
            module: module(),
            deny_new_grants: false,
            reply,
        };
        let hello = Hello {
            name: "a".to_owned(),
            incarnation: [1; 16],
            slots: 4_096,
            ready: vec![MODULE],
            held: Vec::new(),
            outcomes: Vec::new(),
            labels: Labels::new(),
            memory_bytes: None,
            seen: None,
            version: String::new(),
        };
        let (reply, mut session) = oneshot::channel();
        let hello = Command::Hello {
            hello: Box::new(hello),
            link: Arc::new(wire.clone()),
            reply,
        };
        steps.step(vec![Command::Deploy(Box::new(deploy)), hello])?;
        let session = session.try_recv()??;
        Ok(Self {
            steps,
            wire,
            session,
            assigned: Vec::new(),
            credits: 0,
        })
    }

    /// Lets the host take so many tasks more.
    pub(crate) fn grant(&mut self, more: u64) {
        self.credits = self.credits.saturating_add(more);
    }

    /// One step of the ledger: what the host was given before has succeeded, and `submitted` tasks are new. Returns how
    /// many ends were acknowledged.
    pub(crate) fn pass(&mut self, submitted: usize) -> Result<usize> {
        let credits = FromHost::Credits(self.credits);
        let mut commands = vec![Command::FromHost(self.session, credits)];
        if !self.assigned.is_empty() {
            let assigned = std::mem::take(&mut self.assigned);
            let outcomes = FromHost::Outcomes(assigned.iter().map(outcome).collect());
            commands.push(Command::FromHost(self.session, outcomes));
        }
        if submitted > 0 {
            let (reply, _) = oneshot::channel();
            commands.push(Command::Submit(Submit {
                namespace: NAMESPACE.to_owned(),
                tasks: (0..submitted).map(|_| submission()).collect(),
                permit: None,
                reply,
            }));
        }
        self.steps.step(commands)?;
        let mut acknowledged = 0;
        for message in self.wire.take() {
            match message {
                ToHost::Assignments { assignments, .. } => self.assigned.extend(assignments),
                ToHost::Acks { acks, .. } => acknowledged += acks.len(),
                ToHost::Welcome { .. }
                | ToHost::Prepare { .. }
                | ToHost::Stop { .. }
                | ToHost::Heartbeat
                | ToHost::HandBack
                | ToHost::Removed => {}
            }
        }
        Ok(acknowledged)
    }

    /// Closes the ledger and its store.
    pub(crate) fn close(self) -> Result<()> {
        self.steps.ledger.close()?;
        Ok(())
    }
}

fn module() -> Module {
    let function = Function {
        name: "echo".to_owned(),
        input: "json".to_owned(),
        output: "json".to_owned(),
        ..Function::default()
    };
    Module {
        name: "echo".to_owned(),
        version: 0,
        digest: MODULE,
        size_bytes: 100,
        entry: Entry::Handler,
        functions: vec![function],
        uploaded_at: Timestamp::EPOCH,
        retired_at: Timestamp::EPOCH,
        not_granted: Vec::new(),
        uncallable: Vec::new(),
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
        placement: Placement::default(),
        run_at: None,
        deadline: None,
        result_ttl: None,
        idempotency_key: String::new(),
        unique_key: String::new(),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        submitted_at: Timestamp(1_700_000_000_000),
        labels: Labels::new(),
        redriven_from: None,
    };
    Submission {
        spec,
        payload: Some(Bytes::from_static(&[b'x'; 100])),
        request: [0; 32],
        key_window: tq_core::limits::IDEMPOTENCY_WINDOW,
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
