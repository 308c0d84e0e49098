//! Removing what has ended and is over its time, in the background.
//!
//! A task that ends costs nothing for this: the row that lists the ends of a commit, which is there for those who watch,
//! is the index. They are in the order of ends, so the *walk* goes through them from the oldest, once the shortest time
//! that anything is kept has passed: what is over goes, and so does the row. What has to stay longer, because of its
//! state, its namespace or its result, is noted in a *due row* under the time when it has to be looked at again; those
//! of one row with the same time share one. What it becomes is decided when it is looked at, never before, so that a
//! redriven task is nobody's prey and a setting that was changed holds for what ended earlier too.
//!
//! A step looks at a bounded number of tasks, and a cursor keeps it from what it has removed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prost::Message;
use tq_core::limits::{OutOfRange, RETENTION_SLICE};
use tq_core::planted::{Bug, is_planted};
use tq_core::retention::{Due, Retention};
use tq_core::task::DataRef;
use tq_core::{TaskId, Timestamp};

use super::{Error, Ledger, Refused, Reply};
use crate::store::{Direction, Key, Pair, Space};
use crate::tables::Namespace;
use crate::tables::key;
use crate::tables::row::{self, CollectorRow};

/// Rows of ends that are read at once.
const PAGE: usize = 64;

/// A change of how long a namespace keeps what has ended. What is none stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionChange {
    /// Tasks that succeeded.
    pub succeeded: Option<Duration>,
    /// Tasks that died.
    pub dead: Option<Duration>,
    /// Tasks that were cancelled.
    pub cancelled: Option<Duration>,
    /// Tasks that expired.
    pub expired: Option<Duration>,
    /// Results; none inside is as long as their tasks.
    pub results: Option<Option<Duration>>,
    /// Versions of modules that nobody uses.
    pub modules: Option<Duration>,
}

impl RetentionChange {
    fn of(self, before: Retention) -> Result<Retention, OutOfRange> {
        let Self {
            succeeded,
            dead,
            cancelled,
            expired,
            results,
            modules,
        } = self;
        let after = Retention {
            succeeded: succeeded.unwrap_or(before.succeeded),
            dead: dead.unwrap_or(before.dead),
            cancelled: cancelled.unwrap_or(before.cancelled),
            expired: expired.unwrap_or(before.expired),
            results: results.unwrap_or(before.results),
            modules: modules.unwrap_or(before.modules),
        };
        after.check()?;
        Ok(after)
    }
}

/// Reads, or changes, how long a namespace keeps what has ended.
pub struct Keep {
    /// The namespace's name.
    pub namespace: String,
    /// None only reads.
    pub change: Option<RetentionChange>,
    /// What holds from now on.
    pub reply: Reply<Result<Retention, Refused>>,
}

/// What the ledger knows of what is to be removed.
#[derive(Debug)]
pub(super) struct Collector {
    /// What namespaces keep that set nothing.
    default: Retention,
    settings: BTreeMap<Namespace, Retention>,
    /// The time of the oldest row of ends; none if there is none.
    oldest_end: Option<Timestamp>,
    /// Rows of ends up to this sequence are gone.
    walked: u64,
    /// Tasks of the first row after it that were looked at.
    offset: usize,
    /// No due row is due before this.
    next_due: Option<Timestamp>,
    /// There are no due rows before this key.
    due_from: Vec<u8>,
    row: CollectorRow,
    /// The row is not on disk as it is.
    is_changed: bool,
    /// Due rows that the step writes.
    written: u32,
}

impl Collector {
    pub(super) fn new(default: Retention) -> Self {
        Self {
            default,
            settings: BTreeMap::new(),
            oldest_end: None,
            walked: 0,
            offset: 0,
            next_due: None,
            due_from: Vec::new(),
            row: CollectorRow::default(),
            is_changed: false,
            written: 0,
        }
    }

    pub(super) fn of(&self, namespace: Namespace) -> Retention {
        self.settings
            .get(&namespace)
            .copied()
            .unwrap_or(self.default)
    }

    /// How old a row of ends has to be before anything in it may be due.
    fn horizon(&self) -> Duration {
        let set = self.settings.values().map(Retention::shortest);
        set.fold(self.default.shortest(), Duration::min)
    }

