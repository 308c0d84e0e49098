//! What the ledger is asked to do, and how it answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tq_core::breaker::{Forced, Phase, Tally};
use tq_core::grant::BucketName;
use tq_core::label::Labels;
use tq_core::limits::{
    ACCESS_KEYS_MAX, ACCESS_KEYS_PER_NAMESPACE_MAX, BREAKERS_MAX, KEYVALUE_BUCKETS_MAX,
    KEYVALUE_NAMESPACE_BYTES_MAX, OutOfRange, QUEUES_MAX, SECRETS_MAX, WEBHOOK_PENDING_MAX,
    WEBHOOKS_MAX,
};
use tq_core::queue::{Order, Rate, Settings, SettingsError};
use tq_core::quota::Exceeded;
use tq_core::task::{Spec, State, Task};
use tq_core::transition::{Amendment, Rejected};
use tq_core::{Digest, Epoch, Grants, TaskId, Timestamp};

use super::{
    BucketChange, Delivering, Ended, Keep, KeyChange, Permit, QuotaView, RedriveDead, SecretChange,
    SetNamespace, WebhookChange,
};
use crate::access::KeyId;
use crate::access::audit::Event as AuditEvent;
use crate::blobs::Hold;
use crate::dispatch::SessionId;
use crate::dispatch::breakers::{Event, Function, Override};
use crate::dispatch::health;
use crate::dispatch::hosts::Link;
use crate::dispatch::message::{AttemptRef, FromHost, Hello};
use crate::dispatch::queues::Closed;
use crate::modules::registry::{Module, Retyped};
use crate::tables::row::Counters;

/// Where an answer goes. Nobody may be waiting for it any more.
pub type Reply<T> = oneshot::Sender<T>;

/// One input of the ledger.
pub enum Command {
    /// One that names blobs, with holds on them, which end with the commit of what becomes of it.
    Holding(Vec<Hold>, Box<Command>),
    /// A host begins a session.
    Hello {
        /// What it says of itself.
        hello: Box<Hello>,
        /// Where messages to it go.
        link: Arc<dyn Link>,
        /// The session, or why there is none.
        reply: Reply<Result<SessionId, HelloRefused>>,
    },
    /// A host says something.
    FromHost(SessionId, FromHost),
    /// A host's connection ended.
    Disconnected(SessionId),
    /// Attempts wrote to their logs.
    Log(LogChunk),
    /// Submits tasks.
    Submit(Submit),
    /// Cancels a task.
    Cancel(Target),
    /// Redrives a task.
    Redrive(Target),
    /// Changes what was asked for of a task.
    Amend(Box<Amendment>, Target),
    /// Sets a queue up, changes or deletes it.
    Queue(QueueChange),
    /// Lists the queues of a namespace.
    Queues(String, Reply<Vec<QueueView>>),
    /// Looks at what a namespace has of what its quotas count.
    Quotas(String, Reply<QuotaView>),
    /// Lists the breakers of a namespace of which there is something to say.
    Breakers(String, Reply<Vec<BreakerView>>),
    /// Looks at the breaker of a function, forces or releases it.
    Breaker {
        /// The namespace's name.
        namespace: String,
        /// The function, as `MODULE/FUNCTION`, with or without a version.
        function: String,
        /// What is wanted.
        order: BreakerOrder,
        /// The breaker as it is from now on.
        reply: Reply<Result<BreakerView, Refused>>,
    },
    /// Redrives dead letters.
    RedriveDead(RedriveDead),
    /// Changes the settings of a namespace.
    SetNamespace(SetNamespace),
    /// Sets or removes a secret.
    Secret(SecretChange),
    /// Makes, changes or removes a webhook.
    Webhook(Box<WebhookChange>),
    /// Whoever delivers for webhooks has something to say.
    Deliver(Box<Delivering>),
    /// Makes, changes or ends a key that lets callers in.
    AccessKey(KeyChange),
    /// Adds a record to the audit log.
    Audit(AuditEvent, Reply<()>),
    /// Changes what is in a bucket.
    Bucket(BucketChange),
    /// What an attempt was granted that asks for something while it runs.
    Granted(AttemptRef, Reply<Result<Arc<Grants>, Refused>>),
    /// Removes tasks that have ended.
    Delete(Delete),
    /// Reads or changes how long a namespace keeps what has ended.
    Keep(Keep),
    /// Wants to know when tasks end.
    Watch(Watch),
    /// Wants to know no longer.
    Unwatch(WatchId),
    /// Adds a version of a module.
    Deploy(Box<Deploy>),
    /// Points a module's name at an earlier version.
    Rollback {
        /// The namespace's name.
        namespace: String,
        /// The module's name.
        name: String,
        /// The version; 0 is the one before the current one.
        version: u32,
        /// The module as it is from now on.
        reply: Reply<Result<(), Refused>>,
    },
    /// Removes versions of a module.
    DeleteModule {
        /// The namespace's name.
        namespace: String,
        /// The module's name.
        name: String,
        /// The version; 0 is all of them, and the name.
        version: u32,
        /// How many versions are gone, once that is on disk.
        reply: Reply<Result<usize, Refused>>,
    },
    /// Lists hosts.
    Hosts(Reply<Vec<HostView>>),
    /// Looks at a host, or says what is wanted of it.
    Host {
        /// Its name.
        name: String,
        /// What is wanted.
        order: HostOrder,
        /// The host as it is from now on.
        reply: Reply<Result<HostView, Refused>>,
    },
    /// Forgets a host.
    RemoveHost {
        /// Its name.
        name: String,
        /// How many attempts were taken from it.
        reply: Reply<Result<usize, Refused>>,
    },
    /// Lists the hosts that hold a module, and why others could not compile it.
    Readiness(Digest, Reply<Readiness>),
}

