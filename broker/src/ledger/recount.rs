//! What holds after every step: indexes say what the tasks' rows say, no open task is out of reach, and memory holds
//! what it should and no more. For tests and for the simulation: it reads the whole store.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use tq_core::breaker::Phase;
use tq_core::quota::Used;
use tq_core::task::{DataRef, Lease, State, Task};
use tq_core::{Day, Signature, TaskId, Timestamp};

use super::{Ledger, finished, keyvalue, lock, quotas, read, removal};
use crate::dispatch::breakers::{Entry, Function, FunctionId};
use crate::dispatch::lanes::Place;
use crate::dispatch::queues::KeyId;
use crate::dispatch::shares::Closed;
use crate::store::{Direction, Space};
use crate::tables::Namespace;
use crate::tables::key::{self, QueueId, Timer};
use crate::tables::row::{self, Beside, Bucket, Counters, IdempotencyRow, LedgerRow};

/// Every task, with its namespace and what stands beside it.
pub type Tasks = BTreeMap<TaskId, (Namespace, Task, Beside)>;
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

impl Ledger {
    /// Checks all of the store and of what is in memory, between steps.
    ///
    /// # Panics
    /// If anything is not as it should be: there is a bug in the ledger.
    pub fn recount(&self) {
        assert_eq!(
            self.shared.metrics.invariant_violations.get(),
            0,
            "no transition breaks an invariant"
        );
        let tasks = self.tasks();
        self.check_counters(&tasks);
        self.check_ready_and_open(&tasks);
        self.check_timers(&tasks);
        self.check_memory(&tasks);
        self.check_settled(&tasks);
        self.check_finished(&tasks);
        self.check_dead(&tasks);
        self.check_data(&tasks);
        self.check_blobs(&tasks);
        self.check_modules(&tasks);
        self.check_retention(&tasks);
        self.check_buckets();
        self.check_webhooks();
        self.check_breakers(&tasks);
        self.check_shares(&tasks);
    }

    /// The day that costs are counted for.
    pub fn day(&self) -> Day {
        self.costs.day()
    }

    /// Every task as of the last commit.
    ///
    /// # Panics
    /// If rows cannot be read.
    pub fn tasks(&self) -> Tasks {
        let mut tasks = Tasks::new();
        let claims = self.claims();
        let mut states: BTreeMap<_, _> = self.rows(Space::States, &[]).into_iter().collect();
        for (key, call) in self.rows(Space::Calls, &[]) {
            let (namespace, id) = key::task_of(&key).expect("a task's key");
            let state = states.remove(&key).map(Into::into);
            let record = row::decode_task(id, call.into(), state).expect("a task's rows");
            let record = record.claimed(claims.get(&id).map(|(_, lease)| lease.clone()));
            tasks.insert(id, (namespace, record.task, record.beside));
        }
        assert!(states.is_empty(), "every state is that of a call");
        tasks
    }

    /// The newest claim of each task that has one on disk, and its commit.
    pub(super) fn claims(&self) -> BTreeMap<TaskId, (u64, Lease)> {
        let rows = self.rows(Space::Index, &key::claims_all()).into_iter();
        rows.flat_map(|(key, row)| {
            let seq = key::claims_of(&key).expect("a key of claims");
            let claims = row::decode_claims(row.into()).expect("a row of claims");
            claims
                .into_iter()
                .map(move |claim| (claim.id, (seq, claim.lease)))
        })
        .collect()
    }

    fn rows(&self, space: Space, prefix: &[u8]) -> Pairs {
        let pairs = self
            .store
            .scan(space, prefix, &[], Direction::Ascending, usize::MAX);
        let pairs = pairs.expect("the store can be read").into_iter();
        pairs
            .map(|pair| (pair.key.to_vec(), pair.value.to_vec()))
            .collect()
    }

