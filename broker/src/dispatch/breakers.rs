//! The circuit breakers of functions ([`tq_core::breaker`]): which of them there are, which attempt is a probe, what
//! operators want of them, and what has become of each.
//!
//! A function has none until an attempt of it fails, so that what works costs a look into a table that is empty as a
//! rule. What has failed is forgotten when it has not failed for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tq_core::breaker::{Breaker, Change, Forced, Phase, Tally};
use tq_core::history::History;
use tq_core::limits::{BREAKER_CHANGES_MAX, BREAKER_KEPT, BREAKERS_MAX};
use tq_core::outcome::{Outcome, Verdict};
use tq_core::planted::{Bug, is_planted};
use tq_core::task::Spec;
use tq_core::{Digest, Epoch, Timestamp};

use crate::tables::Namespace;

/// How often it is looked at most what can be forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// Names a function: of a module with these bytes, whatever its name and version, in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId {
    /// The tenant.
    pub namespace: Namespace,
    /// A part of the BLAKE3 of digest and name.
    id: [u8; 16],
}

impl FunctionId {
    /// The name of a function.
    pub fn of(namespace: Namespace, digest: &Digest, function: &str) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&digest.0);
        hash.update(function.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        Self { namespace, id }
    }
}

/// A function as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The module's name.
    pub module: String,
    /// Its version, or one of them if several have the same bytes.
    pub version: u32,
    /// The module's digest.
    pub digest: Digest,
    /// The function's name.
    pub name: String,
}

impl Function {
    /// The one that a task calls.
    fn of(spec: &Spec) -> Self {
        Self {
            module: spec.module.clone(),
            version: spec.version,
            digest: spec.digest,
            name: spec.function.clone(),
        }
    }

    /// Its name in the table of a namespace.
    pub fn id(&self, namespace: Namespace) -> FunctionId {
        FunctionId::of(namespace, &self.digest, &self.name)
    }
}

impl std::fmt::Display for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}/{}", self.module, self.version, self.name)
    }
}

/// What an operator wants of a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Where it is to be.
    pub forced: Forced,
    /// Since when.
    pub since: Timestamp,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
}

/// Something that became of a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Where it was from then on.
    pub phase: Phase,
    /// Why, for a person to read.
    pub reason: String,
}

/// An attempt that ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// What it ran.
    pub spec: &'a Spec,
    /// Its identity.
    pub epoch: Epoch,
    /// How it ended; none if nothing is known of that.
    pub outcome: Option<Outcome>,
    /// It ran in a process of its own.
    pub was_alone: bool,
}

/// When something happens: by the clock, and by the last attempt that was handed out.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The ledger's time.
    pub now: Timestamp,
    /// The newest attempt there is.
    pub newest: Epoch,
}

/// The breaker of a function.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The function, as the task named it whose attempt failed last, or as somebody did who forced the breaker.
    pub function: Function,
    /// What an operator wants of it.
    pub forced: Option<Override>,
    breaker: Breaker,
    /// The attempt that is the probe.
    probe: Option<Epoch>,
    /// The newest attempt when it was last closed or ceased to be. What was handed out before says nothing of how the
    /// function is since.
    since: Epoch,
    history: History<Event, BREAKER_CHANGES_MAX>,
}

impl Entry {
    fn new(function: Function) -> Self {
        Self {
            function,
            forced: None,
            breaker: Breaker::default(),
            probe: None,
            since: Epoch(0),
            history: History::default(),
        }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        match &self.forced {
            Some(Override { forced, .. }) => forced.phase(),
            None => self.breaker.phase(),
        }
    }

    /// When it changes by itself.
    pub fn changes_at(&self) -> Option<Timestamp> {
        self.breaker.changes_at()
    }

    /// The attempts that speak for and against the function.
    pub fn tally(&self, now: Timestamp) -> Tally {
        self.breaker.tally(now)
    }

    /// What has become of it, the oldest first.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &Event> {
        self.history.iter()
    }

    /// What became of it last.
    pub fn last(&self) -> Option<&Event> {
        self.history.last()
    }

    fn lets_through(&self) -> bool {
        match self.phase() {
            Phase::Closed => true,
            Phase::Open => is_planted(Bug::BreakerIgnored),
            Phase::HalfOpen => self.probe.is_none() || is_planted(Bug::ProbesUnbounded),
        }
    }

    fn note(&mut self, at: Timestamp, reason: String) {
        let phase = self.phase();
        self.history.push(Event { at, phase, reason });
    }

    /// Whether nothing speaks for remembering it; `is_full` if there is no room for others.
    fn is_forgettable(&self, now: Timestamp, is_full: bool) -> bool {
        let is_past = |event: &Event| now.since(event.at) >= BREAKER_KEPT;
        let is_past = self.last().is_none_or(is_past);
        let is_idle = match self.phase() {
            Phase::Closed => self.breaker.is_quiet(now) && (is_past || is_full),
            Phase::Open => false,
            // It could be tried all the time, and nobody calls it.
            Phase::HalfOpen => self.probe.is_none() && is_past,
        };
        is_idle && self.forced.is_none()
    }
}

