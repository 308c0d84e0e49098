//! A host: the real session in a process that comes and goes, its disk, and a runner whose attempts take time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tq_broker::dispatch::message::Token;
use tq_core::label::Labels;
use tq_core::outcome::Usage;
use tq_core::{Digest, Epoch, Limits, Outcome};
use tq_host::agent::session::{Breach, Command, Identity, Seen, Session, UploadId};
use tq_host::runner::{Failure, Finished, StopReason};
use tq_proto::v1::{self, Assignment, AttemptOutcome, Blob};

use crate::clients::FUNCTIONS;
use crate::network::UNDER_WAY_MAX;
use crate::promises::{name_of, result};
use crate::world::{Event, World};

/// How many there are.
pub(crate) const HOSTS: usize = 3;

/// How long a guest may take to stop when it is told to.
const GRACE_US: u64 = 300_000;

/// A host.
pub(crate) struct Host {
    slots: u32,
    /// What it offers: some hosts have less than their slots could use.
    pub(crate) memory_bytes: Option<u64>,
    /// Processes so far.
    pub(crate) life: u32,
    pub(crate) process: Option<Process>,
    /// It stands still until then.
    pub(crate) frozen_until: Duration,
    /// It never starts again.
    pub(crate) is_lost: bool,
    /// What is on its disk: outcomes that nobody took, how far its broker was, compiled modules.
    spool: BTreeMap<Epoch, AttemptOutcome>,
    seen: Seen,
    ready: BTreeSet<Digest>,
}

/// A process of a host.
pub(crate) struct Process {
    pub(crate) session: Session,
    pub(crate) connection: Option<u64>,
    is_connecting: bool,
    tick_at: Option<Duration>,
    queue: VecDeque<Assignment>,
    pub(crate) running: BTreeMap<Epoch, Running>,
    is_draining: bool,
}

/// An attempt that runs.
pub(crate) struct Running {
    assignment: Assignment,
    began: Duration,
    /// How it ends if nobody stops it.
    outcome: Outcome,
    stop: Option<StopReason>,
}

impl Host {
    pub(crate) fn some(random: &mut fastrand::Rng) -> Vec<Self> {
        let host = |slots: u32, has_little: bool| Self {
            slots,
            memory_bytes: has_little.then_some(2 * Limits::DEFAULT.memory_bytes),
            life: 0,
            process: None,
            frozen_until: Duration::ZERO,
            is_lost: false,
            spool: BTreeMap::new(),
            seen: Seen::default(),
            ready: BTreeSet::new(),
        };
        (0..HOSTS)
            .map(|_| host(random.u32(1..5), random.u32(..3) == 0))
            .collect()
    }

    /// Whether it has nothing that anyone waits for.
    pub(crate) fn is_done(&self) -> bool {
        self.is_lost
            || self.process.as_ref().is_some_and(|process| {
                process.session.held() == 0 && process.session.kept() == 0 && self.spool.is_empty()
            })
    }

    pub(crate) fn what_is_left(&self) -> (usize, usize, usize) {
        let process = self.process.as_ref();
        process.map_or((0, 0, self.spool.len()), |process| {
            let session = &process.session;
            (session.held(), session.kept(), self.spool.len())
        })
    }
}

/// The label that every host has but this one.
pub(crate) fn label_of_others(name: &str) -> Box<str> {
    format!("not-{name}").into()
}

/// What a host says of itself: for each other host, that it is not that one.
fn labels(index: usize) -> Labels {
    let others = (0..HOSTS).filter(|other| *other != index);
    others
        .map(|other| (label_of_others(&format!("host-{other}")), "yes".into()))
        .collect()
}

impl World {
    pub(crate) fn start_host(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.process.is_some() || host.is_lost {
            return;
        }
        host.life += 1;
        let identity = Identity {
            name: format!("host-{index}"),
            incarnation: [index as u8, host.life as u8, (host.life >> 8) as u8, 0]
                .repeat(4)
                .try_into()
                .expect("four times four bytes"),
            slots: host.slots,
            labels: labels(index),
            memory_bytes: host.memory_bytes,
        };
        let spooled = host.spool.values().cloned().collect();
        host.process = Some(Process {
            session: Session::new(identity, host.seen.clone(), host.ready.clone(), spooled),
            connection: None,
            is_connecting: false,
            tick_at: None,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            is_draining: false,
        });
        let life = host.life;
        self.say(|| format!("host {index} starts"));
        self.reconnect(index, life);
    }