    fn check_counters(&self, tasks: &Tasks) {
        let mut counted: BTreeMap<(Namespace, QueueId), Counters> = BTreeMap::new();
        let mut total = Counters::default();
        for (namespace, task, beside) in tasks.values() {
            let queue = self.queue_of(*namespace, &task.spec);
            let result = task.result.filter(|_| beside.result_gone.is_none());
            let data = [Some(task.spec.payload), result, beside.checkpoint];
            let kept = data.into_iter().flatten().map(DataRef::len).sum();
            for counters in [counted.entry((*namespace, queue)).or_default(), &mut total] {
                counters.enter(&task.state);
                counters.keep(0, kept);
            }
        }
        // Those of which every task was removed count none.
        for of in self.counters.keys() {
            counted.entry(*of).or_default();
        }
        for ((namespace, queue), counters) in &counted {
            let written = self
                .store
                .get(&key::counters(*namespace, *queue))
                .expect("the store can be read");
            let written = Counters::decode(written.expect("counters are on disk"))
                .expect("a row of counters");
            assert_eq!(
                written, *counters,
                "counters on disk are those of the tasks"
            );
            let running = self.queues.get(*namespace, *queue);
            assert_eq!(
                running.map_or(0, |queue| u64::from(queue.running)),
                counters.running,
                "queues know what of them runs"
            );
        }
        let mut keys: BTreeMap<_, u32> = BTreeMap::new();
        let running = tasks.values().filter(|(_, task, _)| task.lease().is_some());
        for (namespace, task, _) in running {
            if let Some(concurrency) = &task.spec.placement.concurrency {
                let key = (*namespace, KeyId::of(&concurrency.key));
                *keys.entry(key).or_default() += 1;
            }
        }
        assert_eq!(
            self.queues.running_keys().collect::<BTreeMap<_, _>>(),
            keys,
            "concurrency keys know what of them runs"
        );
        assert_eq!(
            *lock(&self.shared.counters),
            total,
            "counters in memory are those of the tasks"
        );
        let [waiting, _] = self.shared.admission.view(Timestamp::EPOCH).gauges;
        assert_eq!(
            waiting.taken,
            total.waiting(),
            "what is let in goes by the tasks that wait"
        );
    }

