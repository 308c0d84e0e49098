//! Drives a ledger through a history: hosts that keep their outcomes until they are acknowledged, connections that
//! break, a clock that moves when told, and a store that is crashed when told. After every step all of it is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tq_core::label::Labels;
use tq_core::limits::IDEMPOTENCY_WINDOW;
use tq_core::outcome::{Outcome, Usage};
use tq_core::placement::Placement;
use tq_core::task::{DataRef, Spec, Stop, Task};
use tq_core::{Digest, Epoch, Limits, Priority, Retention, RetryPolicy, TaskId, Timestamp};

use super::stores::NewStore;
use crate::dispatch::SessionId;
use crate::dispatch::hosts::Link;
use crate::dispatch::message::{
    Assignment, AttemptOutcome, AttemptRef, Data, FromHost, Hello, ToHost,
};
use crate::ledger::{
    Command, Config, Delete, Deploy, Deployed, Doomed, Ended, Error, HelloRefused, HostOrder,
    HostView, Keep, Ledger, Now, Refused, RetentionChange, Submission, Submit, Submitted, Target,
    Watch, WatchId, lock,
};
use crate::modules::Entry;
use crate::modules::registry::{Function, Module};
use crate::observe::Metrics;
use crate::store::conformance::Place;
use crate::store::memory::{Crash, Disk};
use crate::store::{StoreId, Syncer};
use crate::tables::row::Record;
use crate::tables::{Namespace, row};

/// The namespace of every test.
pub(super) const TENANT: &str = "demo";
/// The module that hosts hold.
pub(super) const MODULE: Digest = Digest([7; 32]);
/// A second one, which they do not hold unless a test says so.
pub(super) const OTHER: Digest = Digest([9; 32]);

/// A ledger and its surroundings.
pub(super) struct Sim {
    pub(super) config: Config,
    pub(super) ledger: Option<Ledger>,
    pub(super) metrics: Metrics,
    pub(super) now: Now,
    pub(super) inbox: Vec<Command>,
    pub(super) hosts: BTreeMap<&'static str, Host>,
    /// Every epoch that was ever handed to a host.
    pub(super) handed_out: BTreeSet<Epoch>,
    /// Every settlement that was acknowledged as the first or a repeated one, not as fenced.
    pub(super) accepted: Vec<(TaskId, Epoch, Outcome)>,
    /// When the ledger wants to be called again.
    pub(super) wait: Option<Duration>,
    /// What hosts say that attempts used which end from now on.
    pub(super) usage: Usage,
    syncer: Option<Box<dyn Syncer>>,
    last_watch: u64,
    // Last, so that a store is closed before its place goes.
    place: Box<dyn Place>,
}

/// A simulated host.
pub(super) struct Host {
    pub(super) incarnation: [u8; 16],
    pub(super) slots: u32,
    pub(super) ready: BTreeSet<Digest>,
    pub(super) session: Option<SessionId>,
    pub(super) refused: Option<HelloRefused>,
    pub(super) held: BTreeMap<Epoch, Assignment>,
    pub(super) outcomes: BTreeMap<Epoch, AttemptOutcome>,
    /// Answers to its outcomes, in their order.
    pub(super) acks: Vec<(Epoch, bool)>,
    pub(super) stops: Vec<(Epoch, Option<Stop>)>,
    pub(super) prepares: Vec<Digest>,
    pub(super) labels: Labels,
    pub(super) memory_bytes: Option<u64>,
    /// It was asked to give back what it has not begun.
    pub(super) hand_backs: usize,
    /// It was told that it was removed.
    pub(super) is_removed: bool,
    hello: Option<oneshot::Receiver<Result<SessionId, HelloRefused>>>,
    wire: Wire,
    granted: u64,
    seen: Option<(StoreId, u64)>,
}

/// What is on its way to a host, and whether the way is open.
#[derive(Clone, Default)]
struct Wire {
    messages: Arc<Mutex<Vec<ToHost>>>,
    is_open: Arc<AtomicBool>,
}

impl Link for Wire {
    fn send(&self, message: ToHost) -> bool {
        let is_open = self.is_open();
        if is_open {
            lock(&self.messages).push(message);
        }
        is_open
    }

    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}

