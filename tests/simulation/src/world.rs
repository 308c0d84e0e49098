//! Time, and what happens next.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tq_broker::dispatch::message::Token;
use tq_broker::ledger::{Command, Config, Error, HostView, Refused};
use tq_broker::simulation::{from_host_in, hello_in, to_host_out};
use tq_broker::store::memory::Crash;
use tq_core::{Digest, Epoch, Quotas, Retention, TaskId};
use tq_host::agent::session::UploadId;
use tq_proto::v1::{self, Blob};

use crate::Options;
use crate::broker::{Broker, EPOCHS};
use crate::clients::Clients;
use crate::host::Host;
use crate::network::{Connection, UNDER_WAY_MAX};
use crate::promises::{LetIn, Promises};

/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(40);
/// How long it may take until all tasks have ended when nothing goes wrong any more.
const RECOVERY_MAX: Duration = Duration::from_secs(1_800);
/// Events of one history, at most: beyond it, something turns in a circle.
const EVENTS_MAX: u64 = 400_000;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// The ledger takes a step.
    Step,
    /// A sync is done, of this life of the broker.
    Synced(u64),
    /// A process of the broker begins.
    BrokerStarts,
    /// The next message of a connection arrives at the broker.
    ToBroker(u64),
    /// The next message of a connection arrives at its host.
    ToHost(u64),
    /// The broker notices that a connection is gone.
    GoneAtBroker(u64),
    /// The host notices that a connection is gone.
    GoneAtHost(u64),
    /// A process of a host begins.
    HostStarts(usize),
    /// A host tries to connect.
    Connect(usize, u32),
    /// A host's session wants to be called.
    Tick(usize, u32),
    /// An attempt on a host ends.
    AttemptEnds(usize, u32, Epoch),
    /// A host has compiled a module, or could not.
    Prepared(usize, u32, Digest, bool),
    /// Bytes of a host are on the broker's disk.
    Uploaded(usize, u32, u64, UploadId, Blob),
    /// A client does something.
    Client,
    /// Something fails.
    Chaos,
}

/// What a history was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Things that happened.
    pub events: u64,
    /// Steps of the ledger.
    pub steps: u64,
    /// Tasks.
    pub tasks: u64,
    /// Attempts that hosts got.
    pub attempts: u64,
    /// Breakers that opened.
    pub openings: u64,
    /// Tasks that were refused because too many waited.
    pub refused: u64,
    /// Ends of the broker's process or machine that were not orderly.
    pub crashes: u64,
    /// What happened, in its order, as a number: the same for the same history.
    pub fingerprint: u64,
}

impl Report {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            events: self.events + other.events,
            steps: self.steps + other.steps,
            tasks: self.tasks + other.tasks,
            attempts: self.attempts + other.attempts,
            openings: self.openings + other.openings,
            refused: self.refused + other.refused,
            crashes: self.crashes + other.crashes,
            fingerprint: self.fingerprint ^ other.fingerprint,
        }
    }
}

/// All there is.
pub(crate) struct World {
    pub(crate) random: fastrand::Rng,
    pub(crate) now: Duration,
    pub(crate) broker: Broker,
    pub(crate) hosts: Vec<Host>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) clients: Clients,
    pub(crate) promises: Promises,
    pub(crate) report: Report,
    /// Attempts that hosts got, with the proofs that they are theirs, by task.
    pub(crate) handed_out: BTreeMap<TaskId, Vec<(usize, Epoch, Token)>>,
    /// Nothing goes wrong any more.
    pub(crate) is_calm: bool,
    /// A function fails, whatever hosts do.
    pub(crate) is_broken: bool,
    /// Hosts of which an operator wanted something.
    pub(crate) has_orders: Vec<bool>,
    /// Answers to those that are to work again.
    pub(crate) resumed: BTreeMap<usize, oneshot::Receiver<Result<HostView, Refused>>>,
    watcher: Option<fn(Duration, &str)>,
    events: BTreeMap<(Duration, u64), Event>,
    scheduled: u64,
    connected: u64,
}

