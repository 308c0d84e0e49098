//! The session's state machine: what a host owes its broker, and what the broker asked of it.
//!
//! It is synchronous and has no clock, no randomness and no I/O: messages, ends of attempts and the time go in,
//! messages and [`Command`]s come out. Whoever drives it (a socket, or a simulation) calls
//! [`next_command`](Session::next_command) until it is empty after each input, and
//! [`next_message`](Session::next_message) whenever the link takes a message. Since messages are composed only then,
//! a slow link makes them fewer and larger, and never makes them queue. Composing may give commands too.
//!
//! Time is a [`Duration`] since any fixed point, as long as it never falls.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tq_core::id::{Digest, Epoch};
use tq_core::limits::{HEARTBEAT, INLINE_BYTES_MAX, LEASE, OUTCOMES_KEPT_MAX};
use tq_core::outcome::Outcome;
use tq_proto::v1::broker_message::Kind as FromBroker;
use tq_proto::v1::data::Kind as DataKind;
use tq_proto::v1::host_message::Kind as ToBroker;
use tq_proto::v1::{self, Assignment, AttemptOutcome, Blob, BrokerMessage, Data, HostMessage};

use crate::agent::credits::Window;
use crate::runner::{Finished, StopReason};

/// Outcomes in one message: enough that the cost of a message vanishes, little enough that it does not hold up the rest.
const OUTCOMES_MESSAGE_BYTES: usize = 1 << 20;
/// Outcomes in the hello, which must stay one message. The others follow the welcome.
const HELLO_OUTCOMES_BYTES: usize = 4 << 20;
/// Kept outcomes beyond which the host asks for no more work, so that what it holds for a slow broker is bounded.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// How often progress and checkpoints of running attempts are reported.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// Who the host says that it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name; the broker admits one live host of a name.
    pub name: String,
    /// Made at every start of the process.
    pub incarnation: [u8; 16],
    /// Attempts that it runs at once; at least 1.
    pub slots: u32,
}

/// The furthest point of a broker's store that the host knows to be durable.
///
/// A broker that comes back with less lost what it had acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The store's id; empty before the first session.
    pub store: Bytes,
    /// The highest durable sequence of that store.
    pub seq: u64,
}

/// Bytes that are on their way to the broker's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(u64);

/// What the session wants done outside of it.
#[derive(Debug)]
pub enum Command {
    /// Fetch what the assignment refers to, and run it. Ends in [`Session::finished`] or [`Session::not_run`].
    Start(Box<Assignment>),
    /// Stop an attempt. It still ends in [`Session::finished`] or [`Session::not_run`], which are ignored where the
    /// reason is [`StopReason::Abandoned`].
    Stop {
        /// Which.
        epoch: Epoch,
        /// Why.
        why: StopReason,
    },
    /// Fetch, verify and compile a module. Ends in [`Session::prepared`] or [`Session::prepare_failed`].
    Prepare {
        /// The module.
        digest: Digest,
        /// The size that the broker says it has.
        size_bytes: u64,
    },
    /// Put bytes on the broker's disk, trying again for as long as the session is up. Ends in [`Session::uploaded`];
    /// void when the link goes down.
    Upload {
        /// What to call it then.
        id: UploadId,
        /// The bytes.
        bytes: Bytes,
    },
    /// Keep an outcome on the host's own disk: nobody can take it now. Its result is inline, of any size.
    Spool(Box<AttemptOutcome>),
    /// Delete the outcome that was spooled for this epoch.
    Unspool(Epoch),
    /// The broker welcomed the host.
    Welcomed,
    /// The broker answered for outcomes; so many of them were fenced and changed nothing.
    Acknowledged {
        /// Outcomes.
        outcomes: u64,
        /// Of these, fenced ones.
        fenced: u64,
    },
    /// Give the connection up and make another.
    Disconnect(Breach),
}

/// Why a session cannot go on, as seen by the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// Nothing came for the time of a lease.
    #[error("the broker was silent for {0:?}")]
    Silent(Duration),
    /// The store is behind what it acknowledged earlier.
    #[error(
        "the broker's store was rolled back: it is at sequence {seq}, and this host saw {seen} acknowledged; see `tq admin check`"
    )]
    RolledBack {
        /// Where the store is.
        seq: u64,
        /// Where it was.
        seen: u64,
    },
    /// A message that the protocol does not allow.
    #[error("the broker broke the protocol: {0}")]
    Protocol(&'static str),
}

