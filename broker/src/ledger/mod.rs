//! The one writer of a shard: every change goes through it.
//!
//! A step takes what has come in, asks `core` what becomes of it and writes everything as one atomic batch. What it has
//! to say ([`Answers`]) is said when that is on disk, while the next steps are under way. The fuller the inbox, the
//! cheaper each task. The ledger itself is plain synchronous code: time comes in with each step, the thread that drives
//! it is in [`thread`], and the one that syncs and speaks in [`syncing`].
//!
//! What of an open task is where:
//! - every task has a call row, written once, and a state row, overwritten in place, once it is not as it was submitted;
//! - a *claims row* leads to the tasks that hosts got in one commit, and says so for them;
//! - running tasks and the front of each lane are in memory too ([`Open`]);
//! - a *ready row* leads to ready tasks of one place, but for those that are in memory since their submit;
//! - an *open row* leads to a task that has no other entry and is older than where recovery begins;
//! - a *timer row* leads to whatever waits for a time.
//!
//! So recovery reads the claims and open rows, and the tasks from where it begins; the rest is found when its turn comes.

mod access;
mod admission;
mod answers;
mod audit_log;
mod breakers;
mod claims;
mod command;
mod costs;
mod dispatch;
mod ends;
mod finished;
mod following;
mod hosts;
mod ids;
mod keyvalue;
mod modules;
mod namespaces;
mod queues;
mod quotas;
mod ready;
#[cfg(any(test, feature = "simulation"))]
pub mod recount;
mod recovery;
mod redrive;
mod removal;
mod retention;
mod secrets;
mod step;
mod submit;
mod syncing;
mod tasks;
#[cfg(test)]
mod tests;
mod thread;
mod timers;
mod token;
mod webhooks;

pub use access::KeyChange;
pub use admission::{Admission, OverloadView, Permit, Weight};
pub use answers::Answers;
pub(crate) use audit_log::AuditLog;
pub use command::{
    BreakerOrder, BreakerView, Command, Delete, Deploy, Deployed, Doomed, HelloRefused, HostOrder,
    HostState, HostView, LogChunk, QueueChange, QueuePatch, QueueView, Readiness, Refused, Reply,
    Seen, Submission, Submit, Submitted, Target, Watch, WatchId,
};
pub use ends::{Ended, Recent};
pub use following::Following;
pub use keyvalue::{BucketChange, Changed, ChangedBy, WhatChanges};
pub use namespaces::{NamespaceSettings, SetNamespace};
pub use quotas::QuotaView;
pub use redrive::RedriveDead;
pub use retention::{Keep, RetentionChange};
pub use secrets::{SecretChange, Secrets, StoredSecret};
pub(crate) use thread::wall;
pub use thread::{Clock, Handle, Running, Stopped, Watching, start};
pub use webhooks::{
    Cursor, Delivering, Delivery, DeliveryId, Paused, Tried, Webhook, WebhookChange, WebhookId,
    WebhookOrder, Webhooks,
};

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, watch};
use tq_core::limits::{BREAKER_ATTEMPTS_MIN, FREE_BYTES_FLOOR, READY_WINDOW, WAITING_MAX};
use tq_core::planted::{Bug, is_planted};
use tq_core::task::{Lease, Spec, Task};
use tq_core::{Epoch, Limits, Retention, TaskId, Timestamp};

use self::claims::Claims;
use self::costs::Costs;
use self::ids::Ids;
use self::step::Step;
use self::token::Secret;
use crate::access::Keys;
use crate::blobs::Unnamed;
use crate::dispatch::breakers::Breakers;
use crate::dispatch::hosts::Held;
use crate::dispatch::lanes::{Spot, Ticket};
use crate::dispatch::queues::Queues;
use crate::dispatch::shares::Shares;
use crate::dispatch::{Hosts, Lanes};
use crate::modules::Registry;
use crate::observe::Metrics;
use crate::store::{self, Store};
use crate::tables::key::QueueId;
use crate::tables::row::{Beside, Counters};
use crate::tables::{Namespace, row};

/// The time of a step.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the wall clock. The ledger never lets it go back.
    pub wall: Timestamp,
    /// By a clock that only advances; leases are measured by it.
    pub mono: Duration,
}

