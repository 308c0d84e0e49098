//! What was promised, and whether it holds.
//!
//! A task is told apart by its *tag*, which it carries where its trace context would be. What a tag stands for is known
//! here from its submit on, whatever the broker makes of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tq_broker::ledger::recount::Tasks;
use tq_broker::ledger::{Ledger, Shared};
use tq_broker::store::{Direction, Read, Space};
use tq_broker::tables::{Namespace, key, row};
use tq_core::limits::{ATTEMPTS_KEPT, LOSSES_MAX, STRIKES_MAX};
use tq_core::outcome::{Class, Outcome};
use tq_core::task::{DataRef, State, Task};
use tq_core::{Cost, Day, Epoch, Quotas, Retention, TaskId, Tier, Timestamp};
use tq_proto::v1;

use crate::clients::{CONCURRENCY, FORCED, PAUSED, QUEUES, REQUEST_TASKS_MAX};
use crate::host::label_of_others;

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) run_at: Option<Timestamp>,
    /// It ends only when it is told to.
    pub(crate) is_endless: bool,
    /// It takes seconds, when nothing fails, and must not be run twice.
    pub(crate) is_dear: bool,
}

/// What functions cost in a day.
type Costs = BTreeMap<(Day, String), Cost>;

/// All that was promised.
#[derive(Default)]
pub(crate) struct Promises {
    /// Every tag that was ever sent.
    pub(crate) sent: BTreeMap<String, Asked>,
    /// Tags whose task the broker said is on disk.
    pub(crate) submitted: BTreeMap<String, TaskId>,
    /// What each idempotency key stands for: the request, and the task.
    pub(crate) keys: BTreeMap<String, (u8, TaskId)>,
    /// Tasks as the broker said that they are: state and round.
    told: BTreeMap<TaskId, (&'static str, u32)>,
    /// Every attempt that a host got, and its task.
    handed_out: BTreeMap<Epoch, TaskId>,
    /// Those among them that were to run alone.
    alone: BTreeSet<Epoch>,
    /// How attempts ended on their hosts.
    ended: BTreeMap<Epoch, Outcome>,
    /// What was acknowledged to hosts as counting.
    accepted: BTreeSet<Epoch>,
    /// A queue is paused since this attempt; none if it may not be.
    pub(crate) paused_after: Option<Epoch>,
    /// A breaker is forced open since this attempt; none if it may not be.
    pub(crate) open_after: Option<Epoch>,
    /// A loss of power may have forgotten attempts that go on, and are beyond the limits when they are found.
    has_lost_power: bool,
    /// How much the namespace may have.
    pub(crate) quotas: Quotas,
    /// Attempts whose end was seen; none if that is to be seen anew.
    seen: Option<BTreeSet<Epoch>>,
    /// What they cost.
    costs: Costs,
    /// Tasks may have had attempts that nobody has seen, since only the last ones of each are kept.
    has_cut: bool,
    /// How long what has ended is kept.
    retention: Retention,
    /// What the memory limits on each host may add up to, if that is limited.
    memories: Vec<Option<u64>>,
    /// Tasks that somebody asked to be deleted.
    may_go: BTreeSet<TaskId>,
    /// Tasks of which the broker said that they are deleted.
    deleted: BTreeSet<TaskId>,
    /// Tasks that were removed, and had to be. A loss of power may bring them back.
    gone: BTreeSet<TaskId>,
}

/// Tasks that were let in and refused, before a step of the ledger.
pub(crate) struct LetIn {
    waiting: u64,
    submitted: u64,
    refused: [(Tier, u64); 3],
}

impl LetIn {
    pub(crate) fn so_far(shared: &Shared) -> Self {
        let counters = shared.counters.lock().expect("nobody panics with it");
        Self {
            waiting: counters.waiting(),
            submitted: shared.metrics.submitted.get(),
            refused: shared.admission.view(Timestamp::EPOCH).refused,
        }
    }