    fn check_ready_and_open(&self, tasks: &Tasks) {
        let ready: BTreeMap<_, Vec<TaskId>> = self
            .rows(Space::Index, &key::ready_all())
            .into_iter()
            .map(|(key, row)| (key, row::decode_ready(&row).collect()))
            .collect();
        let opens: BTreeSet<TaskId> = self
            .rows(Space::Index, &key::opens())
            .iter()
            .filter_map(|(key, _)| key::task_of(key))
            .map(|(_, id)| id)
            .collect();
        let ledger_row = self
            .store
            .get(&key::ledger())
            .expect("the store can be read");
        let ledger_row = ledger_row
            .map(|bytes| LedgerRow::decode(bytes).expect("the ledger's row"))
            .unwrap_or_default();
        let open_from = TaskId(ledger_row.open_from.try_into().unwrap_or([0; 16]));
        let claims = self.claims();
        let (mut expected, mut in_windows) = (BTreeMap::new(), 0);
        for (id, (namespace, task, beside)) in tasks {
            let in_memory = self.open.get(id);
            let mut needs_open = false;
            match &task.state {
                State::Ready { .. } => {
                    let place = self.place_of(*namespace, &task.spec);
                    if let Some(position) = beside.position {
                        let key = key::ready(place.lane, place.priority, position).bytes;
                        let row = ready.get(&key);
                        assert!(
                            row.is_some_and(|ids| ids.contains(id)),
                            "no ready row leads to {task:?}: {row:?}"
                        );
                        *expected.entry(key).or_insert(0) += 1;
                    }
                    needs_open = beside.position.is_none();
                    let in_window = in_memory.is_some_and(|open| open.in_window.is_some());
                    in_windows += usize::from(in_window);
                    let is_behind = beside
                        .position
                        .is_some_and(|position| self.lanes.leads_to(place, position));
                    assert!(
                        in_window != is_behind,
                        "{task:?} is in the window ({in_window}) or behind it ({is_behind})"
                    );
                }
                State::Running { lease, .. } => {
                    assert!(in_memory.is_some(), "a running task is in memory");
                    let claim = claims.get(id).map(|(seq, claim)| (Some(*seq), claim));
                    assert_eq!(
                        claim,
                        in_memory.map(|open| (open.claimed_in, lease)),
                        "its claim leads to it"
                    );
                    let mut sessions = self
                        .hosts
                        .iter()
                        .filter(|host| host.held().contains_key(&lease.epoch));
                    assert_eq!(
                        sessions.next().map(|host| &*host.name),
                        Some(&*lease.host),
                        "{id} is its host's"
                    );
                    assert!(sessions.next().is_none(), "an attempt is one host's");
                }
                State::Blocked { .. } => needs_open = true,
                State::Scheduled { .. }
                | State::Succeeded { .. }
                | State::Dead { .. }
                | State::Cancelled { .. }
                | State::Expired { .. } => {}
            }
            assert!(
                !opens.contains(id) || needs_open,
                "{task:?} has a stale open row"
            );
            assert!(
                !needs_open || opens.contains(id) || *id >= open_from,
                "recovery would not find {task:?}"
            );
        }
        let mut known = 0;
        for key in ready.keys() {
            let (lane, priority, position) = key::ready_of(key).expect("the key of a ready row");
            let place = Place { lane, priority };
            let left = expected.get(key).copied();
            match self.ready_rows.get(&position) {
                Some(row) => {
                    known += 1;
                    assert_eq!(Some(*row), left.map(|left| (place, left)));
                }
                None => assert!(
                    self.lanes.leads_to(place, position),
                    "a ready row has no use: {left:?} tasks at {position:?}"
                ),
            }
        }
        assert_eq!(known, self.ready_rows.len());
        assert_eq!(
            self.lanes.in_window(),
            in_windows,
            "windows count what they hold"
        );
        assert!(opens.iter().all(|id| tasks.contains_key(id)));
        let held = self.hosts.iter().flat_map(|host| {
            let sum: u64 = host.held().values().map(|held| held.memory_bytes).sum();
            assert_eq!(
                sum,
                host.reserved_bytes(),
                "what it has is what it reserves"
            );
            host.held()
                .iter()
                .map(move |(epoch, held)| (host, *epoch, &held.id))
        });
        for (host, epoch, id) in held {
            let lease = tasks.get(id).and_then(|(_, task, _)| task.lease());
            assert!(
                lease.is_some_and(|lease| lease.epoch == epoch && lease.host == host.name),
                "{} holds {epoch} of {id}, which has {lease:?}",
                host.name
            );
        }
    }

