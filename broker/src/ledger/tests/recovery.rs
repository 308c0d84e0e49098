//! What happens when the broker or its machine stops.

use std::time::Duration;

use tq_core::limits::LEASE;
use tq_core::outcome::Outcome;

use super::sim::{MODULE, OTHER, Sim, other, spec, submission};
use super::stores::NewStore;
use crate::ledger::Error;
use crate::store::memory::Crash;

on_every_store![
    attempts_that_hosts_hold_go_on_after_a_restart,
    attempts_whose_host_does_not_come_back_go_to_others,
    claim_that_a_power_loss_forgot_is_restored_by_its_token,
    forged_token_restores_nothing,
    what_was_acknowledged_survives_a_power_loss,
    broker_that_has_lost_what_a_host_saw_refuses_to_serve,
    time_does_not_go_back_over_a_restart,
    order_of_a_lane_survives_a_restart,
    old_open_tasks_are_found_however_many_came_after_them,
    long_task_does_not_keep_the_claims_of_short_ones,
];

fn attempts_that_hosts_hold_go_on_after_a_restart(store: NewStore) {
    for crash in [None, Some(Crash::Process), Some(Crash::Power)] {
        let mut sim = Sim::new(store);
        sim.connect("a", 2);
        let id = sim.submit(spec());
        // A power loss forgets no claim that was synced with what came after it.
        sim.submit(spec());
        let held: Vec<_> = sim.hosts["a"].held.keys().copied().collect();
        match crash {
            None => sim.restart(),
            Some(crash) => sim.crash(crash),
        }
        sim.hello("a");
        sim.connect("b", 2);
        assert_eq!(
            sim.hosts["a"].held.keys().copied().collect::<Vec<_>>(),
            held
        );
        assert!(sim.hosts["b"].held.is_empty(), "nothing runs twice");
        sim.finish_all("a");
        assert_eq!(
            (sim.state(id), sim.task(id).attempts.len()),
            ("succeeded", 1)
        );
    }
}

fn attempts_whose_host_does_not_come_back_go_to_others(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    sim.crash(Crash::Process);
    sim.connect("b", 1);
    sim.advance(LEASE - Duration::from_secs(1));
    assert!(sim.hosts["b"].held.is_empty());
    sim.advance(Duration::from_secs(1));
    sim.finish_all("b");
    assert_eq!(sim.state(id), "succeeded");
}

fn claim_that_a_power_loss_forgot_is_restored_by_its_token(store: NewStore) {
    for is_done in [false, true] {
        let mut sim = Sim::new(store);
        let id = sim.submit(spec());
        sim.connect("a", 1);
        let epoch = sim.hosts["a"].only();
        sim.crash(Crash::Power);
        assert_eq!(sim.state(id), "ready", "the claim was not synced");
        if is_done {
            sim.finish("a", epoch, Outcome::Succeeded);
        }
        sim.hello("a");
        sim.settle();
        if is_done {
            assert_eq!(sim.hosts["a"].acks, [(epoch, false)]);
        } else {
            assert_eq!(sim.hosts["a"].only(), epoch);
            sim.finish_all("a");
        }
        let task = sim.task(id);
        assert_eq!(
            (task.state.name(), task.attempts.len(), task.started),
            ("succeeded", 1, 1)
        );
    }
}

fn forged_token_restores_nothing(store: NewStore) {
    let mut sim = Sim::new(store);
    let id = sim.submit(spec());
    sim.connect("a", 1);
    sim.crash(Crash::Power);
    let host = sim.host_mut("a");
    host.held
        .values_mut()
        .for_each(|assignment| assignment.token.0[0] ^= 1);
    let epoch = host.only();
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.hosts["a"].acks, [(epoch, true)]);
    assert_ne!(sim.state(id), "succeeded");
}

fn what_was_acknowledged_survives_a_power_loss(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let (done, cancelled) = (sim.submit(spec()), sim.submit(spec()));
    let dead = sim.submit(spec());
    sim.cancel(cancelled).expect("it waits");
    sim.finish_all("a");
    sim.cancel(dead).expect_err("it succeeded");
    sim.deploy(OTHER);
    let redriven = sim.submit(other());
    sim.cancel(redriven).expect("it waits");
    // So that it can run when it is redriven.
    sim.deploy(MODULE);
    sim.redrive(redriven).expect("it is cancelled");
    let before = sim.ledger().tasks();
    sim.crash(Crash::Power);
    assert_eq!(sim.ledger().tasks(), before);
    assert_eq!(
        (sim.state(done), sim.state(cancelled), sim.state(redriven)),
        ("succeeded", "cancelled", "running")
    );
}

fn broker_that_has_lost_what_a_host_saw_refuses_to_serve(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    sim.submit(spec());
    sim.finish_all("a");
    let store = sim.ledger().store.store_id();
    let seq = sim.ledger().store.seq();
    sim.host_mut("a").pretend_to_have_seen(store, seq + 1_000);
    sim.hello("a");
    assert!(matches!(sim.try_step(), Err(Error::RolledBack(_))));
}

fn time_does_not_go_back_over_a_restart(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.advance(Duration::from_secs(60));
    let id = sim.submit(spec());
    sim.now.wall = tq_core::Timestamp(1);
    sim.restart();
    let later = sim.submit(spec());
    assert!(later > id, "ids rise");
    assert!(sim.ledger().time >= tq_core::Timestamp(1_060_000));
}

fn order_of_a_lane_survives_a_restart(store: NewStore) {
    let mut sim = Sim::new(store);
    let ids: Vec<_> = (0..20).map(|_| sim.submit(spec())).collect();
    sim.crash(Crash::Power);
    sim.connect("a", 1);
    assert_eq!(sim.finish_all("a"), ids);
}

fn old_open_tasks_are_found_however_many_came_after_them(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let first = sim.submit(spec());
    sim.host_mut("a").slots = 1;
    let others: Vec<_> = (0..30).map(|_| sim.submit(spec())).collect();
    let from = sim.ledger().unindexed.front().copied();
    assert!(
        from.is_none_or(|(id, _)| id > first),
        "it has an open row by now"
    );
    sim.crash(Crash::Power);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.finish_all("a").len(), others.len() + 1);
    assert_eq!(sim.ledger().store.seq(), sim.ledger().store.durable_seq());
}

fn long_task_does_not_keep_the_claims_of_short_ones(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 40);
    let batch = (0..40).map(|_| submission(spec(), 0)).collect();
    sim.submit_all(batch).expect("they are taken");
    let held: Vec<_> = sim.hosts["a"].held.keys().copied().collect();
    let (long, short) = held.split_last().expect("they are handed out");
    let commits = |sim: &Sim| {
        let claims = sim.ledger().claims().into_values();
        claims.map(|(seq, _)| seq).collect::<Vec<_>>()
    };
    let first = commits(&sim);
    assert_eq!(first, [first[0]; 40], "one commit says so for all");
    for epoch in short {
        sim.finish("a", *epoch, Outcome::Succeeded);
    }
    sim.settle();
    let last = commits(&sim);
    assert!(last.len() == 1 && last > first, "{last:?}");
    sim.crash(Crash::Process);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.hosts["a"].only(), *long);
    sim.finish_all("a");
    assert!(commits(&sim).is_empty());
}
