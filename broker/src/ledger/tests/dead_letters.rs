//! Dead letters, and the settings that decide how soon a task becomes one. After every step the recount compares the
//! indexes of dead letters with the tasks.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tq_core::limits::{LOSSES_MAX, STRIKES_MAX};
use tq_core::outcome::Outcome;
use tq_core::retry::RetryOverrides;
use tq_core::{RetryPolicy, Signature, TaskId, Timestamp};

use super::sim::{MODULE, OTHER, Sim, TENANT, attempt_of, spec, submission};
use super::stores::NewStore;
use crate::dispatch::message::{Assignment, Data, FromHost};
use crate::ledger::{Command, Doomed, NamespaceSettings, RedriveDead, Refused, SetNamespace};
use crate::store::memory::Crash;
use crate::tables::dead::{self, Death};

on_every_store![
    dead_letters_are_found_by_time_and_by_kind,
    redrive_of_many_takes_the_dead_ones_to_the_current_version,
    redrive_and_death_in_one_step_leave_one_row,
    dead_letters_outlive_what_the_broker_does_not,
    poison_pill_is_a_dead_letter_after_the_last_host_that_it_may_take,
    suspects_run_alone_over_restarts_and_die_after_three_strikes,
    settings_of_a_namespace_are_changed_one_by_one_and_kept,
    call_that_is_made_again_names_the_one_before,
    what_one_step_removes_and_redrives_is_gone,
];

const SECOND: Duration = Duration::from_secs(1);
const NEWEST: Death = (Timestamp(u64::MAX), TaskId([u8::MAX; 16]));

fn send_redrive(
    sim: &mut Sim,
    ids: &[TaskId],
    same_version: bool,
) -> oneshot::Receiver<Result<Vec<TaskId>, Refused>> {
    let (reply, answer) = oneshot::channel();
    sim.inbox.push(Command::RedriveDead(RedriveDead {
        namespace: TENANT.to_owned(),
        ids: ids.to_vec(),
        same_version,
        reply,
    }));
    answer
}

#[track_caller]
fn redrive(sim: &mut Sim, ids: &[TaskId], same_version: bool) -> Vec<TaskId> {
    let mut answer = send_redrive(sim, ids, same_version);
    sim.settle();
    let answered = answer.try_recv().expect("a redrive is answered");
    answered.expect("the namespace is there")
}

/// Dead letters of all signatures, those that died last first.
fn newest(sim: &Sim, limit: usize) -> Vec<TaskId> {
    let store = &*sim.ledger().store;
    let deaths = dead::newest(store, sim.tenant(), None, Timestamp(0), NEWEST, limit);
    let deaths = deaths.expect("the store can be read").into_iter();
    deaths.map(|(_, id)| id).collect()
}

/// Lets so many tasks die, each of the outcome given, a second apart.
#[track_caller]
fn die(sim: &mut Sim, outcomes: &[Outcome]) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for outcome in outcomes {
        let mut once = spec();
        once.retry.max_attempts = 1;
        let id = sim.submit(once);
        let epoch = sim.hosts["a"].only();
        sim.finish("a", epoch, *outcome);
        sim.settle();
        assert_eq!(sim.state(id), "dead");
        ids.push(id);
        sim.advance(SECOND);
    }
    ids
}

fn dead_letters_are_found_by_time_and_by_kind(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let outcomes = [
        Outcome::Trap,
        Outcome::FuelExhausted,
        Outcome::Trap,
        Outcome::Trap,
    ];
    let ids = die(&mut sim, &outcomes);
    let reversed: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(newest(&sim, 10), reversed);
    assert_eq!(newest(&sim, 2), reversed[..2]);
    let (store, tenant) = (&*sim.ledger().store, sim.tenant());
    let death = |id| {
        let task = sim.task(id);
        (task.state.ended_at().expect("it is dead"), id)
    };
    // From a cursor on, and not before a time.
    let since = death(ids[1]).0;
    let page = dead::newest(store, tenant, None, since, death(ids[3]), 10);
    let page = page.expect("the store can be read");
    assert_eq!(page, [death(ids[2]), death(ids[1])]);

    let trap = Signature::of(&sim.task(ids[0])).expect("it is dead");
    let fuel = Signature::of(&sim.task(ids[1])).expect("it is dead");
    assert_ne!(trap, fuel);
    let of_kind = dead::newest(store, tenant, Some(trap), Timestamp(0), NEWEST, 10);
    let of_kind = of_kind.expect("the store can be read");
    assert_eq!(of_kind, [death(ids[3]), death(ids[2]), death(ids[0])]);
    let kind = dead::first_kind(store, tenant, trap, 10).expect("the store can be read");
    let expected = dead::Kind {
        signature: trap,
        count: 3,
        at_least: false,
        first: death(ids[0]),
        last: death(ids[3]),
    };
    assert_eq!(kind, Some(expected));
    for (max, expected) in [(2, (2, true)), (3, (3, false)), (4, (3, false))] {
        let counted = dead::count(store, tenant, trap, max);
        assert_eq!(counted.expect("the store can be read"), expected);
    }
    let mut kinds = Vec::new();
    let mut from = Some(Signature([0; 16]));
    while let Some(at) = from {
        let kind = dead::first_kind(store, tenant, at, 10).expect("the store can be read");
        kinds.extend(kind.map(|kind| kind.signature));
        from = kind.and_then(|kind| dead::next(kind.signature));
    }
    kinds.sort_unstable();
    let mut expected = [trap, fuel];
    expected.sort_unstable();
    assert_eq!(kinds, expected);
}

