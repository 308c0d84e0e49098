//! What happens when hosts go away and come back.

use std::time::Duration;

use tq_core::limits::{BATCH_COMMANDS_MAX, LEASE};
use tq_core::outcome::Outcome;

use super::sim::{Sim, spec, submission};
use crate::dispatch::message::FromHost;
use crate::ledger::{Config, HelloRefused};

#[test]
fn another_host_finishes_what_a_lost_one_had() {
    let mut sim = Sim::new();
    sim.connect("a", 1);
    let id = sim.submit(spec());
    sim.connect("b", 1);
    sim.disconnect("a", false);
    sim.advance(LEASE - Duration::from_secs(1));
    assert!(sim.hosts["b"].held.is_empty(), "a lease is kept to its end");
    sim.advance(Duration::from_secs(1));
    let epoch = sim.hosts["b"].only();
    sim.finish("b", epoch, Outcome::Succeeded);
    sim.settle();
    let task = sim.task(id);
    let outcomes: Vec<_> = task
        .attempts
        .iter()
        .map(|attempt| (&*attempt.host, attempt.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [("a", Outcome::HostLost), ("b", Outcome::Succeeded)]
    );
}

#[test]
fn late_outcome_is_fenced_and_changes_nothing() {
    let mut sim = Sim::new();
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let late = sim.hosts["a"].only();
    sim.connect("b", 1);
    sim.disconnect("a", false);
    sim.advance(LEASE);
    let before = sim.task(id);
    sim.finish("a", late, Outcome::Succeeded);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.hosts["a"].acks, [(late, true)]);
    assert_eq!(sim.task(id), before);
    sim.finish_all("b");
    assert_eq!(sim.task(id).attempts.len(), 2);
}

#[test]
fn attempt_that_a_host_still_holds_too_late_is_fenced() {
    let mut sim = Sim::new();
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let late = sim.hosts["a"].only();
    sim.disconnect("a", false);
    sim.advance(LEASE);
    sim.hello("a");
    sim.settle();
    // Its own late attempt is taken from it, and it gets a new one.
    let epoch = sim.hosts["a"].only();
    assert!(epoch > late);
    assert_eq!(sim.task(id).losses, 1);
}

#[test]
fn outcome_that_is_repeated_gets_the_same_answer() {
    for outcome in [Outcome::Succeeded, Outcome::Trap] {
        let mut sim = Sim::new();
        sim.connect("a", 1);
        let id = sim.submit(spec());
        let epoch = sim.hosts["a"].only();
        sim.finish("a", epoch, outcome);
        let unacked = sim.hosts["a"].outcomes.clone();
        sim.try_step().expect("the ledger goes on");
        let settled = sim.task(id);
        // The answer was lost with the connection.
        sim.disconnect("a", true);
        sim.host_mut("a").outcomes = unacked;
        sim.hello("a");
        sim.step();
        assert_eq!(sim.hosts["a"].acks, [(epoch, false), (epoch, false)]);
        assert_eq!(sim.task(id), settled);
    }
}

#[test]
fn new_incarnation_ends_the_leases_of_the_old_one_at_once() {
    let mut sim = Sim::new();
    sim.connect("a", 1);
    let id = sim.submit(spec());
    sim.kill("a");
    sim.hello("a");
    sim.settle();
    assert_eq!((sim.task(id).losses, sim.state(id)), (1, "running"));
    sim.finish_all("a");
    assert_eq!(sim.state(id), "succeeded");
}

#[test]
fn reconnect_within_the_lease_keeps_the_work() {
    let mut sim = Sim::new();
    sim.connect("a", 2);
    let id = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    sim.disconnect("a", true);
    sim.cancel(id).expect("it runs");
    sim.hello("a");
    sim.settle();
    assert_eq!((sim.hosts["a"].only(), sim.task(id).losses), (epoch, 0));
    assert_eq!(
        sim.hosts["a"].stops.len(),
        1,
        "what it missed it is told again"
    );
}

#[test]
fn draining_host_gets_nothing_new_and_its_end_gives_back_at_once() {
    let mut sim = Sim::new();
    sim.connect("a", 2);
    let first = sim.submit(spec());
    sim.say("a", FromHost::Draining);
    sim.settle();
    let second = sim.submit(spec());
    assert_eq!((sim.state(first), sim.state(second)), ("running", "ready"));
    sim.disconnect("a", true);
    sim.settle();
    assert_eq!(
        (sim.state(first), sim.ledger().hosts.iter().count()),
        ("ready", 0)
    );
}

#[test]
fn ledger_that_stood_still_takes_nothing_back() {
    let mut sim = Sim::new();
    sim.connect("a", 1);
    let id = sim.submit(spec());
    sim.skip(LEASE * 2);
    sim.ledger_mut().stood_still(LEASE * 2);
    sim.step();
    assert_eq!((sim.state(id), sim.task(id).losses), ("running", 0));
}

#[test]
fn more_slots_than_one_step_fills_are_filled_all_the_same() {
    let mut sim = Sim::empty(Config::default());
    sim.deploy(super::sim::MODULE);
    let tasks = BATCH_COMMANDS_MAX + 100;
    sim.submit_all((0..tasks).map(|_| submission(spec(), 0)).collect())
        .expect("they are taken");
    sim.connect("a", tasks as u32);
    assert_eq!(sim.hosts["a"].held.len(), tasks);
}

#[test]
fn second_live_host_of_a_name_is_refused() {
    let mut sim = Sim::new();
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let mut first = sim.another_process("a");
    assert_eq!(
        sim.hosts["a"].refused,
        Some(HelloRefused::NameTaken("a".to_owned()))
    );
    assert_eq!((sim.state(id), sim.task(id).losses), ("running", 0));
    std::mem::swap(&mut first, sim.host_mut("a"));
    sim.finish_all("a");
    assert_eq!(sim.state(id), "succeeded");
    // The name is free when its host is gone.
    sim.disconnect("a", true);
    sim.another_process("a");
    assert!(sim.hosts["a"].session.is_some());
}

#[test]
fn host_whose_link_takes_nothing_is_given_nothing() {
    let mut sim = Sim::new();
    sim.connect("a", 2);
    // The link has refused a message, and the broker has not heard that the connection is over.
    sim.disconnect("a", false);
    let id = sim.submit(spec());
    assert_eq!((sim.state(id), sim.task(id).losses), ("ready", 0));
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.finish_all("a"), [id]);
}
