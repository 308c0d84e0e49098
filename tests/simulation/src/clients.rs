//! Clients: they submit, cancel, redrive and watch, and ask again under their idempotency keys when no answer came.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tq_broker::ledger::{
    BreakerOrder, BreakerView, Command, Delete, Deploy, Doomed, Ended, Keep, NamespaceSettings,
    QueueChange, QueuePatch, QueueView, RedriveDead, Refused, RetentionChange, SetNamespace,
    Submission, Submit, Submitted, Target, Watch, WatchId,
};
use tq_broker::modules::Entry;
use tq_broker::modules::registry::{Function, Module};
use tq_broker::tables::dead;
use tq_core::breaker::Forced;
use tq_core::label::Labels;
use tq_core::placement::{Concurrency, Placement};
use tq_core::queue::{Order, Rate};
use tq_core::task::{DataRef, Spec, Task};
use tq_core::transition::Amendment;
use tq_core::{Digest, Limits, Priority, Quotas, RetryPolicy, Signature, TaskId, Timestamp};

use crate::host::{HOSTS, label_of_others};
use crate::promises::{Asked, payload};
use crate::world::{Event, World};

const NAMESPACE: &str = "default";
/// The modules that there are. Most tasks are of the first.
pub(crate) const MODULES: [Digest; 2] = [Digest([7; 32]), Digest([9; 32])];
/// The functions of each. The second fails for a while now and then.
pub(crate) const FUNCTIONS: [&str; 2] = ["f", "g"];
/// The module and the function whose breaker is forced now and then.
pub(crate) const FORCED: (Digest, &str) = (MODULES[0], FUNCTIONS[1]);
/// Queues that there are beside the default one, and how many of their tasks run at once.
pub(crate) const QUEUES: [(&str, u32); 3] = [("narrow", 2), ("steps", 1), ("rated", 1_000)];
/// The queue that is paused now and then.
pub(crate) const PAUSED: &str = QUEUES[0].0;
/// Concurrency keys that there are, and how many of their tasks run at once.
pub(crate) const CONCURRENCY: [(&str, u32); 3] = [("c0", 1), ("c1", 1), ("c2", 2)];
/// Tasks of one request, at most.
pub(crate) const REQUEST_TASKS_MAX: u64 = 6;
/// Idempotency keys that there are: few, so that they meet.
const KEYS: u32 = 12;
/// Unique keys: few, so that tasks meet.
const UNIQUE_KEYS: u32 = 3;

type BreakerAnswer = oneshot::Receiver<Result<BreakerView, Refused>>;

/// What clients wait for.
#[derive(Default)]
pub(crate) struct Clients {
    tags: u64,
    submits: Vec<Pending>,
    /// Requests whose answer was lost, and that can be sent again.
    again: Vec<Vec<Request>>,
    changes: Vec<(TaskId, oneshot::Receiver<Result<Task, Refused>>)>,
    pauses: Vec<(bool, oneshot::Receiver<Result<QueueView, Refused>>)>,
    /// What is wanted of a breaker; none is that it is left to itself. That it is to be open counts no more if it may be taken
    /// back meanwhile.
    orders: Vec<(Option<Forced>, BreakerAnswer)>,
    /// Someone may have forced a breaker, and nobody has released it since.
    has_forced: bool,
    /// Quotas that are to go, and whether they are gone.
    lifts: Vec<oneshot::Receiver<NamespaceSettings>>,
    has_lifted: bool,
    redrives: Vec<oneshot::Receiver<Result<Vec<TaskId>, Refused>>>,
    deletes: Vec<(TaskId, oneshot::Receiver<Result<usize, Refused>>)>,
    watches: Vec<mpsc::UnboundedReceiver<Arc<Ended>>>,
    last_watch: u64,
}

struct Pending {
    requests: Vec<Request>,
    answer: oneshot::Receiver<Result<Vec<Submitted>, Refused>>,
}

/// A task that is asked for.
#[derive(Clone)]
struct Request {
    spec: Spec,
    payload: Bytes,
    /// Tells apart what is asked for under one key.
    variant: u8,
}

