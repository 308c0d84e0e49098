//! Hosts: what each one can run, what it has, and when it was last heard of.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tq_core::label::{self, Labels};
use tq_core::limits::{COMPILE_FAILURES_MAX, LEASE};
use tq_core::planted::{Bug, is_planted};
use tq_core::{Digest, Epoch, TaskId, Timestamp};

use super::duty::Duty;
use super::health::{Allowance, Record};
use super::message::{Assignment, ToHost};
use super::needs::Needs;
use crate::tables::Namespace;

/// One connection of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Where messages to a host go. The session ends when the last handle is dropped.
pub trait Link: Send + Sync {
    /// Passes a message on. `false` if the host does not keep up or is gone: from then on the link is not open.
    fn send(&self, message: ToHost) -> bool;

    /// Whether it took every message so far.
    fn is_open(&self) -> bool;
}

/// An attempt that a host has a lease of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The task's namespace.
    pub namespace: Namespace,
    /// The task.
    pub id: TaskId,
    /// Its limit of memory.
    pub memory_bytes: u64,
}

/// A host, from its first hello until its lease has run out; longer if there is something to remember of it.
pub struct Session {
    /// Its name.
    pub name: Arc<str>,
    /// The connection; the last one if it is gone.
    pub id: SessionId,
    /// Its process; none for a host that only rows of an earlier generation name.
    pub incarnation: Option<[u8; 16]>,
    /// How many attempts it runs at once.
    pub slots: u32,
    /// Its version of tq.
    pub version: String,
    /// When this connection began.
    pub connected_at: Timestamp,
    /// What it says of itself.
    pub labels: Labels,
    /// What the memory limits of its attempts may add up to; none if only its slots limit it.
    pub memory_bytes: Option<u64>,
    /// It said that it ends: it takes nothing new.
    pub draining: bool,
    /// What its operator wants of it.
    pub duty: Duty,
    /// Whether it is fit for work, and was.
    pub health: Record,
    /// Its lease has run out. It is only remembered.
    pub is_gone: bool,
    /// Modules that it holds compiled.
    pub ready: HashSet<Digest>,
    held: BTreeMap<Epoch, Held>,
    /// The sum of the memory limits in `held`.
    reserved_bytes: u64,
    /// Modules that it was asked to prepare on this connection.
    asked: HashSet<Digest>,
    link: Option<Arc<dyn Link>>,
    /// The step that welcomes it. What it is sent after that must not come before.
    welcomed_in: u64,
    granted: u64,
    sent: u64,
    /// When it was last heard of, on the monotonic clock.
    heard: Duration,
    /// What the step under way has for it.
    outbox: Outbox,
}

#[derive(Default)]
struct Outbox {
    is_welcome: bool,
    first: Vec<ToHost>,
    acks: Vec<(Epoch, bool)>,
    assignments: Vec<Assignment>,
}

/// What a host is told when the step that it comes from is on disk.
pub struct ToSay {
    link: Arc<dyn Link>,
    first: Vec<ToHost>,
    acks: Vec<(Epoch, bool)>,
    assignments: Vec<Assignment>,
}

impl ToSay {
    /// Tells it. A host that does not take it loses its session with the next step.
    pub fn say(self, seq: u64) {
        let Self {
            link,
            first,
            acks,
            assignments,
        } = self;
        let acks = (!acks.is_empty()).then_some(ToHost::Acks { acks, seq });
        let assignments =
            (!assignments.is_empty()).then_some(ToHost::Assignments { assignments, seq });
        let _is_open = first
            .into_iter()
            .chain(acks)
            .chain(assignments)
            .all(|message| link.send(message));
    }
}

impl Session {
    /// A host that was never connected to this process: rows say that it has attempts.
    pub fn absent(name: Arc<str>, now: Duration) -> Self {
        Self {
            name,
            id: SessionId(0),
            incarnation: None,
            slots: 0,
            version: String::new(),
            connected_at: Timestamp::EPOCH,
            labels: Labels::new(),
            memory_bytes: None,
            draining: false,
            duty: Duty::Working,
            health: Record::default(),
            is_gone: false,
            ready: HashSet::new(),
            held: BTreeMap::new(),
            reserved_bytes: 0,
            asked: HashSet::new(),
            link: None,
            welcomed_in: 0,
            granted: 0,
            sent: 0,
            heard: now,
            outbox: Outbox::default(),
        }
    }

