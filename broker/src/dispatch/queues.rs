//! How much of each queue and of each concurrency key runs, and whether more may.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustc_hash::FxHashMap;
use tq_core::Timestamp;
use tq_core::placement::{DEFAULT_QUEUE, is_default_queue};
use tq_core::planted::{Bug, is_planted};
use tq_core::queue::{Bucket, Rate, Settings};

use super::lanes::Place;
use crate::tables::key::{Namespace, QueueId};

/// Names a concurrency key: a part of its BLAKE3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 16]);

impl KeyId {
    /// The name of a key.
    pub fn of(key: &str) -> Self {
        let mut cut = [0; 16];
        cut.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..16]);
        Self(cut)
    }
}

/// Why nothing of a queue starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is paused.
    Paused,
    /// As many of its tasks run as may.
    Full,
    /// As many of its tasks have started as may, until then.
    Until(Timestamp),
}

impl Closed {
    /// For a person to read.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Full => "as many of its tasks run as may",
            Self::Until(Timestamp(_)) => "its rate is used up",
        }
    }
}

/// A queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// What it is set to.
    pub settings: Settings,
    /// Someone deleted it: it takes nothing new. It is kept for the tasks that were in it.
    pub is_deleted: bool,
    /// Attempts that run.
    pub running: u32,
    bucket: Option<Bucket>,
}

/// All queues and concurrency keys.
#[derive(Debug, Default)]
pub struct Queues {
    numbers: HashMap<(Namespace, String), QueueId>,
    all: BTreeMap<(Namespace, QueueId), Queue>,
    /// When queues are open again that have used up their rate.
    opening: BTreeSet<(Timestamp, Namespace, QueueId)>,
    keys: FxHashMap<(Namespace, KeyId), Key>,
}

#[derive(Debug, Default)]
struct Key {
    running: u32,
    /// Lines that wait for one of them to end.
    held: BTreeSet<Place>,
}

impl Queues {
    /// The number of a queue that there is or was.
    pub fn number(&self, namespace: Namespace, name: &str) -> Option<QueueId> {
        if is_default_queue(name) {
            return Some(QueueId::DEFAULT);
        }
        self.numbers.get(&(namespace, name.to_owned())).copied()
    }

    /// A queue that was set up.
    pub fn get(&self, namespace: Namespace, queue: QueueId) -> Option<&Queue> {
        self.all.get(&(namespace, queue))
    }

    /// What a queue is set to; the defaults for one that was not.
    pub fn settings(&self, namespace: Namespace, queue: QueueId) -> Settings {
        self.get(namespace, queue)
            .map(|queue| queue.settings)
            .unwrap_or_default()
    }

    /// The queues of a namespace that were set up or have tasks that run.
    pub fn of(&self, namespace: Namespace) -> impl Iterator<Item = (QueueId, &Queue)> {
        let range = (namespace, QueueId(0))..=(namespace, QueueId(u32::MAX));
        self.all.range(range).map(|((_, id), queue)| (*id, queue))
    }

    /// A number that no queue of a namespace has had.
    pub fn next_number(&self, namespace: Namespace) -> QueueId {
        let last = self.of(namespace).map(|(id, _)| id.0).max();
        QueueId(last.unwrap_or(0) + 1)
    }

    /// Sets a queue up, or to something else. A new rate begins with a full bucket.
    pub fn set(
        &mut self,
        namespace: Namespace,
        id: QueueId,
        name: &str,
        settings: Settings,
        now: Timestamp,
    ) {
        self.configure(namespace, id, name, settings, |rate| {
            Bucket::full(rate, now)
        });
        let queue = self.entry(namespace, id, name);
        queue.is_deleted = false;
        if let (Some(bucket), Some(rate)) = (queue.bucket, settings.rate) {
            queue.bucket = Some(bucket.at_rate(rate, now));
        }
    }

    /// Takes up what a queue was set to by an earlier process. A rate begins with an empty bucket, since what was spent
    /// of it is not known.
    pub fn restore(
        &mut self,
        namespace: Namespace,
        id: QueueId,
        name: &str,
        settings: Settings,
        now: Timestamp,
    ) {
        self.configure(namespace, id, name, settings, |rate| {
            Bucket::empty(rate, now)
        });
    }

    /// Lets a queue take nothing new.
    pub fn delete(&mut self, namespace: Namespace, id: QueueId) {
        if let Some(queue) = self.all.get_mut(&(namespace, id)) {
            queue.is_deleted = true;
        }
    }

