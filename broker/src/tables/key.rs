//! Keys. Integers are big-endian, so that the order of bytes is the order of numbers.

use tq_core::{Day, Digest, Epoch, Priority, Signature, TaskId, Timestamp};

use crate::access::KeyId;
use crate::ledger::DeliveryId;
use crate::store::{Key, Space};

/// A namespace's number: what keys carry instead of its name. Given at first use, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(pub u32);

/// The number of a queue in its namespace. Given when it is first set up, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

impl QueueId {
    /// That of the queue that every namespace has.
    pub const DEFAULT: Self = Self(0);
}

/// The place of a ready row in its lane. It rises with every row, over restarts too, so that cursors only advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Tasks that may run under the same conditions: of one function and queue, on hosts that have the same, beside the
/// same others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The tenant.
    pub namespace: Namespace,
    /// What they have in common.
    pub id: LaneId,
}

/// Names the conditions of a lane, by a hash of them. What they are stands in the lane's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub [u8; 16]);

/// Kinds of keys in [`Space::Meta`].
mod meta {
    pub(super) const SECRET: u8 = 1;
    pub(super) const NAMESPACE: u8 = 2;
    pub(super) const MODULE: u8 = 3;
    pub(super) const CURRENT: u8 = 4;
    pub(super) const COUNTERS: u8 = 5;
    pub(super) const LEDGER: u8 = 6;
    pub(super) const QUEUE: u8 = 7;
    pub(super) const MODULE_USES: u8 = 8;
    pub(super) const HOST: u8 = 20;
    pub(super) const SETTINGS: u8 = 40;
    pub(super) const RETENTION: u8 = 60;
    pub(super) const COLLECTOR: u8 = 61;
    pub(super) const SECRET_OF: u8 = 80;
    pub(super) const BUCKET: u8 = 100;
    pub(super) const BREAKER: u8 = 120;
    pub(super) const KEPT_IS_COUNTED: u8 = 140;
    pub(super) const ACCESS: u8 = 160;
    pub(super) const ACCESS_KEY: u8 = 161;
    pub(super) const AUDIT_HEAD: u8 = 162;
    pub(super) const WEBHOOK: u8 = 180;
    pub(super) const LAST_WEBHOOK: u8 = 181;
    pub(super) const FINISHED_ARE_INDEXED: u8 = 200;
}

/// Kinds of keys in [`Space::Index`].
mod index {
    pub(super) const READY: u8 = 1;
    pub(super) const TIMER: u8 = 2;
    pub(super) const OPEN: u8 = 3;
    pub(super) const IDEMPOTENCY: u8 = 4;
    pub(super) const SETTLED: u8 = 5;
    pub(super) const CLAIMS: u8 = 6;
    pub(super) const UNIQUE: u8 = 7;
    pub(super) const DEAD: u8 = 40;
    pub(super) const DEAD_AT: u8 = 41;
    pub(super) const LEFTOVER: u8 = 60;
    pub(super) const DUE: u8 = 61;
    pub(super) const BLOB_USE: u8 = 62;
    pub(super) const ENTRY: u8 = 100;
    pub(super) const COST: u8 = 140;
    pub(super) const AUDIT: u8 = 160;
    pub(super) const AUDIT_OF: u8 = 161;
    pub(super) const TRIED: u8 = 180;
    pub(super) const FINISHED: u8 = 200;
}

/// Kinds of keys in [`Space::Payloads`].
mod payloads {
    pub(super) const PAYLOAD: u8 = 1;
    pub(super) const RESULT: u8 = 2;
    pub(super) const CHECKPOINT: u8 = 3;
    pub(super) const LOG: u8 = 4;
    pub(super) const VALUE: u8 = 100;
    pub(super) const DELIVERY: u8 = 180;
}

/// What a timer is for. The number is part of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Timer {
    /// A scheduled task becomes ready.
    Wake = 1,
    /// A task's deadline passes.
    Deadline = 2,
    /// An idempotency key is forgotten.
    ForgetKey = 3,
}

/// The secret with which the tokens of attempts are made.
pub fn secret() -> Key {
    Key::new(Space::Meta, [meta::SECRET])
}

/// Where recovery begins.
pub fn ledger() -> Key {
    Key::new(Space::Meta, [meta::LEDGER])
}

/// The number of a namespace.
pub fn namespace(name: &str) -> Key {
    Key::new(Space::Meta, [&[meta::NAMESPACE], name.as_bytes()].concat())
}

/// Before all numbers of namespaces.
pub fn namespaces() -> Vec<u8> {
    vec![meta::NAMESPACE]
}

/// The name in a key of [`namespace`].
pub fn namespace_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(&[meta::NAMESPACE])?).ok()
}

/// One version of a module.
pub fn module(namespace: Namespace, name: &str, version: u32) -> Key {
    of_version(meta::MODULE, namespace, name, version)
}

