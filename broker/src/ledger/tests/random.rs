//! Random histories: everything that can go wrong, in any order, against a model of what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tq_core::outcome::Outcome;
use tq_core::task::{Stop, Task};
use tq_core::{Epoch, Priority, TaskId};

use super::sim::{MODULE, OTHER, Sim, attempt_of, spec, submission, with_payload_apart};
use crate::dispatch::message::{Data, FromHost};
use crate::ledger::{Config, Error, Refused, Submitted};
use crate::store::memory::{Crash, Fault};

const HOSTS: [&str; 3] = ["a", "b", "c"];
/// Events of one history, before everything heals.
const EVENTS: u32 = 300;

/// splitmix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len() as u64) as usize])
    }
}

/// A submit, and where its answer comes. Tasks are told apart by a tag that they carry.
struct Asked {
    tags: Vec<String>,
    keys: Vec<(String, u8)>,
    answer: oneshot::Receiver<Result<Vec<Submitted>, Refused>>,
}

struct Changed {
    id: TaskId,
    answer: oneshot::Receiver<Result<Task, Refused>>,
}

struct History {
    sim: Sim,
    random: Random,
    /// Looks at everything after every step; otherwise after some, and after every restart.
    checks_all: bool,
    tags: u32,
    /// Tags that were ever sent, by the submit that brought them.
    sent: BTreeMap<String, u32>,
    submits: u32,
    asked: Vec<Asked>,
    changed: Vec<Changed>,
    /// Tags whose task the broker said is on disk.
    promised: BTreeMap<String, TaskId>,
    /// What each idempotency key stands for.
    keys: BTreeMap<String, (u8, TaskId)>,
    /// Tasks as the broker said that they are: state, round.
    answered: BTreeMap<TaskId, (&'static str, u32)>,
    /// Accepted settlements that were checked to be there once.
    checked: usize,
}

impl History {
    fn new(seed: u64, checks_all: bool) -> Self {
        let mut random = Random(seed);
        let window = [1, 2, 4, 16, 1_000][random.below(5) as usize];
        let span = [1, 4, 8, 1_000][random.below(4) as usize];
        let config = Config {
            seed,
            ready_window: window,
            unindexed_span: span,
            ..Config::default()
        };
        let mut sim = Sim::empty(config);
        sim.deploy(MODULE);
        sim.ahead_max = [0, 0, 1, 3][random.below(4) as usize];
        Self {
            sim,
            random,
            checks_all,
            tags: 0,
            sent: BTreeMap::new(),
            submits: 0,
            asked: Vec::new(),
            changed: Vec::new(),
            promised: BTreeMap::new(),
            keys: BTreeMap::new(),
            answered: BTreeMap::new(),
            checked: 0,
        }
    }

    fn run(&mut self) {
        for _ in 0..EVENTS {
            for _ in 0..=self.random.below(3) {
                self.event();
            }
            self.step();
        }
        self.heal();
    }

    /// Lets the ledger do a step; if that fails, the broker is started again.
    fn step(&mut self) {
        let mut checks = self.checks_all || self.random.one_in(8);
        match self.sim.try_step() {
            Ok(()) => {}
            Err(Error::Commit | Error::Store(_)) => {
                let crash = if self.random.one_in(2) {
                    Crash::Power
                } else {
                    Crash::Process
                };
                self.crash(crash);
                checks = true;
            }
            Err(error) => panic!("the ledger stopped: {error}"),
        }
        self.hear();
        if checks {
            self.sim.check();
            self.check();
        }
    }