/// How far the link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected, and the hello is to be sent.
    Fresh,
    /// The hello is sent.
    Greeting,
    /// Welcomed.
    Up,
}

/// An attempt that the host holds and has no outcome of.
#[derive(Debug)]
struct Held {
    task_id: String,
    namespace: String,
    token: Bytes,
    attempt: u32,
    /// The newest that it saved. It stays here after it was sent, for the next connection: nothing acknowledges it.
    checkpoint: Option<Checkpoint>,
}

#[derive(Debug)]
struct Checkpoint {
    state: Bytes,
    phase: Phase,
}

/// How far bytes or an outcome have come in this session.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Uploading(UploadId),
    Due,
    Sent,
}

/// An outcome that the broker has not acknowledged.
#[derive(Debug)]
struct Kept {
    outcome: AttemptOutcome,
    /// What the attempt saved last, if it failed before the broker had it. It is to arrive first: afterwards the
    /// lease is over.
    checkpoint: Option<Bytes>,
    phase: Phase,
    bytes: usize,
    is_spooled: bool,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    HeldCheckpoint(Epoch),
    KeptCheckpoint(Epoch),
    Result(Epoch),
}

#[derive(Debug, Default)]
struct Report {
    progress: Option<(f64, String)>,
    has_checkpoint: bool,
}

/// One host's side of its session with a broker, over all connections of one process.
#[derive(Debug)]
pub struct Session {
    identity: Identity,
    seen: Seen,
    link: Link,
    lease: Duration,
    heartbeat: Duration,
    received_at: Duration,
    sent_at: Duration,
    is_draining: bool,
    draining_due: bool,

    window: Window,
    held: BTreeMap<Epoch, Held>,
    kept: BTreeMap<Epoch, Kept>,
    kept_bytes: usize,
    /// Outcomes to be sent, in the order in which they became so.
    due: VecDeque<Epoch>,

    uploads: HashMap<UploadId, Purpose>,
    upload_last: u64,
    saved: BTreeMap<Epoch, v1::SavedCheckpoint>,
    reports: BTreeMap<Epoch, Report>,
    reports_at: Duration,
    progress: Vec<v1::ProgressReport>,

    ready: BTreeSet<Digest>,
    preparing: BTreeSet<Digest>,
    announce: Vec<Digest>,
    dropped: Vec<Digest>,
    failed: VecDeque<v1::PrepareFailed>,

    commands: VecDeque<Command>,
}

impl Session {
    /// A session that is not connected. `ready` are the modules that the host holds compiled, `spooled` the outcomes
    /// that it finds on its disk.
    #[must_use]
    pub fn new(
        identity: Identity,
        seen: Seen,
        ready: BTreeSet<Digest>,
        spooled: Vec<AttemptOutcome>,
    ) -> Self {
        let window = Window::new(identity.slots);
        let mut session = Self {
            identity,
            seen,
            link: Link::Down,
            lease: LEASE,
            heartbeat: HEARTBEAT,
            received_at: Duration::ZERO,
            sent_at: Duration::ZERO,
            is_draining: false,
            draining_due: false,
            window,
            held: BTreeMap::new(),
            kept: BTreeMap::new(),
            kept_bytes: 0,
            due: VecDeque::new(),
            uploads: HashMap::new(),
            upload_last: 0,
            saved: BTreeMap::new(),
            reports: BTreeMap::new(),
            reports_at: Duration::ZERO,
            progress: Vec::new(),
            ready,
            preparing: BTreeSet::new(),
            announce: Vec::new(),
            dropped: Vec::new(),
            failed: VecDeque::new(),
            commands: VecDeque::new(),
        };
        for outcome in spooled {
            session.keep(outcome, None, true);
        }
        session
    }

    /// A connection stands; the next message is the hello.
    pub fn connected(&mut self, now: Duration) {
        self.disconnected();
        self.link = Link::Fresh;
        self.received_at = now;
        self.sent_at = now;
    }