fn redrive_of_many_takes_the_dead_ones_to_the_current_version(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let dead = die(
        &mut sim,
        &[Outcome::Trap, Outcome::FatalError, Outcome::Trap],
    );
    sim.disconnect("a", true);
    sim.settle();
    let (waits, cancelled) = (sim.submit(spec()), sim.submit(spec()));
    sim.cancel(cancelled).expect("it waits");
    sim.deploy(OTHER);
    let ids = [dead[0], waits, dead[1], cancelled, TaskId([1; 16])];
    // The same one twice, of which the second finds it ready.
    let asked = [&ids[..], &ids[..1]].concat();
    assert_eq!(redrive(&mut sim, &asked, false), [dead[0], dead[1]]);
    for id in [dead[0], dead[1]] {
        let task = sim.task(id);
        assert_eq!(
            (
                task.state.name(),
                task.round,
                task.spec.digest,
                task.spec.version
            ),
            ("ready", 2, OTHER, 2)
        );
    }
    assert_eq!(newest(&sim, 10), [dead[2]]);
    assert_eq!(redrive(&mut sim, &dead, true), [dead[2]]);
    assert_eq!(sim.task(dead[2]).spec.digest, MODULE);
    assert_eq!(sim.state(cancelled), "cancelled");
    assert!(newest(&sim, 10).is_empty());
}

fn redrive_and_death_in_one_step_leave_one_row(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = die(&mut sim, &[Outcome::Trap])[0];
    sim.redrive(id).expect("it is dead");
    let epoch = sim.hosts["a"].only();
    // It dies again and is redriven again, before anything of that is committed.
    sim.finish("a", epoch, Outcome::FatalError);
    let mut answer = send_redrive(&mut sim, &[id], false);
    sim.step();
    let answered = answer.try_recv().expect("a redrive is answered");
    assert_eq!(answered.expect("the namespace is there"), [id]);
    sim.settle();
    assert_eq!(sim.task(id).round, 3);
    assert!(newest(&sim, 10).is_empty());
}

fn dead_letters_outlive_what_the_broker_does_not(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let ids = die(&mut sim, &[Outcome::Trap, Outcome::Exit]);
    sim.crash(Crash::Power);
    sim.settle();
    assert_eq!(newest(&sim, 10), [ids[1], ids[0]]);
    assert_eq!(redrive(&mut sim, &ids, false), ids);
    sim.restart();
    sim.settle();
    assert!(newest(&sim, 10).is_empty());
    assert_eq!((sim.state(ids[0]), sim.state(ids[1])), ("ready", "ready"));
}

fn poison_pill_is_a_dead_letter_after_the_last_host_that_it_may_take(store: NewStore) {
    let mut sim = Sim::new(store);
    // Several, since one that is lost so often gets nothing for a while.
    for host in ["a", "b", "c"] {
        sim.connect(host, 1);
    }
    let id = sim.submit(spec());
    for lost in 0..LOSSES_MAX {
        assert_eq!((sim.state(id), sim.task(id).losses), ("running", lost));
        let mut hosts = sim.hosts.iter();
        let (host, _) = hosts
            .find(|(_, host)| !host.held.is_empty())
            .expect("a host has it");
        let host = *host;
        // The next process of the host ends the lease of the one before.
        sim.kill(host);
        sim.hello(host);
        sim.settle();
    }
    let task = sim.task(id);
    assert_eq!(task.state.name(), "dead");
    assert_eq!((task.losses, task.failures), (LOSSES_MAX, 0));
    assert_eq!(task.outcome(), Some(Outcome::HostLost));
    let failure = task.attempts.last().and_then(|last| last.failure.clone());
    let message = failure.expect("it says why").message;
    assert!(message.contains("lost with the task 10 times"), "{message}");
    assert_eq!(newest(&sim, 10), [id]);
}