impl Host {
    fn new(incarnation: u8, slots: u32) -> Self {
        Self {
            incarnation: [incarnation; 16],
            slots,
            ready: BTreeSet::from([MODULE]),
            session: None,
            refused: None,
            held: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            acks: Vec::new(),
            stops: Vec::new(),
            prepares: Vec::new(),
            labels: Labels::new(),
            memory_bytes: None,
            hand_backs: 0,
            is_removed: false,
            hello: None,
            wire: Wire::default(),
            granted: 0,
            seen: None,
        }
    }

    pub(super) fn pretend_to_have_seen(&mut self, store: StoreId, seq: u64) {
        self.seen = Some((store, seq));
    }

    /// The epoch of its only attempt.
    #[track_caller]
    pub(super) fn only(&self) -> Epoch {
        assert_eq!(self.held.len(), 1, "one attempt is held");
        *self.held.keys().next().expect("one is held")
    }
}

/// What a test asks for by default: a task of the module that every host holds.
pub(super) fn spec() -> Spec {
    Spec {
        namespace: TENANT.to_owned(),
        module: "m".to_owned(),
        version: 1,
        digest: MODULE,
        function: "f".to_owned(),
        payload: DataRef::Row { len: 2 },
        content_type: String::new(),
        arguments: Vec::new(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy {
            max_attempts: 3,
            backoff: Duration::from_secs(1),
            cap: Duration::from_secs(4),
        },
        priority: Priority::DEFAULT,
        placement: Placement::default(),
        run_at: None,
        deadline: None,
        result_ttl: None,
        idempotency_key: String::new(),
        unique_key: String::new(),
        traceparent: String::new(),
        submitted_at: Timestamp::EPOCH,
        labels: Labels::new(),
        redriven_from: None,
    }
}

/// A task of the module's second version, if that was deployed with [`OTHER`].
pub(super) fn other() -> Spec {
    Spec {
        version: 2,
        digest: OTHER,
        ..spec()
    }
}

/// The same with a payload of `len` bytes. Its length is an argument, so that hosts can check it.
pub(super) fn with_payload(spec: Spec, len: u64) -> Spec {
    Spec {
        payload: DataRef::Row { len },
        arguments: vec![len.to_string()],
        ..spec
    }
}

/// The same with a payload that is no part of the call row.
pub(super) fn with_payload_apart(spec: Spec) -> Spec {
    with_payload(spec, 2_000)
}

/// A request for a task, told apart from others of its key by `request`.
pub(super) fn submission(spec: Spec, request: u8) -> Submission {
    Submission {
        payload: Some(payload(&spec.arguments)),
        spec,
        request: [request; 32],
        key_window: IDEMPOTENCY_WINDOW,
    }
}

fn payload(arguments: &[String]) -> Bytes {
    let len = arguments.first().and_then(|len| len.parse().ok());
    vec![b'i'; len.unwrap_or(2)].into()
}

pub(super) fn module(digest: Digest) -> Module {
    let function = Function {
        name: "f".to_owned(),
        ..Function::default()
    };
    Module {
        name: "m".to_owned(),
        version: 0,
        digest,
        size_bytes: 100,
        entry: Entry::Handler,
        functions: vec![function],
        uploaded_at: Timestamp::EPOCH,
        retired_at: Timestamp::EPOCH,
        not_granted: Vec::new(),
        uncallable: Vec::new(),
    }
}

impl Sim {
    /// A ledger with one module, whose windows are so small that most tasks are rows.
    pub(super) fn new(store: NewStore) -> Self {
        Self::with_module(store())
    }

    /// The same on a disk that can be told to fail.
    pub(super) fn on(disk: Disk) -> Self {
        Self::with_module(Box::new(disk))
    }

    fn with_module(place: Box<dyn Place>) -> Self {
        let config = Config {
            seed: 1,
            ready_window: 4,
            unindexed_span: 8,
            ..Config::default()
        };
        let mut sim = Self::begin(place, config);
        sim.deploy(MODULE);
        sim
    }

    /// A ledger with nothing in it.
    pub(super) fn empty(store: NewStore, config: Config) -> Self {
        Self::begin(store(), config)
    }

    fn begin(place: Box<dyn Place>, config: Config) -> Self {
        let mut sim = Self {
            config,
            ledger: None,
            metrics: Metrics::default(),
            now: Now {
                wall: Timestamp(1_000_000),
                mono: Duration::from_secs(100),
            },
            inbox: Vec::new(),
            hosts: BTreeMap::new(),
            handed_out: BTreeSet::new(),
            accepted: Vec::new(),
            wait: None,
            usage: Usage::default(),
            syncer: None,
            last_watch: 0,
            place,
        };
        sim.open();
        sim
    }

    pub(super) fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().expect("the ledger is open")
    }

    pub(super) fn ledger_mut(&mut self) -> &mut Ledger {
        self.ledger.as_mut().expect("the ledger is open")
    }

    /// Checks all of the store and the ledger's memory.
    #[track_caller]
    pub(super) fn check(&self) {
        self.ledger().recount();
    }

    fn open(&mut self) {
        let store = self.place.open().expect("the store opens");
        let ledger = Ledger::open(store, self.config, self.now, self.metrics.clone());
        let ledger = ledger.expect("the ledger opens");
        self.syncer = Some(ledger.syncer());
        self.ledger = Some(ledger);
        self.check();
    }

    /// Ends the broker's process or its machine, and starts it again. Every connection is gone.
    #[track_caller]
    pub(super) fn crash(&mut self, crash: Crash) {
        self.ledger = None;
        self.place.crash(crash);
        self.after_stop();
    }

    /// Stops the broker in order and starts it again.
    #[track_caller]
    pub(super) fn restart(&mut self) {
        let ledger = self.ledger.take().expect("the ledger is open");
        ledger.close().expect("the store closes");
        self.after_stop();
    }

    fn after_stop(&mut self) {
        self.inbox.clear();
        for host in self.hosts.values_mut() {
            host.hang_up();
        }
        self.open();
    }

    /// Lets the ledger take what is in its inbox, passes on what it says, and checks everything.
    pub(super) fn try_step(&mut self) -> Result<(), Error> {
        let (now, inbox) = (self.now, std::mem::take(&mut self.inbox));
        let stepped = self.ledger_mut().step(now, inbox)?;
        self.wait = stepped.wait;
        // What it says may rest on what has to be on disk first.
        if stepped.answers.need_disk() {
            let syncer = self.syncer.as_mut().expect("the ledger is open");
            syncer.sync()?;
        }
        stepped.answers.give(self.ledger().store.durable_seq());
        self.deliver();
        Ok(())
    }

    #[track_caller]
    pub(super) fn step(&mut self) {
        self.try_step().expect("the ledger goes on");
        self.check();
    }

    /// Steps until nobody has anything to say.
    #[track_caller]
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000 {
            self.step();
            if self.inbox.is_empty() && self.wait != Some(Duration::ZERO) {
                return;
            }
        }
        panic!("the ledger does not come to rest");
    }

    /// Moves both clocks, and lets the ledger and the hosts do what is due; connected hosts say that they are there.
    #[track_caller]
    pub(super) fn advance(&mut self, span: Duration) {
        let mut left = span;
        while !left.is_zero() {
            let part = left.min(Duration::from_secs(1));
            left -= part;
            self.skip(part);
            let sessions: Vec<_> = self
                .hosts
                .values()
                .filter_map(|host| host.session)
                .collect();
            self.inbox.extend(
                sessions
                    .into_iter()
                    .map(|session| Command::FromHost(session, FromHost::Heartbeat)),
            );
            self.settle();
        }
    }

    /// Moves both clocks, and nothing else.
    pub(super) fn skip(&mut self, span: Duration) {
        self.now.wall = self.now.wall.after(span);
        self.now.mono += span;
    }

    fn deliver(&mut self) {
        let Self {
            hosts,
            inbox,
            handed_out,
            accepted,
            ..
        } = self;
        for host in hosts.values_mut() {
            let messages = std::mem::take(&mut *lock(&host.wire.messages));
            for message in messages {
                host.take(message, inbox, handed_out, accepted);
            }
            // The broker has dropped its end.
            if host.session.is_some() && Arc::strong_count(&host.wire.messages) == 1 {
                host.hang_up();
            }
            if let Some(answer) = host.hello.as_mut().and_then(|hello| hello.try_recv().ok()) {
                host.hello = None;
                match answer {
                    Ok(session) => {
                        host.session = Some(session);
                        host.granted = u64::from(host.slots).saturating_sub(host.held.len() as u64);
                        inbox.push(Command::FromHost(session, FromHost::Credits(host.granted)));
                    }
                    Err(refused) => {
                        host.hang_up();
                        host.refused = Some(refused);
                    }
                }
            }
        }
    }

    /// Adds a host of the first incarnation and connects it.
    #[track_caller]
    pub(super) fn connect(&mut self, name: &'static str, slots: u32) {
        self.add_host(name, slots);
        self.hello(name);
        self.settle();
    }

    /// Adds a host of the first incarnation that is not connected yet.
    pub(super) fn add_host(&mut self, name: &'static str, slots: u32) {
        self.hosts.insert(name, Host::new(1, slots));
    }

    /// The host says hello on a new connection, with all it has.
    pub(super) fn hello(&mut self, name: &'static str) {
        let (reply, answer) = oneshot::channel();
        let host = self.host_mut(name);
        host.hang_up();
        host.wire.is_open.store(true, Ordering::Relaxed);
        host.hello = Some(answer);
        host.refused = None;
        let hello = Hello {
            name: name.to_owned(),
            incarnation: host.incarnation,
            slots: host.slots,
            ready: host.ready.iter().copied().collect(),
            held: host
                .held
                .values()
                .map(|assignment| assignment.attempt())
                .collect(),
            outcomes: host.outcomes.values().cloned().collect(),
            labels: host.labels.clone(),
            memory_bytes: host.memory_bytes,
            seen: host.seen,
            version: "0".to_owned(),
        };
        let link = Arc::new(host.wire.clone());
        self.inbox.push(Command::Hello {
            hello: Box::new(hello),
            link,
            reply,
        });
    }

    /// The connection of a host breaks; what is on its way in either direction is lost. `noticed` says whether the
    /// broker is told.
    pub(super) fn disconnect(&mut self, name: &'static str, noticed: bool) {
        let session = self.host_mut(name).session;
        self.host_mut(name).hang_up();
        if let Some(session) = session {
            self.inbox.retain(
                |command| !matches!(command, Command::FromHost(from, _) if *from == session),
            );
            if noticed {
                self.inbox.push(Command::Disconnected(session));
            }
        }
    }

    /// The process of a host ends, with all that it has, and a new one takes its place. It is not connected yet.
    pub(super) fn kill(&mut self, name: &'static str) {
        self.disconnect(name, true);
        let host = self.host_mut(name);
        let mut next = Host::new(host.incarnation[0].wrapping_add(1), host.slots);
        next.ready.clone_from(&host.ready);
        *host = next;
    }

    /// Another process says hello under the name of a host. Returns the one that was there, which knows nothing of it.
    #[track_caller]
    pub(super) fn another_process(&mut self, name: &'static str) -> Host {
        let host = self.host_mut(name);
        let next = Host::new(host.incarnation[0].wrapping_add(100), host.slots);
        let before = std::mem::replace(host, next);
        self.hello(name);
        self.settle();
        before
    }

    /// An attempt of a host ends.
    #[track_caller]
    pub(super) fn finish(&mut self, name: &'static str, epoch: Epoch, outcome: Outcome) {
        self.finish_with(name, epoch, outcome, b"out");
    }

    /// As [`Sim::finish`], with a result of the test's own if it is a success.
    pub(super) fn finish_with(
        &mut self,
        name: &'static str,
        epoch: Epoch,
        outcome: Outcome,
        result: &[u8],
    ) {
        let result =
            (outcome == Outcome::Succeeded).then(|| Data::Inline(Bytes::copy_from_slice(result)));
        self.finish_as(name, epoch, outcome, result);
    }

    /// Has a host report that an attempt ended, with this result.
    #[track_caller]
    pub(super) fn finish_as(
        &mut self,
        name: &'static str,
        epoch: Epoch,
        outcome: Outcome,
        result: Option<Data>,
    ) {
        let usage = self.usage;
        let host = self.host_mut(name);
        let attempt = host
            .held
            .remove(&epoch)
            .expect("the host holds the attempt")
            .attempt();
        let outcome = AttemptOutcome {
            attempt,
            outcome,
            result,
            failure: None,
            retry_after: None,
            usage,
        };
        host.outcomes.insert(epoch, outcome.clone());
        host.granted += 1;
        if let Some(session) = host.session {
            let credits = FromHost::Credits(host.granted);
            self.inbox.push(Command::FromHost(
                session,
                FromHost::Outcomes(vec![outcome]),
            ));
            self.inbox.push(Command::FromHost(session, credits));
        }
    }

    /// Every attempt that a host has ends, in the order of their epochs, until it gets no more.
    #[track_caller]
    pub(super) fn finish_all(&mut self, name: &'static str) -> Vec<TaskId> {
        let mut order = Vec::new();
        while !self.hosts[name].held.is_empty() {
            let held: Vec<_> = self.hosts[name]
                .held
                .iter()
                .map(|(epoch, assignment)| (*epoch, assignment.id))
                .collect();
            for (epoch, id) in held {
                order.push(id);
                self.finish(name, epoch, Outcome::Succeeded);
            }
            self.settle();
        }
        order
    }

    pub(super) fn host_mut(&mut self, name: &'static str) -> &mut Host {
        self.hosts.get_mut(name).expect("there is such a host")
    }

    /// A host says something on its connection.
    #[track_caller]
    pub(super) fn say(&mut self, name: &'static str, message: FromHost) {
        let session = self.hosts[name].session.expect("the host is connected");
        self.inbox.push(Command::FromHost(session, message));
    }

    pub(super) fn send_submit(
        &mut self,
        tasks: Vec<Submission>,
    ) -> oneshot::Receiver<Result<Vec<Submitted>, Refused>> {
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Command::Submit(Submit {
            namespace: TENANT.to_owned(),
            tasks,
            permit: None,
            reply,
        }));
        answer
    }

    #[track_caller]
    pub(super) fn submit_all(&mut self, tasks: Vec<Submission>) -> Result<Vec<Submitted>, Refused> {
        let mut answer = self.send_submit(tasks);
        self.settle();
        answer.try_recv().expect("a submit is answered")
    }

    /// Submits one task and returns its id.
    #[track_caller]
    pub(super) fn submit(&mut self, spec: Spec) -> TaskId {
        self.submit_all(vec![submission(spec, 0)])
            .expect("the submit is taken")[0]
            .id
    }

    pub(super) fn send_cancel(&mut self, id: TaskId) -> oneshot::Receiver<Result<Task, Refused>> {
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Command::Cancel(Target {
            namespace: TENANT.to_owned(),
            id,
            seen: None,
            reply,
        }));
        answer
    }

    #[track_caller]
    pub(super) fn cancel(&mut self, id: TaskId) -> Result<Task, Refused> {
        let mut answer = self.send_cancel(id);
        self.settle();
        answer.try_recv().expect("a cancel is answered")
    }

    pub(super) fn send_redrive(&mut self, id: TaskId) -> oneshot::Receiver<Result<Task, Refused>> {
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Command::Redrive(Target {
            namespace: TENANT.to_owned(),
            id,
            seen: None,
            reply,
        }));
        answer
    }

    #[track_caller]
    pub(super) fn redrive(&mut self, id: TaskId) -> Result<Task, Refused> {
        let mut answer = self.send_redrive(id);
        self.settle();
        answer.try_recv().expect("a redrive is answered")
    }

    pub(super) fn send_delete(
        &mut self,
        tasks: Doomed,
    ) -> oneshot::Receiver<Result<usize, Refused>> {
        let (reply, answer) = oneshot::channel();
        self.inbox.push(Command::Delete(Delete {
            namespace: TENANT.to_owned(),
            tasks,
            reply,
        }));
        answer
    }

    #[track_caller]
    pub(super) fn delete(&mut self, tasks: Doomed) -> Result<usize, Refused> {
        let mut answer = self.send_delete(tasks);
        self.settle();
        answer.try_recv().expect("a delete is answered")
    }

    #[track_caller]
    pub(super) fn keep(&mut self, change: Option<RetentionChange>) -> Result<Retention, Refused> {
        let (reply, mut answer) = oneshot::channel();
        self.inbox.push(Command::Keep(Keep {
            namespace: TENANT.to_owned(),
            change,
            reply,
        }));
        self.settle();
        answer.try_recv().expect("it is answered")
    }

    /// Whether the store has anything of a task.
    pub(super) fn is_there(&self, id: TaskId) -> bool {
        self.ledger().tasks().contains_key(&id)
    }

    pub(super) fn watch(
        &mut self,
        ids: Vec<TaskId>,
    ) -> (WatchId, mpsc::UnboundedReceiver<Arc<Ended>>) {
        self.last_watch += 1;
        let id = WatchId(self.last_watch);
        let ((ended, ends), (reply, _)) = (mpsc::unbounded_channel(), oneshot::channel());
        self.inbox.push(Command::Watch(Watch {
            id,
            namespace: TENANT.to_owned(),
            ids,
            ended,
            reply,
        }));
        (id, ends)
    }

    /// An operator wants something of a host.
    #[track_caller]
    pub(super) fn order(&mut self, name: &str, order: HostOrder) -> Result<HostView, Refused> {
        let (reply, mut answer) = oneshot::channel();
        let name = name.to_owned();
        self.inbox.push(Command::Host { name, order, reply });
        self.settle();
        answer.try_recv().expect("an order is answered")
    }

    /// An operator removes a host. Returns how many attempts it had.
    #[track_caller]
    pub(super) fn remove(&mut self, name: &str) -> Result<usize, Refused> {
        let (reply, mut answer) = oneshot::channel();
        let name = name.to_owned();
        self.inbox.push(Command::RemoveHost { name, reply });
        self.settle();
        answer.try_recv().expect("a removal is answered")
    }

    /// Hosts as they are listed.
    #[track_caller]
    pub(super) fn views(&mut self) -> Vec<HostView> {
        let (reply, mut answer) = oneshot::channel();
        self.inbox.push(Command::Hosts(reply));
        self.settle();
        answer.try_recv().expect("hosts are listed")
    }

    /// Makes a module of this digest the current one.
    #[track_caller]
    pub(super) fn deploy(&mut self, digest: Digest) {
        self.deploy_as(module(digest), false)
            .expect("a deploy is taken");
    }

    /// Makes a module the current one.
    #[track_caller]
    pub(super) fn deploy_as(
        &mut self,
        module: Module,
        deny_new_grants: bool,
    ) -> Result<Deployed, Refused> {
        let (reply, mut answer) = oneshot::channel();
        let deploy = Deploy {
            namespace: TENANT.to_owned(),
            module,
            deny_new_grants,
            reply,
        };
        self.inbox.push(Command::Deploy(Box::new(deploy)));
        self.settle();
        answer.try_recv().expect("a deploy is answered")
    }

    /// Deletes a version of the module, or all of them.
    #[track_caller]
    pub(super) fn delete_module(&mut self, version: u32) -> Result<usize, Refused> {
        let (reply, mut answer) = oneshot::channel();
        self.inbox.push(Command::DeleteModule {
            namespace: TENANT.to_owned(),
            name: "m".to_owned(),
            version,
            reply,
        });
        self.settle();
        answer.try_recv().expect("it is answered")
    }

    pub(super) fn rollback(&mut self, version: u32) {
        let (reply, mut answer) = oneshot::channel();
        self.inbox.push(Command::Rollback {
            namespace: TENANT.to_owned(),
            name: "m".to_owned(),
            version,
            reply,
        });
        self.settle();
        let answer = answer.try_recv().expect("it is answered");
        answer.expect("there is such a version");
    }

    /// The number of [`TENANT`].
    pub(super) fn tenant(&self) -> Namespace {
        self.ledger()
            .namespace(TENANT)
            .expect("the namespace is there")
    }

    /// A task as it is on disk.
    #[track_caller]
    pub(super) fn task(&self, id: TaskId) -> Task {
        self.record(id).task
    }

    /// All that is in the rows of a task.
    #[track_caller]
    pub(super) fn record(&self, id: TaskId) -> Record {
        let claim = self.ledger().claims().remove(&id).map(|(_, lease)| lease);
        row::find_task::<Error>(&*self.ledger().store, self.tenant(), id)
            .expect("its rows can be read")
            .expect("the task is on disk")
            .claimed(claim)
    }

    #[track_caller]
    pub(super) fn state(&self, id: TaskId) -> &'static str {
        self.task(id).state.name()
    }
}