    fn check_timers(&self, tasks: &Tasks) {
        let mut wakes = BTreeSet::new();
        let mut deadlines = BTreeSet::new();
        let mut forgets = BTreeSet::new();
        let mut first: Option<Timestamp> = None;
        for (key, value) in self.rows(Space::Index, &key::timers()) {
            let (at, timer, _, id) = key::timer_of(&key).expect("a timer's key");
            first = first.or(Some(at));
            assert!(
                at >= self.timers_from,
                "a timer is before where the next scan begins"
            );
            match timer {
                Timer::Wake => wakes.insert((at, id)),
                Timer::Deadline => deadlines.insert((at, id)),
                Timer::ForgetKey => {
                    forgets.insert((at, id, String::from_utf8(value).expect("a key is text")))
                }
            };
        }
        if let Some(first) = first {
            assert!(
                self.next_timer.is_some_and(|next| next <= first),
                "the timer at {first:?} is lost: {:?}",
                self.next_timer
            );
        }
        for (id, (_, task, _)) in tasks {
            let scheduled = match task.state {
                State::Scheduled { run_at } => Some(run_at),
                _ => None,
            };
            assert_eq!(
                scheduled.is_some_and(|at| wakes.remove(&(at, *id))),
                scheduled.is_some(),
                "{task:?} is woken"
            );
            let has_row = task
                .spec
                .deadline
                .is_some_and(|at| deadlines.remove(&(at, *id)));
            if task.state.is_terminal() {
                assert!(!has_row, "{task:?} has a stale deadline");
            } else if !matches!(task.state, State::Running { stop: Some(_), .. }) {
                assert_eq!(
                    has_row,
                    task.spec.deadline.is_some(),
                    "the deadline of {task:?} is kept"
                );
            }
        }
        assert!(
            wakes.is_empty() && deadlines.is_empty(),
            "timers lead to tasks: {wakes:?} {deadlines:?}"
        );
        let holders = self.rows(Space::Index, &key::uniques());
        let mut holders: BTreeMap<_, _> = holders.into_iter().collect();
        for (id, (namespace, task, _)) in tasks {
            if let Some(unique) = task.holds_unique_key() {
                let row = holders.remove(&key::unique(*namespace, unique).bytes);
                assert_eq!(
                    row.as_deref(),
                    Some(&id.0[..]),
                    "{task:?} alone waits under its unique key"
                );
            }
        }
        assert!(holders.is_empty(), "unique keys lead to tasks: {holders:?}");
        let namespaces = self
            .shared
            .namespaces
            .read()
            .expect("nobody panicked")
            .clone();
        for namespace in namespaces.values() {
            let prefix = key::idempotency(*namespace, "").bytes;
            for (key, value) in self.rows(Space::Index, &prefix) {
                let row = IdempotencyRow::decode(&value[..]).expect("the row of a key");
                let (name, id) = (
                    String::from_utf8(key[prefix.len()..].to_vec()).expect("text"),
                    row.id.try_into().expect("an id"),
                );
                let timer = (Timestamp(row.expires_ms), TaskId(id), name);
                assert!(forgets.remove(&timer), "{timer:?} is forgotten one day");
                assert!(tasks.contains_key(&timer.1), "a key leads to a task");
            }
        }
        assert!(
            forgets.iter().all(|(at, ..)| *at <= self.time),
            "timers of keys lead to keys: {forgets:?}"
        );
    }

    fn check_memory(&self, tasks: &Tasks) {
        let mut payload_bytes = 0;
        for (id, open) in &self.open {
            let (_, task, beside) = &tasks[id];
            assert_eq!(
                (&open.task, &open.beside),
                (task, beside),
                "memory says what the disk says"
            );
            let stays = task.lease().is_some() || open.in_window.is_some();
            assert!(stays, "{task:?} needs not be in memory");
            payload_bytes += open.payload.as_ref().map_or(0, bytes::Bytes::len);
        }
        assert_eq!(self.payload_bytes, payload_bytes);
        let is_running = |id: &TaskId| {
            tasks
                .get(id)
                .is_some_and(|(_, task, _)| task.lease().is_some())
        };
        assert!(
            lock(&self.shared.progress).keys().all(is_running),
            "progress is that of running attempts"
        );
        let shown = self.shared.claims.read().expect("nobody panicked");
        let leases = tasks
            .iter()
            .filter_map(|(id, (_, task, _))| Some((*id, task.lease()?.clone())));
        assert_eq!(
            shown.clone().into_iter().collect::<BTreeMap<_, _>>(),
            leases.collect(),
            "readers see who has what"
        );
        self.claims.check(|id, seq| {
            self.open
                .get(&id)
                .is_some_and(|open| open.claimed_in == Some(seq))
        });
        let on_disk = self.rows(Space::Index, &key::claims_all()).len();
        assert_eq!(
            on_disk,
            self.claims.len(),
            "rows of claims that are over go"
        );
        let watched = self.watched.values().flatten().collect::<BTreeSet<_>>();
        assert!(
            watched.iter().all(|watch| self.watches.contains_key(watch)),
            "watches that ended are forgotten"
        );
        if let Some((_, ordinal)) = self.unindexed.front() {
            assert!(
                self.submitted - ordinal <= self.config.unindexed_span,
                "recovery reads a bounded number of rows"
            );
        }
    }