    /// Begins a new connection: credits and preparations start anew, leases stay.
    pub fn connect(&mut self, id: SessionId, link: Arc<dyn Link>, now: Duration) {
        self.id = id;
        self.link = Some(link);
        self.heard = now;
        self.draining = false;
        self.is_gone = false;
        self.asked.clear();
        (self.granted, self.sent) = (0, 0);
        self.outbox = Outbox::default();
    }

    /// Ends the connection. Its leases go on until they run out.
    pub fn disconnect(&mut self) {
        self.link = None;
        self.ready.clear();
        self.outbox = Outbox::default();
    }

    /// Whether it is connected, and takes its messages.
    pub fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_open())
    }

    /// Whether it has a connection, or had one that ended while nobody noticed.
    pub fn has_link(&self) -> bool {
        self.link.is_some()
    }

    /// Whether it is wanted to take something new, and is there to take it.
    fn is_open(&self) -> bool {
        !self.draining && self.duty.is_working() && self.is_connected()
    }

    /// How many more assignments it takes now. None if its memory is full; whether one more attempt fits into what is
    /// left says [`Session::has_room`].
    pub fn credits(&self) -> u64 {
        if !self.is_open() || !self.has_room(1) {
            return 0;
        }
        let free = match is_planted(Bug::CreditsIgnored) {
            true => u64::from(self.slots),
            false => self.granted.saturating_sub(self.sent),
        };
        match self.health.now().allowance() {
            Allowance::All => free,
            Allowance::Probe if self.held.is_empty() => free.min(1),
            Allowance::Probe | Allowance::Nothing => 0,
        }
    }

    /// Whether an attempt with this limit of memory fits beside those that it has.
    pub fn has_room(&self, memory_bytes: u64) -> bool {
        let reserved = self.reserved_bytes.saturating_add(memory_bytes);
        self.memory_bytes.is_none_or(|most| reserved <= most) || is_planted(Bug::MemoryIgnored)
    }

    /// Attempts that it has a lease of.
    pub fn held(&self) -> &BTreeMap<Epoch, Held> {
        &self.held
    }

    /// What the memory limits of its attempts add up to.
    pub fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    /// Takes note that it has a lease.
    pub fn hold(&mut self, epoch: Epoch, held: Held) {
        self.release(epoch);
        self.reserved_bytes += held.memory_bytes;
        self.held.insert(epoch, held);
    }

    /// Takes note that it has a lease no longer.
    pub fn release(&mut self, epoch: Epoch) {
        if let Some(held) = self.held.remove(&epoch) {
            self.reserved_bytes -= held.memory_bytes;
        }
    }

    /// Whether there is anything to remember of it when it is not there.
    fn is_remarkable(&self, now: Timestamp) -> bool {
        !self.duty.is_working() || !self.health.now().is_forgettable(now)
    }

    /// Takes note of its credits. They only rise.
    pub fn grant(&mut self, granted: u64) {
        self.granted = self.granted.max(granted);
    }

    /// Gives it an attempt, when the claim is committed.
    pub fn assign(&mut self, namespace: Namespace, assignment: Assignment) {
        self.sent += 1;
        let held = Held {
            namespace,
            id: assignment.id,
            memory_bytes: assignment.spec.limits.memory_bytes,
        };
        self.hold(assignment.epoch, held);
        self.outbox.assignments.push(assignment);
    }

    /// Acknowledges an outcome, when the step is on disk.
    pub fn acknowledge(&mut self, epoch: Epoch, fenced: bool) {
        self.release(epoch);
        self.outbox.acks.push((epoch, fenced));
    }

    /// Sends a message, when the step is on disk.
    pub fn tell(&mut self, message: ToHost) {
        self.outbox.first.push(message);
    }

    /// Answers its hello. It comes before everything that follows from the hello.
    pub fn welcome(&mut self, welcome: ToHost) {
        self.outbox.is_welcome = true;
        self.outbox.first.insert(0, welcome);
    }

    /// Whether it can run what has these needs now, but for its credits.
    pub fn meets(&self, needs: &Needs) -> bool {
        self.ready.contains(&needs.digest)
            && (label::meet(&self.labels, &needs.required) || is_planted(Bug::LabelsIgnored))
            && self.has_room(needs.memory_bytes)
    }

    /// Whether it should be asked to prepare a module: it does not hold it, and was not asked on this connection.
    fn has_to_prepare(&self, digest: &Digest) -> bool {
        self.is_open() && !self.ready.contains(digest) && !self.asked.contains(digest)
    }

    fn prepare(&mut self, digest: Digest, size_bytes: u64) {
        self.asked.insert(digest);
        self.tell(ToHost::Prepare { digest, size_bytes });
    }

    /// Forgets that it was asked, so that it can be asked again.
    pub fn forget_asked(&mut self, digest: &Digest) {
        self.asked.remove(digest);
    }

    /// Sends assignments, and returns what has to wait until the step is on disk. Error if the connection is over.
    fn flush(&mut self, step: u64, said: u64, seq: u64) -> Result<Option<ToSay>, Over> {
        let Outbox {
            is_welcome,
            first,
            acks,
            mut assignments,
        } = std::mem::take(&mut self.outbox);
        let Some(link) = &self.link else {
            return Ok(None);
        };
        if is_welcome {
            self.welcomed_in = step;
        }
        let mut is_open = link.is_open();
        if self.welcomed_in <= said && !assignments.is_empty() {
            let assignments = std::mem::take(&mut assignments);
            is_open = is_open && link.send(ToHost::Assignments { assignments, seq });
        }
        if !is_open {
            return Err(Over);
        }
        let is_empty = first.is_empty() && acks.is_empty() && assignments.is_empty();
        Ok((!is_empty).then(|| ToSay {
            link: Arc::clone(link),
            first,
            acks,
            assignments,
        }))
    }
}