/// How many tasks there are of one version of a module.
pub fn module_uses(namespace: Namespace, name: &str, version: u32) -> Key {
    of_version(meta::MODULE_USES, namespace, name, version)
}

/// Before all of them.
pub fn all_module_uses() -> Vec<u8> {
    vec![meta::MODULE_USES]
}

/// What a key of [`module_uses`] says.
pub fn module_uses_of(key: &[u8]) -> Option<(Namespace, &str, u32)> {
    let (namespace, rest) = key
        .strip_prefix(&[meta::MODULE_USES])?
        .split_first_chunk()?;
    let (name, version) = rest.split_last_chunk()?;
    Some((
        Namespace(u32::from_be_bytes(*namespace)),
        std::str::from_utf8(name.strip_suffix(&[0])?).ok()?,
        u32::from_be_bytes(*version),
    ))
}

fn of_version(kind: u8, namespace: Namespace, name: &str, version: u32) -> Key {
    Key::new(
        Space::Meta,
        [
            &[kind],
            &namespace.0.to_be_bytes()[..],
            name.as_bytes(),
            &[0],
            &version.to_be_bytes(),
        ]
        .concat(),
    )
}

/// Before all versions of all modules.
pub fn modules() -> Vec<u8> {
    vec![meta::MODULE]
}

/// The version that a module's name points at.
pub fn current(namespace: Namespace, name: &str) -> Key {
    Key::new(
        Space::Meta,
        [
            &[meta::CURRENT],
            &namespace.0.to_be_bytes()[..],
            name.as_bytes(),
        ]
        .concat(),
    )
}

/// Before all pointers of modules.
pub fn currents() -> Vec<u8> {
    vec![meta::CURRENT]
}

/// The namespace and name in a key of [`current`].
pub fn current_of(key: &[u8]) -> Option<(Namespace, &str)> {
    let (namespace, name) = key.strip_prefix(&[meta::CURRENT])?.split_first_chunk()?;
    Some((
        Namespace(u32::from_be_bytes(*namespace)),
        std::str::from_utf8(name).ok()?,
    ))
}

/// How many tasks of a queue are in which state.
pub fn counters(namespace: Namespace, queue: QueueId) -> Key {
    Key::new(Space::Meta, in_namespace(meta::COUNTERS, namespace, queue))
}

/// Before all of them.
pub fn all_counters() -> Vec<u8> {
    vec![meta::COUNTERS]
}

/// What a key of [`counters`] says.
pub fn counters_of(key: &[u8]) -> Option<(Namespace, QueueId)> {
    of_namespace(meta::COUNTERS, key)
}

/// What a queue is set to.
pub fn queue(namespace: Namespace, queue: QueueId) -> Key {
    Key::new(Space::Meta, in_namespace(meta::QUEUE, namespace, queue))
}

/// Before all queues.
pub fn queues() -> Vec<u8> {
    vec![meta::QUEUE]
}

/// What a key of [`queue`] says.
pub fn queue_of(key: &[u8]) -> Option<(Namespace, QueueId)> {
    of_namespace(meta::QUEUE, key)
}

fn in_namespace(kind: u8, namespace: Namespace, queue: QueueId) -> Vec<u8> {
    [
        &[kind],
        &namespace.0.to_be_bytes()[..],
        &queue.0.to_be_bytes(),
    ]
    .concat()
}

fn of_namespace(kind: u8, key: &[u8]) -> Option<(Namespace, QueueId)> {
    let (namespace, queue) = key.strip_prefix(&[kind])?.split_first_chunk()?;
    Some((
        Namespace(u32::from_be_bytes(*namespace)),
        QueueId(u32::from_be_bytes(queue.try_into().ok()?)),
    ))
}

/// What an operator wants of a host.
pub fn host(name: &str) -> Key {
    Key::new(Space::Meta, [&[meta::HOST], name.as_bytes()].concat())
}

/// Before all rows of hosts.
pub fn hosts() -> Vec<u8> {
    vec![meta::HOST]
}

/// The name in a key of [`host`].
pub fn host_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(&[meta::HOST])?).ok()
}

/// Says that there is access control.
pub fn access() -> Key {
    Key::new(Space::Meta, [meta::ACCESS])
}

/// A key that lets callers in.
pub fn access_key(id: KeyId) -> Key {
    Key::new(Space::Meta, [&[meta::ACCESS_KEY], &id.0[..]].concat())
}

/// Before all of them.
pub fn access_keys() -> Vec<u8> {
    vec![meta::ACCESS_KEY]
}

/// The newest record of the audit log.
pub fn audit_head() -> Key {
    Key::new(Space::Meta, [meta::AUDIT_HEAD])
}

/// A record of the audit log.
pub fn audit(seq: u64) -> Key {
    Key::new(
        Space::Index,
        [&[index::AUDIT], &seq.to_be_bytes()[..]].concat(),
    )
}