    /// The index leads to each task that has ended, by what its rows say, and to nothing else.
    fn check_finished(&self, tasks: &Tasks) {
        let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (namespace, task, beside) in tasks.values() {
            if let Some((namespace, at, seq)) = finished::place(*namespace, task, beside) {
                let row = expected.entry(key::finished(namespace, at, seq).bytes);
                let has_ended = row::encode_finished(task, row.or_default());
                assert!(has_ended, "a task with an end has one");
            }
        }
        let found: BTreeMap<_, _> = self
            .rows(Space::Index, &key::finished_all())
            .into_iter()
            .collect();
        assert_eq!(found, expected, "what has ended is in its index");
    }

    /// Each end of a round is told once, in the order of commits.
    fn check_settled(&self, tasks: &Tasks) {
        let mut ends: BTreeMap<TaskId, u32> = BTreeMap::new();
        for (key, value) in self.rows(Space::Index, &key::settled_all()) {
            assert!(key::settled_of(&key).is_some_and(|seq| seq <= self.store.seq()));
            row::decode_settled(&value).for_each(|(_, id)| *ends.entry(id).or_default() += 1);
        }
        for (id, (_, task, _)) in tasks {
            let told = ends.remove(id).unwrap_or(0);
            // A round that was ended and redriven in one step has no record of its own.
            let (least, most) = if task.state.is_terminal() {
                // The walk may have come past its row: `check_retention` looks whether something leads to it then.
                (0, task.round)
            } else {
                (0, task.round - 1)
            };
            assert!(
                (least..=most).contains(&told),
                "{task:?} was told to have ended {told} times"
            );
        }
        // The others were removed since.
        let last = self.last_id;
        assert!(
            ends.keys().all(|id| *id <= last),
            "records lead to tasks that there are or were"
        );
    }

    /// Everything that has ended is found when its time is over, and no sooner than rows say.
    fn check_retention(&self, tasks: &Tasks) {
        let settled = self.rows(Space::Index, &key::settled_all());
        let due = self.rows(Space::Index, &key::dues());
        let rows = settled.iter().chain(&due).map(|(_, row)| row);
        let noted: BTreeSet<_> = rows.flat_map(|row| row::decode_settled(row)).collect();
        for (id, (namespace, task, beside)) in tasks {
            if task.state.is_terminal() {
                assert!(
                    noted.contains(&(*namespace, *id)),
                    "nothing would ever remove {task:?}"
                );
            }
            assert!(
                beside.result_gone.is_none() || task.result.is_some(),
                "{task:?} has no result that could have gone"
            );
        }
        let oldest = settled.first().map(|(_, row)| row::settled_at(row));
        let first = due.first().and_then(|(key, _)| Some(key::due_of(key)?.0));
        self.collector.check(oldest, first);
        for (key, _) in &settled {
            let seq = key::settled_of(key).expect("the key of a row of ends");
            assert!(
                self.collector.is_ahead(seq),
                "the walk is past the ends of {seq}"
            );
        }
        for (key, _) in &due {
            assert!(self.collector.is_due_ahead(key), "{key:?} is passed over");
        }
    }

    /// Payloads, results, checkpoints and logs are those of tasks, and removed tasks leave nothing but what is noted.
    fn check_data(&self, tasks: &Tasks) {
        let noted: BTreeSet<_> = self
            .rows(Space::Index, &key::leftovers())
            .iter()
            .map(|(key, _)| key::task_of(key).expect("a task's key"))
            .collect();
        assert_eq!(
            noted,
            self.leftovers.iter().map(removal::Leftover::task).collect(),
            "what removed tasks have left is known"
        );
        for (key, _) in self.rows(Space::Payloads, &[]) {
            if key.starts_with(&key::values()) || key.starts_with(&key::deliveries()) {
                continue;
            }
            let is_log = key.starts_with(&key::logs_all());
            let of = match is_log {
                true => key::log_task_of(&key),
                false => key::task_of(&key),
            };
            let (namespace, id) = of.expect("the key of a task's data");
            let is_there = tasks.get(&id).is_some_and(|(of, ..)| *of == namespace);
            assert!(
                is_there || is_log && noted.contains(&(namespace, id)),
                "{id} is gone, and {key:?} is not"
            );
        }
    }