impl Command {
    /// The command, with holds on blobs that it names.
    pub fn holding(self, holds: Vec<Hold>) -> Self {
        match holds.is_empty() {
            true => self,
            false => Self::Holding(holds, Box::new(self)),
        }
    }
}

/// Tasks to be submitted: all of them or none.
pub struct Submit {
    /// The namespace's name.
    pub namespace: String,
    /// What was asked for.
    pub tasks: Vec<Submission>,
    /// By which they were let in, for as long as the ledger has them; none if nobody asked. Whoever waits for the answer may
    /// go, and they would still take memory.
    pub permit: Option<Permit>,
    /// Their ids, once they are on disk.
    pub reply: Reply<Result<Vec<Submitted>, Refused>>,
}

/// A task to be submitted, checked but for what only the ledger knows.
pub struct Submission {
    /// What was asked for. A relative time has been made an absolute one.
    pub spec: Spec,
    /// The payload, unless it is a blob.
    pub payload: Option<Bytes>,
    /// BLAKE3 of what was asked for, to tell the same request from another one under the same idempotency key.
    pub request: [u8; 32],
    /// How long its idempotency key is remembered.
    pub key_window: Duration,
}

/// A task that is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub id: TaskId,
    /// It was there already, under its idempotency key or its unique key.
    pub existed: bool,
}

/// One task, and where to send what becomes of it.
pub struct Target {
    /// The namespace's name.
    pub namespace: String,
    /// The task.
    pub id: TaskId,
    /// How far it had come when it was read; if it has come further, it stays as it is. None does not matter.
    pub seen: Option<Seen>,
    /// The task as it is from now on.
    pub reply: Reply<Result<Task, Refused>>,
}

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its round.
    pub round: u32,
    /// Attempts ever started.
    pub started: u32,
}

impl Seen {
    /// How far a task has come now.
    pub fn of(task: &Task) -> Self {
        Self {
            round: task.round,
            started: task.started,
        }
    }
}

/// What is to become of a queue.
pub struct QueueChange {
    /// The namespace's name. It is made if it is new.
    pub namespace: String,
    /// The queue's name.
    pub name: String,
    /// What changes.
    pub patch: QueuePatch,
    /// The queue as it is from now on.
    pub reply: Reply<Result<QueueView, Refused>>,
}

/// What of a queue changes. What is none stays; a limit that is `Some(None)` goes.
#[derive(Clone, Copy, Debug)]
pub enum QueuePatch {
    /// Sets it up, or to something else.
    Set {
        /// In which order its tasks run.
        order: Option<Order>,
        /// How many of its tasks run at once.
        concurrency: Option<Option<u32>>,
        /// How many of its tasks start.
        rate: Option<Option<Rate>>,
    },
    /// Lets nothing of it start, or something again.
    Pause(bool),
    /// Lets it take nothing new.
    Delete,
}

/// A queue as it is shown.
#[derive(Clone, Debug)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// What it is set to.
    pub settings: Settings,
    /// How many of its tasks are in which state.
    pub counters: Counters,
    /// Since when that one has waited for a host which has waited longest; none if none waits.
    pub oldest: Option<Timestamp>,
    /// Why nothing of it starts.
    pub closed: Option<Closed>,
}

/// What is wanted of a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreakerOrder {
    /// To be shown.
    Show,
    /// To be so until it is released, and why; the reason may be empty.
    Force(Forced, String),
    /// To be left to itself. If it is open, its function is tried at once.
    Release,
}

