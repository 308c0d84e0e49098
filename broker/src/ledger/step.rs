//! One step's changes, from the first to the commit.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use tq_core::limits::READY_WINDOW_PAYLOAD_BYTES;
use tq_core::planted::{Bug, is_planted};
use tq_core::task::{DataRef, Spec, State, Task};
use tq_core::{Digest, Signature, TaskId, Timestamp, invariants};

use super::answers::Ends;
use super::quotas::kept_of;
use super::ready::is_ready;
use super::{
    Answers, Ended, Error, Ledger, Open, Permit, claims, finished, keyvalue, lock, ready, webhooks,
};
use crate::blobs::Hold;
use crate::dispatch::needs::Needs;
use crate::store::{Batch, Committed, Key, Level};
use crate::tables::key::{self, QueueId, Timer};
use crate::tables::row::{self, Beside, IdempotencyRow, LedgerRow};
use crate::tables::{Namespace, Position};

/// Attempts of which the sizes of logs are remembered between steps.
const LOG_SIZES_MAX: usize = 10_000;

/// What a step has changed so far. Commands of one step see each other's effects: tasks that they touch are in
/// [`Ledger::open`] until the commit, those that ended too.
#[derive(Default)]
pub(super) struct Step {
    touched: FxHashMap<TaskId, Touched>,
    /// Tasks that were read into memory, and may not have to stay.
    pub(super) loaded: Vec<TaskId>,
    /// Rows that no task's state implies.
    pub(super) batch: Batch,
    /// Someone is to be told that something is on disk.
    pub(super) durable: bool,
    ended: Vec<(Namespace, TaskId)>,
    /// Tasks that it has taken in.
    pub(super) taken_in: u64,
    /// Payloads and checkpoints that the step writes, and that it may have to hand out before they can be read.
    pub(super) unread: HashMap<Key, Bytes>,
    /// Idempotency keys that the step has given, or freed.
    pub(super) keys: HashMap<Key, Option<IdempotencyRow>>,
    /// Tasks that it has taken in under unique keys.
    pub(super) unique: HashMap<Key, TaskId>,
    /// Ended tasks that it removes. They are in memory until the commit, and for nobody to see.
    pub(super) removed: FxHashSet<TaskId>,
    /// The first due row that it writes.
    pub(super) first_due: Option<Timestamp>,
    /// Tasks to whose logs it adds.
    pub(super) logged: FxHashSet<TaskId>,
    /// Answers.
    pub(super) after: Vec<Box<dyn FnOnce() + Send>>,
    /// The first timer that it writes.
    pub(super) first_timer: Option<Timestamp>,
    /// Ready rows that it makes.
    pub(super) ready: ready::Fresh,
    /// What tasks need that became ready.
    pub(super) fed: Vec<Arc<Needs>>,
    /// Holds on blobs that it names: they end with its commit.
    pub(super) holds: Vec<Hold>,
    /// By which its new tasks were let in, likewise.
    pub(super) permits: Vec<Permit>,
    /// What it has done to buckets.
    pub(super) buckets: keyvalue::Written,
    /// Rows of webhooks that it writes.
    pub(super) webhooks: webhooks::Written,
    /// Queues of which it counts anew what is kept of their tasks.
    pub(super) recounted: Vec<(Namespace, QueueId)>,
    /// Blobs that were those of versions of modules which it removes.
    pub(super) unnamed: Vec<Digest>,
}

/// A task that a step has to do with.
#[derive(Debug)]
struct Touched {
    before: Stored,
    /// It needs a state row: there is more to it than its submit and a claim.
    needs_state: bool,
}

/// What of a task is in the store before the step.
#[derive(Debug)]
enum Stored {
    /// Nothing: it is new.
    Nothing(Call),
    /// Its state, the rows that this implies, and where the ready row is that leads to it.
    State {
        state: State,
        version: u32,
        /// The bytes that are kept of it.
        kept: u64,
        rows: Vec<Key>,
        position: Option<Position>,
        finished: Option<finished::Place>,
    },
}

impl Stored {
    /// Where it is in the index of tasks that have ended.
    fn finished(&self) -> Option<finished::Place> {
        match self {
            Self::Nothing(_) => None,
            Self::State { finished, .. } => *finished,
        }
    }
}

/// What the call row of a new task says, whatever the step makes of the task after its submit.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) spec: Arc<Spec>,
    pub(super) position: Option<Position>,
    /// Empty if it is elsewhere.
    pub(super) payload: Bytes,
}

impl Step {
    /// How many tasks have ended in it so far.
    pub(super) fn ended_count(&self) -> usize {
        self.ended.len()
    }