    /// The connection is gone. Work goes on; what is finished is spooled until another one stands.
    pub fn disconnected(&mut self) {
        self.link = Link::Down;
        self.uploads.clear();
        self.due.clear();
        self.saved.clear();
        self.progress.clear();
        self.announce.clear();
        self.dropped.clear();
        self.failed.clear();
        self.draining_due = self.is_draining;
        for (epoch, held) in &mut self.held {
            if let Some(checkpoint) = &mut held.checkpoint {
                checkpoint.phase = Phase::Waiting;
                self.reports.entry(*epoch).or_default().has_checkpoint = true;
            }
        }
        for kept in self.kept.values_mut() {
            kept.phase = Phase::Waiting;
            spool(kept, &mut self.commands);
        }
    }

    /// Takes a message of the broker.
    pub fn received(&mut self, message: BrokerMessage, now: Duration) {
        self.received_at = now;
        let Some(kind) = message.kind else {
            return; // A kind that a later version added.
        };
        match (self.link, kind) {
            (Link::Greeting, FromBroker::Welcome(welcome)) => self.welcomed(welcome),
            (Link::Up, FromBroker::Assignments(assignments)) => {
                self.note_seq(assignments.seq);
                for assignment in assignments.assignments {
                    self.assigned(assignment);
                }
            }
            (Link::Up, FromBroker::Acks(acks)) => self.acknowledged(&acks),
            (Link::Up, FromBroker::Prepare(prepare)) => self.asked_to_prepare(&prepare),
            (Link::Up, FromBroker::Stop(stop)) => self.told_to_stop(stop),
            (Link::Greeting | Link::Up, FromBroker::Heartbeat(_)) => {}
            (Link::Up, FromBroker::Welcome(_)) => self.breach(Breach::Protocol("a second welcome")),
            (Link::Greeting, _) => self.breach(Breach::Protocol("a message before the welcome")),
            (Link::Fresh, _) => self.breach(Breach::Protocol("a message before the hello")),
            // The last words of a connection that was given up.
            (Link::Down, _) => {}
        }
    }

    /// An attempt ended. Ignored if the host was told to abandon it.
    pub fn finished(&mut self, finished: Finished) {
        let Finished {
            epoch,
            outcome,
            result,
            failure,
            retry_after,
            usage,
        } = finished;
        self.window.ran(Duration::from_nanos(usage.wall_ns));
        self.end(epoch, outcome, |held| AttemptOutcome {
            task_id: held.task_id.clone(),
            namespace: held.namespace.clone(),
            epoch: epoch.0,
            token: held.token.clone(),
            outcome: outcome.name().to_owned(),
            result: result.map(inline),
            failure: failure.map(|failure| v1::Failure {
                message: failure.message,
                backtrace: failure.backtrace.unwrap_or_default(),
            }),
            retry_after_ms: retry_after
                .map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
            usage: Some(v1::Usage {
                fuel: usage.fuel,
                memory_bytes_peak: usage.memory_bytes_peak,
                wall_ns: usage.wall_ns,
                cpu_ns: usage.cpu_ns,
            }),
        });
    }

    /// An attempt ended before it came to run. Ignored if the host was told to abandon it.
    pub fn not_run(&mut self, epoch: Epoch, outcome: Outcome, message: String) {
        self.end(epoch, outcome, |held| AttemptOutcome {
            task_id: held.task_id.clone(),
            namespace: held.namespace.clone(),
            epoch: epoch.0,
            token: held.token.clone(),
            outcome: outcome.name().to_owned(),
            failure: Some(v1::Failure {
                message,
                backtrace: String::new(),
            }),
            usage: Some(v1::Usage::default()),
            ..AttemptOutcome::default()
        });
    }

    /// An attempt says how far it is. Only the latest is reported.
    pub fn progressed(&mut self, epoch: Epoch, fraction: f64, note: String) {
        if self.held.contains_key(&epoch) {
            self.reports.entry(epoch).or_default().progress = Some((fraction, note));
        }
    }

    /// An attempt saved a checkpoint. Only the latest is reported.
    pub fn saved(&mut self, epoch: Epoch, state: Bytes) {
        if let Some(held) = self.held.get_mut(&epoch) {
            held.checkpoint = Some(Checkpoint {
                state,
                phase: Phase::Waiting,
            });
            self.reports.entry(epoch).or_default().has_checkpoint = true;
        }
    }