/// A connection that is over.
struct Over;

/// Why a module cannot be compiled.
#[derive(Clone, Debug, Default)]
pub struct Broken {
    failures: u32,
    /// What the last host said.
    pub message: String,
    /// The host.
    pub host: String,
    /// No host will be asked again: its tasks are dead.
    pub is_final: bool,
}

/// All hosts, by name.
#[derive(Default)]
pub struct Hosts {
    sessions: BTreeMap<Arc<str>, Session>,
    names: HashMap<SessionId, Arc<str>>,
    broken: HashMap<Digest, Broken>,
    last_id: u64,
    /// Last words to hosts that were removed.
    parting: Vec<ToSay>,
}

impl Hosts {
    /// The host of this name.
    pub fn named(&mut self, name: &str) -> Option<&mut Session> {
        self.sessions.get_mut(name)
    }

    /// The host on this connection; none if it has a newer one or is gone.
    pub fn get(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions
            .get_mut(self.names.get(&id)?)
            .filter(|session| session.id == id)
    }

    /// The host of this name, made if there is none.
    pub fn entry(&mut self, name: &Arc<str>, now: Duration) -> &mut Session {
        self.sessions
            .entry(Arc::clone(name))
            .or_insert_with(|| Session::absent(Arc::clone(name), now))
    }

    /// Connects a host that has an entry.
    pub fn connect(&mut self, name: &Arc<str>, link: Arc<dyn Link>, now: Duration) -> SessionId {
        self.last_id += 1;
        let id = SessionId(self.last_id);
        let session = self.entry(name, now);
        let before = session.id;
        session.connect(id, link, now);
        self.names.remove(&before);
        self.names.insert(id, Arc::clone(name));
        id
    }

    /// Removes a host. One that is connected is told so when the step is on disk, and then its connection ends.
    pub fn remove(&mut self, name: &str) -> Option<Session> {
        let mut session = self.sessions.remove(name)?;
        self.names.remove(&session.id);
        self.parting.extend(session.link.take().map(|link| ToSay {
            link,
            first: vec![ToHost::Removed],
            acks: Vec::new(),
            assignments: Vec::new(),
        }));
        Some(session)
    }

    /// Ends the session of a host that has nothing any more. It is forgotten, unless there is something to remember of it.
    pub fn part_with(&mut self, name: &str, now: Timestamp) {
        let Some(session) = self.sessions.get_mut(name) else {
            return;
        };
        self.names.remove(&session.id);
        session.disconnect();
        session.is_gone = true;
        if !session.is_remarkable(now) {
            self.sessions.remove(name);
        }
    }

    /// Forgets hosts that are gone and of which there is nothing to remember any more.
    pub fn forget_gone(&mut self, now: Timestamp) {
        self.sessions
            .retain(|_, session| !session.is_gone || session.is_remarkable(now));
    }

    /// Ends pauses of quarantined hosts that are over, and names the hosts that are being drained.
    pub fn tend(&mut self, now: Timestamp) -> Vec<Arc<str>> {
        let mut draining = Vec::new();
        for session in self.sessions.values_mut() {
            session.health.tick(now);
            if let Duty::Draining { .. } = session.duty {
                draining.push(Arc::clone(&session.name));
            }
        }
        draining
    }