    fn event(&mut self) {
        match self.random.below(100) {
            0..20 => self.submit(),
            20..50 => self.finish(),
            50..60 => self.connect(),
            60..64 => {
                if let Some(name) = self.connected() {
                    let noticed = self.random.one_in(2);
                    self.sim.disconnect(name, noticed);
                }
            }
            64..66 => {
                if let Some(name) = self.some_host() {
                    self.sim.kill(name);
                }
            }
            66..74 => {
                let span = [1, 50, 999, 3_000, 11_000][self.random.below(5) as usize];
                self.sim.skip(Duration::from_millis(span));
                self.heartbeats();
            }
            74..80 => {
                if let Some(id) = self.some_task() {
                    let answer = self.sim.send_cancel(id);
                    self.changed.push(Changed { id, answer });
                }
            }
            80..84 => {
                if let Some(id) = self.some_task() {
                    let answer = self.sim.send_redrive(id);
                    self.changed.push(Changed { id, answer });
                }
            }
            84..87 => {
                if self.random.one_in(4) {
                    return self.sim.disk.fail_sync();
                }
                let fault = [
                    Fault::NotCommitted,
                    Fault::UnknownBefore,
                    Fault::UnknownAfter,
                ][self.random.below(3) as usize];
                let n = 1 + self.random.below(3);
                self.sim.disk.fail_commit(n, fault);
            }
            87..89 => {
                let crash = if self.random.one_in(2) {
                    Crash::Power
                } else {
                    Crash::Process
                };
                self.lose_answers();
                self.crash(crash);
            }
            89 => {
                self.sim.disk.clear_faults();
                self.lose_answers();
                self.sim.restart();
            }
            90 => {
                let free = if self.random.one_in(2) { 1 } else { u64::MAX };
                self.sim.disk.set_free_bytes(free);
            }
            91..93 => self.modules(),
            93..95 => {
                if let Some((name, epoch)) = self.some_attempt() {
                    let attempt = attempt_of(&self.sim, name, epoch);
                    let id = attempt.id;
                    if self.sim.hosts[name].session.is_some() {
                        let state = Data::Inline(Bytes::from_static(b"half"));
                        self.sim.say(name, FromHost::Checkpoint { attempt, state });
                        self.sim.say(
                            name,
                            FromHost::Progress(vec![(id, epoch, 0.5, String::new())]),
                        );
                    }
                }
            }
            95 => {
                if let Some(name) = self.connected() {
                    self.sim.say(name, FromHost::Draining);
                }
            }
            96..98 => {
                let ids = (0..3).filter_map(|_| self.some_task()).collect();
                let (id, _) = self.sim.watch(ids);
                if self.random.one_in(2) {
                    self.sim.inbox.push(crate::ledger::Command::Unwatch(id));
                }
            }
            _ => self.heartbeats(),
        }
    }

    fn submit(&mut self) {
        self.submits += 1;
        let mut asked = Vec::new();
        let (mut tags, mut keys) = (Vec::new(), Vec::new());
        let now = self.sim.now.wall;
        for _ in 0..=self.random.below(5) {
            self.tags += 1;
            let tag = format!("t{}", self.tags);
            let mut spec = spec();
            spec.content_type.clone_from(&tag);
            spec.priority = Priority([10, 127, 127, 200][self.random.below(4) as usize]);
            if self.random.one_in(8) {
                spec.digest = OTHER;
            }
            if self.random.one_in(4) {
                spec = with_payload_apart(spec);
            }
            if self.random.one_in(5) {
                spec.run_at = Some(now.after(Duration::from_millis(self.random.below(8_000))));
            }
            if self.random.one_in(6) {
                spec.deadline =
                    Some(now.after(Duration::from_millis(1 + self.random.below(20_000))));
            }
            spec.retry.max_attempts = 1 + self.random.below(3) as u32;
            if self.random.one_in(4) {
                spec.retry.backoff = Duration::ZERO;
            }
            let mut request = 0;
            if self.random.one_in(3) {
                spec.idempotency_key = format!("k{}", self.random.below(12));
                request = u8::from(self.random.one_in(10));
            }
            keys.push((spec.idempotency_key.clone(), request));
            self.sent.insert(tag.clone(), self.submits);
            tags.push(tag);
            asked.push(submission(spec, request));
        }
        let answer = self.sim.send_submit(asked);
        self.asked.push(Asked { tags, keys, answer });
    }

    fn finish(&mut self) {
        if let Some((name, epoch)) = self.some_attempt() {
            let stop = self.sim.hosts[name]
                .stops
                .iter()
                .find(|(stopped, _)| *stopped == epoch);
            let outcome = match stop.and_then(|(_, stop)| *stop) {
                Some(Stop::Cancel) if !self.random.one_in(4) => Outcome::Cancelled,
                Some(Stop::Deadline) if !self.random.one_in(4) => Outcome::DeadlineExceeded,
                _ => [
                    Outcome::Succeeded,
                    Outcome::Succeeded,
                    Outcome::Trap,
                    Outcome::FatalError,
                    Outcome::HostError,
                ][self.random.below(5) as usize],
            };
            self.sim.finish(name, epoch, outcome);
        }
    }