/// Before all of them.
pub fn audits() -> Vec<u8> {
    vec![index::AUDIT]
}

/// Leads to a record of the audit log that is about a namespace.
pub fn audit_of(namespace: &str, seq: u64) -> Key {
    let bytes = [&audits_of(namespace)[..], &seq.to_be_bytes()[..]].concat();
    Key::new(Space::Index, bytes)
}

/// Before all of a namespace, whose name has no zero byte.
pub fn audits_of(namespace: &str) -> Vec<u8> {
    [&[index::AUDIT_OF], namespace.as_bytes(), &[0]].concat()
}

/// Which record a key of the audit log is of or leads to.
pub fn audit_seq(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk()?))
}

/// The settings of a namespace.
pub fn settings(namespace: Namespace) -> Key {
    Key::new(
        Space::Meta,
        [&[meta::SETTINGS], &namespace.0.to_be_bytes()[..]].concat(),
    )
}

/// Stands for that [`counters`] count what is kept of tasks, as they do not in a store of an older build.
pub fn kept_is_counted() -> Key {
    Key::new(Space::Meta, [meta::KEPT_IS_COUNTED])
}

/// Stands for that [`finished`] leads to all tasks that have ended, as it does not in a store of an older build.
pub fn finished_are_indexed() -> Key {
    Key::new(Space::Meta, [meta::FINISHED_ARE_INDEXED])
}

/// The tasks of a namespace that ended at a time, in the commit `seq`; 0 for those of builds that did not note it.
pub fn finished(namespace: Namespace, at: Timestamp, seq: u64) -> Key {
    Key::new(
        Space::Index,
        [&finished_from(namespace, at)[..], &seq.to_be_bytes()].concat(),
    )
}

/// Before all that ended at a time or later.
pub fn finished_from(namespace: Namespace, at: Timestamp) -> Vec<u8> {
    [&finished_in(namespace)[..], &at.0.to_be_bytes()].concat()
}

/// Before all tasks of a namespace that ended.
pub fn finished_in(namespace: Namespace) -> Vec<u8> {
    [&[index::FINISHED], &namespace.0.to_be_bytes()[..]].concat()
}

/// Before all tasks that ended.
pub fn finished_all() -> Vec<u8> {
    vec![index::FINISHED]
}

/// What a key of [`finished`] says.
pub fn finished_of(key: &[u8]) -> Option<(Namespace, Timestamp, u64)> {
    let (namespace, rest) = key.strip_prefix(&[index::FINISHED])?.split_first_chunk()?;
    let (at, seq) = rest.split_first_chunk()?;
    Some((
        Namespace(u32::from_be_bytes(*namespace)),
        Timestamp(u64::from_be_bytes(*at)),
        u64::from_be_bytes(seq.try_into().ok()?),
    ))
}

/// What a function of a namespace cost in a day.
pub fn cost(day: Day, namespace: Namespace, function: &str) -> Key {
    Key::new(
        Space::Index,
        [&costs_of(day, namespace)[..], function.as_bytes()].concat(),
    )
}

/// Before all costs.
pub fn costs() -> Vec<u8> {
    vec![index::COST]
}

/// Before all costs of a day. Those of earlier days come before it.
pub fn costs_of_day(day: Day) -> Vec<u8> {
    [&[index::COST], &day.0.to_be_bytes()[..]].concat()
}

/// Before all costs of a namespace in a day.
pub fn costs_of(day: Day, namespace: Namespace) -> Vec<u8> {
    [&costs_of_day(day)[..], &namespace.0.to_be_bytes()].concat()
}

/// What a key of [`cost`] says.
pub fn cost_of(key: &[u8]) -> Option<(Day, Namespace, &str)> {
    let (day, rest) = key.strip_prefix(&[index::COST])?.split_first_chunk()?;
    let (namespace, function) = rest.split_first_chunk()?;
    Some((
        Day(u32::from_be_bytes(*day)),
        Namespace(u32::from_be_bytes(*namespace)),
        std::str::from_utf8(function).ok()?,
    ))
}

/// A secret of a namespace.
pub fn secret_of(namespace: Namespace, name: &str) -> Key {
    Key::new(
        Space::Meta,
        [&secrets()[..], &namespace.0.to_be_bytes(), name.as_bytes()].concat(),
    )
}

/// Before all secrets.
pub fn secrets() -> Vec<u8> {
    vec![meta::SECRET_OF]
}

/// What a key of [`secret_of`] says.
pub fn secret_name_of(key: &[u8]) -> Option<(Namespace, &str)> {
    let (namespace, name) = key.strip_prefix(&[meta::SECRET_OF])?.split_first_chunk()?;
    Some((
        Namespace(u32::from_be_bytes(*namespace)),
        std::str::from_utf8(name).ok()?,
    ))
}