impl Clients {
    /// Whether nobody waits for an answer.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting() == 0 && !self.has_forced && self.has_lifted
    }

    pub(crate) fn waiting(&self) -> usize {
        self.submits.len()
            + self.again.len()
            + self.changes.len()
            + self.pauses.len()
            + self.orders.len()
            + self.lifts.len()
            + self.redrives.len()
            + self.deletes.len()
    }

    /// What was not answered will not be.
    pub(crate) fn broker_is_gone(&mut self) {
        for pending in self.submits.drain(..) {
            let has_key = |request: &Request| !request.spec.idempotency_key.is_empty();
            if pending.requests.iter().all(has_key) {
                self.again.push(pending.requests);
            }
        }
        self.changes.clear();
        self.pauses.clear();
        self.orders.clear();
        self.lifts.clear();
        self.redrives.clear();
        self.deletes.clear();
        self.watches.clear();
    }
}

impl World {
    pub(crate) fn deploy(&mut self) {
        for digest in MODULES {
            let (reply, _) = oneshot::channel();
            let deploy = Deploy {
                namespace: NAMESPACE.to_owned(),
                module: module(digest),
                deny_new_grants: false,
                reply,
            };
            self.command(Command::Deploy(Box::new(deploy)));
        }
        for (name, concurrency) in QUEUES {
            let patch = QueuePatch::Set {
                order: (name == "steps").then_some(Order::Fifo),
                concurrency: Some(Some(concurrency)),
                rate: (name == "rated").then_some(Some(Rate {
                    tasks: 20,
                    per: Duration::from_secs(1),
                    burst: 3,
                })),
            };
            let (reply, _) = oneshot::channel();
            self.change_queue(name, patch, reply);
        }
    }