/// All breakers.
#[derive(Debug)]
pub struct Breakers {
    /// Attempts of a function that have to have ended before its breaker opens.
    attempts_min: u32,
    all: FxHashMap<Namespace, FxHashMap<FunctionId, Entry>>,
    /// When the pauses of those are over that are open by themselves.
    pauses: BTreeSet<(Timestamp, FunctionId)>,
    /// How many are open, and how many half open.
    counts: (usize, usize),
    /// When it was last looked what can be forgotten.
    swept: Timestamp,
}

impl Breakers {
    /// None yet. They do not open before `attempts_min` attempts have ended.
    pub fn new(attempts_min: u32) -> Self {
        Self {
            attempts_min,
            all: FxHashMap::default(),
            pauses: BTreeSet::new(),
            counts: (0, 0),
            swept: Timestamp::EPOCH,
        }
    }

    /// The breaker of a function, if there is something to say of it.
    pub fn get(&self, of: FunctionId) -> Option<&Entry> {
        self.all.get(&of.namespace)?.get(&of)
    }

    /// Those of a namespace, in no order.
    pub fn of(&self, namespace: Namespace) -> impl Iterator<Item = &Entry> {
        self.all
            .get(&namespace)
            .into_iter()
            .flat_map(|of| of.values())
    }

    /// How many are open, and how many half open.
    pub fn counts(&self) -> (usize, usize) {
        self.counts
    }

    /// Whether a task of a function may start now.
    pub fn lets_through(&self, of: FunctionId) -> bool {
        self.get(of).is_none_or(Entry::lets_through)
    }

    /// Takes note of an attempt that was handed out. It is the probe, if there is to be one.
    pub fn started(&mut self, of: FunctionId, epoch: Epoch) {
        if let Some(entry) = self.entry(of)
            && entry.phase() == Phase::HalfOpen
        {
            entry.probe.get_or_insert(epoch);
        }
    }

    /// Takes note of an attempt that ended. Returns what becomes of the breaker by it.
    pub fn ended(&mut self, of: FunctionId, attempt: Ended<'_>, at: Moment) -> Option<Change> {
        let Ended {
            spec,
            epoch,
            outcome,
            was_alone,
        } = attempt;
        let failure = outcome.and_then(|outcome| match outcome.verdict() {
            Verdict::For => Some(None),
            Verdict::Against => Some(Some(outcome)),
            Verdict::AgainstIfAlone => was_alone.then_some(Some(outcome)),
            Verdict::Neither => None,
        });
        if let Some(Some(_)) = failure
            && self.get(of).is_none()
            && !self.add(of, || Function::of(spec), at.now)
        {
            return None;
        }
        let attempts_min = self.attempts_min;
        self.change(of, at.newest, |entry| {
            let is_probe = entry.probe == Some(epoch);
            if is_probe && !is_planted(Bug::ProbeForgotten) {
                entry.probe = None;
            }
            let failure = failure.filter(|_| entry.forced.is_none())?;
            if failure.is_some()
                && (entry.function.version, &entry.function.module) != (spec.version, &spec.module)
            {
                entry.function = Function::of(spec);
            }
            let change = if is_probe {
                entry.breaker.probed(failure, at.now)
            } else if epoch > entry.since {
                entry.breaker.ended(failure, attempts_min, at.now)
            } else {
                None
            };
            if let Some(change) = change {
                entry.note(at.now, change.to_string());
            }
            change
        })?
    }

    /// When the next pause is over.
    pub fn next_change(&self) -> Option<Timestamp> {
        self.pauses.first().map(|(at, _)| *at)
    }

    /// Ends the next pause that is over. Returns whose it is, and what becomes of the breaker.
    pub fn tend(&mut self, at: Moment) -> Option<(FunctionId, Change)> {
        let (until, of) = *self.pauses.first()?;
        if until > at.now {
            return None;
        }
        let change = self.change(of, at.newest, |entry| {
            let change = entry.breaker.tick(at.now)?;
            entry.note(at.now, change.to_string());
            Some(change)
        })?;
        Some((of, change?))
    }

    /// Has a breaker be where an operator wants it, until it is [released](Self::release). `false` if there is no room for
    /// it.
    pub fn force(
        &mut self,
        namespace: Namespace,
        function: &Function,
        forced: Override,
        at: Moment,
    ) -> bool {
        let of = function.id(namespace);
        if self.get(of).is_none() && !self.add(of, || function.clone(), at.now) {
            return false;
        }
        self.change(of, at.newest, |entry| {
            // It begins anew when it is released.
            (entry.breaker, entry.probe) = (Breaker::default(), None);
            // What was a probe is none any more.
            entry.since = at.newest;
            let Override {
                forced: to,
                since,
                reason,
            } = &forced;
            let mut text = format!("someone forced it {}", to.phase().name());
            if !reason.is_empty() {
                text = format!("{text}: {reason}");
            }
            let since = *since;
            entry.function = function.clone();
            entry.forced = Some(forced);
            entry.note(since, text);
        });
        true
    }