    /// Ends a host's process at once.
    pub(crate) fn kill_host(&mut self, index: usize) {
        let Some(process) = self.hosts[index].process.take() else {
            return;
        };
        self.say(|| format!("host {index} is killed"));
        self.hosts[index].frozen_until = Duration::ZERO;
        self.leave(process);
        let pause = self.micros(1_000..20_000_000);
        self.after(pause, Event::HostStarts(index));
    }

    /// The system closes the connection of a process that is gone.
    fn leave(&mut self, process: Process) {
        if let Some(id) = process.connection {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.at_host = false;
                connection.to_host.messages.clear();
            }
            let latency = self.micros(50..5_000);
            self.after(latency, Event::GoneAtBroker(id));
        }
    }

    /// Asks a host to end when it has nothing left.
    pub(crate) fn drain_host(&mut self, index: usize) {
        let Some(process) = &mut self.hosts[index].process else {
            return;
        };
        process.is_draining = true;
        process.session.drain();
        let life = self.hosts[index].life;
        self.say(|| format!("host {index} drains"));
        self.flush_host(index, life);
    }

    fn process(&mut self, index: usize, life: u32) -> Option<&mut Process> {
        let host = &mut self.hosts[index];
        host.process.as_mut().filter(|_| host.life == life)
    }

    fn reconnect(&mut self, index: usize, life: u32) {
        let pause = self.micros(1_000..2_000_000);
        if let Some(process) = self.process(index, life)
            && !std::mem::replace(&mut process.is_connecting, true)
        {
            self.after(pause, Event::Connect(index, life));
        }
    }

    pub(crate) fn connect(&mut self, index: usize, life: u32) {
        let is_refused = self.broker.process.is_none() || (!self.is_calm && self.one_in(5));
        let Some(process) = self.process(index, life) else {
            return;
        };
        process.is_connecting = false;
        if is_refused {
            return self.reconnect(index, life);
        }
        let id = self.new_connection(index, life);
        let now = self.now;
        if let Some(process) = self.process(index, life) {
            process.connection = Some(id);
            process.session.connected(now);
        }
        self.say(|| format!("host {index} connects ({id})"));
        self.flush_host(index, life);
    }

    pub(crate) fn gone_at_host(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.at_host = false;
        connection.to_host.messages.clear();
        let (index, life) = (connection.host, connection.life);
        self.forget_connection(id);
        let Some(process) = self.process(index, life) else {
            return;
        };
        if process.connection == Some(id) {
            process.connection = None;
            process.session.disconnected();
            self.say(|| format!("host {index} has lost its connection"));
            self.flush_host(index, life);
            self.reconnect(index, life);
        }
    }

    pub(crate) fn tick(&mut self, index: usize, life: u32) {
        let now = self.now;
        if let Some(process) = self.process(index, life)
            && process.tick_at.is_some_and(|at| at <= now)
        {
            process.tick_at = None;
            process.session.tick(now);
            self.flush_host(index, life);
        }
    }

    pub(crate) fn arrive_at_host(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.to_host.stopped_until > self.now {
            let at = connection.to_host.stopped_until;
            if at < Duration::from_secs(1 << 30) {
                self.at(at, Event::ToHost(id));
            }
            return;
        }
        let Some(message) = connection.to_host.messages.pop_front() else {
            return;
        };
        let (index, life) = (connection.host, connection.life);
        let now = self.now;
        if connection.at_host
            && let Some(process) = self.process(index, life)
            && process.connection == Some(id)
        {
            self.note_acks(&message);
            if let Some(process) = self.process(index, life) {
                process.session.received(message, now);
            }
            self.flush_host(index, life);
        }
        self.send_out();
    }

    /// What the broker says that counts is a promise.
    fn note_acks(&mut self, message: &v1::BrokerMessage) {
        let Some(v1::broker_message::Kind::Acks(acks)) = &message.kind else {
            return;
        };
        for ack in acks.acks.iter().filter(|ack| !ack.fenced) {
            let epoch = Epoch(ack.epoch);
            self.promises.was_accepted(epoch);
        }
    }

    /// Whether the connection of a host takes another message.
    fn is_writable(&self, index: usize) -> bool {
        let process = self.hosts[index].process.as_ref();
        let connection = process.and_then(|process| self.connections.get(&process.connection?));
        connection.is_some_and(|connection| connection.to_broker.messages.len() < UNDER_WAY_MAX)
    }

    /// Does all that a host's session asks for, and sends what it has to say and its connection takes.
    pub(crate) fn flush_host(&mut self, index: usize, life: u32) {
        loop {
            while let Some(command) = self
                .process(index, life)
                .and_then(|process| process.session.next_command())
            {
                self.obey(index, life, command);
            }
            let now = self.now;
            let latency = self.micros(50..3_000);
            let Some(process) = self.process(index, life) else {
                return;
            };
            let Some(id) = process.connection else {
                break;
            };
            if !self.is_writable(index) {
                break;
            }
            let Some(message) = self
                .process(index, life)
                .and_then(|process| process.session.next_message(now))
            else {
                break;
            };
            if let Some(connection) = self.connections.get_mut(&id) {
                let line = &mut connection.to_broker;
                line.last = line.last.max(now + latency);
                line.messages.push_back(message);
                let at = line.last;
                self.at(at, Event::ToBroker(id));
            }
        }
        self.settle_host(index, life);
    }

    /// Keeps what is to outlive the process, wakes it in time, and lets it end if it is drained.
    fn settle_host(&mut self, index: usize, life: u32) {
        let now = self.now;
        let is_writable = self.is_writable(index);
        let Some(process) = self.process(index, life) else {
            return;
        };
        let seen = process.session.seen().clone();
        let wake_at = process.session.wake_at(is_writable).map(|at| at.max(now));
        let is_drained = process.is_draining && process.session.is_drained();
        if let Some(at) = wake_at
            && process.tick_at.is_none_or(|tick_at| tick_at > at)
        {
            process.tick_at = Some(at);
            self.at(at, Event::Tick(index, life));
        }
        self.hosts[index].seen = seen;
        if is_drained && let Some(process) = self.hosts[index].process.take() {
            self.say(|| format!("host {index} has drained, and ends"));
            self.leave(process);
            let pause = self.micros(1_000..3_000_000);
            self.after(pause, Event::HostStarts(index));
        }
    }

    fn obey(&mut self, index: usize, life: u32, command: Command) {
        match command {
            Command::Start(assignment) => self.take(index, life, *assignment),
            Command::Stop { epoch, why } => self.stop(index, life, epoch, why),
            Command::HandBack => self.hand_back(index, life),
            Command::Prepare { digest, .. } => {
                let is_ok = self.is_calm || !self.one_in(12);
                let took = self.micros(1_000..400_000);
                self.after(took, Event::Prepared(index, life, digest, is_ok));
            }
            Command::Upload { id, bytes } => {
                let connection = self
                    .process(index, life)
                    .and_then(|process| process.connection);
                let blob = Blob {
                    digest: Bytes::copy_from_slice(&name_of(&bytes)),
                    size_bytes: bytes.len() as u64,
                };
                let took = self.micros(1_000..200_000);
                if let Some(connection) = connection {
                    self.after(took, Event::Uploaded(index, life, connection, id, blob));
                }
            }
            Command::Spool(outcome) => {
                let epoch = Epoch(outcome.epoch);
                self.hosts[index].spool.insert(epoch, *outcome);
            }
            Command::Unspool(epoch) => {
                self.hosts[index].spool.remove(&epoch);
            }
            Command::Welcomed | Command::Acknowledged { .. } => {}
            Command::Disconnect(Breach::Removed) => {
                self.say(|| format!("host {index} was removed, and ends"));
                if self.hosts[index].life == life
                    && let Some(process) = self.hosts[index].process.take()
                {
                    self.leave(process);
                    let pause = self.micros(1_000..5_000_000);
                    self.after(pause, Event::HostStarts(index));
                }
            }
            Command::Disconnect(breach) => {
                assert!(
                    matches!(breach, Breach::Silent(_)),
                    "host {index} says: {breach}"
                );
                self.say(|| format!("host {index} gives its connection up: {breach}"));
                if let Some(process) = self.process(index, life)
                    && let Some(id) = process.connection.take()
                {
                    let connection = self.connections.get_mut(&id);
                    if let Some(connection) = connection {
                        connection.at_host = false;
                        connection.to_host.messages.clear();
                    }
                    // The broker may hear of it late, or never.
                    if self.one_in(2) {
                        let latency = self.micros(50..500_000);
                        self.after(latency, Event::GoneAtBroker(id));
                    }
                }
                self.reconnect(index, life);
            }
        }
    }

    /// Takes an attempt in.
    fn take(&mut self, index: usize, life: u32, assignment: Assignment) {
        let digest = <[u8; 32]>::try_from(&assignment.digest[..]).map(Digest);
        assert!(
            digest.is_ok_and(|digest| self.hosts[index].ready.contains(&digest)),
            "host {index} got a task of a module that it does not hold"
        );
        let payload = match assignment
            .payload
            .as_ref()
            .and_then(|data| data.kind.as_ref())
        {
            Some(v1::data::Kind::Inline(bytes)) => bytes.clone(),
            Some(v1::data::Kind::Blob(_)) | None => panic!("no payload of this size is a blob"),
        };
        let id = assignment.task_id.parse().expect("the id of a task");
        self.promises
            .was_handed_out(Epoch(assignment.epoch), id, &assignment, &payload);
        let token = assignment.token[..]
            .try_into()
            .expect("a token has 16 bytes");
        let handed_out = self.handed_out.entry(id).or_default();
        handed_out.push((index, Epoch(assignment.epoch), Token(token)));
        self.report.attempts += 1;
        if let Some(process) = self.process(index, life) {
            process.queue.push_back(assignment);
        }
        self.run_next(index, life);
    }

    /// Gives back what has not begun.
    fn hand_back(&mut self, index: usize, life: u32) {
        let Some(process) = self.process(index, life) else {
            return;
        };
        let mut epochs = Vec::new();
        for assignment in process.queue.drain(..) {
            let epoch = Epoch(assignment.epoch);
            let message = "it had not begun".to_owned();
            process
                .session
                .not_run(epoch, Outcome::HostDrained, message);
            epochs.push(epoch);
        }
        for epoch in epochs {
            self.promises.has_ended(epoch, Outcome::HostDrained);
        }
    }

    /// Lets attempts begin while there are slots.
    fn run_next(&mut self, index: usize, life: u32) {
        let slots = self.hosts[index].slots as usize;
        loop {
            let Some(process) = self.process(index, life) else {
                return;
            };
            if process.running.len() >= slots {
                return;
            }
            let Some(assignment) = process.queue.pop_front() else {
                return;
            };
            let epoch = Epoch(assignment.epoch);
            self.promises
                .begins(&assignment.traceparent, self.broker.time);
            let is_endless = self.promises.sent[&assignment.traceparent].is_endless;
            let outcomes = [
                Outcome::Succeeded,
                Outcome::Succeeded,
                Outcome::Succeeded,
                Outcome::Succeeded,
                Outcome::Succeeded,
                Outcome::Trap,
                Outcome::FatalError,
                Outcome::HostError,
                Outcome::RunnerCrashed,
            ];
            let broken = [Outcome::RetryableError, Outcome::FatalError];
            let is_broken = self.is_broken && assignment.function == FUNCTIONS[1];
            let outcome = match (self.is_calm, is_broken) {
                (true, _) => Outcome::Succeeded,
                (false, true) => broken[self.random.usize(..broken.len())],
                (false, false) => outcomes[self.random.usize(..outcomes.len())],
            };
            let is_dear = self.promises.sent[&assignment.traceparent].is_dear;
            let took = match self.random.u32(..10) {
                _ if is_dear => Duration::from_secs(5),
                0 => self.micros(1_000_000..20_000_000),
                1..4 => self.micros(20_000..1_000_000),
                _ => self.micros(10..20_000),
            };
            let now = self.now;
            let (has_checkpoint, is_large) = (self.one_in(6), self.one_in(4));
            if let Some(process) = self.process(index, life) {
                process.session.progressed(epoch, 0.5, "half".to_owned());
                if has_checkpoint {
                    let len = if is_large { 70_000 } else { 10 };
                    process.session.saved(epoch, vec![b'c'; len].into());
                }
                let running = Running {
                    assignment,
                    began: now,
                    outcome,
                    stop: None,
                };
                process.running.insert(epoch, running);
            }
            if !is_endless {
                self.after(took, Event::AttemptEnds(index, life, epoch));
            }
        }
    }

    fn stop(&mut self, index: usize, life: u32, epoch: Epoch, why: StopReason) {
        let grace = self.micros(10..GRACE_US);
        let Some(process) = self.process(index, life) else {
            return;
        };
        let abandoned = matches!(why, StopReason::Abandoned | StopReason::Shutdown);
        if abandoned {
            process
                .queue
                .retain(|assignment| assignment.epoch != epoch.0);
            process.running.remove(&epoch);
            return self.run_next(index, life);
        }
        if let Some(running) = process.running.get_mut(&epoch) {
            running.stop.get_or_insert(why);
            return self.after(grace, Event::AttemptEnds(index, life, epoch));
        }
        let before = process.queue.len();
        process
            .queue
            .retain(|assignment| assignment.epoch != epoch.0);
        if process.queue.len() < before {
            let (outcome, message) = (stopped(why), "stopped before it ran".to_owned());
            self.promises.has_ended(epoch, outcome);
            let Some(process) = self.process(index, life) else {
                return;
            };
            process.session.not_run(epoch, outcome, message);
        }
    }

    pub(crate) fn attempt_ends(&mut self, index: usize, life: u32, epoch: Epoch) {
        let comes_first = self.one_in(4);
        let Some(running) = self
            .process(index, life)
            .and_then(|process| process.running.remove(&epoch))
        else {
            return;
        };
        let tag = &running.assignment.traceparent;
        let is_endless = self.promises.sent[tag].is_endless;
        let outcome = match running.stop {
            // A success may come before the guest hears of it.
            Some(why) if is_endless || !comes_first => stopped(why),
            Some(_) | None => running.outcome,
        };
        if outcome == Outcome::RunnerCrashed && !running.assignment.alone {
            self.runner_crashes(index, life);
        }
        self.end(index, life, running, outcome);
        self.run_next(index, life);
        self.flush_host(index, life);
    }

    /// The process in which a host runs its attempts comes to its end, with all of them but those that run alone.
    fn runner_crashes(&mut self, index: usize, life: u32) {
        let Some(process) = self.process(index, life) else {
            return;
        };
        let beside = process
            .running
            .extract_if(.., |_, running| !running.assignment.alone);
        let beside: Vec<_> = beside.map(|(_, running)| running).collect();
        for running in beside {
            self.end(index, life, running, Outcome::RunnerCrashed);
        }
    }

    fn end(&mut self, index: usize, life: u32, running: Running, outcome: Outcome) {
        let epoch = Epoch(running.assignment.epoch);
        let tag = &running.assignment.traceparent;
        let is_success = outcome == Outcome::Succeeded;
        self.promises.has_ended(epoch, outcome);
        let finished = Finished {
            epoch,
            outcome,
            result: is_success.then(|| result(tag)),
            failure: (!is_success).then(|| Failure {
                message: outcome.name().to_owned(),
                backtrace: None,
            }),
            retry_after: None,
            usage: Usage {
                fuel: epoch.0 % (running.assignment.limits.map_or(0, |limits| limits.fuel) + 1),
                memory_bytes_peak: 1 << 20,
                wall_ns: (self.now - running.began).as_nanos() as u64,
                ..Usage::default()
            },
        };
        if let Some(process) = self.process(index, life) {
            process.session.finished(finished);
        }
    }

    pub(crate) fn prepared(&mut self, index: usize, life: u32, digest: Digest, is_ok: bool) {
        if is_ok {
            self.hosts[index].ready.insert(digest);
        }
        if let Some(process) = self.process(index, life) {
            match is_ok {
                true => process.session.prepared(digest),
                false => process
                    .session
                    .prepare_failed(digest, "no room".to_owned(), false),
            }
            self.flush_host(index, life);
        }
    }

    /// A host's cache lets go of a module that none of its attempts needs.
    pub(crate) fn drop_module(&mut self, index: usize, digest: Digest) {
        let host = &mut self.hosts[index];
        let Some(process) = &mut host.process else {
            return;
        };
        // What was assigned and is under way would find it gone, as it may on a real host: that one gives it back.
        if process.session.held() == 0 && process.connection.is_none() && host.ready.remove(&digest)
        {
            process.session.dropped(digest);
            let life = host.life;
            self.flush_host(index, life);
        }
    }

    pub(crate) fn uploaded(
        &mut self,
        index: usize,
        life: u32,
        connection: u64,
        id: UploadId,
        blob: Blob,
    ) {
        if let Some(process) = self.process(index, life)
            && process.connection == Some(connection)
        {
            process.session.uploaded(id, blob);
            self.flush_host(index, life);
        }
    }
}

fn stopped(why: StopReason) -> Outcome {
    match why {
        StopReason::DeadlineExceeded => Outcome::DeadlineExceeded,
        StopReason::Cancelled => Outcome::Cancelled,
        StopReason::Abandoned | StopReason::Shutdown => Outcome::HostLost,
    }
}