    /// Compares it with what was let in and refused after the step: new tasks were taken in only while fewer waited than may,
    /// and none was refused for that while fewer waited than its tier may have. Returns how many were.
    ///
    /// Of a quota nothing may be let in beyond it either, but for what the `commands` of the step made room for.
    pub(crate) fn check(&self, shared: &Shared, quotas: Quotas, commands: u64) -> u64 {
        let view = shared.admission.view(Timestamp::EPOCH);
        let [gauge, _] = view.gauges;
        let taken_in = shared.metrics.submitted.get() - self.submitted;
        let room = gauge.limit.saturating_sub(self.waiting);
        // One request may go beyond it.
        let most = match room {
            0 => 0,
            room => room.saturating_add(REQUEST_TASKS_MAX - 1),
        };
        assert!(
            taken_in <= most,
            "{taken_in} tasks were taken in although {} waited",
            self.waiting
        );
        if let Some(limit) = quotas.waiting {
            let room = limit.saturating_sub(self.waiting).saturating_add(commands);
            assert!(
                taken_in <= room,
                "{taken_in} tasks were taken in although {} waited of {limit} that may",
                self.waiting
            );
        }
        let mut refused = 0;
        for ((tier, before), (_, after)) in self.refused.iter().zip(view.refused) {
            refused += after - before;
            assert!(
                after == *before || self.waiting + taken_in >= gauge.share(*tier),
                "tasks of {tier} priority were refused although only {} waited",
                self.waiting
            );
        }
        refused
    }
}

/// The payload of a task: its tag again and again, to a length.
pub(crate) fn payload(tag: &str, len: usize) -> Bytes {
    tag.bytes().cycle().take(len).collect::<Vec<_>>().into()
}

/// The result of a task that succeeds. Some are too large for a message.
pub(crate) fn result(tag: &str) -> Bytes {
    let number = tag.bytes().map(usize::from).sum::<usize>();
    let len = [20, 3_000, 20, 20, 70_000][number % 5];
    payload(&format!("result of {tag}, "), len)
}

/// A name for bytes, which nobody here checks.
pub(crate) fn name_of(bytes: &[u8]) -> [u8; 32] {
    let mut name = [0; 32];
    for (index, byte) in bytes.iter().enumerate() {
        name[index % 32] ^= byte.rotate_left((index / 32 % 8) as u32);
    }
    name
}

impl Promises {
    pub(crate) fn new(retention: Retention, memories: Vec<Option<u64>>, quotas: Quotas) -> Self {
        Self {
            quotas,
            seen: Some(BTreeSet::new()),
            retention,
            memories,
            ..Self::default()
        }
    }

    /// The last commits may be gone, with what they said of attempts.
    pub(crate) fn lose_power(&mut self) {
        self.has_lost_power = true;
        self.lose_costs();
    }

    /// A commit may be gone, or not: what it said of attempts is to be seen anew.
    pub(crate) fn lose_costs(&mut self) {
        self.seen = None;
    }

    /// Takes note of what the attempts of a task cost of which that is not known yet.
    fn see(&mut self, task: &Task) {
        let Some(seen) = &mut self.seen else {
            return;
        };
        self.has_cut |= task.attempts.len() == ATTEMPTS_KEPT;
        let spec = &task.spec;
        for attempt in &task.attempts {
            if !seen.insert(attempt.epoch) {
                continue;
            }
            let result = task
                .result
                .filter(|_| attempt.outcome == Outcome::Succeeded);
            let bytes_out = result.map_or(0, DataRef::len);
            let cost = Cost::of(
                &attempt.usage,
                spec.limits.fuel,
                spec.payload.len(),
                bytes_out,
            );
            let function = format!("{}/{}", spec.module, spec.function);
            let of = (Day::of(attempt.ended_at), function);
            self.costs.entry(of).or_default().add(&cost);
        }
    }

    /// Compares what is written of costs with what attempts used, and both with the budget.
    fn check_costs(&mut self, ledger: &Ledger, tasks: &Tasks) {
        let written = written_costs(ledger);
        if self.seen.is_none() {
            // From here on.
            let attempts = tasks.values().flat_map(|(_, task, _)| &task.attempts);
            self.seen = Some(attempts.map(|attempt| attempt.epoch).collect());
            self.costs = written;
            return;
        }
        tasks.values().for_each(|(_, task, _)| self.see(task));
        if !self.has_cut {
            assert_eq!(written, self.costs, "costs are what attempts used");
        }
        let Some(budget) = self.quotas.fuel_per_day.filter(|_| !self.has_lost_power) else {
            return;
        };
        let mut days: BTreeMap<Day, u64> = BTreeMap::new();
        for ((day, _), cost) in &written {
            *days.entry(*day).or_default() += cost.fuel;
        }
        // What runs may be charged to the day that it is by now.
        let running = tasks.values().filter(|(_, task, _)| task.lease().is_some());
        let reserved: u64 = running.map(|(_, task, _)| task.spec.limits.fuel).sum();
        *days.entry(ledger.day()).or_default() += reserved;
        for (day, fuel) in days {
            assert!(
                fuel <= budget,
                "{fuel} of {budget} fuel were used on {day}, or may be"
            );
        }
    }

