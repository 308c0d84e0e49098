//! Clients: they submit, cancel, redrive and watch, and ask again under their idempotency keys when no answer came.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tq_broker::ledger::{
    Command, Delete, Deploy, Doomed, Ended, Refused, Submission, Submit, Submitted, Target, Watch,
    WatchId,
};
use tq_broker::modules::Entry;
use tq_broker::modules::registry::{Function, Module};
use tq_core::task::{DataRef, Spec, Task};
use tq_core::{Digest, Limits, Priority, RetryPolicy, TaskId, Timestamp};

use crate::promises::{Asked, payload};
use crate::world::{Event, World};

const NAMESPACE: &str = "default";
/// The modules that there are. Most tasks are of the first.
pub(crate) const MODULES: [Digest; 2] = [Digest([7; 32]), Digest([9; 32])];
/// Idempotency keys that there are: few, so that they meet.
const KEYS: u32 = 12;

/// What clients wait for.
#[derive(Default)]
pub(crate) struct Clients {
    tags: u64,
    submits: Vec<Pending>,
    /// Requests whose answer was lost, and that can be sent again.
    again: Vec<Vec<Request>>,
    changes: Vec<(TaskId, oneshot::Receiver<Result<Task, Refused>>)>,
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
        self.waiting() == 0
    }

    pub(crate) fn waiting(&self) -> usize {
        self.submits.len() + self.again.len() + self.changes.len() + self.deletes.len()
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
                reply,
            };
            self.command(Command::Deploy(Box::new(deploy)));
        }
    }

    pub(crate) fn client_acts(&mut self) {
        if self.is_calm {
            self.end_endless();
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
        match self.random.u32(..20) {
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
            17..19 => self.watch(),
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

    fn submit(&mut self) {
        let count = self.random.u32(1..6);
        let requests = (0..count).map(|_| self.request()).collect();
        self.send(requests);
    }

    fn request(&mut self) -> Request {
        self.clients.tags += 1;
        let tag = format!("t{}", self.clients.tags);
        let wall = self.broker.now(self.now).wall;
        let module = usize::from(self.one_in(8));
        // Of the second size a payload is a row of its own.
        let len = [24, 2_000][usize::from(self.one_in(4))];
        let priorities = [10, 127, 127, 200];
        let (is_delayed, has_deadline) = (self.one_in(5), self.one_in(6));
        let (has_key, is_other, has_backoff) = (self.one_in(3), self.one_in(10), !self.one_in(4));
        let delay = Duration::from_millis(self.random.u64(..8_000));
        let until = Duration::from_millis(self.random.u64(1..20_000));
        let key = self.random.u32(..KEYS);
        let ttl = Duration::from_secs(self.random.u64(1..10));
        let ttl = self.one_in(6).then_some(ttl);
        let asked = Asked {
            run_at: is_delayed.then(|| wall.after(delay)),
            is_endless: self.one_in(12),
            is_dear: false,
        };
        let spec = Spec {
            namespace: NAMESPACE.to_owned(),
            module: "m".to_owned(),
            version: 1,
            digest: MODULES[module],
            function: "f".to_owned(),
            payload: DataRef::Row { len },
            content_type: String::new(),
            arguments: Vec::new(),
            limits: Limits::DEFAULT,
            retry: RetryPolicy {
                max_attempts: self.random.u32(1..4),
                backoff: Duration::from_secs(u64::from(has_backoff)),
                cap: Duration::from_secs(4),
            },
            priority: Priority(priorities[self.random.usize(..priorities.len())]),
            run_at: asked.run_at,
            deadline: has_deadline.then(|| wall.after(until)),
            result_ttl: ttl,
            idempotency_key: match has_key {
                true => format!("k{key}"),
                false => String::new(),
            },
            traceparent: tag.clone(),
            submitted_at: wall,
        };
        let payload = payload(&tag, len as usize);
        self.promises.sent.insert(tag, asked);
        Request {
            spec,
            payload,
            variant: u8::from(is_other),
        }
    }

    /// Asks for tasks that take long, and of which nothing is to be lost.
    pub(crate) fn submit_dear(&mut self, count: u32) {
        let requests: Vec<_> = (0..count).map(|_| self.request()).collect();
        let requests = requests.into_iter().map(|mut request| {
            let asked = self.promises.sent.get_mut(&request.spec.traceparent);
            if let Some(asked) = asked {
                (asked.run_at, asked.is_endless, asked.is_dear) = (None, false, true);
            }
            let spec = &mut request.spec;
            (spec.run_at, spec.deadline, spec.digest) = (None, None, MODULES[0]);
            spec.idempotency_key.clear();
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
        });
        let submit = Submit {
            namespace: NAMESPACE.to_owned(),
            tasks: tasks.collect(),
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

    fn change(&mut self, id: TaskId, command: fn(Target) -> Command) {
        if self.broker.process.is_none() {
            return;
        }
        let (reply, answer) = oneshot::channel();
        let namespace = NAMESPACE.to_owned();
        self.command(command(Target {
            namespace,
            id,
            reply,
        }));
        self.clients.changes.push((id, answer));
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

fn module(digest: Digest) -> Module {
    let function = Function {
        name: "f".to_owned(),
        doc: String::new(),
        input: String::new(),
        output: String::new(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy::DEFAULT,
        result_ttl: None,
    };
    Module {
        name: format!("m{}", digest.0[0]),
        version: 0,
        digest,
        size_bytes: 100,
        entry: Entry::Handler,
        functions: vec![function],
        uploaded_at: Timestamp::EPOCH,
        not_granted: Vec::new(),
    }
}