    /// How many more tasks there are of a version of a module after the step than before, as far as it has come. `open` are
    /// the tasks in memory.
    pub(super) fn further_uses(
        &self,
        open: &FxHashMap<TaskId, Open>,
        (namespace, name, version): (Namespace, &str, u32),
    ) -> i64 {
        let of_module = self.touched.iter().filter_map(|(id, touched)| {
            let open = open.get(id)?;
            let is_of_it = open.namespace == namespace && open.task.spec.module == name;
            is_of_it.then_some((id, touched, open.task.spec.version))
        });
        of_module
            .map(|(id, touched, now)| {
                let before = match &touched.before {
                    Stored::Nothing(_) => None,
                    Stored::State { version, .. } => Some(*version),
                };
                let after = (!self.removed.contains(id)).then_some(now);
                i64::from(after == Some(version)) - i64::from(before == Some(version))
            })
            .sum()
    }

    /// Where the ready row was that led to a task before the step. None if the step has not touched it.
    pub(super) fn ready_before(&self, id: TaskId) -> Option<Option<Position>> {
        self.touched.get(&id).map(|touched| match &touched.before {
            Stored::Nothing(_) => None,
            Stored::State { position, .. } => *position,
        })
    }
}

impl Ledger {
    /// Notes what is in the store of a task that is about to change.
    pub(super) fn touch(&mut self, id: TaskId) {
        self.touch_beside(id);
        if let Some(touched) = self.step.touched.get_mut(&id) {
            touched.needs_state = true;
        }
    }

    /// Notes what is in the store of a task around which something is about to change, a claim or an entry in an index.
    pub(super) fn touch_beside(&mut self, id: TaskId) {
        if let Entry::Vacant(vacant) = self.step.touched.entry(id)
            && let Some(open) = self.open.get(&id)
        {
            vacant.insert(Touched {
                before: Stored::State {
                    state: open.task.state.clone(),
                    version: open.task.spec.version,
                    kept: kept_of(open),
                    rows: rows(open),
                    position: ready_position(open),
                    finished: finished::place(open.namespace, &open.task, &open.beside),
                },
                needs_state: false,
            });
        }
    }

    /// Notes that a task is new.
    pub(super) fn touch_new(&mut self, id: TaskId, call: Call) {
        let touched = Touched {
            before: Stored::Nothing(call),
            needs_state: false,
        };
        self.step.touched.insert(id, touched);
    }

    /// Notes that a task ended.
    pub(super) fn note_end(&mut self, namespace: Namespace, id: TaskId) {
        self.step.durable = true;
        self.step.ended.push((namespace, id));
    }