/// Why a ledger stops. Everything acknowledged is on disk; a restart goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed. A failed write is never tried again.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A commit failed: it may be on disk all the same.
    #[error("a commit failed; restart the broker, which reads what is on disk")]
    Commit,
    /// A row cannot be read.
    #[error(transparent)]
    Row(#[from] row::Error),
    /// A host has seen more of this store than there is.
    #[error(
        "{0}; restore the newest copy of the data directory, or accept the loss with `tq admin repair`"
    )]
    RolledBack(HelloRefused),
    /// The thread panicked.
    #[error("the ledger panicked, which is a bug in tq; everything acknowledged is on disk")]
    Panicked,
    /// The system gives it no thread.
    #[error("failed to start the thread that syncs")]
    Thread(#[source] std::io::Error),
    /// The epochs of one generation are used up.
    #[error("this start of the broker has handed out 4 billion attempts; restart it")]
    EpochsUsedUp,
}

/// What a ledger is set up with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Free space under which submits are refused, in bytes.
    pub free_bytes_floor: u64,
    /// Tasks that may wait, over all namespaces, before every submit is refused; at least 1.
    pub waiting_max: u64,
    /// Seeds the random bits of ids.
    pub seed: u64,
    /// Ready tasks held in memory, over all lanes; at least 1. The others are index rows.
    pub ready_window: usize,
    /// Tasks that may be submitted before one that no index leads to gets an open row: what recovery reads at most.
    pub unindexed_span: u64,
    /// How long namespaces keep what has ended that set nothing.
    pub retention: Retention,
    /// Attempts of a function that have to have ended before its circuit breaker opens.
    pub breaker_attempts_min: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            free_bytes_floor: FREE_BYTES_FLOOR,
            waiting_max: WAITING_MAX,
            seed: 0,
            ready_window: READY_WINDOW,
            unindexed_span: UNINDEXED_SPAN,
            retention: Retention::DEFAULT,
            breaker_attempts_min: BREAKER_ATTEMPTS_MIN,
        }
    }
}

/// Reading so many rows takes a recovery a fraction of a second.
const UNINDEXED_SPAN: u64 = 32_768;

/// What others may look at while the ledger works.
pub struct Shared {
    /// The modules.
    pub registry: RwLock<Registry>,
    /// The namespaces' numbers.
    pub namespaces: RwLock<HashMap<String, Namespace>>,
    /// The settings of namespaces, as far as any were set.
    settings: RwLock<HashMap<String, NamespaceSettings>>,
    /// Keys that let callers in.
    pub keys: Keys,
    /// Secrets, sealed.
    secrets: RwLock<HashMap<Namespace, Secrets>>,
    /// The ledger's time at the last commit, in milliseconds since the Unix epoch.
    time: AtomicU64,
    /// Webhooks. What it says may not be on disk yet.
    pub webhooks: RwLock<Webhooks>,
    /// Tells that they have changed.
    pub webhooks_changed: watch::Sender<()>,
    /// How far running attempts say they are: a fraction from 0 to 1, and a note.
    pub progress: Mutex<HashMap<TaskId, (f64, String)>>,
    /// Who is to be told of which tasks' changes.
    followed: Mutex<following::Followed>,
    /// The sequence of the last commit in which tasks ended, and that is on disk.
    pub settled: watch::Sender<u64>,
    /// Who ended in the last commits that are on disk.
    pub recent: Mutex<Recent>,
    /// The last step that has to be on disk before anyone may be told what is in it.
    owed: AtomicU64,
    /// The last step that had something to say and was spoken of; [`STOPPED`] if none will be any more.
    said: watch::Sender<u64>,
    /// Of the commit with this sequence, and of those before it, the record of who ended in them may be gone.
    pub forgotten: AtomicU64,
    /// How many tasks are in which state, over all namespaces.
    pub counters: Mutex<Counters>,
    /// The claims by which tasks run. Their state rows do not know them.
    claims: RwLock<FxHashMap<TaskId, Lease>>,
    /// Blobs that rows have ceased to name.
    pub unnamed: Unnamed,
    /// Who is let in.
    pub admission: Arc<Admission>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Shared {
    /// The time, seen as the ledger sees it: it does not go back when the machine's clock does.
    pub fn now(&self) -> Timestamp {
        wall().max(Timestamp(
            self.time.load(std::sync::atomic::Ordering::Relaxed),
        ))
    }

    /// The claim by which a task runs, if it does. Who reads the task's rows asks for it *before*, so that what comes of
    /// the claim is in what is read, if it is over.
    pub fn claim(&self, id: TaskId) -> Option<Lease> {
        read(&self.claims).get(&id).cloned()
    }

    /// The same call, of the module's current version if that still has the function, under the namespace's ceilings.
    pub fn on_current_version(&self, spec: &Spec) -> Spec {
        let mut spec = read(&self.registry).on_current_version(spec);
        let ceilings = self.settings(&spec.namespace).ceilings;
        spec.limits = spec.limits.min(&ceilings.over(&Limits::MAX));
        spec
    }

    /// The settings of a namespace.
    pub fn settings(&self, namespace: &str) -> NamespaceSettings {
        read(&self.settings)
            .get(namespace)
            .copied()
            .unwrap_or_default()
    }

    /// The secrets of a namespace, sealed. What it says may not be on disk yet.
    pub fn secrets(&self, namespace: &str) -> Secrets {
        let number = read(&self.namespaces).get(namespace).copied();
        let secrets = read(&self.secrets);
        let of_namespace = number.and_then(|number| secrets.get(&number));
        of_namespace.cloned().unwrap_or_default()
    }

    /// One of them.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<StoredSecret> {
        let number = read(&self.namespaces).get(namespace).copied()?;
        read(&self.secrets).get(&number)?.get(name).cloned()
    }
}