/// A breaker as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// The function.
    pub function: Function,
    /// Where it is.
    pub phase: Phase,
    /// What an operator wants of it.
    pub forced: Option<Override>,
    /// When it changes by itself.
    pub until: Option<Timestamp>,
    /// The attempts that ended lately, as far as they count.
    pub tally: Tally,
    /// What has become of it, the oldest first; of one that is listed with others, only the last change.
    pub history: Vec<Event>,
}

/// Ended tasks to be removed.
pub struct Delete {
    /// The namespace's name.
    pub namespace: String,
    /// Which ones; at most [`tq_core::limits::DELETE_BATCH_MAX`].
    pub tasks: Doomed,
    /// How many were removed, once that is on disk.
    pub reply: Reply<Result<usize, Refused>>,
}

/// Which tasks are to be removed.
pub enum Doomed {
    /// This one. It is refused if it has not ended.
    One(TaskId),
    /// Those of these that ended at the given time and in the given way: who chose them has read so. One that has
    /// become something else since, or is gone, is passed over.
    As(Vec<(TaskId, State)>),
}

/// The number of a watch, never used twice by one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// Wants to be told when tasks end. What ended before the answer is not told: the caller reads it afterwards.
pub struct Watch {
    /// The number by which it is ended. Whoever asks has taken it, so that the watch can be ended even if its answer is lost.
    pub id: WatchId,
    /// The namespace's name.
    pub namespace: String,
    /// The tasks. Each is told at most once, so that the channel is bounded by their number.
    pub ids: Vec<TaskId>,
    /// Where ends are told.
    pub ended: mpsc::UnboundedSender<Arc<Ended>>,
    /// The watch is registered. Those of its tasks that the ledger does not hold in memory as open: whoever asks has to
    /// read them.
    pub reply: Reply<Vec<TaskId>>,
}

/// A module to be deployed. Its bytes are on disk.
pub struct Deploy {
    /// The namespace's name. It is made if it is new.
    pub namespace: String,
    /// The module; its version and time are given by the ledger.
    pub module: Module,
    /// Refuse it if a function would get what it does not have in the current version.
    pub deny_new_grants: bool,
    /// What has come of it.
    pub reply: Reply<Result<Deployed, Refused>>,
}

/// A module that was deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The version that is current from now on.
    pub version: u32,
    /// It was so before.
    pub is_unchanged: bool,
    /// What functions got that they did not have in the version that was current before.
    pub newly_granted: Vec<String>,
    /// Functions of that version that are called otherwise now.
    pub retyped: Vec<Retyped>,
}

/// A piece of an attempt's log.
#[derive(Clone, Debug)]
pub struct LogChunk {
    /// The namespace's name.
    pub namespace: String,
    /// The task.
    pub id: TaskId,
    /// The attempt.
    pub epoch: Epoch,
    /// How many bytes of the attempt's log come before it.
    pub offset: u64,
    /// The text.
    pub text: Bytes,
}

/// What is wanted of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostOrder {
    /// To be shown.
    Show,
    /// To take nothing new.
    Pause,
    /// To work again.
    Resume,
    /// To be empty, so long from now at the latest.
    Drain(Duration),
}

/// Where a host is. What its operator wants comes first, then its health, then its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It has a session, and takes work.
    Connected,
    /// Its session ended, and its lease has not run out yet.
    Silent,
    /// It finishes what it has, and takes nothing new.
    Draining,
    /// It takes nothing new, because someone said so.
    Paused,
    /// It was emptied.
    Drained,
    /// It failed again and again through its own fault.
    Quarantined,
}

/// A host as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: HostState,
    /// Why it takes no work, or less than it could; empty if it does.
    pub reason: String,
    /// When that ends by itself; none if it does not.
    pub until: Option<Timestamp>,
    /// It has a session.
    pub is_connected: bool,
    /// What it says of itself.
    pub labels: Labels,
    /// What the memory limits of its attempts may add up to.
    pub memory_bytes: Option<u64>,
    /// What they do add up to.
    pub reserved_bytes: u64,
    /// How many attempts it runs at once.
    pub slots: u32,
    /// Attempts that it has.
    pub held: usize,
    /// Modules that it holds compiled.
    pub ready: usize,
    /// Its version of tq.
    pub version: String,
    /// When its session began, in milliseconds since the Unix epoch.
    pub connected_ms: u64,
    /// What has become of its health, the oldest first; of one that is listed with others, only the last change.
    pub changes: Vec<health::Change>,
}