    /// When [`Hosts::tend`], or the deadline of a drain, changes anything.
    pub fn next_change(&self) -> Option<Timestamp> {
        let changes = self.sessions.values().flat_map(|session| {
            let deadline = match session.duty {
                Duty::Draining { until } => Some(until),
                Duty::Working | Duty::Paused | Duty::Drained => None,
            };
            session
                .health
                .now()
                .changes_at()
                .into_iter()
                .chain(deadline)
        });
        changes.min()
    }

    /// Every host, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// Every host, by name.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.sessions.values_mut()
    }

    /// Takes note that a host was heard of.
    pub fn heard(&mut self, id: SessionId, now: Duration) {
        if let Some(session) = self.get(id) {
            session.heard = now;
        }
    }

    /// Names the hosts whose leases have run out.
    pub fn silent(&self, now: Duration) -> Vec<Arc<str>> {
        if is_planted(Bug::LeaseEndless) {
            return Vec::new();
        }
        let is_silent =
            |session: &&Session| !session.is_gone && now.saturating_sub(session.heard) >= LEASE;
        self.sessions
            .values()
            .filter(is_silent)
            .map(|session| Arc::clone(&session.name))
            .collect()
    }

    /// When the next lease runs out.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.sessions
            .values()
            .filter(|session| !session.is_gone)
            .map(|session| session.heard + LEASE)
            .min()
    }

    /// Extends every lease by a time in which the ledger itself stood still and could hear of no one.
    pub fn extend(&mut self, gap: Duration) {
        for session in self.sessions.values_mut() {
            session.heard += gap;
        }
    }

    /// Counts a failure to compile. Returns whether it was the last one that is tried.
    pub fn compile_failed(
        &mut self,
        digest: Digest,
        host: &str,
        message: String,
        permanent: bool,
    ) -> bool {
        let broken = self.broken.entry(digest).or_default();
        broken.failures += 1;
        broken.message = message;
        broken.host = host.to_owned();
        broken.is_final |= permanent || broken.failures >= COMPILE_FAILURES_MAX;
        broken.is_final
    }

    /// Whether any module could not be compiled somewhere.
    pub fn has_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Why a module cannot be compiled, if that is so.
    pub fn broken(&self, digest: &Digest) -> Option<&Broken> {
        self.broken.get(digest)
    }

    /// Gives a module another chance.
    pub fn mend(&mut self, digest: &Digest) {
        self.broken.remove(digest);
        for session in self.sessions.values_mut() {
            session.asked.remove(digest);
        }
    }

    /// Asks every host that could run a task but for its module to prepare that, once a connection. `size_bytes` gives
    /// the module's size; none if there is no such module.
    pub fn prepare(&mut self, needs: &Needs, size_bytes: impl FnOnce() -> Option<u64>) {
        let digest = needs.digest;
        let is_final = |broken: &Broken| broken.is_final;
        if self.broken.get(&digest).is_some_and(is_final) {
            return;
        }
        let has_to = |session: &Session| {
            session.has_to_prepare(&digest) && label::meet(&session.labels, &needs.required)
        };
        if !self.sessions.values().any(has_to) {
            return;
        }
        if let Some(size_bytes) = size_bytes() {
            let sessions = self.sessions.values_mut();
            sessions
                .filter(|session| has_to(session))
                .for_each(|session| session.prepare(digest, size_bytes));
        }
    }

    /// The host that is to run a task: one that meets its needs and has credits. Of those, one with the most of the
    /// labels that are preferred, and of those, the one with the largest share of free credits.
    pub fn best_for(&self, needs: &Needs) -> Option<&Session> {
        let free = |session: &Session| session.credits() * 1_000 / u64::from(session.slots.max(1));
        self.sessions
            .values()
            .filter(|session| session.credits() > 0 && session.meets(needs))
            .max_by_key(|session| {
                (
                    label::shared(&session.labels, &needs.preferred),
                    free(session),
                )
            })
    }

    /// Whether any host takes anything.
    pub fn have_credits(&self) -> bool {
        self.sessions.values().any(|session| session.credits() > 0)
    }

    /// Sends assignments, whose claims have been committed: they need not outlive a loss of power. Returns what hosts
    /// are to be told when the step is on disk. `said` is the last step that was spoken of, `seq` what outlives a loss
    /// of power. A host that does not keep up loses its connection.
    pub fn flush(&mut self, step: u64, said: u64, seq: u64) -> Vec<ToSay> {
        let mut to_say = std::mem::take(&mut self.parting);
        for session in self.sessions.values_mut() {
            match session.flush(step, said, seq) {
                Ok(message) => to_say.extend(message),
                Err(Over) => {
                    tracing::warn!(host = %session.name, "host does not take its messages; its session ends");
                    session.disconnect();
                }
            }
        }
        to_say
    }
}