/// Stands for a step that is never reached.
const STOPPED: u64 = u64::MAX;

/// What a step leads to.
pub struct Stepped {
    /// When it wants to be called again at the latest; none if only an input can change anything.
    pub wait: Option<Duration>,
    /// What it has to say.
    pub answers: Answers,
}

/// An open task in memory.
#[derive(Debug)]
struct Open {
    namespace: Namespace,
    task: Task,
    beside: Beside,
    /// Recovery finds it by scanning from where it begins, so that it needs no open row.
    unindexed: bool,
    /// It is ready, and in the window of its line by this ticket.
    in_window: Option<Ticket>,
    /// Where it waits or waited; none if that was never asked for.
    spot: Option<Spot>,
    /// What its attempt is taken to use of a slot, in microseconds.
    charged_us: u64,
    /// It runs, and the claims row of this commit says so.
    claimed_in: Option<u64>,
    /// The payload, if it is small and there was room for it.
    payload: Option<Bytes>,
    /// The result, if it is a part of the state row; empty otherwise.
    result: Bytes,
}

impl Open {
    /// What a host has that has an attempt of it.
    fn held(&self) -> Held {
        Held {
            namespace: self.namespace,
            id: self.task.id,
            memory_bytes: self.task.spec.limits.memory_bytes,
        }
    }
}

/// The ledger of a shard.
pub struct Ledger {
    store: Box<dyn Store>,
    config: Config,
    shared: Arc<Shared>,
    secret: Secret,
    /// The ledger's time: the highest that it has seen.
    time: Timestamp,
    mono: Duration,
    ids: Ids,
    last_id: TaskId,
    epochs: u32,
    /// Nobody outside chooses these ids, so that a fast hash does.
    open: FxHashMap<TaskId, Open>,
    /// Bytes of payload in `open`.
    payload_bytes: usize,
    /// Open tasks that have no entry in an index, in the order of their ids, each with the number of tasks submitted up
    /// to it. Some may have ended since.
    unindexed: VecDeque<(TaskId, u64)>,
    /// Tasks submitted since the start.
    submitted: u64,
    lanes: Lanes,
    queues: Queues,
    breakers: Breakers,
    shares: Shares,
    costs: Costs,
    /// Where the task went that became ready last: the next one is often like it.
    last_spot: Option<(Arc<Spec>, Spot)>,
    ready_rows: ready::Known,
    claims: Claims,
    hosts: Hosts,
    counters: BTreeMap<(Namespace, QueueId), Counters>,
    /// Their sum.
    total: Counters,
    watches: HashMap<WatchId, (mpsc::UnboundedSender<Arc<Ended>>, Vec<TaskId>)>,
    watched: HashMap<TaskId, Vec<WatchId>>,
    /// No timer is due before this one.
    next_timer: Option<Timestamp>,
    /// Timers up to here have been dealt with.
    timers_from: Timestamp,
    /// The free space, and when it was asked for.
    free_bytes: Option<(u64, Duration)>,
    /// Bytes and pieces that the logs of attempts have, by task and attempt.
    log_sizes: BTreeMap<(TaskId, Epoch), tasks::LogSize>,
    /// Removed tasks that have left rows of logs behind, which go a bounded number at a time.
    leftovers: VecDeque<removal::Leftover>,
    collector: retention::Collector,
    module_uses: modules::Uses,
    buckets: keyvalue::Buckets,
    audit_log: audit_log::AuditLog,
    /// The number that a webhook was given last.
    last_webhook: u64,
    /// Tasks as they were when they were removed, and when that was, for whoever checks that they had to go.
    #[cfg(any(test, feature = "simulation"))]
    removed: Vec<(Task, Timestamp)>,
    /// Steps so far.
    steps: u64,
    step: Step,
}