    /// Checks that it knows when the first rows are due.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn check(&self, oldest_end: Option<Timestamp>, first_due: Option<Timestamp>) {
        let knows = |known: Option<Timestamp>, first: Option<Timestamp>| {
            first.is_none_or(|first| known.is_some_and(|known| known <= first))
        };
        assert!(
            knows(self.oldest_end, oldest_end),
            "the ends at {oldest_end:?} are lost: {:?}",
            self.oldest_end
        );
        assert!(
            knows(self.next_due, first_due),
            "what is due at {first_due:?} is lost: {:?}",
            self.next_due
        );
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn is_ahead(&self, seq: u64) -> bool {
        seq > self.walked
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn is_due_ahead(&self, key: &[u8]) -> bool {
        key >= &self.due_from[..]
    }

    fn next_call(&self) -> Option<Timestamp> {
        let walk = self.oldest_end.map(|at| at.after(self.horizon()));
        walk.into_iter().chain(self.next_due).min()
    }
}

impl Ledger {
    /// Reads or changes how long a namespace keeps what has ended.
    pub(super) fn keep(&mut self, keep: Keep) {
        let Keep {
            namespace,
            change,
            reply,
        } = keep;
        let number = self.namespace(&namespace);
        let before = number.map_or(self.collector.default, |number| self.collector.of(number));
        let result = match (change, number) {
            (None, _) => Ok(before),
            (Some(_), None) => Err(Refused::NoNamespace(namespace)),
            (Some(change), Some(number)) => match change.of(before) {
                Ok(after) => {
                    self.set_retention(number, before, after);
                    Ok(after)
                }
                Err(error) => Err(Refused::OutOfRange(error)),
            },
        };
        self.answer(reply, result);
    }

    fn set_retention(&mut self, namespace: Namespace, before: Retention, after: Retention) {
        self.step.durable = true;
        self.step
            .batch
            .put(key::retention(namespace), row::encode_retention(&after));
        self.collector.settings.insert(namespace, after);
        self.look_at_modules();
        if after.is_shorter_than(&before) {
            // What was noted for later may be due by now.
            self.collector.row.resort_from = Some(Vec::new());
            self.collector.row.resort_seq = self.store.seq();
            self.collector.is_changed = true;
        }
    }

    /// Reads what was set, and where the walk goes on.
    pub(super) fn recover_retention(&mut self) -> Result<(), Error> {
        for (at, bytes) in self.read_all(Space::Meta, &key::retentions())? {
            if let Some(namespace) = key::retention_of(&at) {
                let retention = row::decode_retention(&bytes)?;
                self.collector.settings.insert(namespace, retention);
            }
        }
        if let Some(bytes) = self.store.get(&key::collector())? {
            self.collector.row = row::decode_collector(&bytes)?;
        }
        let forgotten = self.collector.row.forgotten_seq;
        self.shared.forgotten.store(forgotten, Ordering::Release);
        // The last row that was begun may still be there.
        self.collector.walked = forgotten.saturating_sub(1);
        let first = self.ends_page(1)?;
        self.collector.oldest_end = first.first().map(|pair| row::settled_at(&pair.value));
        let due = self.due_page(&[], 1)?;
        self.collector.next_due = due
            .first()
            .and_then(|pair| key::due_of(&pair.key))
            .map(|(at, _)| at);
        Ok(())
    }

    /// When there may be something to be removed.
    pub(super) fn next_collection(&self) -> Option<Duration> {
        let at = self.collector.next_call()?;
        Some(at.since(self.time).max(Duration::from_millis(1)))
    }

    /// Looks at tasks and modules whose time may be over, a bounded number of them. Returns whether there are more.
    pub(super) fn collect(&mut self) -> Result<bool, Error> {
        self.collector.written = 0;
        let mut left = RETENTION_SLICE + self.step.ended_count();
        let is_walk_left = self.walk(&mut left)?;
        let is_due_left = self.look_at_due(&mut left)?;
        let is_resort_left = self.resort(&mut left)?;
        if self.collector.is_changed {
            self.collector.is_changed = false;
            self.step
                .batch
                .put(key::collector(), self.collector.row.encode_to_vec());
        }
        let are_modules_left = self.collect_modules();
        let are_costs_left = self.collect_costs()?;
        Ok(is_walk_left || is_due_left || is_resort_left || are_modules_left || are_costs_left)
    }

