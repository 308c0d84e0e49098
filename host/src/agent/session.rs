//! The session's state machine: what a host owes its broker, and what the broker asked of it.
//!
//! It is synchronous and has no clock, no randomness and no I/O: messages, ends of attempts and the time go in,
//! messages and [`Command`]s come out. Whoever drives it (a socket, or a simulation) calls
//! [`next_command`](Session::next_command) until it is empty after each input, and
//! [`next_message`](Session::next_message) whenever the link takes a message. Since messages are composed only then,
//! a slow link makes them fewer and larger, and never makes them queue. Composing may give commands too.
//!
//! Time is a [`Duration`] since any fixed point, as long as it never falls.
//!
//! Here is the session with its connections and modules. `held` has the attempts until they end, `kept` their outcomes
//! from then until the broker acknowledges them, and `compose` what is said of both.

mod compose;
mod held;
mod kept;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tq_core::id::{Digest, Epoch};
use tq_core::label::Labels;
use tq_core::limits::{HEARTBEAT, LEASE};
use tq_proto::v1::broker_message::Kind as FromBroker;
use tq_proto::v1::{self, Assignment, AttemptOutcome, BrokerMessage};

use crate::agent::credits::Window;
use crate::agent::session::held::{Held, Report};
use crate::agent::session::kept::{Kept, Phase, Purpose, spool};
use crate::runner::StopReason;

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
    /// What it says of itself.
    pub labels: Labels,
    /// What the memory limits of its attempts may add up to; `None` if only its slots limit it.
    pub memory_bytes: Option<u64>,
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
    /// Take back every attempt that was to be started and has not begun. Each ends in [`Session::not_run`], as
    /// [`Outcome::HostDrained`](tq_core::Outcome::HostDrained).
    HandBack,
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
    /// An operator removed this host. It has nothing any more, and is not to come back by itself.
    #[error(
        "this host was removed with `tq host remove`; start it again to let it join as a new one"
    )]
    Removed,
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
    /// Outcomes that were sent on this connection and not acknowledged.
    unacknowledged: usize,
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
            unacknowledged: 0,
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
        self.unacknowledged = 0;
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
                match held::fill_in(assignments.assignments) {
                    Ok(assignments) => assignments
                        .into_iter()
                        .for_each(|assignment| self.assigned(assignment)),
                    Err(breach) => self.breach(breach),
                }
            }
            (Link::Up, FromBroker::Acks(acks)) => self.acknowledged(&acks),
            (Link::Up, FromBroker::Prepare(prepare)) => self.asked_to_prepare(&prepare),
            (Link::Up, FromBroker::Stop(stop)) => self.told_to_stop(stop),
            (Link::Up, FromBroker::HandBack(_)) => self.commands.push_back(Command::HandBack),
            (Link::Greeting | Link::Up, FromBroker::Removed(_)) => self.removed(),
            (Link::Greeting | Link::Up, FromBroker::Heartbeat(_)) => {}
            (Link::Up, FromBroker::Welcome(_)) => self.breach(Breach::Protocol("a second welcome")),
            (Link::Greeting, _) => self.breach(Breach::Protocol("a message before the welcome")),
            (Link::Fresh, _) => self.breach(Breach::Protocol("a message before the hello")),
            // The last words of a connection that was given up.
            (Link::Down, _) => {}
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

    /// From now on the host takes nothing new, and gives back what it has not begun.
    pub fn drain(&mut self) {
        self.is_draining = true;
        self.draining_due = true;
        // Others run it sooner than a host that is about to end.
        self.commands.push_back(Command::HandBack);
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

    /// The host is none of the broker's any more: stops and forgets all that it has.
    fn removed(&mut self) {
        let epochs: Vec<Epoch> = self.held.keys().chain(self.kept.keys()).copied().collect();
        epochs.into_iter().for_each(|epoch| self.fence(epoch));
        self.breach(Breach::Removed);
    }

    fn breach(&mut self, breach: Breach) {
        self.disconnected();
        self.commands.push_back(Command::Disconnect(breach));
    }

    fn note_seq(&mut self, seq: u64) {
        self.seen.seq = self.seen.seq.max(seq);
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

    fn announce(&mut self, digest: Digest) {
        if self.link == Link::Up && !self.announce.contains(&digest) {
            self.dropped.retain(|dropped| *dropped != digest);
            self.announce.push(digest);
        }
    }
}

#[cfg(test)]
mod tests;