    /// The bytes of a [`Command::Upload`] are on the broker's disk.
    pub fn uploaded(&mut self, id: UploadId, blob: Blob) {
        let Some(purpose) = self.uploads.remove(&id) else {
            return; // Of a connection that is gone, or of an attempt that is.
        };
        let data = Some(Data {
            kind: Some(DataKind::Blob(blob)),
        });
        match purpose {
            Purpose::HeldCheckpoint(epoch) => {
                let Some(held) = self.held.get_mut(&epoch) else {
                    return;
                };
                // A newer one may have been saved meanwhile; it goes by itself.
                let uploading = Phase::Uploading(id);
                if (held.checkpoint.as_ref())
                    .is_some_and(|checkpoint| checkpoint.phase == uploading)
                {
                    self.saved
                        .insert(epoch, saved_checkpoint(epoch, held, data));
                }
                if let Some(checkpoint) =
                    (held.checkpoint.as_mut()).filter(|checkpoint| checkpoint.phase == uploading)
                {
                    checkpoint.phase = Phase::Due;
                }
            }
            Purpose::KeptCheckpoint(epoch) => {
                let Some(kept) = self.kept.get(&epoch) else {
                    return;
                };
                self.saved
                    .insert(epoch, saved_checkpoint_of(&kept.outcome, data));
                self.advance_result(epoch);
            }
            Purpose::Result(epoch) => {
                let Some(kept) = self.kept.get_mut(&epoch) else {
                    return;
                };
                kept.outcome.result = data;
                kept.phase = Phase::Due;
                let bytes = size(&kept.outcome, kept.checkpoint.as_ref());
                self.kept_bytes = self.kept_bytes - mem::replace(&mut kept.bytes, bytes) + bytes;
                self.due.push_back(epoch);
            }
        }
    }

    /// A module is compiled and on the host's disk.
    pub fn prepared(&mut self, digest: Digest) {
        self.preparing.remove(&digest);
        self.ready.insert(digest);
        self.announce(digest);
    }

    /// A module could not be made ready. `is_permanent`: the component itself is at fault.
    pub fn prepare_failed(&mut self, digest: Digest, message: String, is_permanent: bool) {
        self.preparing.remove(&digest);
        if self.link == Link::Up {
            self.failed.push_back(v1::PrepareFailed {
                digest: Bytes::copy_from_slice(&digest.0),
                message,
                permanent: is_permanent,
            });
        }
    }

    /// The host holds a module no longer.
    pub fn dropped(&mut self, digest: Digest) {
        if self.ready.remove(&digest) && self.link == Link::Up {
            self.announce.retain(|announced| *announced != digest);
            self.dropped.push(digest);
        }
    }

    /// From now on the host takes nothing new.
    pub fn drain(&mut self) {
        self.is_draining = true;
        self.draining_due = true;
    }

    /// Gives all attempts back that have no outcome yet.
    pub fn abandon(&mut self) {
        let epochs: Vec<Epoch> = self.held.keys().copied().collect();
        for epoch in epochs {
            self.commands.push_back(Command::Stop {
                epoch,
                why: StopReason::Abandoned,
            });
            let message = format!(
                "host `{}` was stopped before the attempt ended",
                self.identity.name
            );
            self.not_run(epoch, Outcome::HostError, message);
        }
    }

    /// Notices that the broker is silent. To be called at [`wake_at`](Session::wake_at) or later.
    pub fn tick(&mut self, now: Duration) {
        if self.link != Link::Down && now >= self.received_at + self.lease {
            self.breach(Breach::Silent(self.lease));
        }
    }

    /// When [`tick`](Session::tick) and [`next_message`](Session::next_message) are to be called though nothing
    /// happened; `None` while there is no connection. Where the link takes no message, only a silent broker is a
    /// reason to wake.
    #[must_use]
    pub fn wake_at(&self, is_writable: bool) -> Option<Duration> {
        let silent = self.received_at + self.lease;
        match self.link {
            Link::Down => None,
            Link::Fresh | Link::Greeting => Some(silent),
            Link::Up if !is_writable => Some(silent),
            Link::Up => {
                let next = silent.min(self.sent_at + self.heartbeat);
                Some(if self.reports.is_empty() {
                    next
                } else {
                    next.min(self.reports_at)
                })
            }
        }
    }