impl Ledger {
    /// Takes what has come in, and commits what becomes of it, so that it outlives a crash of the process.
    ///
    /// # Errors
    /// [`Error`] if it cannot go on. Of what is not on disk, nothing was said.
    pub fn step(
        &mut self,
        now: Now,
        inputs: impl IntoIterator<Item = Command>,
    ) -> Result<Stepped, Error> {
        self.mono = self.mono.max(now.mono);
        self.time = self.time.max(now.wall);
        self.turn_day();
        // Also if nothing is to be committed: whoever looks after the broker should not hear of it later than it does.
        self.store.check()?;
        for input in inputs {
            self.take(input)?;
        }
        self.expire_leases();
        self.tend_hosts();
        self.tend_breakers();
        self.shared.admission.tend(self.time);
        let timers_left = self.fire_timers()?;
        let dead_left = self.bury_broken()?;
        let logs_left = self.clear_leftovers()?;
        let ready_left = self.dispatch()?;
        let over_left = self.collect()?;
        let answers = self.commit()?;
        let is_busy = timers_left || dead_left || logs_left || ready_left || over_left;
        let wait = if is_busy {
            Some(Duration::ZERO)
        } else {
            self.next_call()
        };
        Ok(Stepped { wait, answers })
    }

    /// When it wants to be called though nothing comes in.
    fn next_call(&self) -> Option<Duration> {
        let times = [
            self.next_timer,
            self.hosts.next_change(),
            self.queues.next_opening(),
            self.breakers.next_change(),
            self.shares.next_opening(),
        ];
        let times = times.into_iter().flatten();
        let timer = times.map(|at| at.since(self.time).max(Duration::from_millis(1)));
        let lease = self
            .hosts
            .next_expiry()
            .map(|at| at.saturating_sub(self.mono));
        let over = self.next_collection();
        timer.chain(lease).chain(over).min()
    }

    /// Tells the ledger that it stood still for `gap`, and could hear of no one.
    pub fn stood_still(&mut self, gap: Duration) {
        self.hosts.extend(gap);
    }

    /// Closes the store.
    ///
    /// # Errors
    /// [`store::Error`] if not everything could be made durable; the next start is then an unclean one.
    pub fn close(self) -> Result<(), store::Error> {
        self.store.close()
    }