/// A webhook of a namespace.
pub fn webhook(namespace: Namespace, name: &str) -> Key {
    Key::new(
        Space::Meta,
        [&webhooks()[..], &namespace.0.to_be_bytes(), name.as_bytes()].concat(),
    )
}

/// Before all webhooks.
pub fn webhooks() -> Vec<u8> {
    vec![meta::WEBHOOK]
}

/// What a key of [`webhook`] says.
pub fn webhook_of(key: &[u8]) -> Option<(Namespace, &str)> {
    let (namespace, name) = key.strip_prefix(&[meta::WEBHOOK])?.split_first_chunk()?;
    Some((
        Namespace(u32::from_be_bytes(*namespace)),
        std::str::from_utf8(name).ok()?,
    ))
}

/// The number that a webhook was given last.
pub fn last_webhook() -> Key {
    Key::new(Space::Meta, [meta::LAST_WEBHOOK])
}

/// What a webhook, by its number, has to deliver.
pub fn delivery(webhook: u64, of: DeliveryId) -> Key {
    let DeliveryId { seq, task } = of;
    let at = [&deliveries_of(webhook)[..], &seq.to_be_bytes(), &task.0[..]];
    Key::new(Space::Payloads, at.concat())
}

/// Before all that it has to deliver.
pub fn deliveries_of(webhook: u64) -> Vec<u8> {
    [&deliveries()[..], &webhook.to_be_bytes()].concat()
}

/// Before all that is to be delivered.
pub fn deliveries() -> Vec<u8> {
    vec![payloads::DELIVERY]
}

/// The webhook and the end that a key of [`delivery`] names.
pub fn delivery_of(key: &[u8]) -> Option<(u64, DeliveryId)> {
    let (webhook, rest) = key
        .strip_prefix(&[payloads::DELIVERY])?
        .split_first_chunk()?;
    let (seq, task) = rest.split_first_chunk()?;
    let of = DeliveryId {
        seq: u64::from_be_bytes(*seq),
        task: TaskId(task.try_into().ok()?),
    };
    Some((u64::from_be_bytes(*webhook), of))
}

/// An attempt of a webhook to deliver something, by the number of attempts before it.
pub fn tried(webhook: u64, before: u64) -> Key {
    let at = [&tries_of(webhook)[..], &before.to_be_bytes()].concat();
    Key::new(Space::Index, at)
}

/// Before all attempts of a webhook.
pub fn tries_of(webhook: u64) -> Vec<u8> {
    [&tries()[..], &webhook.to_be_bytes()].concat()
}

/// Before all attempts of all webhooks.
pub fn tries() -> Vec<u8> {
    vec![index::TRIED]
}

/// What an operator wants of the breaker of a function.
pub fn breaker(namespace: Namespace, digest: &Digest, function: &str) -> Key {
    Key::new(
        Space::Meta,
        [
            &breakers()[..],
            &namespace.0.to_be_bytes(),
            &digest.0,
            function.as_bytes(),
        ]
        .concat(),
    )
}

/// Before all of them.
pub fn breakers() -> Vec<u8> {
    vec![meta::BREAKER]
}

/// What a key of [`breaker`] says.
pub fn breaker_of(key: &[u8]) -> Option<(Namespace, Digest, &str)> {
    let (namespace, rest) = key.strip_prefix(&[meta::BREAKER])?.split_first_chunk()?;
    let (digest, function) = rest.split_first_chunk()?;
    Some((
        Namespace(u32::from_be_bytes(*namespace)),
        Digest(*digest),
        std::str::from_utf8(function).ok()?,
    ))
}

/// What a bucket has.
pub fn bucket(namespace: Namespace, name: &str) -> Key {
    Key::new(
        Space::Meta,
        [&buckets_of(namespace)[..], name.as_bytes()].concat(),
    )
}

/// Before all buckets of a namespace.
pub fn buckets_of(namespace: Namespace) -> Vec<u8> {
    [&buckets()[..], &namespace.0.to_be_bytes()].concat()
}

/// Before all buckets.
pub fn buckets() -> Vec<u8> {
    vec![meta::BUCKET]
}

/// What a key of [`bucket`] says.
pub fn bucket_of(key: &[u8]) -> Option<(Namespace, &str)> {
    let (namespace, name) = key.strip_prefix(&[meta::BUCKET])?.split_first_chunk()?;
    Some((
        Namespace(u32::from_be_bytes(*namespace)),
        std::str::from_utf8(name).ok()?,
    ))
}

/// A key of a bucket, as its user named it.
pub fn entry(namespace: Namespace, bucket: &str, name: &str) -> Key {
    Key::new(
        Space::Index,
        [&entries_of(namespace, bucket)[..], name.as_bytes()].concat(),
    )
}

/// Before all keys of a bucket.
pub fn entries_of(namespace: Namespace, bucket: &str) -> Vec<u8> {
    in_bucket(index::ENTRY, namespace, bucket)
}

/// Before all keys of all buckets.
pub fn entries() -> Vec<u8> {
    vec![index::ENTRY]
}