    /// Somebody asks for a task to be deleted.
    pub(crate) fn may_go(&mut self, id: TaskId) {
        self.may_go.insert(id);
    }

    /// The broker said that a task is deleted.
    pub(crate) fn was_deleted(&mut self, id: TaskId) {
        self.deleted.insert(id);
    }

    /// The broker removes a task: only what has ended, because somebody asked or its time is over.
    pub(crate) fn was_removed(&mut self, task: &Task, at: Timestamp) {
        self.see(task);
        let keep = match task.state {
            State::Succeeded { .. } => Some(self.retention.succeeded),
            State::Dead { .. } => Some(self.retention.dead),
            State::Cancelled { .. } => Some(self.retention.cancelled),
            State::Expired { .. } => Some(self.retention.expired),
            State::Blocked { .. }
            | State::Scheduled { .. }
            | State::Ready { .. }
            | State::Running { .. } => None,
        };
        let until = keep.and_then(|keep| Some(task.state.ended_at()?.after(keep)));
        assert!(
            until.is_some_and(|until| until <= at || self.may_go.contains(&task.id)),
            "{task:?} is removed at {at:?}, and was to stay until {until:?}"
        );
        self.gone.insert(task.id);
    }

    /// The broker said which task a key stands for: always the same, unless that may have been deleted.
    pub(crate) fn key_names(&mut self, key: &str, variant: u8, id: TaskId) {
        let held = self.keys.entry(key.to_owned()).or_insert((variant, id));
        if *held != (variant, id) {
            let (before, after) = (held.1.min(id), held.1.max(id));
            assert!(
                before != after && self.may_go.contains(&before),
                "key `{key}` names one task"
            );
            // Answers may come in another order than they were given.
            if after == id {
                *held = (variant, id);
            }
        }
    }

    /// Takes note of what the broker said of a task.
    pub(crate) fn was_told(&mut self, id: TaskId, state: &'static str, round: u32) {
        let told = self.told.entry(id).or_insert((state, round));
        // Answers may come in another order than they were given.
        if round > told.1 || (round == told.1 && is_end(state)) {
            *told = (state, round);
        }
    }

    /// A host got an attempt.
    pub(crate) fn was_handed_out(
        &mut self,
        epoch: Epoch,
        id: TaskId,
        assignment: &v1::Assignment,
        payload: &[u8],
    ) {
        let tag = &assignment.traceparent;
        let asked = self.sent.get(tag);
        assert!(asked.is_some(), "`{tag}` runs and was never asked for");
        assert!(
            payload == &self::payload(tag, payload.len())[..],
            "`{tag}` runs with another payload than its own"
        );
        let before = self.handed_out.insert(epoch, id);
        assert_eq!(before, None, "{epoch} was handed out before");
        if assignment.alone {
            self.alone.insert(epoch);
        }
    }

    /// Somebody asks for another round, which begins at once.
    pub(crate) fn may_run_now(&mut self, id: TaskId) {
        let tags = self.submitted.iter();
        let tag = tags.filter(|(_, task)| **task == id).map(|(tag, _)| tag);
        for tag in tag {
            if let Some(asked) = self.sent.get_mut(tag) {
                asked.run_at = None;
            }
        }
    }

    /// An attempt begins, by the broker's clock.
    pub(crate) fn begins(&self, tag: &str, now: Timestamp) {
        let run_at = self.sent.get(tag).and_then(|asked| asked.run_at);
        assert!(
            run_at.is_none_or(|at| at <= now),
            "`{tag}` runs at {now:?}, and was to wait until {run_at:?}"
        );
    }

    /// An attempt ended on its host.
    pub(crate) fn has_ended(&mut self, epoch: Epoch, outcome: Outcome) {
        self.ended.insert(epoch, outcome);
    }

    /// The end of an attempt was acknowledged to its host, as one that counts.
    pub(crate) fn was_accepted(&mut self, epoch: Epoch) {
        self.accepted.insert(epoch);
    }