    /// Goes through the oldest rows of ends.
    fn walk(&mut self, left: &mut usize) -> Result<bool, Error> {
        let is_old =
            |ledger: &Self, at: Timestamp| at.after(ledger.collector.horizon()) <= ledger.time;
        if !self.collector.oldest_end.is_some_and(|at| is_old(self, at)) {
            return Ok(false);
        }
        let page = self.ends_page(PAGE)?;
        let is_last = page.len() < PAGE;
        for pair in page {
            let Some(seq) = key::settled_of(&pair.key) else {
                continue;
            };
            let at = row::settled_at(&pair.value);
            if !is_old(self, at) {
                self.collector.oldest_end = Some(at);
                return Ok(false);
            }
            if *left == 0 {
                return Ok(true);
            }
            if self.collector.row.forgotten_seq < seq {
                self.collector.row.forgotten_seq = seq;
                self.collector.is_changed = true;
                // Before the commit: whoever reads what it leaves has to find this.
                self.shared.forgotten.store(seq, Ordering::Release);
                self.miss_ends(seq, &pair.value)?;
            }
            let all = row::decode_settled(&pair.value);
            let tasks: Vec<_> = all.skip(self.collector.offset).collect();
            let now = tasks.len().min(*left);
            self.look_at(&tasks[..now])?;
            *left -= now;
            if now < tasks.len() {
                self.collector.offset += now;
                return Ok(true);
            }
            self.collector.offset = 0;
            self.collector.walked = seq;
            self.step.batch.delete(key::settled(seq));
        }
        if is_last {
            // The commit of this step takes note of its own.
            self.collector.oldest_end = None;
        }
        Ok(!is_last)
    }

    /// Takes note of a row of ends that the step writes.
    pub(super) fn note_settled(&mut self) {
        self.collector.oldest_end.get_or_insert(self.time);
    }

    /// Goes through due rows that are due.
    fn look_at_due(&mut self, left: &mut usize) -> Result<bool, Error> {
        while *left > 0 && self.collector.next_due.is_some_and(|at| at <= self.time) {
            let page = self.due_page(&self.collector.due_from, 1)?;
            // What this step writes itself is due after now, and is in `next_due` when it is written.
            self.collector.next_due = self.step.first_due;
            let Some(pair) = page.first() else {
                return Ok(false);
            };
            let Some((at, _)) = key::due_of(&pair.key) else {
                return Ok(false);
            };
            if at > self.time {
                let next = self.collector.next_due;
                self.collector.next_due = next.into_iter().chain([at]).min();
                return Ok(false);
            }
            self.collector.next_due = Some(at);
            self.collector.due_from = after(&pair.key);
            self.take_due(pair, left)?;
        }
        Ok(self.collector.next_due.is_some_and(|at| at <= self.time))
    }

    /// Goes through all due rows, whenever they are due, once a time was made shorter.
    fn resort(&mut self, left: &mut usize) -> Result<bool, Error> {
        while *left > 0
            && let Some(from) = self.collector.row.resort_from.clone()
        {
            let from = from.max(self.collector.due_from.clone());
            let page = self.due_page(&from, 1)?;
            self.collector.is_changed = true;
            let Some(pair) = page.first() else {
                self.collector.row.resort_from = None;
                break;
            };
            self.collector.row.resort_from = Some(after(&pair.key));
            let is_older =
                key::due_of(&pair.key).is_some_and(|(_, seq)| seq <= self.collector.row.resort_seq);
            if is_older {
                self.take_due(pair, left)?;
            } else {
                // A look at a row is not for nothing either.
                *left -= 1;
            }
        }
        Ok(self.collector.row.resort_from.is_some())
    }

    fn take_due(&mut self, pair: &Pair, left: &mut usize) -> Result<(), Error> {
        let tasks: Vec<_> = row::decode_settled(&pair.value).collect();
        self.step
            .batch
            .delete(Key::new(Space::Index, pair.key.to_vec()));
        self.look_at(&tasks)?;
        *left = left.saturating_sub(tasks.len());
        Ok(())
    }

    fn ends_page(&self, limit: usize) -> Result<Vec<Pair>, Error> {
        let from = key::settled(self.collector.walked + 1).bytes;
        let all = key::settled_all();
        let page = self
            .store
            .scan(Space::Index, &all, &from, Direction::Ascending, limit);
        Ok(page?)
    }

    fn due_page(&self, from: &[u8], limit: usize) -> Result<Vec<Pair>, Error> {
        let all = key::dues();
        let page = self
            .store
            .scan(Space::Index, &all, from, Direction::Ascending, limit);
        Ok(page?)
    }