/// What a key of [`entry`] or [`value`] says.
pub fn entry_of(key: &[u8]) -> Option<(Namespace, &str, &str)> {
    let (namespace, rest) = key
        .strip_prefix(&[index::ENTRY])
        .or_else(|| key.strip_prefix(&[payloads::VALUE]))?
        .split_first_chunk()?;
    // Names of buckets have no NUL; those of keys may have any.
    let (bucket, name) = std::str::from_utf8(rest).ok()?.split_once('\0')?;
    Some((Namespace(u32::from_be_bytes(*namespace)), bucket, name))
}

/// The value of a key of a bucket, if it is not in the row of its key.
pub fn value(namespace: Namespace, bucket: &str, name: &str) -> Key {
    let at = in_bucket(payloads::VALUE, namespace, bucket);
    Key::new(Space::Payloads, [&at[..], name.as_bytes()].concat())
}

/// Before all such values.
pub fn values() -> Vec<u8> {
    vec![payloads::VALUE]
}

fn in_bucket(kind: u8, namespace: Namespace, bucket: &str) -> Vec<u8> {
    [
        &[kind],
        &namespace.0.to_be_bytes()[..],
        bucket.as_bytes(),
        &[0],
    ]
    .concat()
}

/// What was asked for.
pub fn call(namespace: Namespace, id: TaskId) -> Key {
    Key::new(Space::Calls, task_bytes(namespace, id))
}

/// What has become of a task, unless it is as it was submitted.
pub fn state(namespace: Namespace, id: TaskId) -> Key {
    Key::new(Space::States, task_bytes(namespace, id))
}

/// A namespace's tasks.
pub fn tasks(namespace: Namespace) -> Vec<u8> {
    namespace.0.to_be_bytes().to_vec()
}

/// The bytes that name a task, alone or at the end of other keys.
pub fn task_bytes(namespace: Namespace, id: TaskId) -> Vec<u8> {
    [&namespace.0.to_be_bytes()[..], &id.0].concat()
}

/// The task that is named at the end of a key.
pub fn task_of(key: &[u8]) -> Option<(Namespace, TaskId)> {
    let (id, rest) = (key.last_chunk()?, key.get(..key.len().checked_sub(16)?)?);
    Some((
        Namespace(u32::from_be_bytes(*rest.last_chunk()?)),
        TaskId(*id),
    ))
}

/// Tasks of one place that became ready in one commit.
pub fn ready(lane: Lane, priority: Priority, position: Position) -> Key {
    let mut bytes = ready_prefix(lane, priority);
    bytes.extend_from_slice(&position.0.to_be_bytes());
    Key::new(Space::Index, bytes)
}

/// The ready rows of one lane and priority, the first one first.
pub fn ready_prefix(lane: Lane, priority: Priority) -> Vec<u8> {
    // Inverted, so that a scan of a lane meets high priorities first.
    [
        &[index::READY],
        &lane.namespace.0.to_be_bytes()[..],
        &lane.id.0,
        &[u8::MAX - priority.0],
    ]
    .concat()
}

/// Before all ready rows.
pub fn ready_all() -> Vec<u8> {
    vec![index::READY]
}

/// What a key of [`ready`] says.
pub fn ready_of(key: &[u8]) -> Option<(Lane, Priority, Position)> {
    let (namespace, rest) = key.strip_prefix(&[index::READY])?.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (priority, position) = rest.split_first()?;
    let lane = Lane {
        namespace: Namespace(u32::from_be_bytes(*namespace)),
        id: LaneId(*id),
    };
    Some((
        lane,
        Priority(u8::MAX - priority),
        Position(u64::from_be_bytes(position.try_into().ok()?)),
    ))
}

/// Something that happens to a task at a time.
pub fn timer(at: Timestamp, timer: Timer, namespace: Namespace, id: TaskId) -> Key {
    Key::new(
        Space::Index,
        [
            &timer_from(at)[..],
            &[timer as u8],
            &task_bytes(namespace, id),
        ]
        .concat(),
    )
}

/// Before all timers.
pub fn timers() -> Vec<u8> {
    vec![index::TIMER]
}

/// Before all timers at or after a time.
pub fn timer_from(at: Timestamp) -> Vec<u8> {
    [&[index::TIMER], &at.0.to_be_bytes()[..]].concat()
}

/// What a key of [`timer`] says.
pub fn timer_of(key: &[u8]) -> Option<(Timestamp, Timer, Namespace, TaskId)> {
    let (at, rest) = key.strip_prefix(&[index::TIMER])?.split_first_chunk()?;
    let kind = match rest.first()? {
        1 => Timer::Wake,
        2 => Timer::Deadline,
        3 => Timer::ForgetKey,
        _ => return None,
    };
    let (namespace, id) = task_of(rest)?;
    Some((Timestamp(u64::from_be_bytes(*at)), kind, namespace, id))
}