    /// An operator sets quotas. Returns where the answer comes.
    pub(crate) fn set_quotas(&mut self, quotas: Quotas) -> oneshot::Receiver<NamespaceSettings> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::SetNamespace(SetNamespace {
            namespace: NAMESPACE.to_owned(),
            change: Box::new(move |before| NamespaceSettings { quotas, ..before }),
            reply,
        }));
        answer
    }

    /// An operator takes all quotas away, as often as it takes, so that everything can end.
    pub(crate) fn lift_quotas(&mut self) {
        self.promises.quotas = Quotas::default();
        if self.clients.has_lifted || self.broker.process.is_none() {
            return;
        }
        let answer = self.set_quotas(Quotas::default());
        self.clients.lifts.push(answer);
    }

    fn change_queue(
        &mut self,
        name: &str,
        patch: QueuePatch,
        reply: oneshot::Sender<Result<QueueView, Refused>>,
    ) {
        self.command(Command::Queue(QueueChange {
            namespace: NAMESPACE.to_owned(),
            name: name.to_owned(),
            patch,
            reply,
        }));
    }

    /// Pauses a queue, or resumes it.
    fn pause(&mut self, is_paused: bool) {
        if self.broker.process.is_none() {
            return;
        }
        if !is_paused {
            self.promises.paused_after = None;
        }
        let (reply, answer) = oneshot::channel();
        self.change_queue(PAUSED, QueuePatch::Pause(is_paused), reply);
        self.clients.pauses.push((is_paused, answer));
    }

    /// An operator forces a breaker, or releases it.
    fn order_breaker(&mut self, forced: Option<Forced>) {
        if self.broker.process.is_none() {
            return;
        }
        let is_open = forced == Some(Forced::Open);
        if !is_open {
            self.promises.open_after = None;
        }
        self.clients.has_forced |= forced.is_some();
        let (reply, answer) = oneshot::channel();
        let (digest, function) = FORCED;
        self.say(|| format!("operator wants of the breaker of {function}: {forced:?}"));
        let reason = "on a whim".to_owned();
        self.command(Command::Breaker {
            namespace: NAMESPACE.to_owned(),
            function: format!("{}/{function}", module_name(digest)),
            order: forced.map_or(BreakerOrder::Release, |to| BreakerOrder::Force(to, reason)),
            reply,
        });
        self.clients.orders.push((forced, answer));
    }

    pub(crate) fn client_acts(&mut self) {
        if self.is_calm {
            self.end_endless();
            self.lift_quotas();
            self.pause(false);
            if self.clients.has_forced {
                self.order_breaker(None);
            }
            if let Some(requests) = self.clients.again.pop() {
                self.send(requests);
            }
            return self.after(Duration::from_secs(1), Event::Client);
        }
        if self.one_in(8)
            && let Some(id) = self.some_task()
        {
            self.delete(id);
        }
        match self.random.u32(..21) {
            0..9 => self.submit(),
            9..12 => {
                if let Some(requests) = self.clients.again.pop() {
                    self.send(requests);
                }
            }
            12..15 => {
                if let Some(id) = self.some_task() {
                    self.cancel(id);
                }
            }
            15..17 => {
                if let Some(id) = self.some_task() {
                    self.promises.may_run_now(id);
                    self.change(id, Command::Redrive);
                }
            }
            17 => match self.one_in(2) {
                true => self.watch(),
                false => self.redrive_dead(),
            },
            18 => match self.random.u32(..8) {
                0 | 1 => self.pause(true),
                2 | 3 => self.pause(false),
                4 => {
                    let forced = [None, Some(Forced::Open), Some(Forced::Closed)];
                    let forced = forced[self.random.usize(..forced.len())];
                    self.order_breaker(forced);
                }
                _ => self.amend(),
            },
            19 => self.change_modules(),
            _ => {
                // Many at once, so that windows are too small for them.
                for _ in 0..self.random.u32(1..12) {
                    self.submit();
                }
            }
        }
        let pause = self.micros(1_000..400_000);
        self.after(pause, Event::Client);
    }

    /// Deploys a version of a module, deletes one or all of them, or has those looked at that nobody needs.
    fn change_modules(&mut self) {
        if self.broker.process.is_none() {
            return;
        }
        let digest = MODULES[usize::from(self.one_in(2))];
        let namespace = NAMESPACE.to_owned();
        let command = match self.random.u32(..4) {
            0 | 1 => {
                // Of another size, so that it is another version.
                let module = Module {
                    size_bytes: self.random.u64(100..103),
                    ..module(digest)
                };
                Command::Deploy(Box::new(Deploy {
                    namespace,
                    module,
                    deny_new_grants: false,
                    reply: oneshot::channel().0,
                }))
            }
            2 => {
                // A breaker goes with the last version.
                self.promises.open_after = None;
                let orders = self.clients.orders.iter_mut();
                let open = orders.filter(|(forced, _)| *forced == Some(Forced::Open));
                open.for_each(|(forced, _)| *forced = Some(Forced::Closed));
                Command::DeleteModule {
                    namespace,
                    name: module_name(digest),
                    version: self.random.u32(..5),
                    reply: oneshot::channel().0,
                }
            }
            _ => Command::Keep(Keep {
                namespace,
                change: Some(RetentionChange {
                    modules: Some(Duration::from_secs(self.random.u64(1..20))),
                    ..RetentionChange::default()
                }),
                reply: oneshot::channel().0,
            }),
        };
        self.command(command);
    }

    /// The version of a module that a client names: as a rule the one that it finds current. It may be gone when its submit
    /// comes to the ledger.
    fn version(&mut self, digest: Digest) -> u32 {
        let current = self.current_version(digest);
        match self.one_in(8) {
            true => self.random.u32(1..=current),
            false => current,
        }
    }

    fn current_version(&self, digest: Digest) -> u32 {
        let process = self.broker.process.as_ref();
        let shared = process.map(|process| process.ledger.shared());
        let current = shared.and_then(|shared| {
            let registry = shared.registry.read().expect("nobody panics while writing");
            let versions = registry.versions(NAMESPACE, &module_name(digest));
            versions.ok().map(|versions| versions.current)
        });
        current.unwrap_or(1)
    }

    fn amend(&mut self) {
        let Some(id) = self.some_task() else {
            return;
        };
        let wall = self.broker.now(self.now).wall;
        let delay = Duration::from_millis(self.random.u64(..4_000));
        let amendment = Amendment {
            priority: self.one_in(2).then(|| Priority(self.random.u8(..))),
            run_at: self.one_in(3).then(|| wall.after(delay)),
            deadline: self.one_in(4).then_some(None),
            ..Amendment::default()
        };
        if amendment.run_at.is_some() {
            self.promises.may_run_now(id);
        }
        self.change(id, |target| Command::Amend(Box::new(amendment), target));
    }

    fn submit(&mut self) {
        let count = self.random.u32(1..6);
        let requests = (0..count).map(|_| self.request()).collect();
        self.send(requests);
    }

    fn request(&mut self) -> Request {
        self.clients.tags += 1;
        let tag = format!("t{}", self.clients.tags);
        let wall = self.broker.now(self.now).wall;
        let digest = MODULES[usize::from(self.one_in(8))];
        // Of the second size a payload is a row of its own.
        let len = [24, 2_000][usize::from(self.one_in(4))];
        let priorities = [10, 127, 127, 200];
        let (is_delayed, has_deadline) = (self.one_in(5), self.one_in(6));
        let (has_key, is_other, has_backoff) = (self.one_in(3), self.one_in(10), !self.one_in(4));
        let delay = Duration::from_millis(self.random.u64(..8_000));
        let until = Duration::from_millis(self.random.u64(1..20_000));
        let function = FUNCTIONS[usize::from(self.one_in(2))];
        let key = self.random.u32(..KEYS);
        let unique = self.one_in(6).then(|| self.random.u32(..UNIQUE_KEYS));
        let placement = self.placement();
        let ttl = Duration::from_secs(self.random.u64(1..10));
        let ttl = self.one_in(6).then_some(ttl);
        let asked = Asked {
            run_at: is_delayed.then(|| wall.after(delay)),
            is_endless: self.one_in(12),
            is_dear: false,
        };
        let spec = Spec {
            namespace: NAMESPACE.to_owned(),
            module: module_name(digest),
            version: self.version(digest),
            digest,
            function: function.to_owned(),
            payload: DataRef::Row { len },
            content_type: String::new(),
            arguments: Vec::new(),
            limits: Limits {
                memory_bytes: Limits::DEFAULT.memory_bytes << u32::from(self.one_in(8)),
                fuel: [100, 400][usize::from(self.one_in(4))],
                ..Limits::DEFAULT
            },
            retry: RetryPolicy {
                max_attempts: self.random.u32(1..4),
                backoff: Duration::from_secs(u64::from(has_backoff)),
                cap: Duration::from_secs(4),
            },
            priority: Priority(priorities[self.random.usize(..priorities.len())]),
            placement,
            run_at: asked.run_at,
            deadline: has_deadline.then(|| wall.after(until)),
            result_ttl: ttl,
            idempotency_key: match has_key {
                true => format!("k{key}"),
                false => String::new(),
            },
            unique_key: match unique.filter(|_| !has_key) {
                Some(unique) => format!("u{unique}"),
                None => String::new(),
            },
            traceparent: tag.clone(),
            submitted_at: wall,
            labels: Labels::new(),
            redriven_from: None,
        };
        let payload = payload(&tag, len as usize);
        self.promises.sent.insert(tag, asked);
        Request {
            spec,
            payload,
            variant: u8::from(is_other),
        }
    }

    fn placement(&mut self) -> Placement {
        let (has_queue, has_key) = (self.one_in(3), self.one_in(4));
        let (queue, _) = QUEUES[self.random.usize(..QUEUES.len())];
        let (key, limit) = CONCURRENCY[self.random.usize(..CONCURRENCY.len())];
        Placement {
            queue: if has_queue { queue } else { "" }.to_owned(),
            concurrency: has_key.then(|| Concurrency {
                key: key.to_owned(),
                limit,
            }),
            // Whichever host does not come back, others have it.
            required: match self.one_in(8) {
                true => {
                    let host = self.random.usize(..HOSTS);
                    Labels::from([(label_of_others(&format!("host-{host}")), "yes".into())])
                }
                false => Labels::default(),
            },
            ..Placement::default()
        }
    }

    /// Asks for tasks that take long, and of which nothing is to be lost.
    pub(crate) fn submit_dear(&mut self, count: u32) {
        let version = self.current_version(MODULES[0]);
        let requests: Vec<_> = (0..count).map(|_| self.request()).collect();
        let requests = requests.into_iter().map(|mut request| {
            let asked = self.promises.sent.get_mut(&request.spec.traceparent);
            if let Some(asked) = asked {
                (asked.run_at, asked.is_endless, asked.is_dear) = (None, false, true);
            }
            let spec = &mut request.spec;
            (spec.run_at, spec.deadline, spec.digest) = (None, None, MODULES[0]);
            (spec.module, spec.version) = (module_name(MODULES[0]), version);
            spec.function = FUNCTIONS[0].to_owned();
            spec.idempotency_key.clear();
            spec.unique_key.clear();
            spec.placement = Placement::default();
            request
        });
        let requests = requests.collect();
        self.send(requests);
    }

    fn send(&mut self, requests: Vec<Request>) {
        let (reply, answer) = oneshot::channel();
        let tasks = requests.iter().map(|request| Submission {
            spec: request.spec.clone(),
            payload: Some(request.payload.clone()),
            request: [request.variant; 32],
            key_window: tq_core::limits::IDEMPOTENCY_WINDOW,
        });
        let submit = Submit {
            namespace: NAMESPACE.to_owned(),
            tasks: tasks.collect(),
            permit: None,
            reply,
        };
        if self.broker.process.is_some() {
            self.command(Command::Submit(submit));
            self.clients.submits.push(Pending { requests, answer });
        } else {
            self.clients.again.push(requests);
        }
    }

    fn some_task(&mut self) -> Option<TaskId> {
        let ids = &self.promises.submitted;
        let index = self.random.usize(..ids.len().max(1));
        ids.values().nth(index).copied()
    }

    fn cancel(&mut self, id: TaskId) {
        self.change(id, Command::Cancel);
    }

    /// Asks for a task to be deleted, whether it has ended or not.
    fn delete(&mut self, id: TaskId) {
        if self.broker.process.is_none() {
            return;
        }
        let (reply, answer) = oneshot::channel();
        self.promises.may_go(id);
        self.command(Command::Delete(Delete {
            namespace: NAMESPACE.to_owned(),
            tasks: Doomed::One(id),
            reply,
        }));
        self.clients.deletes.push((id, answer));
    }

    fn change(&mut self, id: TaskId, command: impl FnOnce(Target) -> Command) {
        if self.broker.process.is_none() {
            return;
        }
        let (reply, answer) = oneshot::channel();
        let namespace = NAMESPACE.to_owned();
        self.command(command(Target {
            namespace,
            id,
            seen: None,
            reply,
        }));
        self.clients.changes.push((id, answer));
    }

    /// Redrives dead letters, as the index has them: those of one signature, or those that died last.
    fn redrive_dead(&mut self) {
        const NEWEST: dead::Death = (Timestamp(u64::MAX), TaskId([u8::MAX; 16]));
        let Some(process) = &self.broker.process else {
            return;
        };
        let (reader, tasks) = (process.ledger.reader(), process.ledger.tasks());
        let mut letters: Vec<_> = tasks
            .values()
            .filter_map(|(namespace, task, _)| Some((*namespace, Signature::of(task)?)))
            .collect();
        letters.sort_unstable();
        if letters.is_empty() {
            return;
        }
        let (namespace, signature) = letters[self.random.usize(..letters.len())];
        let of_kind = self.one_in(2).then_some(signature);
        let limit = self.random.usize(1..5);
        let found = dead::newest(&*reader, namespace, of_kind, Timestamp(0), NEWEST, limit);
        let found = found.expect("the store can be read");
        let expected = letters
            .iter()
            .filter(|(_, other)| of_kind.is_none_or(|kind| kind == *other));
        assert_eq!(
            found.len(),
            expected.count().min(limit),
            "the index finds what is dead"
        );
        let ids: Vec<_> = found.into_iter().map(|(_, id)| id).collect();
        for id in &ids {
            // By their tags, since the submit of some may never have been acknowledged.
            let tag = &tasks[id].1.spec.traceparent;
            if let Some(asked) = self.promises.sent.get_mut(tag) {
                asked.run_at = None;
            }
        }
        let (reply, answer) = oneshot::channel();
        let same_version = self.one_in(2);
        self.command(Command::RedriveDead(RedriveDead {
            namespace: NAMESPACE.to_owned(),
            ids,
            same_version,
            reply,
        }));
        self.clients.redrives.push(answer);
    }

    fn watch(&mut self) {
        let ids: Vec<_> = (0..3).filter_map(|_| self.some_task()).collect();
        self.clients.last_watch += 1;
        let id = WatchId(self.clients.last_watch);
        let (ended, ends) = mpsc::unbounded_channel();
        let (reply, _) = oneshot::channel();
        if self.broker.process.is_none() {
            return;
        }
        self.command(Command::Watch(Watch {
            id,
            namespace: NAMESPACE.to_owned(),
            ids,
            ended,
            reply,
        }));
        self.clients.watches.push(ends);
        if self.one_in(2) {
            self.command(Command::Unwatch(id));
        }
    }

    /// Cancels what would never end by itself.
    pub(crate) fn end_endless(&mut self) {
        let Some(process) = &self.broker.process else {
            return;
        };
        let tasks = process.ledger.tasks();
        let endless = tasks
            .values()
            .map(|(_, task, _)| task)
            .filter(|task| !task.state.is_terminal())
            .filter(|task| self.promises.sent[&task.spec.traceparent].is_endless);
        let ids: Vec<_> = endless.map(|task| task.id).collect();
        ids.into_iter().for_each(|id| self.cancel(id));
    }

    /// Takes note of what the broker has answered.
    pub(crate) fn clients_hear(&mut self) {
        let Self {
            clients, promises, ..
        } = self;
        clients.submits.retain_mut(|pending| {
            let answer = pending.answer.try_recv();
            if let Ok(Ok(submitted)) = &answer {
                for (request, task) in pending.requests.iter().zip(submitted) {
                    let tag = &request.spec.traceparent;
                    let key = &request.spec.idempotency_key;
                    if !task.existed {
                        promises.submitted.insert(tag.clone(), task.id);
                    }
                    if !key.is_empty() {
                        promises.key_names(key, request.variant, task.id);
                    }
                }
            }
            answer == Err(oneshot::error::TryRecvError::Empty)
        });
        clients.changes.retain_mut(|(id, answer)| {
            let answer = answer.try_recv();
            if let Ok(Ok(task)) = &answer {
                promises.was_told(*id, task.state.name(), task.round);
            }
            matches!(answer, Err(oneshot::error::TryRecvError::Empty))
        });
        let newest = || {
            let process = self.broker.process.as_ref()?;
            let tasks = process.ledger.tasks();
            let epochs = tasks.values().filter_map(|(_, task, _)| task.last_epoch);
            epochs.max()
        };
        clients.pauses.retain_mut(|(is_paused, answer)| {
            let answer = answer.try_recv();
            match &answer {
                Ok(Ok(_)) if *is_paused => promises.paused_after = newest(),
                Ok(Ok(_)) => promises.paused_after = None,
                Ok(Err(_)) | Err(_) => {}
            }
            matches!(answer, Err(oneshot::error::TryRecvError::Empty))
        });
        // One that may have been taken back since says nothing.
        if clients.pauses.iter().any(|(is_paused, _)| !is_paused) {
            promises.paused_after = None;
        }
        clients.orders.retain_mut(|(forced, answer)| {
            let answer = answer.try_recv();
            match &answer {
                Ok(Ok(_)) if *forced == Some(Forced::Open) => {
                    promises.open_after = newest();
                    clients.has_forced = true;
                }
                // Without its module there is no breaker.
                Ok(Ok(_) | Err(_)) => {
                    promises.open_after = None;
                    // In the order in which they were sent: orders of before may be answered only now.
                    if self.is_calm {
                        clients.has_forced = forced.is_some();
                    }
                }
                Err(_) => {}
            }
            matches!(answer, Err(oneshot::error::TryRecvError::Empty))
        });
        if clients
            .orders
            .iter()
            .any(|(forced, _)| *forced != Some(Forced::Open))
        {
            promises.open_after = None;
        }
        clients.lifts.retain_mut(|answer| {
            let answer = answer.try_recv();
            clients.has_lifted |= answer.is_ok();
            answer == Err(oneshot::error::TryRecvError::Empty)
        });
        clients.redrives.retain_mut(|answer| {
            let answer = answer.try_recv();
            if let Ok(redriven) = &answer {
                assert!(redriven.is_ok(), "the namespace is there");
            }
            matches!(answer, Err(oneshot::error::TryRecvError::Empty))
        });
        clients.deletes.retain_mut(|(id, answer)| {
            let answer = answer.try_recv();
            if let Ok(Ok(_)) = &answer {
                promises.was_deleted(*id);
            }
            matches!(answer, Err(oneshot::error::TryRecvError::Empty))
        });
        for watch in &mut clients.watches {
            while let Ok(ended) = watch.try_recv() {
                let task = &ended.task;
                promises.was_told(task.id, task.state.name(), task.round);
            }
        }
    }
}

fn module_name(digest: Digest) -> String {
    format!("m{}", digest.0[0])
}

fn module(digest: Digest) -> Module {
    let functions = FUNCTIONS.map(|name| Function {
        name: name.to_owned(),
        ..Function::default()
    });
    Module {
        name: module_name(digest),
        version: 0,
        digest,
        size_bytes: 100,
        entry: Entry::Handler,
        functions: functions.into(),
        uploaded_at: Timestamp::EPOCH,
        retired_at: Timestamp::EPOCH,
        not_granted: Vec::new(),
        uncallable: Vec::new(),
    }
}
