//! What happens when hosts go away and come back.

use std::time::Duration;

use tq_core::limits::{
    BATCH_COMMANDS_MAX, LEASE, Limits, QUARANTINE_FAILURES, QUARANTINE_PAUSE_MIN,
};
use tq_core::outcome::Outcome;
use tq_core::task::Spec;
use tq_core::{Epoch, TaskId};

use super::sim::{Sim, spec, submission};
use super::stores::NewStore;
use crate::dispatch::health::Condition;
use crate::dispatch::message::FromHost;
use crate::ledger::{Config, HelloRefused, HostOrder, HostState, HostView, Refused};
use crate::store::memory::Crash;

on_every_store![
    another_host_finishes_what_a_lost_one_had,
    late_outcome_is_fenced_and_changes_nothing,
    attempt_that_a_host_still_holds_too_late_is_fenced,
    outcome_that_is_repeated_gets_the_same_answer,
    new_incarnation_ends_the_leases_of_the_old_one_at_once,
    reconnect_within_the_lease_keeps_the_work,
    draining_host_gets_nothing_new_and_its_end_gives_back_at_once,
    ledger_that_stood_still_takes_nothing_back,
    more_slots_than_one_step_fills_are_filled_all_the_same,
    second_live_host_of_a_name_is_refused,
    host_whose_link_takes_nothing_is_given_nothing,
    paused_host_takes_nothing_new_and_finishes_what_it_has,
    pause_outlives_the_broker_and_the_host,
    drained_host_hands_back_what_it_has_not_begun_and_nothing_counts_as_lost,
    what_runs_at_the_deadline_of_a_drain_goes_to_others_and_is_fenced,
    outcome_that_comes_with_the_deadline_counts,
    drain_goes_on_over_a_restart_of_the_broker,
    idle_host_is_drained_at_once_and_one_that_is_away_when_its_lease_is_over,
    removed_host_is_told_to_go_and_its_name_is_free,
    host_that_keeps_failing_is_quarantined_and_probes_itself_back,
    quarantined_host_gets_one_attempt_as_a_probe_and_a_resume_clears_it,
    sessions_lost_with_attempts_are_faults_and_idle_ones_are_not,
    memory_of_attempts_is_counted_and_a_full_host_gets_nothing,
];