/// An open task that recovery would not find by scanning from where it begins.
pub fn open(namespace: Namespace, id: TaskId) -> Key {
    Key::new(
        Space::Index,
        [&[index::OPEN], &task_bytes(namespace, id)[..]].concat(),
    )
}

/// Before all such tasks.
pub fn opens() -> Vec<u8> {
    vec![index::OPEN]
}

/// The task that an idempotency key stands for.
pub fn idempotency(namespace: Namespace, key: &str) -> Key {
    by_name(index::IDEMPOTENCY, namespace, key)
}

/// The task that waits for its first start and alone may have a unique key.
pub fn unique(namespace: Namespace, key: &str) -> Key {
    by_name(index::UNIQUE, namespace, key)
}

/// Before all unique keys.
pub fn uniques() -> Vec<u8> {
    vec![index::UNIQUE]
}

/// Whether a key of an index is one of [`unique`].
pub fn is_unique(key: &[u8]) -> bool {
    key.first() == Some(&index::UNIQUE)
}

fn by_name(kind: u8, namespace: Namespace, name: &str) -> Key {
    let namespace = namespace.0.to_be_bytes();
    Key::new(
        Space::Index,
        [&[kind], &namespace[..], name.as_bytes()].concat(),
    )
}

/// The tasks that ended in one commit. The number is the commit's sequence.
pub fn settled(seq: u64) -> Key {
    Key::new(
        Space::Index,
        [&[index::SETTLED], &seq.to_be_bytes()[..]].concat(),
    )
}

/// Before all of them.
pub fn settled_all() -> Vec<u8> {
    vec![index::SETTLED]
}

/// The sequence in a key of [`settled`].
pub fn settled_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(
        key.strip_prefix(&[index::SETTLED])?.try_into().ok()?,
    ))
}

/// A task's payload.
pub fn payload(namespace: Namespace, id: TaskId) -> Key {
    in_payloads(payloads::PAYLOAD, namespace, id)
}

/// A task's result.
pub fn result(namespace: Namespace, id: TaskId) -> Key {
    in_payloads(payloads::RESULT, namespace, id)
}

/// The newest checkpoint of a task.
pub fn checkpoint(namespace: Namespace, id: TaskId) -> Key {
    in_payloads(payloads::CHECKPOINT, namespace, id)
}

/// A piece of an attempt's log, by its number: one more than the bytes of the log that come before it.
pub fn log(namespace: Namespace, id: TaskId, epoch: Epoch, number: u32) -> Key {
    let mut key = in_payloads(payloads::LOG, namespace, id);
    key.bytes.extend_from_slice(&epoch.0.to_be_bytes());
    key.bytes.extend_from_slice(&number.to_be_bytes());
    key
}

/// Before all pieces of an attempt's log.
pub fn logs_of(namespace: Namespace, id: TaskId, epoch: Epoch) -> Vec<u8> {
    [&logs(namespace, id)[..], &epoch.0.to_be_bytes()].concat()
}

/// Before all pieces of a task's log.
pub fn logs(namespace: Namespace, id: TaskId) -> Vec<u8> {
    in_payloads(payloads::LOG, namespace, id).bytes
}

/// The attempt in a key of [`log`], and the number of the piece.
pub fn log_piece_of(key: &[u8]) -> Option<(Epoch, u32)> {
    let (rest, number) = key.split_last_chunk()?;
    let (_, epoch) = rest.split_last_chunk()?;
    Some((
        Epoch(u64::from_be_bytes(*epoch)),
        u32::from_be_bytes(*number),
    ))
}

/// The tasks that hosts got in one commit. The number is the commit's sequence.
pub fn claims(seq: u64) -> Key {
    Key::new(
        Space::Index,
        [&[index::CLAIMS], &seq.to_be_bytes()[..]].concat(),
    )
}

/// Before all of them.
pub fn claims_all() -> Vec<u8> {
    vec![index::CLAIMS]
}

/// The sequence in a key of [`claims`].
pub fn claims_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(
        key.strip_prefix(&[index::CLAIMS])?.try_into().ok()?,
    ))
}

/// A dead task, among those of its signature, which are in the order of their deaths.
pub fn dead(namespace: Namespace, signature: Signature, at: Timestamp, id: TaskId) -> Key {
    Key::new(
        Space::Index,
        [
            &dead_of(namespace, signature)[..],
            &at.0.to_be_bytes(),
            &id.0,
        ]
        .concat(),
    )
}

/// A removed task of which rows of logs are left.
pub fn leftover(namespace: Namespace, id: TaskId) -> Key {
    Key::new(
        Space::Index,
        [&[index::LEFTOVER], &task_bytes(namespace, id)[..]].concat(),
    )
}

/// Before all such tasks.
pub fn leftovers() -> Vec<u8> {
    vec![index::LEFTOVER]
}