    fn configure(
        &mut self,
        namespace: Namespace,
        id: QueueId,
        name: &str,
        settings: Settings,
        begin: impl FnOnce(Rate) -> Bucket,
    ) {
        self.numbers.insert((namespace, name.to_owned()), id);
        let queue = self.entry(namespace, id, name);
        queue.bucket = settings
            .rate
            .map(|rate| queue.bucket.unwrap_or_else(|| begin(rate)));
        queue.settings = settings;
    }

    /// Why nothing of a queue starts now; none if something may.
    pub fn closed(&mut self, namespace: Namespace, id: QueueId, now: Timestamp) -> Option<Closed> {
        let queue = self.all.get_mut(&(namespace, id))?;
        let Settings {
            concurrency,
            is_paused,
            order: _,
            rate: _,
        } = queue.settings;
        if is_paused && !is_planted(Bug::PauseIgnored) {
            return Some(Closed::Paused);
        }
        let off_by_one = u32::from(is_planted(Bug::QueueLimitOffByOne));
        if concurrency.is_some_and(|limit| queue.running >= limit + off_by_one) {
            return Some(Closed::Full);
        }
        let at = queue.bucket.as_mut()?.ready_at(now);
        (at > now).then(|| {
            self.opening.insert((at, namespace, id));
            Closed::Until(at)
        })
    }

    /// When the next queue is open again that has used up its rate.
    pub fn next_opening(&self) -> Option<Timestamp> {
        self.opening.first().map(|(at, ..)| *at)
    }

    /// The next queue that may be open again by now.
    pub fn opened(&mut self, now: Timestamp) -> Option<(Namespace, QueueId)> {
        let (at, namespace, id) = *self.opening.first()?;
        if at > now {
            return None;
        }
        self.opening.pop_first();
        Some((namespace, id))
    }

    /// Counts an attempt of a queue that starts.
    pub fn started(&mut self, namespace: Namespace, id: QueueId, now: Timestamp) {
        let queue = self.entry(namespace, id, DEFAULT_QUEUE);
        queue.running += 1;
        if let Some(bucket) = &mut queue.bucket {
            bucket.take(now);
        }
    }

    /// Counts an attempt of a queue that ended. Returns whether the queue has a limit that this may open.
    pub fn ended(&mut self, namespace: Namespace, id: QueueId) -> bool {
        let queue = self.entry(namespace, id, DEFAULT_QUEUE);
        queue.running = queue.running.saturating_sub(1);
        queue.settings.concurrency.is_some()
    }

    /// Whether as many tasks of a key run as may.
    pub fn is_key_full(&self, namespace: Namespace, key: KeyId, limit: u32) -> bool {
        let off_by_one = u32::from(is_planted(Bug::KeyLimitOffByOne));
        self.keys
            .get(&(namespace, key))
            .is_some_and(|key| key.running >= limit + off_by_one)
    }

    /// Counts an attempt of a key that starts.
    pub fn key_started(&mut self, namespace: Namespace, key: KeyId) {
        self.keys.entry((namespace, key)).or_default().running += 1;
    }

    /// Counts an attempt of a key that ended. Returns the lines that waited for it.
    pub fn key_ended(&mut self, namespace: Namespace, key: KeyId) -> BTreeSet<Place> {
        let Some(entry) = self.keys.get_mut(&(namespace, key)) else {
            return BTreeSet::new();
        };
        entry.running = entry.running.saturating_sub(1);
        let held = std::mem::take(&mut entry.held);
        if entry.running == 0 {
            self.keys.remove(&(namespace, key));
        }
        held
    }

    /// Notes that a line waits for a task of a key to end.
    pub fn hold(&mut self, key: KeyId, place: Place) {
        let namespace = place.lane.namespace;
        self.keys
            .entry((namespace, key))
            .or_default()
            .held
            .insert(place);
    }

    /// How many tasks of each key run.
    #[cfg(any(test, feature = "simulation"))]
    pub fn running_keys(&self) -> impl Iterator<Item = ((Namespace, KeyId), u32)> {
        self.keys.iter().map(|(at, key)| (*at, key.running))
    }

    fn entry(&mut self, namespace: Namespace, id: QueueId, name: &str) -> &mut Queue {
        self.all.entry((namespace, id)).or_insert_with(|| Queue {
            name: name.to_owned(),
            settings: Settings::default(),
            is_deleted: false,
            running: 0,
            bucket: None,
        })
    }
}