    /// Decides what becomes of tasks: they go, their results go, or they are looked at again later.
    fn look_at(&mut self, tasks: &[(Namespace, TaskId)]) -> Result<(), Error> {
        let mut by_namespace: BTreeMap<Namespace, Vec<TaskId>> = BTreeMap::new();
        for (namespace, id) in tasks {
            by_namespace.entry(*namespace).or_default().push(*id);
        }
        let mut later: BTreeMap<Timestamp, Vec<(Namespace, TaskId)>> = BTreeMap::new();
        for (namespace, ids) in by_namespace {
            self.load_all(namespace, &ids)?;
            let retention = self.collector.of(namespace);
            let mut over = Vec::new();
            for id in ids {
                match self.next_look(namespace, id, retention)? {
                    Look::Never => {}
                    Look::Over => over.push(id),
                    Look::At(at) => later.entry(at).or_default().push((namespace, id)),
                }
            }
            self.remove(namespace, over)?;
        }
        for (at, tasks) in later {
            self.put_due(at, &tasks);
        }
        Ok(())
    }

    /// What becomes of a task that was read. Its result goes here, if it is time for that.
    fn next_look(
        &mut self,
        namespace: Namespace,
        id: TaskId,
        retention: Retention,
    ) -> Result<Look, Error> {
        if self.step.removed.contains(&id) {
            return Ok(Look::Never);
        }
        let Some(open) = self.open.get(&id) else {
            return Ok(Look::Never);
        };
        let has_result = open.beside.result_gone.is_none();
        // One that is not at its end is live again; its next end has a row of its own.
        let Some((at, due)) = retention.next(&open.task, has_result) else {
            return Ok(Look::Never);
        };
        let early = Duration::from_secs(u64::from(is_planted(Bug::RemovedEarly)));
        if at > self.time.after(early) {
            return Ok(Look::At(at));
        }
        match due {
            Due::Remove => {
                // Its key has to lead to it for as long as was promised.
                let key = open.task.spec.idempotency_key.clone();
                let holds = match key.is_empty() {
                    true => None,
                    false => self.key_row(namespace, &key)?,
                };
                let until = holds
                    .filter(|row| row.id == id.0)
                    .map(|row| Timestamp(row.expires_ms))
                    .filter(|until| *until > self.time);
                Ok(until.map_or(Look::Over, Look::At))
            }
            Due::DropResult => {
                self.drop_result(namespace, id);
                let next = self
                    .open
                    .get(&id)
                    .and_then(|open| retention.next(&open.task, false));
                // Should that be over as well, it is looked at as soon as anything is.
                let soon = self.time.after(Duration::from_millis(1));
                Ok(next.map_or(Look::Never, |(at, _)| Look::At(at.max(soon))))
            }
        }
    }

    fn drop_result(&mut self, namespace: Namespace, id: TaskId) {
        self.touch(id);
        let time = self.time;
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        open.beside.result_gone = Some(time);
        open.result = bytes::Bytes::new();
        match open.task.result {
            Some(data @ DataRef::Row { .. }) if !row::in_row(data) => {
                self.step.batch.delete(key::result(namespace, id));
            }
            // It was in the state row, which is written again without it; or in a file, which others may share.
            Some(DataRef::Row { .. } | DataRef::Blob { .. }) | None => {}
        }
        self.shared.metrics.results_removed.inc();
    }

    /// Notes when tasks are to be looked at again.
    pub(super) fn put_due(&mut self, at: Timestamp, tasks: &[(Namespace, TaskId)]) {
        let seq = self.store.seq() + 1;
        // So few in a row that a step can take any of them whole.
        for tasks in tasks.chunks(RETENTION_SLICE) {
            let at_key = key::due(at, seq, self.collector.written);
            self.collector.written += 1;
            if !is_planted(Bug::DueForgotten) {
                self.step.batch.put(at_key, row::encode_ids(tasks));
            }
        }
        let first = &mut self.step.first_due;
        *first = first.iter().copied().chain([at]).min();
        let next = &mut self.collector.next_due;
        *next = next.iter().copied().chain([at]).min();
    }
}

/// What becomes of a task that was looked at.
enum Look {
    /// It is none of ours: gone, or live.
    Never,
    /// It is over its time.
    Over,
    /// It is to be looked at again at this time.
    At(Timestamp),
}

/// The first key after one.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