/// Ended tasks that are to be looked at again at a time: the `number`th such row of a commit, whose sequence is `seq`.
pub fn due(at: Timestamp, seq: u64, number: u32) -> Key {
    Key::new(
        Space::Index,
        [
            &[index::DUE],
            &at.0.to_be_bytes()[..],
            &seq.to_be_bytes(),
            &number.to_be_bytes(),
        ]
        .concat(),
    )
}

/// A task that names a blob: as its payload, its result or its checkpoint.
pub fn blob_use(digest: Digest, namespace: Namespace, id: TaskId) -> Key {
    Key::new(
        Space::Index,
        [&blob_uses(digest)[..], &task_bytes(namespace, id)].concat(),
    )
}

/// Before all tasks that name a blob.
pub fn blob_uses(digest: Digest) -> Vec<u8> {
    [&[index::BLOB_USE], &digest.0[..]].concat()
}

/// Before all tasks that name any blob.
pub fn all_blob_uses() -> Vec<u8> {
    vec![index::BLOB_USE]
}

/// The blob in a key of [`blob_use`].
pub fn blob_of(key: &[u8]) -> Option<Digest> {
    Some(Digest(
        *key.strip_prefix(&[index::BLOB_USE])?.first_chunk()?,
    ))
}

/// Before all dead tasks of a signature.
pub fn dead_of(namespace: Namespace, signature: Signature) -> Vec<u8> {
    [&dead_in(namespace)[..], &signature.0].concat()
}

/// Before all dead tasks of a namespace, by signature.
pub fn dead_in(namespace: Namespace) -> Vec<u8> {
    [&[index::DEAD], &namespace.0.to_be_bytes()[..]].concat()
}

/// Before all dead tasks, by namespace and signature.
pub fn dead_all() -> Vec<u8> {
    vec![index::DEAD]
}

/// The signature in a key of [`dead`].
pub fn dead_signature_of(key: &[u8]) -> Option<Signature> {
    let (_namespace, rest) = key.strip_prefix(&[index::DEAD])?.split_first_chunk::<4>()?;
    Some(Signature(*rest.first_chunk()?))
}

/// A dead task, among those of its namespace in the order of their deaths.
pub fn dead_at(namespace: Namespace, at: Timestamp, id: TaskId) -> Key {
    Key::new(
        Space::Index,
        [&dead_at_in(namespace)[..], &at.0.to_be_bytes(), &id.0].concat(),
    )
}

/// Before all dead tasks of a namespace, in the order of their deaths.
pub fn dead_at_in(namespace: Namespace) -> Vec<u8> {
    [&[index::DEAD_AT], &namespace.0.to_be_bytes()[..]].concat()
}

/// Before all dead tasks, by namespace and in the order of their deaths.
pub fn dead_at_all() -> Vec<u8> {
    vec![index::DEAD_AT]
}

/// When a task died and which one it is, from a key of [`dead`] or [`dead_at`].
pub fn death_of(key: &[u8]) -> Option<(Timestamp, TaskId)> {
    let (rest, id) = key.split_last_chunk()?;
    Some((
        Timestamp(u64::from_be_bytes(*rest.last_chunk()?)),
        TaskId(*id),
    ))
}

/// Before all such rows.
pub fn dues() -> Vec<u8> {
    vec![index::DUE]
}

/// The time and the sequence in a key of [`due`].
pub fn due_of(key: &[u8]) -> Option<(Timestamp, u64)> {
    let (at, rest) = key.strip_prefix(&[index::DUE])?.split_first_chunk()?;
    let seq = rest.first_chunk()?;
    Some((Timestamp(u64::from_be_bytes(*at)), u64::from_be_bytes(*seq)))
}

/// How long a namespace keeps what has ended.
pub fn retention(namespace: Namespace) -> Key {
    Key::new(
        Space::Meta,
        [&[meta::RETENTION], &namespace.0.to_be_bytes()[..]].concat(),
    )
}

/// Before all of them.
pub fn retentions() -> Vec<u8> {
    vec![meta::RETENTION]
}

/// The namespace in a key of [`retention`].
pub fn retention_of(key: &[u8]) -> Option<Namespace> {
    let number = key.strip_prefix(&[meta::RETENTION])?.try_into().ok()?;
    Some(Namespace(u32::from_be_bytes(number)))
}

/// How far what is over its time was removed.
pub fn collector() -> Key {
    Key::new(Space::Meta, [meta::COLLECTOR])
}

/// Before all pieces of all logs.
pub fn logs_all() -> Vec<u8> {
    vec![payloads::LOG]
}

/// The task in a key of [`log`].
pub fn log_task_of(key: &[u8]) -> Option<(Namespace, TaskId)> {
    // The epoch and the number of the piece come behind it.
    task_of(key.get(..key.len().checked_sub(12)?)?)
}