    /// Every task that names a blob is in the index of its uses, and nothing else is.
    fn check_blobs(&self, tasks: &Tasks) {
        let mut uses = BTreeSet::new();
        for (id, (namespace, task, beside)) in tasks {
            let result = task.result.filter(|_| beside.result_gone.is_none());
            let data = [Some(task.spec.payload), result, beside.checkpoint];
            for data in data.into_iter().flatten() {
                if let DataRef::Blob { digest, .. } = data {
                    uses.insert(key::blob_use(digest, *namespace, *id).bytes);
                }
            }
        }
        let rows = self.rows(Space::Index, &key::all_blob_uses()).into_iter();
        assert_eq!(
            rows.map(|(key, _)| key).collect::<BTreeSet<_>>(),
            uses,
            "uses of blobs are those that a rebuild would note"
        );
    }

    /// Every task's version of its module is there, and it is known how many tasks need it.
    fn check_modules(&self, tasks: &Tasks) {
        let registry = read(&self.shared.registry);
        let mut uses: BTreeMap<(Namespace, &str, u32), u64> = BTreeMap::new();
        for (namespace, task, _) in tasks.values() {
            let spec = &task.spec;
            let versions = registry.versions(&spec.namespace, &spec.module);
            let version = versions.ok().and_then(|of| of.all.get(&spec.version));
            assert_eq!(
                version.map(|version| version.digest),
                Some(spec.digest),
                "{task:?} has its module"
            );
            let use_of = (*namespace, &*spec.module, spec.version);
            *uses.entry(use_of).or_default() += 1;
        }
        for (namespace, name, version, count) in self.module_uses.iter() {
            assert_eq!(
                count,
                uses.remove(&(namespace, name, version)).unwrap_or(0),
                "tasks of {name}@{version}"
            );
            let at = key::module_uses(namespace, name, version);
            let row = self.store.get(&at).expect("the store can be read");
            assert_eq!(
                row.as_deref(),
                Some(&count.to_be_bytes()[..]),
                "tasks of {name}@{version} on disk"
            );
        }
        assert!(uses.is_empty(), "not counted: {uses:?}");
    }

    /// Every bucket counts what is in it, on disk and in memory, and every value that is a row of its own is that of an entry.
    fn check_buckets(&self) {
        let mut counted: BTreeMap<(Namespace, String), Bucket> = BTreeMap::new();
        let mut apart = BTreeMap::new();
        for (at, row) in self.rows(Space::Index, &key::entries()) {
            let (namespace, bucket, name) = key::entry_of(&at).expect("a key of an entry");
            let entry = row::Entry::read(row.into()).expect("a row of an entry");
            let count = counted.entry((namespace, bucket.to_owned())).or_default();
            count.keys += 1;
            count.bytes += keyvalue::size(bucket, name, entry.len);
            match entry.is_apart() {
                true => drop(apart.insert(key::value(namespace, bucket, name).bytes, entry.len)),
                false => assert_eq!(entry.in_row.len() as u64, entry.len, "{name} is whole"),
            }
        }
        let rows = self.rows(Space::Meta, &key::buckets()).into_iter();
        let on_disk: BTreeMap<_, _> = rows
            .map(|(at, row)| {
                let (namespace, name) = key::bucket_of(&at).expect("a key of a bucket");
                let bucket = Bucket::read(row.into()).expect("a row of a bucket");
                ((namespace, name.to_owned()), bucket)
            })
            .collect();
        assert_eq!(on_disk, counted, "buckets on disk count what is in them");
        let in_memory = self.buckets.iter();
        let in_memory =
            in_memory.map(|(namespace, name, bucket)| ((namespace, name.to_owned()), bucket));
        assert_eq!(
            in_memory.collect::<BTreeMap<_, _>>(),
            counted,
            "buckets in memory count what is in them"
        );
        let values = self.rows(Space::Payloads, &key::values()).into_iter();
        let values = values.map(|(at, value)| (at, value.len() as u64));
        assert_eq!(
            values.collect::<BTreeMap<_, _>>(),
            apart,
            "values are those of entries"
        );
    }