    /// The next thing to be done outside of the session.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next message for the link; `None` if there is nothing to say.
    pub fn next_message(&mut self, now: Duration) -> Option<HostMessage> {
        let kind = match self.link {
            Link::Down | Link::Greeting => return None,
            Link::Fresh => {
                self.link = Link::Greeting;
                ToBroker::Hello(self.hello())
            }
            Link::Up => self.compose(now)?,
        };
        self.sent_at = now;
        Some(HostMessage { kind: Some(kind) })
    }

    /// Attempts that have no outcome yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Outcomes that the broker has not acknowledged.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Modules that the host holds compiled.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether the broker welcomed the host, and the connection stands.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Whether a draining host has nothing left to run, and nothing to tell a broker that it can reach. Outcomes for
    /// a broker that it cannot reach are spooled.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_draining
            && self.held.is_empty()
            && (self.kept.is_empty() || self.link == Link::Down)
    }

    /// What the host knows to be durable at its broker.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The head of the log messages of an attempt that has no outcome yet; their text is empty.
    #[must_use]
    pub fn log_head(&self, epoch: Epoch) -> Option<v1::PutLogsRequest> {
        self.held.get(&epoch).map(|held| v1::PutLogsRequest {
            task_id: held.task_id.clone(),
            namespace: held.namespace.clone(),
            epoch: epoch.0,
            attempt: held.attempt,
            text: Bytes::new(),
        })
    }

    fn breach(&mut self, breach: Breach) {
        self.disconnected();
        self.commands.push_back(Command::Disconnect(breach));
    }

    fn note_seq(&mut self, seq: u64) {
        self.seen.seq = self.seen.seq.max(seq);
    }

    fn hello(&mut self) -> v1::Hello {
        self.window.reset();
        let mut outcomes = Vec::new();
        let mut held: Vec<v1::HeldAttempt> = (self.held.iter())
            .map(|(epoch, held)| v1::HeldAttempt {
                task_id: held.task_id.clone(),
                namespace: held.namespace.clone(),
                epoch: epoch.0,
                token: held.token.clone(),
            })
            .collect();
        let mut room = HELLO_OUTCOMES_BYTES;
        for kept in self.kept.values_mut() {
            if kept.bytes <= room
                && kept.checkpoint.is_none()
                && large_result(&kept.outcome).is_none()
            {
                room -= kept.bytes;
                kept.phase = Phase::Sent;
                outcomes.push(kept.outcome.clone());
            } else {
                // Its outcome follows the welcome. Until then the lease must stay, as that of a running attempt does.
                held.push(v1::HeldAttempt {
                    task_id: kept.outcome.task_id.clone(),
                    namespace: kept.outcome.namespace.clone(),
                    epoch: kept.outcome.epoch,
                    token: kept.outcome.token.clone(),
                });
            }
        }
        v1::Hello {
            name: self.identity.name.clone(),
            incarnation: Bytes::copy_from_slice(&self.identity.incarnation),
            slots: self.identity.slots,
            ready: wire_digests(self.ready.iter()),
            held,
            outcomes,
            seen_seq: self.seen.seq,
            seen_store: self.seen.store.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    fn welcomed(&mut self, welcome: v1::Welcome) {
        let v1::Welcome {
            store,
            generation: _,
            lease_ms,
            heartbeat_ms,
            fenced,
            seq,
        } = welcome;
        if store == self.seen.store && seq < self.seen.seq {
            let seen = self.seen.seq;
            return self.breach(Breach::RolledBack { seq, seen });
        }
        if lease_ms == 0 || heartbeat_ms == 0 {
            return self.breach(Breach::Protocol("a welcome without lease or heartbeat"));
        }
        self.seen = Seen { store, seq };
        self.lease = Duration::from_millis(lease_ms);
        self.heartbeat = Duration::from_millis(heartbeat_ms);
        self.link = Link::Up;
        for epoch in fenced {
            self.fence(Epoch(epoch));
        }
        let waiting: Vec<Epoch> = (self.kept.iter())
            .filter(|(_, kept)| kept.phase == Phase::Waiting)
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in waiting {
            self.advance(epoch);
        }
        self.commands.push_back(Command::Welcomed);
    }

    /// The attempt is not the host's any more: stops it, and forgets what it did.
    fn fence(&mut self, epoch: Epoch) {
        if self.held.remove(&epoch).is_some() {
            self.reports.remove(&epoch);
            self.saved.remove(&epoch);
            self.commands.push_back(Command::Stop {
                epoch,
                why: StopReason::Abandoned,
            });
        }
        self.forget(epoch);
    }

    /// Drops a kept outcome; whether there was one.
    fn forget(&mut self, epoch: Epoch) -> bool {
        let Some(kept) = self.kept.remove(&epoch) else {
            return false;
        };
        self.kept_bytes -= kept.bytes;
        if kept.is_spooled {
            self.commands.push_back(Command::Unspool(epoch));
        }
        true
    }

    fn assigned(&mut self, assignment: Assignment) {
        if !self.window.take() {
            return self.breach(Breach::Protocol("more assignments than credits"));
        }
        let epoch = Epoch(assignment.epoch);
        if self.held.contains_key(&epoch) || self.kept.contains_key(&epoch) {
            return; // Sent twice.
        }
        self.held.insert(
            epoch,
            Held {
                task_id: assignment.task_id.clone(),
                namespace: assignment.namespace.clone(),
                token: assignment.token.clone(),
                attempt: assignment.attempt,
                checkpoint: None,
            },
        );
        if self.is_draining {
            let message = format!("host `{}` takes nothing new: it drains", self.identity.name);
            self.not_run(epoch, Outcome::HostError, message);
        } else {
            self.commands
                .push_back(Command::Start(Box::new(assignment)));
        }
    }

    fn acknowledged(&mut self, acks: &v1::Acks) {
        self.note_seq(acks.seq);
        let (mut outcomes, mut fenced) = (0, 0);
        for ack in &acks.acks {
            if self.forget(Epoch(ack.epoch)) {
                outcomes += 1;
                fenced += u64::from(ack.fenced);
            }
        }
        self.commands
            .push_back(Command::Acknowledged { outcomes, fenced });
    }

    fn asked_to_prepare(&mut self, prepare: &v1::Prepare) {
        let Ok(digest) = <[u8; 32]>::try_from(&prepare.digest[..]).map(Digest) else {
            return self.breach(Breach::Protocol("a digest that has not 32 bytes"));
        };
        if self.ready.contains(&digest) {
            self.announce(digest);
        } else if self.preparing.insert(digest) {
            self.commands.push_back(Command::Prepare {
                digest,
                size_bytes: prepare.size_bytes,
            });
        }
    }

    fn told_to_stop(&mut self, stop: v1::Stop) {
        let epoch = Epoch(stop.epoch);
        let why = match stop.reason() {
            v1::StopReason::Fenced => return self.fence(epoch),
            v1::StopReason::Deadline => StopReason::DeadlineExceeded,
            // A reason that a later version added ends the attempt too, and the broker judges what it reports.
            v1::StopReason::Cancelled | v1::StopReason::Unspecified => StopReason::Cancelled,
        };
        if self.held.contains_key(&epoch) {
            self.commands.push_back(Command::Stop { epoch, why });
        }
    }

    fn announce(&mut self, digest: Digest) {
        if self.link == Link::Up && !self.announce.contains(&digest) {
            self.dropped.retain(|dropped| *dropped != digest);
            self.announce.push(digest);
        }
    }

    /// Turns a held attempt into a kept outcome.
    fn end(
        &mut self,
        epoch: Epoch,
        outcome: Outcome,
        compose: impl FnOnce(&Held) -> AttemptOutcome,
    ) {
        let Some(held) = self.held.remove(&epoch) else {
            return; // Abandoned.
        };
        self.reports.remove(&epoch);
        self.saved.remove(&epoch);
        let message = compose(&held);
        let unsent = |checkpoint: &Checkpoint| {
            outcome != Outcome::Succeeded && checkpoint.phase != Phase::Sent
        };
        let checkpoint = held.checkpoint.filter(unsent);
        self.keep(
            message,
            checkpoint.map(|checkpoint| checkpoint.state),
            false,
        );
    }

    fn keep(&mut self, outcome: AttemptOutcome, checkpoint: Option<Bytes>, is_spooled: bool) {
        let epoch = Epoch(outcome.epoch);
        let bytes = size(&outcome, checkpoint.as_ref());
        let mut kept = Kept {
            outcome,
            checkpoint,
            phase: Phase::Waiting,
            bytes,
            is_spooled,
        };
        if self.link == Link::Down {
            spool(&mut kept, &mut self.commands);
        }
        self.kept_bytes += bytes;
        self.kept.insert(epoch, kept);
        if self.link == Link::Up {
            self.advance(epoch);
        }
    }

    /// Brings a kept outcome on its way: its checkpoint first, then its result, then itself.
    fn advance(&mut self, epoch: Epoch) {
        let Some(kept) = self.kept.get(&epoch) else {
            return;
        };
        match kept.checkpoint.clone() {
            Some(state) if state.len() > INLINE_BYTES_MAX => {
                self.upload_kept(epoch, Purpose::KeptCheckpoint(epoch), state);
            }
            Some(state) => {
                let message = saved_checkpoint_of(&kept.outcome, Some(inline(state)));
                self.saved.insert(epoch, message);
                self.advance_result(epoch);
            }
            None => self.advance_result(epoch),
        }
    }

    fn advance_result(&mut self, epoch: Epoch) {
        let Some(kept) = self.kept.get_mut(&epoch) else {
            return;
        };
        match large_result(&kept.outcome) {
            Some(bytes) => {
                let bytes = bytes.clone();
                self.upload_kept(epoch, Purpose::Result(epoch), bytes);
            }
            None => {
                kept.phase = Phase::Due;
                self.due.push_back(epoch);
            }
        }
    }

    fn upload_kept(&mut self, epoch: Epoch, purpose: Purpose, bytes: Bytes) {
        let id = self.upload(purpose, bytes);
        if let Some(kept) = self.kept.get_mut(&epoch) {
            kept.phase = Phase::Uploading(id);
        }
    }

    fn upload(&mut self, purpose: Purpose, bytes: Bytes) -> UploadId {
        self.upload_last += 1;
        let id = UploadId(self.upload_last);
        self.uploads.insert(id, purpose);
        self.commands.push_back(Command::Upload { id, bytes });
        id
    }

    fn compose(&mut self, now: Duration) -> Option<ToBroker> {
        if mem::take(&mut self.draining_due) {
            return Some(ToBroker::Draining(v1::Draining {}));
        }
        if !self.announce.is_empty() || !self.dropped.is_empty() {
            return Some(ToBroker::Ready(v1::Ready {
                digests: wire_digests(&mem::take(&mut self.announce)),
                dropped: wire_digests(&mem::take(&mut self.dropped)),
            }));
        }
        if let Some(failed) = self.failed.pop_front() {
            return Some(ToBroker::PrepareFailed(failed));
        }
        if !self.reports.is_empty() && now >= self.reports_at {
            self.reports_at = now + REPORT_INTERVAL;
            self.report();
        }
        if let Some((epoch, message)) = self.saved.pop_first() {
            let checkpoint = (self.held.get_mut(&epoch)).and_then(|held| held.checkpoint.as_mut());
            if let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.phase == Phase::Due)
            {
                checkpoint.phase = Phase::Sent;
            }
            return Some(ToBroker::Checkpoint(message));
        }
        if !self.progress.is_empty() {
            return Some(ToBroker::Progress(v1::ProgressReports {
                reports: mem::take(&mut self.progress),
            }));
        }
        let outcomes = self.due_outcomes();
        if !outcomes.is_empty() {
            return Some(ToBroker::Outcomes(v1::Outcomes { outcomes }));
        }
        if let Some(granted) = self.raise_credits() {
            return Some(ToBroker::Credits(v1::Credits { granted }));
        }
        (now >= self.sent_at + self.heartbeat).then_some(ToBroker::Heartbeat(v1::Heartbeat {}))
    }

    /// Moves what running attempts reported to where messages are composed from.
    fn report(&mut self) {
        for (epoch, report) in mem::take(&mut self.reports) {
            let Some(held) = self.held.get(&epoch) else {
                continue;
            };
            if let Some((fraction, note)) = report.progress {
                self.progress.push(v1::ProgressReport {
                    task_id: held.task_id.clone(),
                    namespace: held.namespace.clone(),
                    epoch: epoch.0,
                    fraction,
                    note,
                });
            }
            let unsent = (held.checkpoint.as_ref())
                .filter(|checkpoint| report.has_checkpoint && checkpoint.phase == Phase::Waiting);
            let Some(state) = unsent.map(|checkpoint| checkpoint.state.clone()) else {
                continue;
            };
            let phase = if state.len() > INLINE_BYTES_MAX {
                Phase::Uploading(self.upload(Purpose::HeldCheckpoint(epoch), state))
            } else {
                let message = saved_checkpoint(epoch, held, Some(inline(state)));
                self.saved.insert(epoch, message);
                Phase::Due
            };
            if let Some(checkpoint) =
                (self.held.get_mut(&epoch)).and_then(|held| held.checkpoint.as_mut())
            {
                checkpoint.phase = phase;
            }
        }
    }

    /// As many outcomes as one message takes, and at least one if any is due.
    fn due_outcomes(&mut self) -> Vec<AttemptOutcome> {
        let mut outcomes = Vec::new();
        let mut bytes = 0;
        while let Some(epoch) = self.due.front() {
            // It may have been fenced since.
            if let Some(kept) = self
                .kept
                .get_mut(epoch)
                .filter(|kept| kept.phase == Phase::Due)
            {
                bytes += kept.bytes;
                if bytes > OUTCOMES_MESSAGE_BYTES && !outcomes.is_empty() {
                    break;
                }
                kept.phase = Phase::Sent;
                outcomes.push(kept.outcome.clone());
            }
            self.due.pop_front();
        }
        outcomes
    }

    fn raise_credits(&mut self) -> Option<u64> {
        if self.is_draining || self.kept_bytes >= KEPT_BYTES_MAX {
            return None;
        }
        let room = OUTCOMES_KEPT_MAX.saturating_sub(self.kept.len() + self.held.len());
        self.window.raise(self.held.len(), room)
    }
}