fn in_payloads(kind: u8, namespace: Namespace, id: TaskId) -> Key {
    Key::new(
        Space::Payloads,
        [&[kind], &task_bytes(namespace, id)[..]].concat(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_say_what_they_were_made_of(namespace: u32, id: [u8; 16], lane: [u8; 16], queue: u32, priority: u8, position: u64, at: u64) {
            let (namespace, id) = (Namespace(namespace), TaskId(id));
            let lane = Lane { namespace, id: LaneId(lane) };
            let queue_id = QueueId(queue);
            prop_assert_eq!(counters_of(&counters(namespace, queue_id).bytes), Some((namespace, queue_id)));
            prop_assert_eq!(queue_of(&super::queue(namespace, queue_id).bytes), Some((namespace, queue_id)));
            let (priority, position, at) = (Priority(priority), Position(position), Timestamp(at));
            prop_assert_eq!(ready_of(&ready(lane, priority, position).bytes), Some((lane, priority, position)));
            prop_assert_eq!(task_of(&call(namespace, id).bytes), Some((namespace, id)));
            prop_assert_eq!(task_of(&open(namespace, id).bytes), Some((namespace, id)));
            for kind in [Timer::Wake, Timer::Deadline, Timer::ForgetKey] {
                prop_assert_eq!(timer_of(&timer(at, kind, namespace, id).bytes), Some((at, kind, namespace, id)));
            }
            let signature = Signature(id.0);
            let dead = dead(namespace, signature, at, id).bytes;
            prop_assert_eq!((dead_signature_of(&dead), death_of(&dead)), (Some(signature), Some((at, id))));
            prop_assert_eq!(death_of(&dead_at(namespace, at, id).bytes), Some((at, id)));
            prop_assert_eq!(finished_of(&finished(namespace, at, position.0).bytes), Some((namespace, at, position.0)));
            prop_assert_eq!(settled_of(&settled(position.0).bytes), Some(position.0));
            prop_assert_eq!(claims_of(&claims(position.0).bytes), Some(position.0));
            prop_assert_eq!(due_of(&due(at, position.0, 3).bytes), Some((at, position.0)));
            prop_assert_eq!(retention_of(&retention(namespace).bytes), Some(namespace));
            prop_assert_eq!(task_of(&leftover(namespace, id).bytes), Some((namespace, id)));
            let digest = Digest([lane.id.0, id.0].concat().try_into().expect("32 bytes"));
            prop_assert_eq!(blob_of(&blob_use(digest, namespace, id).bytes), Some(digest));
            let uses = module_uses(namespace, "a-b", queue).bytes;
            prop_assert_eq!(module_uses_of(&uses), Some((namespace, "a-b", queue)));
            let of = bucket(namespace, "a-b").bytes;
            prop_assert_eq!(bucket_of(&of), Some((namespace, "a-b")));
            let of = breaker(namespace, &Digest([9; 32]), "a/b#c").bytes;
            prop_assert_eq!(breaker_of(&of), Some((namespace, Digest([9; 32]), "a/b#c")));
            let (entry, value) = (entry(namespace, "a-b", "c\0d").bytes, value(namespace, "a-b", "").bytes);
            prop_assert_eq!(entry_of(&entry), Some((namespace, "a-b", "c\0d")));
            prop_assert_eq!(entry_of(&value), Some((namespace, "a-b", "")));
            let hook = webhook(namespace, "a-b").bytes;
            prop_assert_eq!(webhook_of(&hook), Some((namespace, "a-b")));
            let of = DeliveryId { seq: position.0, task: id };
            prop_assert_eq!(delivery_of(&delivery(9, of).bytes), Some((9, of)));
            prop_assert_eq!(log_task_of(&log(namespace, id, Epoch(position.0), 9).bytes), Some((namespace, id)));
            prop_assert_eq!(log_piece_of(&log(namespace, id, Epoch(position.0), 9).bytes), Some((Epoch(position.0), 9)));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = (ready_of(&bytes), task_of(&bytes), timer_of(&bytes), settled_of(&bytes), claims_of(&bytes), log_piece_of(&bytes));
            let _ = (namespace_of(&bytes), current_of(&bytes), counters_of(&bytes), queue_of(&bytes));
            let _ = (dead_signature_of(&bytes), death_of(&bytes), log_task_of(&bytes));
            let _ = (due_of(&bytes), retention_of(&bytes), bucket_of(&bytes), entry_of(&bytes), breaker_of(&bytes), finished_of(&bytes));
            let _ = (webhook_of(&bytes), delivery_of(&bytes));
        }
    }

    #[test]
    fn higher_priority_comes_first_in_a_lane() {
        let lane = Lane {
            namespace: Namespace(1),
            id: LaneId([2; 16]),
        };
        assert!(ready(lane, Priority(200), Position(9)) < ready(lane, Priority(100), Position(1)));
        assert!(ready(lane, Priority(100), Position(1)) < ready(lane, Priority(100), Position(2)));
    }
}