    /// Every webhook is on disk as it is in memory and counts what it has to deliver, and nothing is there of one that is gone.
    fn check_webhooks(&self) {
        let mut pending: BTreeMap<u64, u64> = BTreeMap::new();
        for (at, _) in self.rows(Space::Payloads, &key::deliveries()) {
            let (number, _) = key::delivery_of(&at).expect("a key of a delivery");
            *pending.entry(number).or_default() += 1;
        }
        let webhooks = read(&self.shared.webhooks);
        let in_memory = webhooks.iter().flat_map(|(namespace, of_namespace)| {
            of_namespace.iter().map(|(name, webhook)| {
                let at = key::webhook(*namespace, name).bytes;
                (at, row::encode_webhook(webhook))
            })
        });
        let in_memory: BTreeMap<_, _> = in_memory.collect();
        let on_disk = self.rows(Space::Meta, &key::webhooks()).into_iter();
        assert_eq!(on_disk.collect::<BTreeMap<_, _>>(), in_memory);
        let mut numbers = BTreeSet::new();
        for webhook in webhooks.values().flat_map(BTreeMap::values) {
            let counted = pending.remove(&webhook.number).unwrap_or(0);
            assert_eq!(webhook.pending, counted, "{webhook:?}");
            assert!(webhook.number <= self.last_webhook, "{webhook:?}");
            assert!(numbers.insert(webhook.number), "{webhook:?}");
        }
        assert!(pending.is_empty(), "of no webhook: {pending:?}");
        for (at, _) in self.rows(Space::Index, &key::tries()) {
            let of = |number: &u64| at.starts_with(&key::tries_of(*number));
            assert!(numbers.iter().any(of), "of no webhook: {at:?}");
        }
    }

    /// Nothing of a function has started since its breaker opened, but for the probe; what waits for a breaker waits for
    /// one that lets nothing through; and what operators want is on disk.
    fn check_breakers(&self, tasks: &Tasks) {
        let mut probes: BTreeSet<_> = self
            .breakers
            .iter()
            .filter_map(|(_, entry)| entry.probe())
            .collect();
        for (namespace, task, _) in tasks.values() {
            let Some(lease) = task.lease() else {
                continue;
            };
            let spec = &task.spec;
            let of = FunctionId::of(*namespace, &spec.digest, &spec.function);
            let entry = self.breakers.get(of);
            assert!(
                entry.is_none_or(|entry| entry.may_run(lease.epoch)),
                "{task:?} started although {entry:?}"
            );
            if entry.and_then(Entry::probe) == Some(lease.epoch) {
                probes.remove(&lease.epoch);
            }
        }
        assert!(
            probes.is_empty(),
            "probes that do not run are waited for: {probes:?}"
        );
        for (of, lines) in self.lanes.stopped() {
            assert!(
                !self.breakers.lets_through(of),
                "{lines} lines wait for {:?}",
                self.breakers.get(of)
            );
        }
        let rows = self.rows(Space::Meta, &key::breakers()).into_iter();
        let on_disk: BTreeMap<_, _> = rows
            .map(|(at, row)| {
                let (namespace, digest, name) = key::breaker_of(&at).expect("a key of a breaker");
                let of = FunctionId::of(namespace, &digest, name);
                let (forced, module, version) =
                    row::decode_breaker(row.into()).expect("a row of a breaker");
                let registry = read(&self.shared.registry);
                assert!(registry.by_digest(&digest).is_some(), "{module} is there");
                (of, (forced, module, version))
            })
            .collect();
        let in_memory = self.breakers.iter().filter_map(|(of, entry)| {
            let Function {
                module, version, ..
            } = &entry.function;
            Some((of, (entry.forced.clone()?, module.clone(), *version)))
        });
        assert_eq!(
            in_memory.collect::<BTreeMap<_, _>>(),
            on_disk,
            "what operators want of breakers is on disk"
        );
        let count = |phase| {
            let phases = self.breakers.iter().map(|(_, entry)| entry.phase());
            phases.filter(|it| *it == phase).count()
        };
        assert_eq!(
            self.breakers.counts(),
            (count(Phase::Open), count(Phase::HalfOpen)),
            "breakers are counted"
        );
    }