    /// Leaves a breaker to itself again. One that is open, by itself or because it was forced, does not wait any longer: a
    /// probe shows at once whether the function works. Returns whether somebody had forced it.
    pub fn release(&mut self, of: FunctionId, at: Moment) -> bool {
        let released = self.change(of, at.newest, |entry| {
            let is_open = entry.phase() == Phase::Open;
            let was_forced = entry.forced.take().is_some();
            let text = match is_open {
                true => {
                    entry.breaker = Breaker::half_open();
                    "someone released it; one task at a time starts, as a probe"
                }
                false => "someone released it",
            };
            if is_open || was_forced {
                entry.note(at.now, text.to_owned());
            }
            was_forced
        });
        released == Some(true)
    }

    /// Forgets the functions of a module in a namespace. Returns those whose breakers somebody had forced.
    pub fn remove(&mut self, namespace: Namespace, digest: &Digest) -> Vec<Function> {
        let entries = self.of(namespace);
        let of_module: Vec<_> = entries
            .filter(|entry| entry.function.digest == *digest)
            .map(|entry| entry.function.clone())
            .collect();
        let mut forced = Vec::new();
        for function in of_module {
            if let Some(entry) = self.forget(function.id(namespace))
                && entry.forced.is_some()
            {
                forced.push(function);
            }
        }
        forced
    }

    fn entry(&mut self, of: FunctionId) -> Option<&mut Entry> {
        self.all.get_mut(&of.namespace)?.get_mut(&of)
    }

    /// Changes a breaker, and whatever follows from where it is.
    fn change<T>(
        &mut self,
        of: FunctionId,
        newest: Epoch,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let entry = self.entry(of)?;
        let before = (entry.phase(), entry.changes_at());
        let result = change(entry);
        let after = (entry.phase(), entry.changes_at());
        if (before.0 == Phase::Closed) != (after.0 == Phase::Closed) {
            entry.since = newest;
        }
        self.count(of, Some(before), Some(after));
        Some(result)
    }

    /// Takes note of where a breaker was and is, and when that ends.
    fn count(
        &mut self,
        of: FunctionId,
        before: Option<(Phase, Option<Timestamp>)>,
        after: Option<(Phase, Option<Timestamp>)>,
    ) {
        if before == after {
            return;
        }
        for (state, is_after) in [(before, false), (after, true)] {
            let Some((phase, until)) = state else {
                continue;
            };
            let count = match phase {
                Phase::Closed => None,
                Phase::Open => Some(&mut self.counts.0),
                Phase::HalfOpen => Some(&mut self.counts.1),
            };
            if let Some(count) = count {
                *count = count.saturating_add_signed(if is_after { 1 } else { -1 });
            }
            if let Some(until) = until {
                match is_after {
                    true => self.pauses.insert((until, of)),
                    false => self.pauses.remove(&(until, of)),
                };
            }
        }
    }

    /// Begins to watch a function. `false` if there is no room for it.
    fn add(&mut self, of: FunctionId, function: impl FnOnce() -> Function, now: Timestamp) -> bool {
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep(now);
        }
        let entries = self.all.entry(of.namespace).or_default();
        if entries.len() >= BREAKERS_MAX {
            return false;
        }
        entries.insert(of, Entry::new(function()));
        true
    }

    /// Forgets what there is nothing more to say of.
    fn sweep(&mut self, now: Timestamp) {
        let entries = self.all.values().flat_map(|entries| {
            let is_full = entries.len() >= BREAKERS_MAX;
            entries
                .iter()
                .filter(move |(_, entry)| entry.is_forgettable(now, is_full))
        });
        let forgettable: Vec<_> = entries.map(|(of, _)| *of).collect();
        for of in forgettable {
            self.forget(of);
        }
    }

    fn forget(&mut self, of: FunctionId) -> Option<Entry> {
        let entries = self.all.get_mut(&of.namespace)?;
        let entry = entries.remove(&of)?;
        if entries.is_empty() {
            self.all.remove(&of.namespace);
        }
        self.count(of, Some((entry.phase(), entry.changes_at())), None);
        Some(entry)
    }
}

#[cfg(any(test, feature = "simulation"))]
impl Breakers {
    /// Every one there is.
    pub fn iter(&self) -> impl Iterator<Item = (FunctionId, &Entry)> {
        self.all
            .values()
            .flat_map(|entries| entries.iter().map(|(of, entry)| (*of, entry)))
    }
}

#[cfg(any(test, feature = "simulation"))]
impl Entry {
    /// Whether an attempt may run that is handed out already.
    pub fn may_run(&self, epoch: Epoch) -> bool {
        self.phase() == Phase::Closed || epoch <= self.since || self.probe == Some(epoch)
    }

    /// The attempt that is the probe.
    pub fn probe(&self) -> Option<Epoch> {
        self.probe
    }
}