/// Has a kept outcome written to the host's disk, if it is not there.
fn spool(kept: &mut Kept, commands: &mut VecDeque<Command>) {
    if !mem::replace(&mut kept.is_spooled, true) {
        commands.push_back(Command::Spool(Box::new(kept.outcome.clone())));
    }
}

fn inline(bytes: Bytes) -> Data {
    Data {
        kind: Some(DataKind::Inline(bytes)),
    }
}

/// The result, if it is too large for a message of the session.
fn large_result(outcome: &AttemptOutcome) -> Option<&Bytes> {
    match outcome.result.as_ref()?.kind.as_ref()? {
        DataKind::Inline(bytes) => Some(bytes).filter(|bytes| bytes.len() > INLINE_BYTES_MAX),
        DataKind::Blob(_) => None,
    }
}

fn size(outcome: &AttemptOutcome, checkpoint: Option<&Bytes>) -> usize {
    outcome.encoded_len() + checkpoint.map_or(0, Bytes::len)
}

fn saved_checkpoint(epoch: Epoch, held: &Held, state: Option<Data>) -> v1::SavedCheckpoint {
    v1::SavedCheckpoint {
        task_id: held.task_id.clone(),
        namespace: held.namespace.clone(),
        epoch: epoch.0,
        token: held.token.clone(),
        state,
    }
}

fn saved_checkpoint_of(outcome: &AttemptOutcome, state: Option<Data>) -> v1::SavedCheckpoint {
    v1::SavedCheckpoint {
        task_id: outcome.task_id.clone(),
        namespace: outcome.namespace.clone(),
        epoch: outcome.epoch,
        token: outcome.token.clone(),
        state,
    }
}

fn wire_digests<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Vec<Bytes> {
    (digests.into_iter())
        .map(|digest| Bytes::copy_from_slice(&digest.0))
        .collect()
}

#[cfg(test)]
mod tests;