    /// Writes all changes as one batch, which outlives a crash of the process when this returns. Attempts are handed out
    /// then; everything else that there is to say waits for the disk.
    pub(super) fn commit(&mut self) -> Result<Answers, Error> {
        self.index_oldest();
        self.note_results();
        let mut step = std::mem::take(&mut self.step);
        let mut batch = step.batch;
        let mut first_timer = step.first_timer;
        let mut touched_queues = step.recounted;
        let mut unnamed = step.unnamed;
        // In the order of keys, which is the order in which the store's trees take them with the fewest steps.
        let mut touched: Vec<_> = step.touched.iter().collect();
        touched.sort_unstable_by_key(|(id, _)| u128::from_be_bytes(id.0));
        let mut claims = claims::Changes::default();
        let mut finished = finished::Changes::default();
        // One task may leave a unique key and another take it: a batch may not change a key twice.
        let mut unique: BTreeMap<Key, Option<TaskId>> = BTreeMap::new();
        for (id, touched) in touched {
            let Some(open) = self.open.get(id) else {
                continue;
            };
            let (before, version_before, kept_before, rows_before, position_before) =
                match &touched.before {
                    // What is kept of a new task was counted when it was taken in.
                    Stored::Nothing(_) => (None, None, open.task.spec.payload.len(), &[][..], None),
                    Stored::State {
                        state,
                        version,
                        kept,
                        rows,
                        position,
                        finished: _,
                    } => (Some(state), Some(*version), *kept, &rows[..], *position),
                };
            let is_removed = step.removed.contains(id);
            let kept = if is_removed { 0 } else { kept_of(open) };
            self.shares.keep(open.namespace, kept_before, kept);
            let place = finished::place(open.namespace, &open.task, &open.beside);
            let place_before = touched.before.finished();
            finished.note(&open.task, place_before, place.filter(|_| !is_removed));
            let version = (!is_removed).then_some(open.task.spec.version);
            if version != version_before {
                let name = &open.task.spec.module;
                self.module_uses
                    .change(open.namespace, name, version_before, version);
            }
            let position_left = position_before.filter(|_| ready_position(open) != position_before);
            let rows = match is_removed {
                true => Vec::new(),
                false => rows(open),
            };
            rows_before
                .iter()
                .filter(|row| !rows.contains(row))
                .filter(|row| {
                    !is_planted(Bug::DeadRowStays) || key::dead_signature_of(&row.bytes).is_none()
                })
                .for_each(|row| {
                    if key::is_unique(&row.bytes) {
                        unique.entry(row.clone()).or_default();
                        return;
                    }
                    unnamed.extend(key::blob_of(&row.bytes));
                    batch.delete(row.clone());
                });
            for row in rows.iter().filter(|row| !rows_before.contains(row)) {
                if key::is_unique(&row.bytes) {
                    unique.insert(row.clone(), Some(*id));
                    continue;
                }
                let timer = key::timer_of(&row.bytes).map(|(at, ..)| at);
                first_timer = first_timer.into_iter().chain(timer).min();
                batch.put(row.clone(), id.0.to_vec());
            }
            if is_removed {
                // Its other rows are in the batch already.
            } else if let Stored::Nothing(call) = &touched.before {
                let Call {
                    spec,
                    position,
                    payload,
                } = call;
                let row = row::encode_call(spec, self.time, *position, payload);
                batch.put(key::call(open.namespace, *id), row);
            }
            if touched.needs_state && !is_removed {
                batch.put(
                    key::state(open.namespace, *id),
                    row::encode_state(&open.task, &open.beside, &open.result),
                );
            }
            let queue = match &open.spot {
                Some(spot) => spot.conditions.queue,
                None => self.queue_of(open.namespace, &open.task.spec),
            };
            let of = (open.namespace, queue);
            let counters = self.counters.entry(of).or_default();
            // Of a new task they count nothing yet.
            let counted = before.map_or(0, |_| kept_before);
            counters.keep(counted, kept);
            self.total.keep(counted, kept);
            if let Some(before) = before.filter(|_| !is_planted(Bug::CounterDrifts)) {
                counters.leave(before);
                self.total.leave(before);
            }
            if !is_removed {
                counters.enter(&open.task.state);
                self.total.enter(&open.task.state);
            }
            touched_queues.push(of);
            if let Some(position) = position_left {
                self.leave_ready_row(position, &mut batch);
            }
            self.note_lease(*id, before.and_then(State::lease), &mut claims);
        }
        for (key, holder) in unique {
            match holder {
                Some(id) => batch.put(key, id.0.to_vec()),
                None => batch.delete(key),
            }
        }
        self.write_claims(&mut claims, &mut batch);
        self.write_finished(finished, &mut batch)?;
        self.write_ready_rows(step.ready, &mut batch);
        touched_queues.sort_unstable();
        touched_queues.dedup();
        for (namespace, queue) in touched_queues {
            let counters = self.counters.get(&(namespace, queue));
            let counters = counters.copied().unwrap_or_default();
            batch.put(
                key::counters(namespace, queue),
                prost::Message::encode_to_vec(&counters),
            );
        }
        self.module_uses.write(&mut batch);
        step.webhooks.write(&mut batch);
        self.costs.write(&mut batch);
        self.next_timer = self.next_timer.into_iter().chain(first_timer).min();
        // A task that ended and was redriven in one step has not ended.
        step.ended.retain(|(_, id)| {
            self.open
                .get(id)
                .is_some_and(|open| open.task.state.is_terminal())
        });
        step.ended.sort_unstable();
        step.ended.dedup();
        if !step.ended.is_empty() {
            let ended = row::encode_settled(&step.ended, self.time);
            batch.put(key::settled(self.store.seq() + 1), ended);
            self.note_settled();
        }
        // What a blob's last row is gone with has to be on disk before the blob goes.
        step.durable |= !unnamed.is_empty();
        self.steps += 1;
        self.shared.time.store(self.time.0, Ordering::Relaxed);
        if step.durable {
            // Before the commit, since whoever reads what is in it has to find this.
            self.shared.owed.store(self.steps, Ordering::Release);
        }
        if !batch.is_empty() {
            batch.put(
                key::ledger(),
                prost::Message::encode_to_vec(&self.ledger_row()),
            );
            self.write(batch)?;
            self.shared.metrics.commits.inc();
        }
        self.shared.unnamed.push(unnamed);
        drop(step.holds);
        drop(step.permits);
        self.publish_claims(claims);
        self.forget_progress(step.touched.keys());
        self.shared
            .tell_followers(step.touched.keys().chain(&step.logged));
        let ends = self.take_ends(&step.ended);
        self.settle_memory(step.touched.keys().chain(&step.loaded).copied());
        let ended = step.ended.len() as u64;
        let waiting = self.total.waiting();
        self.shared.admission.publish(waiting, ended, self.time);
        self.lanes.note_commit();
        if self.log_sizes.len() > LOG_SIZES_MAX {
            // What is written is in the store now, and is read there when it is needed again.
            self.log_sizes.clear();
        }
        // Hosts work while the disk does: what a loss of power takes from them is fenced, or found on them.
        let said = *self.shared.said.borrow();
        let to_hosts = self.hosts.flush(self.steps, said, self.store.durable_seq());
        Ok(Answers {
            shared: Arc::clone(&self.shared),
            step: self.steps,
            needs_disk: step.durable && !is_planted(Bug::AnswersBeforeSync),
            replies: step.after,
            to_hosts,
            ends,
        })
    }