    fn connect(&mut self) {
        let name = HOSTS[self.random.below(3) as usize];
        match self.sim.hosts.contains_key(name) {
            true => self.sim.hello(name),
            false => {
                let slots = 1 + self.random.below(4) as u32;
                self.sim.add_host(name, slots);
                self.sim.hello(name);
            }
        }
    }

    /// A host compiles what it can, fails, or lets go of a module.
    fn modules(&mut self) {
        let Some(name) = self.connected() else { return };
        let digest = if self.random.one_in(2) { MODULE } else { OTHER };
        match self.random.below(4) {
            0 => {
                self.sim.host_mut(name).ready.remove(&digest);
                self.sim.say(
                    name,
                    FromHost::Ready {
                        held: Vec::new(),
                        dropped: vec![digest],
                    },
                );
            }
            1 if digest == OTHER => {
                let message = "no".to_owned();
                self.sim.say(
                    name,
                    FromHost::PrepareFailed {
                        digest,
                        message,
                        permanent: false,
                    },
                );
            }
            _ => {
                self.sim.host_mut(name).ready.insert(digest);
                self.sim.say(
                    name,
                    FromHost::Ready {
                        held: vec![digest],
                        dropped: Vec::new(),
                    },
                );
            }
        }
    }

    fn heartbeats(&mut self) {
        for name in HOSTS {
            if self
                .sim
                .hosts
                .get(name)
                .is_some_and(|host| host.session.is_some())
            {
                self.sim.say(name, FromHost::Heartbeat);
            }
        }
    }

    fn crash(&mut self, crash: Crash) {
        self.sim.disk.clear_faults();
        self.sim.crash(crash);
    }

    /// What was asked for and not taken in yet is lost with the connections.
    fn lose_answers(&mut self) {
        self.sim.inbox.clear();
        self.asked.clear();
        self.changed.clear();
    }

    fn connected(&mut self) -> Option<&'static str> {
        let names: Vec<_> = self
            .sim
            .hosts
            .iter()
            .filter(|(_, host)| host.session.is_some())
            .map(|(name, _)| *name)
            .collect();
        self.random.pick(&names)
    }