    /// Compares what is there with what was promised.
    pub(crate) fn check(&mut self, ledger: &Ledger) {
        let tasks = ledger.tasks();
        self.check_costs(ledger, &tasks);
        let mut there: BTreeMap<&str, TaskId> = BTreeMap::new();
        for (id, (_, task, _)) in &tasks {
            let tag = task.spec.traceparent.as_str();
            assert!(self.sent.contains_key(tag), "{id} was never asked for");
            assert_eq!(there.insert(tag, *id), None, "`{tag}` is there twice");
            check_attempts(task);
        }
        for (tag, id) in &self.submitted {
            let found = there.get(tag.as_str());
            assert!(
                found == Some(id) || found.is_none() && self.gone.contains(id),
                "`{tag}` was acknowledged and is lost"
            );
        }
        for id in &self.deleted {
            assert!(!tasks.contains_key(id), "{id} was deleted and is there");
        }
        for (id, (state, round)) in &self.told {
            let Some((_, task, _)) = tasks.get(id) else {
                assert!(self.gone.contains(id), "{id} was {state} and is lost");
                continue;
            };
            assert!(
                task.round >= *round,
                "a redrive that was acknowledged is lost"
            );
            assert!(
                !is_end(state) || task.round > *round || task.state.name() == *state,
                "{id} had ended {state}, and is {}",
                task.state.name()
            );
        }
        self.check_limits(tasks.values().map(|(_, task, _)| task));
        let mut successes = BTreeSet::new();
        for epoch in &self.accepted {
            // One that was given back by the host itself ran nowhere.
            let Some(outcome) = self.ended.get(epoch) else {
                continue;
            };
            let id = &self.handed_out[epoch];
            let Some((_, task, _)) = tasks.get(id) else {
                assert!(self.gone.contains(id), "{id} had an end and is lost");
                continue;
            };
            let attempt = task.attempts.iter().find(|attempt| attempt.epoch == *epoch);
            let was_cut = task.attempts.len() == ATTEMPTS_KEPT;
            assert!(
                attempt.is_some() || was_cut,
                "the settlement {epoch} of {id} was acknowledged and is lost"
            );
            let was_stopped = attempt.is_some_and(|attempt| {
                matches!(
                    attempt.outcome,
                    Outcome::Cancelled
                        | Outcome::DeadlineExceeded
                        | Outcome::HostLost
                        | Outcome::HostDrained
                )
            });
            assert!(
                was_cut
                    || was_stopped
                    || attempt.is_some_and(|attempt| attempt.outcome == *outcome),
                "{epoch} was acknowledged as {outcome:?}"
            );
            if *outcome == Outcome::Succeeded {
                assert_eq!(task.state.name(), "succeeded", "a success is final");
                assert!(successes.insert(*id), "{id} succeeded twice");
            }
        }
        let reader = ledger.reader();
        for (id, (namespace, task, _)) in &tasks {
            if let State::Succeeded { .. } = task.state {
                self.check_result(&*reader, *namespace, *id);
            }
        }
    }

    /// No more runs at once than limits say, and nothing of a paused queue or an open breaker has started.
    fn check_limits<'a>(&self, tasks: impl Iterator<Item = &'a Task>) {
        let (mut queues, mut keys): (BTreeMap<&str, u32>, BTreeMap<&str, u32>) = Default::default();
        let mut reserved = BTreeMap::<&str, u64>::new();
        for task in tasks {
            let Some(lease) = task.lease() else {
                continue;
            };
            let placement = &task.spec.placement;
            assert!(
                !task.is_suspect()
                    || self.alone.contains(&lease.epoch)
                    || !self.handed_out.contains_key(&lease.epoch),
                "{task:?} may have crashed a runner and runs beside others"
            );
            *queues.entry(&placement.queue).or_default() += 1;
            if let Some(concurrency) = &placement.concurrency {
                *keys.entry(&concurrency.key).or_default() += 1;
            }
            *reserved.entry(&lease.host).or_default() += task.spec.limits.memory_bytes;
            assert!(
                !placement
                    .required
                    .contains_key(&label_of_others(&lease.host)),
                "{task:?} is on a host without its label"
            );
            let is_late = |after: Epoch| placement.queue == PAUSED && lease.epoch > after;
            assert!(
                !self.paused_after.is_some_and(is_late),
                "{task:?} started in a paused queue"
            );
            let is_late = |after: Epoch| {
                (task.spec.digest, &*task.spec.function) == FORCED && lease.epoch > after
            };
            assert!(
                !self.open_after.is_some_and(is_late),
                "{task:?} started although its breaker is forced open"
            );
        }
        if self.has_lost_power {
            return;
        }
        let running = queues.values().sum::<u32>();
        assert!(
            self.quotas.running.is_none_or(|limit| running <= limit),
            "{running} tasks run of the namespace"
        );
        for (what, running, limits) in [("queue", queues, QUEUES), ("key", keys, CONCURRENCY)] {
            for (name, limit) in limits {
                let count = running.get(name).copied().unwrap_or(0);
                assert!(count <= limit, "{count} tasks run of {what} `{name}`");
            }
        }
        for (index, most) in self.memories.iter().enumerate() {
            let reserved = reserved.get(&*format!("host-{index}")).copied();
            assert!(
                most.is_none_or(|most| reserved.unwrap_or(0) <= most),
                "what runs on host {index} does not fit into its memory"
            );
        }
    }