fn suspects_run_alone_over_restarts_and_die_after_three_strikes(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 2);
    let (pill, beside) = (sim.submit(spec()), sim.submit(spec()));
    let held = |sim: &Sim, id| {
        let held = sim.hosts["a"].held.values();
        let mut held = held.filter(|held: &&Assignment| held.id == id);
        let held = held.next().expect("the host has it");
        (held.epoch, held.alone)
    };
    for id in [pill, beside] {
        let (epoch, alone) = held(&sim, id);
        assert!(!alone);
        sim.finish("a", epoch, Outcome::RunnerCrashed);
    }
    sim.settle();
    assert!(held(&sim, beside).1);
    sim.finish("a", held(&sim, beside).0, Outcome::Succeeded);
    let crash_alone = |sim: &mut Sim, strikes| {
        sim.settle();
        let (epoch, alone) = held(sim, pill);
        assert_eq!((sim.task(pill).strikes, alone), (Some(strikes), true));
        sim.finish("a", epoch, Outcome::RunnerCrashed);
        sim.settle();
    };
    crash_alone(&mut sim, 0);
    sim.restart();
    sim.hello("a");
    sim.settle();
    // It got on, and is one of many again; a crash makes it a suspect anew.
    let (epoch, _) = held(&sim, pill);
    let attempt = attempt_of(&sim, "a", epoch);
    let state = Data::Inline(Bytes::from_static(b"half"));
    sim.say("a", FromHost::Checkpoint { attempt, state });
    sim.settle();
    assert_eq!(sim.task(pill).strikes, None);
    sim.finish("a", epoch, Outcome::RunnerCrashed);
    for strikes in 0..STRIKES_MAX {
        crash_alone(&mut sim, strikes);
    }
    assert_eq!(sim.state(beside), "succeeded");
    let task = sim.task(pill);
    assert_eq!(
        (task.state.name(), task.strikes, task.failures),
        ("dead", Some(STRIKES_MAX), 0)
    );
    assert_eq!(task.outcome(), Some(Outcome::RunnerCrashed));
}

fn settings_of_a_namespace_are_changed_one_by_one_and_kept(store: NewStore) {
    let mut sim = Sim::new(store);
    let set = |sim: &mut Sim, namespace: &str, named: RetryOverrides| {
        let (reply, mut answer) = oneshot::channel();
        sim.inbox.push(Command::SetNamespace(SetNamespace {
            namespace: namespace.to_owned(),
            change: Box::new(move |before| NamespaceSettings {
                retry: named.or(before.retry),
                ..before
            }),
            reply,
        }));
        sim.settle();
        answer.try_recv().expect("it is answered")
    };
    let attempts = RetryOverrides {
        max_attempts: Some(7),
        ..RetryOverrides::default()
    };
    let backoff = RetryOverrides {
        backoff: Some(SECOND * 9),
        ..RetryOverrides::default()
    };
    set(&mut sim, TENANT, attempts);
    let both = set(&mut sim, TENANT, backoff);
    let expected = RetryPolicy {
        max_attempts: 7,
        backoff: SECOND * 9,
        cap: RetryPolicy::DEFAULT.cap,
    };
    assert_eq!(both.retry.over(RetryPolicy::DEFAULT), expected);
    // One that is not there is made.
    set(&mut sim, "new", attempts);
    sim.crash(Crash::Power);
    let shared = sim.ledger().shared();
    assert_eq!(shared.settings(TENANT), both);
    assert_eq!(shared.settings("new").retry, attempts);
    assert_eq!(shared.settings("other"), NamespaceSettings::default());
}

fn call_that_is_made_again_names_the_one_before(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let dead = die(&mut sim, &[Outcome::Trap])[0];
    let mut again = spec();
    again.redriven_from = Some(dead);
    let submitted = sim.submit_all(vec![submission(again, 0)]);
    let id = submitted.expect("the submit is taken")[0].id;
    sim.restart();
    assert_eq!(sim.task(id).spec.redriven_from, Some(dead));
    assert_eq!(sim.state(dead), "dead", "it stays");
}

fn what_one_step_removes_and_redrives_is_gone(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let ids = die(&mut sim, &[Outcome::FatalError, Outcome::FatalError]);
    let mut deleted = sim.send_delete(Doomed::One(ids[0]));
    let mut redriven = send_redrive(&mut sim, &ids, false);
    sim.settle();
    assert_eq!(deleted.try_recv().expect("a delete is answered"), Ok(1));
    let redriven = redriven.try_recv().expect("a redrive is answered");
    assert_eq!(redriven, Ok(vec![ids[1]]));
    assert_eq!(newest(&sim, 10), []);
}