fn another_host_finishes_what_a_lost_one_had(store: NewStore) {
    let mut sim = Sim::new(store);
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

fn late_outcome_is_fenced_and_changes_nothing(store: NewStore) {
    let mut sim = Sim::new(store);
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

fn attempt_that_a_host_still_holds_too_late_is_fenced(store: NewStore) {
    let mut sim = Sim::new(store);
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

fn outcome_that_is_repeated_gets_the_same_answer(store: NewStore) {
    for outcome in [Outcome::Succeeded, Outcome::Trap] {
        let mut sim = Sim::new(store);
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

fn new_incarnation_ends_the_leases_of_the_old_one_at_once(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    sim.kill("a");
    sim.hello("a");
    sim.settle();
    assert_eq!((sim.task(id).losses, sim.state(id)), (1, "running"));
    sim.finish_all("a");
    assert_eq!(sim.state(id), "succeeded");
}

fn reconnect_within_the_lease_keeps_the_work(store: NewStore) {
    let mut sim = Sim::new(store);
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

fn draining_host_gets_nothing_new_and_its_end_gives_back_at_once(store: NewStore) {
    let mut sim = Sim::new(store);
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

fn ledger_that_stood_still_takes_nothing_back(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    sim.skip(LEASE * 2);
    sim.ledger_mut().stood_still(LEASE * 2);
    sim.step();
    assert_eq!((sim.state(id), sim.task(id).losses), ("running", 0));
}

fn more_slots_than_one_step_fills_are_filled_all_the_same(store: NewStore) {
    let mut sim = Sim::empty(store, Config::default());
    sim.deploy(super::sim::MODULE);
    let tasks = BATCH_COMMANDS_MAX + 100;
    sim.submit_all((0..tasks).map(|_| submission(spec(), 0)).collect())
        .expect("they are taken");
    sim.connect("a", tasks as u32);
    assert_eq!(sim.hosts["a"].held.len(), tasks);
}

fn second_live_host_of_a_name_is_refused(store: NewStore) {
    let mut sim = Sim::new(store);
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

fn host_whose_link_takes_nothing_is_given_nothing(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 2);
    // The link has refused a message, and the broker has not heard that the connection is over.
    sim.disconnect("a", false);
    let id = sim.submit(spec());
    assert_eq!((sim.state(id), sim.task(id).losses), ("ready", 0));
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.finish_all("a"), [id]);
}

const DRAIN: HostOrder = HostOrder::Drain(Duration::from_secs(60));

/// The only host, as it is listed.
#[track_caller]
fn only_view(sim: &mut Sim) -> HostView {
    let mut views = sim.views();
    assert_eq!(views.len(), 1, "{views:?}");
    views.remove(0)
}

/// What hosts and outcomes a task's attempts had.
fn history(sim: &Sim, id: TaskId) -> Vec<(String, Outcome)> {
    let attempts = sim.task(id).attempts.into_iter();
    attempts
        .map(|attempt| (attempt.host.to_string(), attempt.outcome))
        .collect()
}

fn paused_host_takes_nothing_new_and_finishes_what_it_has(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 2);
    let first = sim.submit(spec());
    let paused = sim.order("a", HostOrder::Pause).expect("it is there");
    assert_eq!((paused.state, paused.held), (HostState::Paused, 1));
    assert!(paused.reason.contains("tq host resume"), "{paused:?}");
    let second = sim.submit(spec());
    assert_eq!(sim.finish_all("a"), [first]);
    assert_eq!(sim.state(second), "ready");
    // To say it twice changes nothing.
    assert_eq!(
        sim.order("a", HostOrder::Pause).map(|host| host.held),
        Ok(0)
    );
    let resumed = sim.order("a", HostOrder::Resume).expect("it is there");
    assert_eq!(
        (resumed.state, &*resumed.reason),
        (HostState::Connected, "")
    );
    assert_eq!(sim.finish_all("a"), [second]);
}

fn pause_outlives_the_broker_and_the_host(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 2);
    sim.order("a", HostOrder::Pause).expect("it is there");
    for crash in [None, Some(Crash::Process), Some(Crash::Power)] {
        match crash {
            None => sim.restart(),
            Some(crash) => sim.crash(crash),
        }
        let view = only_view(&mut sim);
        assert_eq!((view.state, view.is_connected), (HostState::Paused, false));
        sim.kill("a");
        sim.hello("a");
        let id = sim.submit(spec());
        assert_eq!(sim.state(id), "ready");
        assert!(only_view(&mut sim).is_connected);
        sim.cancel(id).expect("it waits");
    }
    // It is known also when it has long been gone.
    sim.disconnect("a", true);
    sim.advance(LEASE * 3);
    assert_eq!(only_view(&mut sim).state, HostState::Paused);
    sim.order("a", HostOrder::Resume).expect("it is known");
    assert_eq!(sim.views(), [], "there is nothing to remember any more");
    sim.restart();
    assert_eq!(sim.views(), []);
}

fn drained_host_hands_back_what_it_has_not_begun_and_nothing_counts_as_lost(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 2);
    let (runs, waits) = (sim.submit(spec()), sim.submit(spec()));
    sim.connect("b", 2);
    let epochs: Vec<Epoch> = sim.hosts["a"].held.keys().copied().collect();
    let draining = sim.order("a", DRAIN).expect("it is there");
    assert_eq!((draining.state, draining.held), (HostState::Draining, 2));
    assert_eq!(sim.hosts["a"].hand_backs, 1);
    // The real session reports what waited; this one does as it is told.
    sim.finish("a", epochs[1], Outcome::HostDrained);
    sim.settle();
    assert_eq!(sim.hosts["b"].held.len(), 1, "it goes to another at once");
    assert_eq!(only(&mut sim, "a").state, HostState::Draining);
    sim.finish("a", epochs[0], Outcome::Succeeded);
    sim.settle();
    assert_eq!(only(&mut sim, "a").state, HostState::Drained);
    sim.finish_all("b");
    let (a, b) = ("a".to_owned(), "b".to_owned());
    assert_eq!(history(&sim, runs), [(a.clone(), Outcome::Succeeded)]);
    assert_eq!(
        history(&sim, waits),
        [(a, Outcome::HostDrained), (b, Outcome::Succeeded)]
    );
    assert_eq!((sim.task(waits).losses, sim.task(waits).failures), (0, 0));
    // It stays so over everything, until someone says otherwise.
    sim.disconnect("b", true);
    sim.advance(LEASE);
    sim.restart();
    sim.hello("a");
    let next = sim.submit(spec());
    assert_eq!(
        (only(&mut sim, "a").state, sim.state(next)),
        (HostState::Drained, "ready")
    );
    assert_eq!(
        sim.order("a", HostOrder::Pause),
        Err(Refused::HostDrains("a".to_owned()))
    );
    assert_eq!(
        sim.order("a", DRAIN).map(|host| host.state),
        Ok(HostState::Drained)
    );
    sim.order("a", HostOrder::Resume).expect("it is there");
    assert_eq!(sim.finish_all("a"), [next]);
}

/// A host of several, as it is listed.
#[track_caller]
fn only(sim: &mut Sim, name: &str) -> HostView {
    sim.order(name, HostOrder::Show).expect("it is known")
}

fn what_runs_at_the_deadline_of_a_drain_goes_to_others_and_is_fenced(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let late = sim.hosts["a"].only();
    let outcome = sim.hosts["a"].held[&late].attempt();
    sim.connect("b", 1);
    sim.order("a", DRAIN).expect("it is there");
    sim.advance(Duration::from_secs(59));
    assert_eq!((sim.state(id), only(&mut sim, "a").held), ("running", 1));
    sim.advance(Duration::from_secs(1));
    assert_eq!(sim.hosts["a"].stops, [(late, None)], "it is told to stop");
    assert_eq!(only(&mut sim, "a").state, HostState::Drained);
    let next = sim.hosts["b"].only();
    // What it says all the same comes too late.
    sim.host_mut("a").outcomes.clear();
    sim.say(
        "a",
        FromHost::Outcomes(vec![crate::dispatch::message::AttemptOutcome {
            attempt: outcome,
            outcome: Outcome::Succeeded,
            result: None,
            failure: None,
            retry_after: None,
            usage: tq_core::outcome::Usage::default(),
        }]),
    );
    sim.settle();
    assert_eq!(sim.hosts["a"].acks, [(late, true)]);
    assert_eq!((sim.state(id), sim.hosts["b"].only()), ("running", next));
    sim.finish_all("b");
    assert_eq!(sim.task(id).losses, 0);
}

fn outcome_that_comes_with_the_deadline_counts(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    sim.order("a", DRAIN).expect("it is there");
    sim.skip(Duration::from_secs(60));
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    assert_eq!(
        (sim.state(id), sim.task(id).attempts.len()),
        ("succeeded", 1)
    );
    assert_eq!(only_view(&mut sim).state, HostState::Drained);
}

fn drain_goes_on_over_a_restart_of_the_broker(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    sim.order("a", DRAIN).expect("it is there");
    sim.crash(Crash::Power);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.hosts["a"].hand_backs, 2, "it is told again");
    let view = only_view(&mut sim);
    assert_eq!((view.state, view.held), (HostState::Draining, 1));
    assert!(view.until.is_some());
    sim.advance(Duration::from_secs(60));
    assert_eq!((sim.state(id), sim.task(id).losses), ("ready", 0));
    assert_eq!(only_view(&mut sim).state, HostState::Drained);
}

fn idle_host_is_drained_at_once_and_one_that_is_away_when_its_lease_is_over(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    assert_eq!(
        sim.order("a", DRAIN).map(|host| host.state),
        Ok(HostState::Drained)
    );
    sim.order("a", HostOrder::Resume).expect("it is there");
    let id = sim.submit(spec());
    sim.disconnect("a", true);
    assert_eq!(
        sim.order("a", DRAIN).map(|host| host.state),
        Ok(HostState::Draining)
    );
    sim.advance(LEASE);
    assert_eq!(
        (sim.state(id), only_view(&mut sim).state),
        ("ready", HostState::Drained)
    );
}

fn removed_host_is_told_to_go_and_its_name_is_free(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    sim.connect("b", 1);
    sim.order("a", HostOrder::Pause).expect("it is there");
    assert_eq!(sim.remove("a"), Ok(1));
    assert!(sim.hosts["a"].is_removed && sim.hosts["a"].session.is_none());
    assert_eq!(sim.task(id).losses, 0);
    assert_eq!(
        sim.hosts["b"].held.len(),
        1,
        "its work goes to another at once"
    );
    assert_eq!(only_view(&mut sim).name, "b");
    for order in [HostOrder::Show, HostOrder::Pause, HostOrder::Resume, DRAIN] {
        assert_eq!(sim.order("a", order), Err(Refused::NoHost("a".to_owned())));
    }
    assert_eq!(sim.remove("a"), Err(Refused::NoHost("a".to_owned())));
    sim.restart();
    sim.hello("a");
    sim.hello("b");
    sim.settle();
    assert_eq!(
        only(&mut sim, "a").state,
        HostState::Connected,
        "it is a new one"
    );
    sim.finish_all("b");
    assert_eq!(sim.task(id).attempts.len(), 2);
}

fn host_that_keeps_failing_is_quarantined_and_probes_itself_back(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    for _ in 0..QUARANTINE_FAILURES {
        let epoch = sim.hosts["a"].only();
        sim.finish("a", epoch, Outcome::HostError);
        sim.settle();
    }
    let view = only_view(&mut sim);
    assert_eq!((view.state, view.held), (HostState::Quarantined, 0));
    assert!(view.reason.contains("host_error"), "{}", view.reason);
    let until = view.until.expect("it ends by itself");
    assert_eq!(until.since(sim.now.wall), QUARANTINE_PAUSE_MIN);
    assert_eq!(sim.metrics.quarantines.get(), 1);
    // The ledger wakes by itself when the pause is over.
    assert_eq!(sim.state(id), "ready");
    sim.advance(QUARANTINE_PAUSE_MIN);
    let probe = sim.hosts["a"].only();
    sim.finish("a", probe, Outcome::HostError);
    sim.settle();
    sim.advance(QUARANTINE_PAUSE_MIN);
    assert!(
        sim.hosts["a"].held.is_empty(),
        "the next pause is twice as long"
    );
    sim.advance(QUARANTINE_PAUSE_MIN);
    assert_eq!(sim.finish_all("a"), [id]);
    let listed = only_view(&mut sim);
    assert_eq!(listed.state, HostState::Connected);
    assert_eq!(listed.changes.len(), 1, "a list has the last change");
    let shown = sim.order("a", HostOrder::Show).expect("it is there");
    let became: Vec<_> = shown
        .changes
        .iter()
        .map(|change| change.condition)
        .collect();
    let (quarantined, probing) = (Condition::Quarantined, Condition::Probing);
    assert_eq!(
        became,
        [quarantined, probing, quarantined, probing, Condition::Fit]
    );
    assert_eq!(shown.changes[1].at, until);
}

fn quarantined_host_gets_one_attempt_as_a_probe_and_a_resume_clears_it(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 3);
    let ids: Vec<_> = (0..2 * QUARANTINE_FAILURES)
        .map(|_| sim.submit(spec()))
        .collect();
    for _ in 0..QUARANTINE_FAILURES {
        let epoch = *sim.hosts["a"].held.keys().next().expect("it has some");
        sim.finish("a", epoch, Outcome::HostError);
        sim.settle();
    }
    // What it had besides counts as well: it works after all, or it does not.
    while let Some(epoch) = sim.hosts["a"].held.keys().next().copied() {
        sim.finish("a", epoch, Outcome::HostError);
        sim.settle();
    }
    sim.advance(QUARANTINE_PAUSE_MIN);
    assert_eq!(
        sim.hosts["a"].held.len(),
        1,
        "one of three slots is given a probe"
    );
    let probe = sim.hosts["a"].only();
    sim.finish("a", probe, Outcome::HostError);
    sim.settle();
    assert_eq!(only_view(&mut sim).state, HostState::Quarantined);
    let resumed = sim.order("a", HostOrder::Resume).expect("it is there");
    assert_eq!(resumed.state, HostState::Connected);
    assert_eq!(sim.finish_all("a").len(), ids.len());
}

fn sessions_lost_with_attempts_are_faults_and_idle_ones_are_not(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    for _ in 0..2 * QUARANTINE_FAILURES {
        sim.disconnect("a", true);
        sim.hello("a");
        sim.settle();
    }
    assert_eq!(only_view(&mut sim).state, HostState::Connected);
    let id = sim.submit(spec());
    for _ in 0..QUARANTINE_FAILURES {
        assert_eq!(sim.hosts["a"].held.len(), 1);
        sim.kill("a");
        sim.hello("a");
        sim.settle();
    }
    let view = only_view(&mut sim);
    assert_eq!(
        (view.state, sim.state(id)),
        (HostState::Quarantined, "ready")
    );
    assert!(view.reason.contains("session"), "{}", view.reason);
    // It is remembered though it is gone, and forgotten when it does not come back.
    sim.disconnect("a", true);
    sim.advance(LEASE);
    assert_eq!(only_view(&mut sim).state, HostState::Quarantined);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.finish_all("a"), [id]);
}