    /// Notes when results go of tasks that say so themselves: maybe long before anything else looks at them.
    fn note_results(&mut self) {
        let mut due: BTreeMap<Timestamp, Vec<(Namespace, TaskId)>> = BTreeMap::new();
        for (namespace, id) in &self.step.ended {
            if let Some(open) = self.open.get(id)
                && let Some(ttl) = open.task.spec.result_ttl
                && open.task.result.is_some()
            {
                let tasks = due.entry(self.time.after(ttl)).or_default();
                tasks.push((*namespace, *id));
            }
        }
        for (at, tasks) in due {
            self.put_due(at, &tasks);
        }
    }

    fn write(&mut self, mut batch: Batch) -> Result<(), Error> {
        if is_planted(Bug::CommitTorn) {
            let rest = batch.split_off(batch.len() / 2);
            self.write_whole(rest)?;
        }
        self.write_whole(batch)
    }

    pub(super) fn write_whole(&mut self, batch: Batch) -> Result<(), Error> {
        match self.store.commit(batch, Level::Process)? {
            Committed::Yes(_) => Ok(()),
            Committed::No | Committed::Unknown(_) => Err(Error::Commit),
        }
    }

    /// Where recovery would begin after this commit.
    fn ledger_row(&self) -> LedgerRow {
        let open_from = self
            .unindexed
            .front()
            .map_or_else(|| next_id(self.last_id), |(id, _)| *id);
        let open_from = if is_planted(Bug::RecoveryBeginsLate) {
            next_id(open_from)
        } else {
            open_from
        };
        LedgerRow {
            open_from: open_from.0.to_vec(),
            time_ms: self.time.0,
            last_id: self.last_id.0.to_vec(),
        }
    }

    /// Lets go of tasks that have an end or an entry in an index, and gives the oldest of too many others an open row.
    fn index_oldest(&mut self) {
        while let Some((id, ordinal)) = self.unindexed.front().copied() {
            let pins = self
                .open
                .get(&id)
                .is_some_and(|open| open.unindexed && needs_open_row(&open.task, &open.beside));
            if pins && self.submitted - ordinal <= self.config.unindexed_span {
                return;
            }
            self.unindexed.pop_front();
            if pins {
                self.touch_beside(id);
            }
            if let Some(open) = self.open.get_mut(&id) {
                open.unindexed = false;
            }
        }
    }

    /// Forgets touched tasks that need not be in memory any more.
    fn settle_memory(&mut self, touched: impl Iterator<Item = TaskId>) {
        for id in touched {
            let Some(open) = self.open.get_mut(&id) else {
                continue;
            };
            let stays = match open.task.state {
                State::Running { .. } => {
                    self.payload_bytes -= open.payload.take().map_or(0, |payload| payload.len());
                    true
                }
                State::Ready { .. } => open.in_window.is_some(),
                State::Blocked { .. }
                | State::Scheduled { .. }
                | State::Succeeded { .. }
                | State::Dead { .. }
                | State::Cancelled { .. }
                | State::Expired { .. } => false,
            };
            if !stays {
                self.forget(id);
            }
        }
        *lock(&self.shared.counters) = self.total;
    }

    /// Takes a task out of memory.
    fn forget(&mut self, id: TaskId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.payload_bytes -= open.payload.as_ref().map_or(0, Bytes::len);
        Some(open)
    }