/// Times after which what has ended goes while a history goes on.
const SHORT: Retention = Retention {
    succeeded: Duration::from_secs(8),
    dead: Duration::from_secs(12),
    cancelled: Duration::from_secs(5),
    expired: Duration::from_secs(6),
    results: Some(Duration::from_secs(3)),
    modules: Duration::from_secs(5),
};

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let windows = [1, 2, 4, 16, 1_000];
        let spans = [1, 4, 8, 1_000];
        // Of one function few attempts end between two restarts. Without breakers, the others have more to do.
        let attempts = [3, 6, u32::MAX];
        // With few that may wait, much is refused, and others have less to do.
        let waiting = [u64::MAX, u64::MAX, 12, 40];
        let config = Config {
            seed,
            ready_window: windows[random.usize(..windows.len())],
            unindexed_span: spans[random.usize(..spans.len())],
            retention: match random.bool() {
                true => SHORT,
                false => Retention::DEFAULT,
            },
            breaker_attempts_min: attempts[random.usize(..attempts.len())],
            waiting_max: waiting[random.usize(..waiting.len())],
            ..Config::default()
        };
        let hosts = Host::some(&mut random);
        let memories = hosts.iter().map(|host| host.memory_bytes).collect();
        let began = EPOCHS[usize::from(random.u32(..3) == 0)];
        // A budget that is spent leaves little to happen until the day is over.
        let (waiting, running) = ([None, None, Some(8)], [None, None, Some(2)]);
        let (rates, budgets) = (
            [None, None, None, Some(10)],
            [None, None, None, Some(4_000)],
        );
        let quotas = Quotas {
            waiting: waiting[random.usize(..waiting.len())],
            running: running[random.usize(..running.len())],
            stored_bytes: [None, Some(200_000)][usize::from(random.u32(..4) == 0)],
            submits_per_second: rates[random.usize(..rates.len())],
            fuel_per_day: budgets[random.usize(..budgets.len())],
        };
        Self {
            now: Duration::from_secs(100),
            broker: Broker::new(config, began),
            has_orders: vec![false; hosts.len()],
            resumed: BTreeMap::new(),
            hosts,
            connections: BTreeMap::new(),
            clients: Clients::default(),
            promises: Promises::new(config.retention, memories, quotas),
            report: Report::default(),
            handed_out: BTreeMap::new(),
            is_calm: true,
            is_broken: false,
            watcher: options.watcher,
            events: BTreeMap::new(),
            scheduled: 0,
            connected: 0,
            random,
        }
    }

    /// Runs the history to its end.
    ///
    /// # Panics
    /// If a promise is broken.
    pub(crate) fn run(mut self) -> Report {
        self.start_broker();
        self.deploy();
        self.set_quotas(self.promises.quotas);
        self.run_until(self.now + Duration::from_millis(100));
        for host in 0..self.hosts.len() {
            self.after(Duration::ZERO, Event::HostStarts(host));
        }
        self.is_calm = false;
        self.after(Duration::ZERO, Event::Client);
        self.after(Duration::from_millis(200), Event::Chaos);
        self.run_until(self.now + TROUBLE);
        self.calm_down();
        self.run_until_over();
        self.reconnect_all();
        self.run_until_over();
        let process = self.broker.process.as_ref().expect("the broker runs");
        process.ledger.recount();
        self.promises.check_end(&process.ledger);
        self.report.tasks = self.promises.sent.len() as u64;
        self.report
    }

    fn run_until_over(&mut self) {
        let until = self.now + RECOVERY_MAX;
        while !self.is_over() {
            assert!(self.now < until, "{}", self.what_is_left());
            self.resume_hosts();
            self.run_until(self.now + Duration::from_secs(1));
        }
    }

    /// Cuts every connection while attempts run, and nothing else: hosts come back to what they have.
    fn reconnect_all(&mut self) {
        // Hosts may have failed to compile a module until it was given up, which only a deploy takes back. What failed before
        // nothing failed any more was heard of later still.
        self.deploy();
        self.run_until(self.now + Duration::from_secs(1));
        self.submit_dear(6);
        self.run_until(self.now + Duration::from_secs(3));
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        self.say(|| format!("connections are cut while nothing else fails: {ids:?}"));
        ids.into_iter().for_each(|id| self.cut(id, true, true));
    }

    fn run_until(&mut self, until: Duration) {
        while let Some(entry) = self
            .events
            .first_entry()
            .filter(|entry| entry.key().0 <= until)
        {
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.report.events += 1;
            assert!(self.report.events < EVENTS_MAX, "there is no end of events");
            self.happens(event);
        }
        self.now = until;
    }

    /// Lets something happen after a while.
    pub(crate) fn after(&mut self, span: Duration, event: Event) {
        self.at(self.now + span, event);
    }

    /// Lets something happen at a time.
    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    /// A time between two, in microseconds.
    pub(crate) fn micros(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_micros(self.random.u64(range))
    }

    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(..n) == 0
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if let Some(watcher) = self.watcher {
            watcher(self.now, &what());
        }
    }

    /// When somebody who stands still would come to deal with an event.
    fn frozen_until(&self, event: &Event) -> Duration {
        match event {
            Event::Step | Event::Synced(_) | Event::GoneAtBroker(_) | Event::ToBroker(_) => {
                self.broker.frozen_until
            }
            Event::ToHost(connection) | Event::GoneAtHost(connection) => self
                .connections
                .get(connection)
                .map_or(Duration::ZERO, |connection| {
                    self.hosts[connection.host].frozen_until
                }),
            Event::Connect(host, _)
            | Event::Tick(host, _)
            | Event::AttemptEnds(host, ..)
            | Event::Prepared(host, ..)
            | Event::Uploaded(host, ..) => self.hosts[*host].frozen_until,
            Event::BrokerStarts | Event::HostStarts(_) | Event::Client | Event::Chaos => {
                Duration::ZERO
            }
        }
    }

    fn happens(&mut self, event: Event) {
        let frozen_until = self.frozen_until(&event);
        if frozen_until > self.now {
            return self.at(frozen_until, event);
        }
        self.report.fingerprint = self
            .report
            .fingerprint
            .rotate_left(5)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ self.now.as_nanos() as u64
            ^ self.random.clone().u64(..);
        match event {
            Event::Step => self.step(),
            Event::Synced(life) => self.synced(life),
            Event::BrokerStarts => self.start_broker(),
            Event::ToBroker(connection) => self.arrive_at_broker(connection),
            Event::ToHost(connection) => self.arrive_at_host(connection),
            Event::GoneAtBroker(connection) => self.gone_at_broker(connection),
            Event::GoneAtHost(connection) => self.gone_at_host(connection),
            Event::HostStarts(host) => self.start_host(host),
            Event::Connect(host, life) => self.connect(host, life),
            Event::Tick(host, life) => self.tick(host, life),
            Event::AttemptEnds(host, life, epoch) => self.attempt_ends(host, life, epoch),
            Event::Prepared(host, life, digest, is_ok) => self.prepared(host, life, digest, is_ok),
            Event::Uploaded(host, life, connection, id, blob) => {
                self.uploaded(host, life, connection, id, blob);
            }
            Event::Client => self.client_acts(),
            Event::Chaos => self.something_fails(),
        }
    }

    // The broker.

    pub(crate) fn start_broker(&mut self) {
        if self.broker.process.is_some() {
            return;
        }
        self.say(|| "broker starts".to_owned());
        if !self.broker.start(self.now) {
            return self.after(Duration::from_millis(100), Event::BrokerStarts);
        }
        if let Some(process) = &self.broker.process {
            process.ledger.recount();
            self.promises.check(&process.ledger);
        }
        self.wake_broker(Duration::ZERO);
    }

    /// Gives the ledger something to do.
    pub(crate) fn command(&mut self, command: Command) {
        if let Some(process) = &mut self.broker.process {
            process.inbox.push(command);
            let pause = self.micros(20..400);
            self.wake_broker(pause);
        }
    }

    fn wake_broker(&mut self, pause: Duration) {
        let at = self.now + pause;
        if let Some(process) = &mut self.broker.process
            && process.step_at.is_none_or(|step_at| step_at > at)
        {
            process.step_at = Some(at);
            self.at(at, Event::Step);
        }
    }

    fn step(&mut self) {
        let clocks = self.broker.now(self.now);
        let Some(process) = &mut self.broker.process else {
            return;
        };
        // It was to step earlier, or later.
        if process.step_at.is_none_or(|at| at > self.now) || !process.may_step() {
            return;
        }
        process.step_at = None;
        let stood = std::mem::take(&mut process.stood);
        if !stood.is_zero() {
            process.ledger.stood_still(stood);
        }
        let inbox = std::mem::take(&mut process.inbox);
        let commands = inbox.len() as u64;
        self.report.steps += 1;
        let shared = process.ledger.shared();
        let openings = &shared.metrics.breaker_openings;
        let before = openings.get();
        let let_in = LetIn::so_far(&shared);
        let stepped = process.ledger.step(clocks, inbox);
        self.report.openings += openings.get() - before;
        if stepped.is_ok() {
            let shared = process.ledger.shared();
            self.report.refused += let_in.check(&shared, self.promises.quotas, commands);
        }
        if stepped.is_err() {
            self.promises.lose_costs();
        }
        // Even a commit that failed may be on disk.
        for (task, at) in process.ledger.take_removed() {
            self.promises.was_removed(&task, at);
        }
        let stepped = match stepped {
            Ok(stepped) => stepped,
            Err(error @ (Error::Commit | Error::Store(_))) => {
                self.say(|| format!("broker stops: {error}"));
                return self.crash_broker(Crash::Process);
            }
            Err(error) => panic!("the ledger stopped: {error}"),
        };
        process.unsaid.push_back(stepped.answers);
        if let Some(wait) = stepped.wait {
            self.wake_broker(wait.max(Duration::from_micros(20)));
        }
        if self.one_in(16) || self.watcher.is_some() {
            let process = self.broker.process.as_ref().expect("it has stepped");
            process.ledger.recount();
            self.promises.check(&process.ledger);
        }
        self.sync();
        self.send_out();
    }

    /// Begins a sync if one is needed and none is under way.
    fn sync(&mut self) {
        let Some(process) = &mut self.broker.process else {
            return;
        };
        if process.syncing > 0 || process.unsaid.is_empty() {
            return;
        }
        if process.unsaid.iter().any(|answers| answers.need_disk()) {
            process.syncing = process.unsaid.len();
            let life = self.broker.life;
            let slow = std::mem::take(&mut self.broker.slow_sync);
            let took = self.micros(100..3_000) + slow;
            self.after(took, Event::Synced(life));
        } else {
            let seq = process.durable_seq;
            process
                .unsaid
                .drain(..)
                .for_each(|answers| answers.give(seq));
            self.hear();
        }
    }

    fn synced(&mut self, life: u64) {
        if life != self.broker.life {
            return;
        }
        let Some(process) = &mut self.broker.process else {
            return;
        };
        let durable_seq = match process.syncer.sync() {
            Ok(seq) => seq,
            Err(error) => {
                self.say(|| format!("broker stops: {error}"));
                return self.crash_broker(Crash::Process);
            }
        };
        process.durable_seq = durable_seq;
        let count = std::mem::take(&mut process.syncing);
        for answers in process.unsaid.drain(..count) {
            answers.give(durable_seq);
        }
        self.hear();
        if let Some(at) = self
            .broker
            .process
            .as_ref()
            .and_then(|process| process.step_at)
        {
            // The ledger waited for this.
            self.at(at.max(self.now), Event::Step);
        }
        self.sync();
        self.send_out();
    }

    /// Takes note of what the broker has answered to hosts and clients.
    fn hear(&mut self) {
        self.clients_hear();
        let answered: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.hello.is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in answered {
            let connection = self.connections.get_mut(&id).expect("it is there");
            let answer = connection.hello.as_mut().map(|hello| hello.try_recv());
            match answer {
                Some(Ok(Ok(session))) => {
                    connection.hello = None;
                    connection.session = Some(session);
                    if !connection.at_broker {
                        // It broke before the broker knew whose it was.
                        self.command(Command::Disconnected(session));
                    }
                }
                Some(Ok(Err(refused))) => {
                    connection.hello = None;
                    let host = connection.host;
                    self.say(|| format!("broker refuses host {host}: {refused}"));
                    self.cut(id, true, true);
                }
                Some(Err(_)) | None => {}
            }
        }
    }

    /// Puts what the ledger has left for hosts on its way.
    pub(crate) fn send_out(&mut self) {
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            let latency = self.micros(50..3_000);
            let connection = self.connections.get_mut(&id).expect("it is there");
            let mut arrives = Vec::new();
            while connection.at_broker
                && connection.to_host.messages.len() < UNDER_WAY_MAX
                && let Some(message) = connection.wire.pop()
            {
                let line = &mut connection.to_host;
                line.last = line.last.max(self.now + latency);
                line.messages.push_back(to_host_out(message));
                arrives.push(line.last);
            }
            let is_dropped = connection.at_broker && connection.is_dropped();
            for at in arrives {
                self.at(at, Event::ToHost(id));
            }
            if is_dropped {
                self.cut(id, true, true);
            }
        }
    }

    fn arrive_at_broker(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.to_broker.stopped_until > self.now {
            let at = connection.to_broker.stopped_until;
            return self.at(at, Event::ToBroker(id));
        }
        // A session begins with its hello, and nothing of it is read before that is answered.
        if connection.hello.is_some() {
            return self.after(Duration::from_millis(1), Event::ToBroker(id));
        }
        let Some(message) = connection.to_broker.messages.pop_front() else {
            return;
        };
        let (host, life, session) = (connection.host, connection.life, connection.session);
        if connection.at_broker && self.broker.process.is_some() {
            match (session, message.kind.clone()) {
                (None, Some(v1::host_message::Kind::Hello(hello))) => {
                    let (reply, answer) = tokio::sync::oneshot::channel();
                    let hello = hello_in(hello).expect("a hello of a host is a valid one");
                    let link = std::sync::Arc::clone(&connection.wire);
                    connection.hello = Some(answer);
                    self.command(Command::Hello {
                        hello: Box::new(hello),
                        link,
                        reply,
                    });
                }
                (Some(session), _) => {
                    let message = from_host_in(message).expect("a host's message is a valid one");
                    if self.one_in(40) {
                        // As a host that has not heard of its acknowledgement would.
                        self.command(Command::FromHost(session, message.clone()));
                    }
                    self.command(Command::FromHost(session, message));
                }
                (None, _) => panic!("host {host} speaks before its hello"),
            }
        }
        // The line takes another one.
        self.flush_host(host, life);
    }

    pub(crate) fn gone_at_broker(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.at_broker = false;
        connection.to_broker.messages.clear();
        if let Some(session) = connection.session {
            self.command(Command::Disconnected(session));
        }
        self.forget_connection(id);
    }

    /// Ends the broker's process or its machine.
    pub(crate) fn crash_broker(&mut self, crash: Crash) {
        if self.broker.process.take().is_none() {
            return;
        }
        self.say(|| format!("broker crashes: {crash:?}"));
        self.report.crashes += 1;
        self.broker.disk.clear_faults();
        self.broker.disk.crash(crash);
        if crash != Crash::Process {
            self.promises.lose_power();
        }
        self.broker_is_gone(crash == Crash::Process);
    }

    /// Stops the broker in order.
    pub(crate) fn stop_broker(&mut self) {
        let Some(mut process) = self.broker.process.take() else {
            return;
        };
        self.broker.disk.clear_faults();
        if let Ok(durable_seq) = process.syncer.sync() {
            process
                .unsaid
                .drain(..)
                .for_each(|answers| answers.give(durable_seq));
            self.say(|| "broker stops in order".to_owned());
            process.ledger.close().expect("the store closes");
        } else {
            drop(process);
            self.broker.disk.crash(Crash::Process);
        }
        self.hear();
        self.broker_is_gone(true);
    }

    /// `noticed`: the system is still there, and says that the connections are gone.
    fn broker_is_gone(&mut self, noticed: bool) {
        self.broker.frozen_until = Duration::ZERO;
        self.clients.broker_is_gone();
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            let connection = self.connections.get_mut(&id).expect("it is there");
            connection.at_broker = false;
            connection.session = None;
            connection.hello = None;
            connection.to_broker.messages.clear();
            if noticed {
                let latency = self.micros(50..5_000);
                self.after(latency, Event::GoneAtHost(id));
            }
        }
        let pause = self.micros(1_000..if self.is_calm { 1_000_000 } else { 15_000_000 });
        self.after(pause, Event::BrokerStarts);
    }

    // Connections.

    pub(crate) fn new_connection(&mut self, host: usize, life: u32) -> u64 {
        self.connected += 1;
        self.connections
            .insert(self.connected, Connection::new(host, life));
        self.connected
    }

    /// Cuts a connection. Each end may hear of it, or not.
    pub(crate) fn cut(&mut self, id: u64, told_host: bool, told_broker: bool) {
        if told_host {
            let latency = self.micros(50..5_000);
            self.after(latency, Event::GoneAtHost(id));
        }
        if told_broker {
            let latency = self.micros(50..5_000);
            self.after(latency, Event::GoneAtBroker(id));
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            // What is under way goes nowhere.
            for stopped in [
                &mut connection.to_broker.stopped_until,
                &mut connection.to_host.stopped_until,
            ] {
                *stopped = Duration::from_secs(1 << 40);
            }
            connection.to_broker.messages.clear();
            connection.to_host.messages.clear();
        }
    }

    /// Forgets a connection that neither end has any more.
    pub(crate) fn forget_connection(&mut self, id: u64) {
        if self
            .connections
            .get(&id)
            .is_some_and(|connection| !connection.at_host && !connection.at_broker)
        {
            self.connections.remove(&id);
        }
    }

    // The end.

    fn calm_down(&mut self) {
        self.say(|| "nothing fails any more".to_owned());
        self.is_calm = true;
        self.broker.disk.clear_faults();
        self.broker.disk.set_free_bytes(u64::MAX);
        self.broker.slow_sync = Duration::ZERO;
        self.broker.put_clock_right(self.now);
        self.broker.frozen_until = self.broker.frozen_until.min(self.now);
        for host in &mut self.hosts {
            host.frozen_until = host.frozen_until.min(self.now);
        }
        for connection in self.connections.values_mut() {
            for stopped in [
                &mut connection.to_broker.stopped_until,
                &mut connection.to_host.stopped_until,
            ] {
                // One that was cut stays so.
                if *stopped < Duration::from_secs(1 << 30) {
                    *stopped = (*stopped).min(self.now);
                }
            }
        }
        self.after(Duration::ZERO, Event::BrokerStarts);
        self.lift_quotas();
        self.end_endless();
    }

    fn is_over(&self) -> bool {
        let Some(process) = &self.broker.process else {
            return false;
        };
        if self.has_orders.contains(&true) {
            return false;
        }
        self.clients.is_done()
            && self.hosts.iter().all(Host::is_done)
            && process
                .ledger
                .tasks()
                .values()
                .all(|(_, task, _)| task.state.is_terminal())
    }

    fn what_is_left(&self) -> String {
        let Some(process) = &self.broker.process else {
            return "the broker does not start".to_owned();
        };
        let tasks = process.ledger.tasks();
        let mut open = tasks
            .values()
            .map(|(_, task, _)| task)
            .filter(|task| !task.state.is_terminal());
        let hosts: Vec<_> = self.hosts.iter().map(Host::what_is_left).collect();
        format!(
            "it does not come to an end: hosts {hosts:?}, {} answers are missing, first open task {:?}",
            self.clients.waiting(),
            open.next()
        )
    }
}