    /// What holds when all is over: everything that was acknowledged has ended, and as it was to.
    pub(crate) fn check_end(&mut self, ledger: &Ledger) {
        self.check(ledger);
        for (id, (_, task, _)) in ledger.tasks() {
            let tag = &task.spec.traceparent;
            let asked = &self.sent[tag];
            let has_succeeded = task.state.name() == "succeeded";
            assert!(
                !asked.is_endless || !has_succeeded,
                "{id} never ends by itself"
            );
            assert!(
                !asked.is_dear || (has_succeeded && task.attempts.len() == 1),
                "its host was there all the time, and yet it was run again: {task:?}"
            );
        }
    }

    fn check_result(&self, reader: &dyn Read, namespace: Namespace, id: TaskId) {
        let record = row::find_task::<tq_broker::ledger::Error>(reader, namespace, id);
        let record = record
            .expect("rows can be read")
            .expect("the task is there");
        if let Some(gone) = record.beside.result_gone {
            let ttl = record.task.spec.result_ttl.or(self.retention.results);
            let ended_at = record.task.state.ended_at();
            assert!(
                ended_at
                    .zip(ttl)
                    .is_some_and(|(at, ttl)| at.after(ttl) <= gone),
                "the result of {id} is gone since {gone:?}, too early"
            );
            return;
        }
        let expected = result(&record.task.spec.traceparent);
        match record.task.result {
            Some(DataRef::Row { .. }) => {
                let apart = reader.get(&key::result(namespace, id));
                let apart = apart.expect("rows can be read").unwrap_or_default();
                let found = [&record.result[..], &apart].concat();
                assert!(found == expected, "{id} has another result than its own");
            }
            Some(DataRef::Blob { digest, .. }) => {
                assert_eq!(digest.0, name_of(&expected), "{id} has another's result");
            }
            None => panic!("{id} has no result"),
        }
    }
}

/// All costs that are written. There is one namespace.
fn written_costs(ledger: &Ledger) -> Costs {
    let rows = ledger.reader().scan(
        Space::Index,
        &key::costs(),
        &[],
        Direction::Ascending,
        usize::MAX,
    );
    let rows = rows.expect("rows can be read").into_iter();
    rows.map(|pair| {
        let (day, _, function) = key::cost_of(&pair.key).expect("a key of costs");
        let cost = row::decode_cost(pair.value).expect("a row of costs");
        ((day, function.to_owned()), cost)
    })
    .collect()
}

fn is_end(state: &str) -> bool {
    ["succeeded", "dead", "cancelled", "expired"].contains(&state)
}

/// Attempts and counts say the same of a task.
fn check_attempts(task: &Task) {
    if task.attempts.len() == ATTEMPTS_KEPT {
        return;
    }
    let of_round = || {
        let attempts = task.attempts.iter();
        attempts.filter(|attempt| attempt.round == task.round)
    };
    let failed = of_round()
        .filter(|attempt| matches!(attempt.outcome.class(), Class::Retryable | Class::Permanent));
    assert_eq!(failed.count() as u32, task.failures, "{task:?}");
    // What was handed back from a host that was to be empty counts against nobody.
    let lost = of_round().filter(|attempt| {
        matches!(
            attempt.outcome.class(),
            Class::HostLost | Class::Stopped | Class::Crash
        ) && attempt.outcome != Outcome::HostDrained
    });
    assert!(task.losses <= lost.count() as u32, "{task:?}");
    if let State::Dead { .. } = task.state {
        let last = of_round()
            .next_back()
            .map(|attempt| attempt.outcome.class());
        assert!(
            last == Some(Class::Permanent)
                || task.failures >= task.spec.retry.max_attempts
                || task.losses >= LOSSES_MAX
                || task.strikes == Some(STRIKES_MAX),
            "{task:?} had attempts left"
        );
    }
}