impl Host {
    fn hang_up(&mut self) {
        self.wire.is_open.store(false, Ordering::Relaxed);
        self.wire = Wire::default();
        self.session = None;
        self.hello = None;
    }

    fn take(
        &mut self,
        message: ToHost,
        inbox: &mut Vec<Command>,
        handed_out: &mut BTreeSet<Epoch>,
        accepted: &mut Vec<(TaskId, Epoch, Outcome)>,
    ) {
        match message {
            ToHost::Welcome {
                store, fenced, seq, ..
            } => {
                fenced
                    .iter()
                    .for_each(|epoch| drop(self.held.remove(epoch)));
                self.see(store, seq);
            }
            ToHost::Assignments { assignments, .. } => {
                for assignment in assignments {
                    let epoch = assignment.epoch;
                    assert!(
                        handed_out.insert(epoch),
                        "epoch {epoch} was handed out before"
                    );
                    assert!(
                        self.ready.contains(&assignment.spec.digest),
                        "a host gets only what it holds"
                    );
                    let data = match assignment.spec.payload {
                        DataRef::Row { .. } => Data::Inline(payload(&assignment.spec.arguments)),
                        DataRef::Blob { digest, len } => Data::Blob { digest, len },
                    };
                    assert_eq!(assignment.payload, data, "the payload comes as it was sent");
                    self.held.insert(epoch, assignment);
                }
                assert!(
                    self.held.len() <= self.slots as usize,
                    "a host gets no more than it has slots"
                );
            }
            ToHost::Acks { acks, seq } => {
                for (epoch, fenced) in acks {
                    if let Some(outcome) = self.outcomes.remove(&epoch)
                        && !fenced
                    {
                        accepted.push((outcome.attempt.id, epoch, outcome.outcome));
                    }
                    self.acks.push((epoch, fenced));
                }
                if let Some((store, _)) = self.seen {
                    self.see(store, seq);
                }
            }
            ToHost::Stop { epoch, stop } => {
                self.stops.push((epoch, stop));
                if stop.is_none() {
                    self.held.remove(&epoch);
                    self.granted += 1;
                    let credits = FromHost::Credits(self.granted);
                    inbox.extend(
                        self.session
                            .map(|session| Command::FromHost(session, credits)),
                    );
                }
            }
            ToHost::Prepare { digest, .. } => {
                self.prepares.push(digest);
                if self.ready.contains(&digest)
                    && let Some(session) = self.session
                {
                    let ready = FromHost::Ready {
                        held: vec![digest],
                        dropped: Vec::new(),
                    };
                    inbox.push(Command::FromHost(session, ready));
                }
            }
            ToHost::Heartbeat => {}
            ToHost::HandBack => self.hand_backs += 1,
            ToHost::Removed => {
                self.is_removed = true;
                self.held.clear();
            }
        }
    }

    fn see(&mut self, store: StoreId, seq: u64) {
        let seen = self.seen.map_or(0, |(_, seen)| seen);
        self.seen = Some((store, seen.max(seq)));
    }
}

/// The attempt of an assignment, as its host names it.
pub(super) fn attempt_of(sim: &Sim, name: &'static str, epoch: Epoch) -> AttemptRef {
    sim.hosts[name].held[&epoch].attempt()
}