    fn some_host(&mut self) -> Option<&'static str> {
        let names: Vec<_> = self.sim.hosts.keys().copied().collect();
        self.random.pick(&names)
    }

    fn some_attempt(&mut self) -> Option<(&'static str, Epoch)> {
        let held = self
            .sim
            .hosts
            .iter()
            .flat_map(|(name, host)| host.held.keys().map(|epoch| (*name, *epoch)));
        let held: Vec<_> = held.collect();
        self.random.pick(&held)
    }

    fn some_task(&mut self) -> Option<TaskId> {
        let ids: Vec<_> = self.promised.values().copied().collect();
        self.random.pick(&ids)
    }

    /// Takes note of what the broker promised.
    fn hear(&mut self) {
        for mut asked in std::mem::take(&mut self.asked) {
            match asked.answer.try_recv() {
                Ok(Ok(submitted)) => {
                    for ((tag, (key, request)), task) in
                        asked.tags.iter().zip(&asked.keys).zip(&submitted)
                    {
                        if !task.existed {
                            self.promised.insert(tag.clone(), task.id);
                        }
                        if !key.is_empty() {
                            let held = self.keys.entry(key.clone()).or_insert((*request, task.id));
                            assert_eq!(*held, (*request, task.id), "key `{key}` names one task");
                        }
                    }
                }
                Ok(Err(_)) | Err(TryRecvError::Closed) => {}
                Err(TryRecvError::Empty) => self.asked.push(asked),
            }
        }
        for mut changed in std::mem::take(&mut self.changed) {
            match changed.answer.try_recv() {
                Ok(Ok(task)) => drop(
                    self.answered
                        .insert(changed.id, (task.state.name(), task.round)),
                ),
                Ok(Err(_)) | Err(TryRecvError::Closed) => {}
                Err(TryRecvError::Empty) => self.changed.push(changed),
            }
        }
    }

    /// Compares what is on disk with what was promised.
    fn check(&mut self) {
        let tasks = self.sim.tasks();
        let mut there: BTreeMap<&str, TaskId> = BTreeMap::new();
        for (id, (_, task, _)) in &tasks {
            let tag = task.spec.content_type.as_str();
            assert!(self.sent.contains_key(tag), "{id} was never asked for");
            assert_eq!(there.insert(tag, *id), None, "`{tag}` is there twice");
        }
        for (tag, id) in &self.promised {
            assert_eq!(
                there.get(tag.as_str()),
                Some(id),
                "`{tag}` was acknowledged and is lost"
            );
        }
        for (id, (state, round)) in &self.answered {
            let task = &tasks[id].1;
            assert!(
                task.round >= *round,
                "a redrive that was acknowledged is lost"
            );
            let is_end = ["succeeded", "dead", "cancelled", "expired"].contains(state);
            assert!(
                !is_end || task.round > *round || task.state.name() == *state,
                "{id} had ended {state}"
            );
        }
        for (id, epoch, outcome) in &self.sim.accepted {
            let task = &tasks[id].1;
            let attempt = task.attempts.iter().find(|attempt| attempt.epoch == *epoch);
            let attempt = attempt.unwrap_or_else(|| {
                panic!("the settlement {epoch} of {id} was acknowledged and is lost")
            });
            let was_stopped = matches!(
                attempt.outcome,
                Outcome::Cancelled | Outcome::DeadlineExceeded | Outcome::HostLost
            );
            assert!(attempt.outcome == *outcome || was_stopped);
            if *outcome == Outcome::Succeeded {
                assert_eq!(task.state.name(), "succeeded", "a success is final");
            }
        }
        // Settlements are checked over again after every step; those of one task are never contradictory.
        if self.checked < self.sim.accepted.len() {
            self.checked = self.sim.accepted.len();
            let mut successes = BTreeSet::new();
            let mut epochs = BTreeMap::new();
            for (id, epoch, outcome) in &self.sim.accepted {
                assert_eq!(
                    *epochs.entry(epoch).or_insert((id, outcome)),
                    (id, outcome),
                    "an epoch is one attempt's"
                );
                assert!(
                    *outcome != Outcome::Succeeded
                        || successes.insert((id, epoch))
                        || epochs.contains_key(epoch)
                );
            }
            let tasks_that_succeeded: BTreeSet<_> = successes.iter().map(|(id, _)| id).collect();
            assert_eq!(
                tasks_that_succeeded.len(),
                successes.len(),
                "a task succeeds once"
            );
        }
    }

    /// Nothing fails any more: everything that was acknowledged has to end, driven by nothing but what the ledger and
    /// the hosts ask for.
    fn heal(&mut self) {
        self.sim.disk.clear_faults();
        self.sim.disk.set_free_bytes(u64::MAX);
        self.sim.ahead_max = 0;
        for name in HOSTS {
            if !self.sim.hosts.contains_key(name) {
                self.sim.add_host(name, 1);
            }
            self.sim.host_mut(name).ready.extend([MODULE, OTHER]);
            self.sim.hello(name);
        }
        for _ in 0..2_000 {
            self.step();
            for name in HOSTS {
                let held: Vec<_> = self.sim.hosts[name].held.keys().copied().collect();
                for epoch in held {
                    self.sim.finish(name, epoch, Outcome::Succeeded);
                }
            }
            let wait = self
                .sim
                .wait
                .unwrap_or(Duration::from_secs(1))
                .min(Duration::from_secs(1));
            if self.sim.inbox.is_empty() && self.sim.wait != Some(Duration::ZERO) {
                if self
                    .sim
                    .tasks()
                    .values()
                    .all(|(_, task, _)| task.state.is_terminal())
                {
                    self.sim.check();
                    self.check();
                    return;
                }
                self.sim.skip(wait);
                self.heartbeats();
                for name in HOSTS {
                    if self.sim.hosts[name].is_alone() {
                        self.sim.hello(name);
                    }
                }
            }
        }
        let open: Vec<_> = self
            .sim
            .tasks()
            .into_values()
            .map(|(_, task, _)| task)
            .filter(|task| !task.state.is_terminal())
            .collect();
        panic!(
            "{} tasks do not end, the first one is {:?}",
            open.len(),
            open[0]
        );
    }
}

#[test]
fn random_histories_keep_the_promises() {
    let seeds: u64 = std::env::var("TQ_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(150);
    let first: u64 = std::env::var("TQ_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0);
    for seed in first..first + seeds {
        let result = std::panic::catch_unwind(|| History::new(seed, seeds == 1).run());
        assert!(
            result.is_ok(),
            "history {seed} breaks a promise: run it alone with TQ_SEED={seed} TQ_SEEDS=1"
        );
    }
}