    /// Forgets how far attempts were that are over.
    fn forget_progress<'a>(&self, touched: impl Iterator<Item = &'a TaskId>) {
        let mut progress = lock(&self.shared.progress);
        if !progress.is_empty() {
            touched
                .filter(|id| {
                    self.open
                        .get(*id)
                        .is_none_or(|open| open.task.lease().is_none())
                })
                .for_each(|id| drop(progress.remove(id)));
        }
    }

    /// Takes tasks that ended out of memory, for those who watch.
    fn take_ends(&mut self, ids: &[(Namespace, TaskId)]) -> Option<Ends> {
        if ids.is_empty() {
            return None;
        }
        let seq = self.store.seq();
        let mut watched = Vec::new();
        if self.shared.settled.receiver_count() == 0 && self.watched.is_empty() {
            let ended = None;
            return Some(Ends {
                seq,
                ended,
                watched,
            });
        }
        let mut ends = Vec::with_capacity(ids.len());
        for (_, id) in ids {
            let Some(open) = self.forget(*id) else {
                continue;
            };
            let ended = Arc::new(Ended {
                namespace: open.namespace,
                task: open.task,
                result: open.result,
            });
            for watch in self.watched.remove(id).unwrap_or_default() {
                let watcher = self.watches.get(&watch).map(|(watcher, _)| watcher.clone());
                watched.extend(watcher.map(|watcher| (watcher, Arc::clone(&ended))));
            }
            ends.push(ended);
        }
        Some(Ends {
            seq,
            ended: Some(ends),
            watched,
        })
    }

    /// Keeps a payload in memory while there is room.
    pub(super) fn keep_payload(&mut self, payload: &[u8]) -> Option<Bytes> {
        if payload.is_empty() || self.payload_bytes + payload.len() > READY_WINDOW_PAYLOAD_BYTES {
            return None;
        }
        self.payload_bytes += payload.len();
        // A copy, since the original is a part of its whole request or row and would keep all of that.
        Some(Bytes::copy_from_slice(payload))
    }

    /// Checks a transition before it is taken over. An impossible one is a bug of ours: it is refused and counted.
    pub(super) fn is_sound(&self, before: Option<&Task>, after: &Task) -> bool {
        match invariants::check(before, after) {
            Ok(()) => true,
            Err(violation) => {
                self.shared.metrics.invariant_violations.inc();
                tracing::error!(%violation, "transition refused; this is a bug in tq, please report it");
                false
            }
        }
    }
}

/// Where the ready row is that leads to a task.
fn ready_position(open: &Open) -> Option<Position> {
    open.beside.position.filter(|_| is_ready(&open.task))
}

/// The rows that a task's state implies, but for those that it has or shares with others.
fn rows(open: &Open) -> Vec<Key> {
    let Open {
        namespace,
        task,
        beside,
        unindexed,
        ..
    } = open;
    let mut rows = Vec::new();
    if !unindexed && needs_open_row(task, beside) {
        rows.push(key::open(*namespace, task.id));
    }
    match &task.state {
        State::Scheduled { run_at } => {
            rows.push(key::timer(*run_at, Timer::Wake, *namespace, task.id))
        }
        State::Dead { ended_at } => {
            rows.push(key::dead_at(*namespace, *ended_at, task.id));
            rows.extend(
                Signature::of(task)
                    .map(|signature| key::dead(*namespace, signature, *ended_at, task.id)),
            );
        }
        State::Blocked { .. }
        | State::Ready { .. }
        | State::Running { .. }
        | State::Succeeded { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => {}
    }
    let result = task.result.filter(|_| beside.result_gone.is_none());
    let data = [Some(task.spec.payload), result, beside.checkpoint];
    rows.extend(data.into_iter().flatten().filter_map(|data| match data {
        DataRef::Blob { digest, .. } => Some(key::blob_use(digest, *namespace, task.id)),
        DataRef::Row { .. } => None,
    }));
    rows.extend(
        task.holds_unique_key()
            .map(|unique| key::unique(*namespace, unique)),
    );
    if !task.state.is_terminal() {
        rows.extend(
            task.spec
                .deadline
                .map(|deadline| key::timer(deadline, Timer::Deadline, *namespace, task.id)),
        );
    }
    rows
}

/// Whether nothing else leads to an open task.
pub(super) fn needs_open_row(task: &Task, beside: &Beside) -> bool {
    match task.state {
        State::Blocked { .. } => true,
        State::Ready { .. } => beside.position.is_none(),
        State::Scheduled { .. }
        // Its claim leads to it.
        | State::Running { .. }
        | State::Succeeded { .. }
        | State::Dead { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => false,
    }
}

fn next_id(id: TaskId) -> TaskId {
    TaskId((u128::from_be_bytes(id.0).saturating_add(1)).to_be_bytes())
}