    /// What namespaces have of what quotas count is what a recount finds, and costs in memory are those on disk.
    fn check_shares(&self, tasks: &Tasks) {
        let mut counted: BTreeMap<Namespace, Used> = BTreeMap::new();
        for (namespace, task, beside) in tasks.values() {
            let used = counted.entry(*namespace).or_default();
            used.waiting += u64::from(quotas::waits(&task.state));
            if task.lease().is_some() {
                used.running += 1;
                used.fuel_reserved += task.spec.limits.fuel;
            }
            let result = task.result.filter(|_| beside.result_gone.is_none());
            let data = [Some(task.spec.payload), result, beside.checkpoint];
            used.stored_bytes += data.into_iter().flatten().map(DataRef::len).sum::<u64>();
        }
        let mut costs = BTreeMap::new();
        for (at, row) in self.rows(Space::Index, &key::costs()) {
            let (day, namespace, name) = key::cost_of(&at).expect("a key of costs");
            let cost = row::decode_cost(row.into()).expect("a row of costs");
            assert!(day <= self.costs.day(), "{day} has not come yet");
            if day == self.costs.day() {
                counted.entry(namespace).or_default().fuel += cost.fuel;
                costs.insert((namespace, name.to_owned()), cost);
            }
        }
        let in_memory = self.costs.iter();
        let in_memory =
            in_memory.map(|(namespace, name, cost)| ((namespace, name.to_owned()), cost));
        assert_eq!(
            in_memory.collect::<BTreeMap<_, _>>(),
            costs,
            "costs in memory are those on disk"
        );
        let buckets = self.buckets.iter();
        for (namespace, bytes) in buckets.map(|(namespace, _, bucket)| (namespace, bucket.bytes)) {
            counted.entry(namespace).or_default().stored_bytes += bytes;
        }
        let numbers = read(&self.shared.namespaces);
        for (name, versions) in read(&self.shared.registry).all() {
            let modules = versions.all.values().map(|module| module.size_bytes);
            let used = counted.entry(numbers[name]).or_default();
            used.stored_bytes += modules.sum::<u64>();
        }
        for namespace in numbers.values() {
            let used = counted.remove(namespace).unwrap_or_default();
            let Some(share) = self.shares.get(*namespace) else {
                assert_eq!(used, Used::default(), "what a namespace has is known");
                continue;
            };
            assert_eq!(share.used, used, "a namespace has what a recount finds");
            match share.closed() {
                Some(Closed::Full) => assert!(share.quotas.is_full(&used), "{share:?} is full"),
                Some(Closed::NoFuel) => assert!(
                    share.quotas.fuel_per_day.is_some() && self.shares.next_opening().is_some(),
                    "{share:?} waits for the next day"
                ),
                None => {}
            }
        }
        assert!(counted.is_empty(), "of no namespace: {counted:?}");
        assert_eq!(self.shares.day(), self.costs.day());
    }

    /// Every dead task is in both indexes of dead letters, and nothing else is.
    fn check_dead(&self, tasks: &Tasks) {
        let keys = |prefix: &[u8]| -> BTreeSet<Vec<u8>> {
            let rows = self.rows(Space::Index, prefix).into_iter();
            rows.map(|(key, _)| key).collect()
        };
        let (mut by_signature, mut by_time) = (BTreeSet::new(), BTreeSet::new());
        for (id, (namespace, task, _)) in tasks {
            if let (Some(signature), Some(at)) = (Signature::of(task), task.state.ended_at()) {
                by_signature.insert(key::dead(*namespace, signature, at, *id).bytes);
                by_time.insert(key::dead_at(*namespace, at, *id).bytes);
            }
        }
        assert_eq!(
            keys(&key::dead_all()),
            by_signature,
            "dead letters are those that a rebuild would make, by signature"
        );
        assert_eq!(
            keys(&key::dead_at_all()),
            by_time,
            "dead letters are those that a rebuild would make, by time"
        );
    }
}