fn memory_of_attempts_is_counted_and_a_full_host_gets_nothing(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.add_host("a", 4);
    let limit = Limits::DEFAULT.memory_bytes;
    sim.host_mut("a").memory_bytes = Some(2 * limit);
    sim.host_mut("a").labels.insert("zone".into(), "eu".into());
    sim.hello("a");
    sim.settle();
    let ids: Vec<_> = (0..3).map(|_| sim.submit(spec())).collect();
    let view = only_view(&mut sim);
    assert_eq!((view.held, view.reserved_bytes), (2, 2 * limit));
    assert_eq!(view.memory_bytes, Some(2 * limit));
    assert_eq!(view.labels.get("zone").map(|zone| &**zone), Some("eu"));
    assert_eq!(sim.state(ids[2]), "ready");
    let room = |sim: &Sim, bytes| {
        let hosts: Vec<_> = sim.ledger().hosts.iter().collect();
        hosts[0].has_room(bytes)
    };
    assert!(!room(&sim, 1) && room(&sim, 0));
    // A restart counts anew what is still there.
    sim.restart();
    sim.hello("a");
    sim.settle();
    assert_eq!(only_view(&mut sim).reserved_bytes, 2 * limit);
    assert_eq!(sim.finish_all("a").len(), 3);
    assert_eq!(only_view(&mut sim).reserved_bytes, 0);
    assert!(room(&sim, 2 * limit) && !room(&sim, 2 * limit + 1));
    let small = Spec {
        limits: Limits {
            memory_bytes: 1 << 20,
            ..Limits::DEFAULT
        },
        ..spec()
    };
    sim.submit(small);
    assert_eq!(only_view(&mut sim).reserved_bytes, 1 << 20);
}