/// Who can run a module.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// Hosts that hold it compiled.
    pub hosts: Vec<String>,
    /// What the last host said that could not compile it.
    pub error: Option<String>,
}

/// Why a host gets no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefused {
    /// Another process has the name.
    #[error(
        "a host named `{0}` is connected already; give this one another name, or wait until that one's lease has run out"
    )]
    NameTaken(String),
    /// It saw more than this store has.
    #[error(
        "host saw commit {seen} of this store, but the store ends at {seq}: it was rolled back"
    )]
    RolledBack {
        /// What it saw.
        seen: u64,
        /// What there is.
        seq: u64,
    },
}

/// Why a request is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such task.
    #[error("namespace `{namespace}` has no task {id}")]
    NoTask {
        /// The namespace's name.
        namespace: String,
        /// The task.
        id: TaskId,
    },
    /// There is no such namespace.
    #[error("there is no namespace `{0}`; deploy a module into it first")]
    NoNamespace(String),
    /// The task's state does not allow it.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It has not ended, and only what has can be removed.
    #[error("task {id} is {state}: only a task that has ended can be deleted; cancel it first")]
    NotEnded {
        /// The task.
        id: TaskId,
        /// The state's name.
        state: &'static str,
    },
    /// A new version would be granted what the current one is not, and that was not wanted.
    #[error("the current version of module `{name}` is not granted: {}", .grants.join(", "))]
    NewGrants {
        /// The module.
        name: String,
        /// What it would get.
        grants: Vec<String>,
    },
    /// The key stands for another request.
    #[error("idempotency key `{key}` was used for another request, {}; use a new key, or send the same request", of(*.id))]
    KeyConflict {
        /// The key.
        key: String,
        /// The task that it stands for; none if that one is in the same submit.
        id: Option<TaskId>,
    },
    /// More comes than can be taken in.
    #[error(
        "the broker is overloaded: {rule}; try again in {}",
        seconds(*.retry_after)
    )]
    Overloaded {
        /// What there would have to be room for.
        rule: String,
        /// When there may be room.
        retry_after: Duration,
    },
    /// A namespace would have more than its quota.
    #[error("namespace `{namespace}` is held to {exceeded}{}", again(exceeded, *.retry_after))]
    OverQuota {
        /// The namespace's name.
        namespace: String,
        /// What it would have too much of.
        exceeded: Exceeded,
        /// When the same may be asked for again, if that is known.
        retry_after: Option<Duration>,
    },
    /// Too little space is left.
    #[error(
        "the disk has {free} bytes left, under the floor of {floor} bytes: no new tasks and values until there is more; what runs goes on"
    )]
    DiskFull {
        /// What is left.
        free: u64,
        /// The floor.
        floor: u64,
    },
    /// There is no such module.
    #[error(transparent)]
    Unknown(#[from] crate::modules::registry::Unknown),
    /// A module has no version before its current one.
    #[error("module `{name}` has no version before {current}")]
    NoEarlierVersion {
        /// The module's name.
        name: String,
        /// Its current version.
        current: u32,
    },
    /// A module was deleted and deployed anew while it was asked for.
    #[error("module `{0}` was deployed anew meanwhile; try again")]
    Replaced(String),
    /// A version is to be deleted that the module's name points at.
    #[error("version {version} of module `{name}` is its current one")]
    CurrentVersion {
        /// The module's name.
        name: String,
        /// The version.
        version: u32,
    },
    /// A version is to be deleted that tasks need.
    #[error("module `{name}` is needed by {tasks} of the tasks that are kept")]
    ModuleInUse {
        /// The module's name, with the version if it is about one.
        name: String,
        /// The tasks.
        tasks: u64,
    },
    /// A limit is out of its range.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// There is no such queue.
    #[error(
        "namespace `{namespace}` has no queue `{queue}`; set it up with `tq queue set {queue}`"
    )]
    NoQueue {
        /// The namespace's name.
        namespace: String,
        /// The queue's name.
        queue: String,
    },
    /// What a queue is to be set to is out of its range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A queue's order is to change while tasks stand in it.
    #[error(
        "queue `{queue}` has {ready} ready tasks, which stand in its order; pause what feeds it, let them run, and set the order then"
    )]
    OrderInUse {
        /// The queue's name.
        queue: String,
        /// Tasks that are ready.
        ready: u64,
    },
    /// A queue that has tasks is to be deleted.
    #[error(
        "queue `{queue}` has {waiting} waiting and {running} running tasks; let them end, or cancel them"
    )]
    QueueInUse {
        /// The queue's name.
        queue: String,
        /// Tasks that wait.
        waiting: u64,
        /// Tasks that run.
        running: u64,
    },
    /// The default queue is to be deleted.
    #[error("the queue `default` is every namespace's; it can be paused, but not deleted")]
    DefaultQueue,
    /// There are too many queues.
    #[error(
        "the namespace has {QUEUES_MAX} queues, which is the limit; delete one, or use concurrency keys for many small lanes"
    )]
    TooManyQueues,
    /// There are too many breakers.
    #[error(
        "the namespace has {BREAKERS_MAX} functions that fail or whose breaker is forced, which is the limit; release one"
    )]
    TooManyBreakers,
    /// There are too many secrets.
    #[error("the namespace has {SECRETS_MAX} secrets, which is the limit; delete one")]
    TooManySecrets,
    /// There are too many keys.
    #[error("there are {ACCESS_KEYS_MAX} keys, which is the limit; revoke one")]
    TooManyKeys,
    /// There are as many keys of a namespace as there may be.
    #[error(
        "namespace `{0}` has {ACCESS_KEYS_PER_NAMESPACE_MAX} keys, which is the limit; revoke one"
    )]
    TooManyKeysOfNamespace(String),
    /// A key has ended by itself.
    #[error("key `{0}` has expired, and another text would not hold either")]
    AccessKeyExpired(KeyId),
    /// There is no such key.
    #[error("there is no key `{0}`")]
    NoAccessKey(KeyId),
    /// There is no such secret.
    #[error("namespace `{namespace}` has no secret `{name}`")]
    NoSecret {
        /// The namespace's name.
        namespace: String,
        /// The secret's name.
        name: String,
    },
    /// There is no such webhook.
    #[error("namespace `{namespace}` has no webhook `{name}`")]
    NoWebhook {
        /// The namespace's name.
        namespace: String,
        /// The webhook's name.
        name: String,
    },
    /// There is one of that name.
    #[error("there is a webhook `{0}` already")]
    WebhookExists(String),
    /// There are too many webhooks.
    #[error("the namespace has {WEBHOOKS_MAX} webhooks, which is the limit; delete one")]
    TooManyWebhooks,
    /// A webhook has so much to deliver that nothing can be added.
    #[error(
        "the webhook has {WEBHOOK_PENDING_MAX} deliveries to make, which is the limit; try again when some are done"
    )]
    WebhookFull,
    /// An attempt asks for a bucket that it may not use.
    #[error(
        "bucket `{0}` is not granted to the function; `[capabilities] keyvalue` in tq.toml grants it"
    )]
    BucketNotGranted(BucketName),
    /// The buckets of a namespace would have too much.
    #[error(
        "the buckets of the namespace would have {bytes} bytes, over the limit of {KEYVALUE_NAMESPACE_BYTES_MAX} bytes; delete what is not needed"
    )]
    BucketsFull {
        /// What they would have.
        bytes: u64,
    },
    /// There are too many buckets.
    #[error(
        "the namespace has {KEYVALUE_BUCKETS_MAX} buckets, which is the limit; delete one, or put more keys into fewer buckets"
    )]
    TooManyBuckets,
    /// There is no such key.
    #[error("bucket `{bucket}` of namespace `{namespace}` has no key `{}`", .key.escape_debug())]
    NoKey {
        /// The namespace's name.
        namespace: String,
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// A value that is to be incremented is no number, or the sum would be none.
    #[error("{delta} cannot be added to key `{}`: its value is no whole number in decimal digits, or the sum has more than 64 bits", .key.escape_debug())]
    NoNumber {
        /// The key.
        key: String,
        /// What was to be added.
        delta: i64,
    },
    /// An attempt asks for something that is not its host's any more, or never was.
    #[error("attempt {epoch} of task {id} does not run there")]
    NotHeld {
        /// The task.
        id: TaskId,
        /// The attempt.
        epoch: Epoch,
    },
    /// There is no such host.
    #[error("there is no host `{0}`")]
    NoHost(String),
    /// A host is to be paused that drains.
    #[error("host `{0}` is being drained or was, and takes nothing new already")]
    HostDrains(String),
}

/// When there is room again, for what does not say so itself.
fn again(exceeded: &Exceeded, retry_after: Option<Duration>) -> String {
    match (exceeded, retry_after) {
        (Exceeded::SubmitRate { .. }, Some(span)) => {
            format!(
                "; try again in {}",
                seconds(span.max(Duration::from_millis(100)))
            )
        }
        _ => String::new(),
    }
}

/// As people are told it: whoever comes back a little later finds room too.
fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

fn of(id: Option<TaskId>) -> String {
    id.map_or_else(
        || "in the same submit".to_owned(),
        |id| format!("of task {id}"),
    )
}