    fn take(&mut self, input: Command) -> Result<(), Error> {
        match input {
            Command::Holding(holds, command) => {
                self.step.holds.extend(holds);
                self.take(*command)
            }
            Command::Hello { hello, link, reply } => self.hello(*hello, link, reply),
            Command::FromHost(session, message) => self.hear(session, message),
            Command::Disconnected(session) => {
                self.disconnected(session);
                Ok(())
            }
            Command::Log(chunk) => self.log(&chunk),
            Command::Submit(submit) => self.submit(submit),
            Command::Cancel(target) => self.cancel(target),
            Command::Redrive(target) => self.redrive(target),
            Command::Amend(amendment, target) => self.amend(*amendment, target),
            Command::RedriveDead(redrive) => self.redrive_dead(redrive),
            Command::SetNamespace(set) => {
                self.set_namespace(set);
                Ok(())
            }
            Command::Secret(change) => {
                self.change_secret(change);
                Ok(())
            }
            Command::Webhook(change) => self.change_webhook(*change),
            Command::Deliver(said) => self.deliver(*said),
            Command::AccessKey(change) => {
                self.change_key(change);
                Ok(())
            }
            Command::Audit(event, reply) => self.record_audit(event, reply),
            Command::Bucket(change) => self.change_bucket(change),
            Command::Granted(attempt, reply) => {
                let granted = self.granted(&attempt)?;
                self.answer(reply, granted);
                Ok(())
            }
            Command::Delete(delete) => self.delete(delete),
            Command::Keep(keep) => {
                self.keep(keep);
                Ok(())
            }
            Command::Watch(watch) => {
                self.watch(watch);
                Ok(())
            }
            Command::Unwatch(watch) => {
                self.unwatch(watch);
                Ok(())
            }
            Command::Deploy(deploy) => self.deploy(*deploy),
            Command::Rollback {
                namespace,
                name,
                version,
                reply,
            } => {
                let result = self.rollback(&namespace, &name, version);
                self.answer(reply, result);
                Ok(())
            }
            Command::DeleteModule {
                namespace,
                name,
                version,
                reply,
            } => {
                let result = self.delete_module(&namespace, &name, version);
                self.answer(reply, result);
                Ok(())
            }
            Command::Queue(change) => {
                self.change_queue(change);
                Ok(())
            }
            Command::Queues(namespace, reply) => {
                let queues = self.queue_views(&namespace);
                self.answer(reply, queues);
                Ok(())
            }
            Command::Quotas(namespace, reply) => {
                let view = self.quota_view(&namespace);
                self.answer(reply, view);
                Ok(())
            }
            Command::Breakers(namespace, reply) => {
                let breakers = self.breaker_views(&namespace);
                self.answer(reply, breakers);
                Ok(())
            }
            Command::Breaker {
                namespace,
                function,
                order,
                reply,
            } => {
                let result = self.order_breaker(&namespace, &function, order);
                self.answer(reply, result);
                Ok(())
            }
            Command::Hosts(reply) => {
                let hosts = self.host_views();
                self.answer(reply, hosts);
                Ok(())
            }
            Command::Host { name, order, reply } => {
                let result = self.order(&name, order);
                self.answer(reply, result);
                Ok(())
            }
            Command::RemoveHost { name, reply } => {
                let result = self.remove_host(&name);
                self.answer(reply, result);
                Ok(())
            }
            Command::Readiness(digest, reply) => {
                let readiness = self.readiness(&digest);
                self.answer(reply, readiness);
                Ok(())
            }
        }
    }

    /// Gives an answer when what the step writes is on disk.
    fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, answer: T) {
        self.step.after.push(Box::new(move || {
            // Whoever asked may have gone; what was done stays done.
            drop(reply.send(answer));
        }));
    }

    fn next_epoch(&mut self) -> Result<Epoch, Error> {
        self.epochs = self.epochs.checked_add(1).ok_or(Error::EpochsUsedUp)?;
        let generation = match is_planted(Bug::EpochReused) {
            true => 1,
            false => self.store.generation(),
        };
        Ok(Epoch::new(generation, self.epochs))
    }

    fn namespace(&self, name: &str) -> Option<Namespace> {
        read(&self.shared.namespaces).get(name).copied()
    }

    /// The name of a namespace that is there, by a look at all of them.
    fn name_of(&self, namespace: Namespace) -> String {
        let names = read(&self.shared.namespaces);
        let name = names.iter().find(|(_, number)| **number == namespace);
        name.map_or_else(String::new, |(name, _)| name.clone())
    }

    fn watch(&mut self, watch: Watch) {
        let Watch {
            id,
            namespace,
            ids,
            ended,
            reply,
        } = watch;
        let namespace = self.namespace(&namespace);
        let is_open = |task: &TaskId| {
            self.open.get(task).is_some_and(|open| {
                Some(open.namespace) == namespace && !open.task.state.is_terminal()
            })
        };
        let unknown = ids.iter().filter(|task| !is_open(task)).copied().collect();
        for task in &ids {
            let watches = self.watched.entry(*task).or_default();
            // Those of one watch come one after the other.
            if watches.last() != Some(&id) {
                watches.push(id);
            }
        }
        self.watches.insert(id, (ended, ids));
        self.answer(reply, unknown);
    }

    fn unwatch(&mut self, watch: WatchId) {
        let Some((_, ids)) = self.watches.remove(&watch) else {
            return;
        };
        for id in ids {
            if let Entry::Occupied(mut watches) = self.watched.entry(id) {
                watches.get_mut().retain(|other| *other != watch);
                if watches.get().is_empty() {
                    watches.remove();
                }
            }
        }
    }
}

/// Reads what others may be writing. A panic while writing poisons the lock; what it guards is still whole, since every
/// write is one call.
pub(crate) fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn lock<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
