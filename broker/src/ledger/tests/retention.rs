//! What is over its time goes, what is not stays, and neither holds up anybody.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tq_core::limits::{IDEMPOTENCY_WINDOW, RETENTION_SLICE};
use tq_core::outcome::Outcome;
use tq_core::task::Spec;
use tq_core::{Retention, TaskId, Timestamp};

use super::sim::{Sim, spec, submission};
use super::stores::NewStore;
use crate::ledger::{Config, RetentionChange};
use crate::store::memory::Crash;
use crate::store::{Direction, Space};
use crate::tables::key;

on_every_store![
    each_end_is_kept_for_its_own_time,
    redriven_task_is_not_removed_for_its_earlier_end,
    results_go_before_their_tasks_and_say_so,
    task_stays_while_its_idempotency_key_is_remembered,
    shorter_time_holds_for_what_has_ended_already,
    longer_time_holds_for_what_has_ended_already,
    time_that_makes_no_sense_is_refused_and_names_itself,
    many_go_in_slices_over_a_crash_and_live_ones_go_on,
    who_watches_from_before_what_is_gone_can_tell,
    ends_of_builds_that_noted_no_time_are_found,
];

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Short times, each of its own.
const SHORT: Retention = Retention {
    succeeded: HOUR,
    dead: HOUR.saturating_mul(5),
    cancelled: HOUR.saturating_mul(2),
    expired: HOUR.saturating_mul(3),
    results: None,
    modules: HOUR.saturating_mul(4),
};

fn sim(store: NewStore) -> Sim {
    let mut sim = Sim::new(store);
    // A setting of the namespace, so that the default is not what is tried.
    sim.keep(Some(RetentionChange {
        succeeded: Some(SHORT.succeeded),
        dead: Some(SHORT.dead),
        cancelled: Some(SHORT.cancelled),
        expired: Some(SHORT.expired),
        results: None,
        modules: Some(SHORT.modules),
    }))
    .expect("it is in range");
    sim.connect("a", 1);
    sim
}

fn ended(sim: &mut Sim, spec: Spec, outcome: Outcome) -> TaskId {
    let id = sim.submit(spec);
    // It may have been silent for hours.
    sim.hello("a");
    sim.settle();
    let epoch = sim.hosts["a"].only();
    sim.finish_with("a", epoch, outcome, &[b'o'; 1_025]);
    sim.settle();
    id
}

fn succeeded(sim: &mut Sim) -> TaskId {
    ended(sim, spec(), Outcome::Succeeded)
}

/// Waits as the thread of the ledger would: it is called when it asked to be.
#[track_caller]
fn sleep(sim: &mut Sim, span: Duration) {
    let until = sim.now.wall.after(span);
    while sim.now.wall < until {
        let left = until.since(sim.now.wall);
        sim.skip(
            sim.wait
                .map_or(left, |wait| wait.clamp(Duration::from_millis(1), left)),
        );
        sim.settle();
    }
}

fn rows(sim: &Sim, prefix: Vec<u8>) -> usize {
    let store = &sim.ledger().store;
    let rows = store.scan(Space::Index, &prefix, &[], Direction::Ascending, usize::MAX);
    rows.expect("the store can be read").len()
}

fn each_end_is_kept_for_its_own_time(store: NewStore) {
    let mut sim = sim(store);
    let succeeded = succeeded(&mut sim);
    let dead = ended(&mut sim, spec(), Outcome::FatalError);
    let expires = Spec {
        run_at: Some(sim.now.wall.after(SECOND * 10)),
        deadline: Some(sim.now.wall.after(SECOND)),
        ..spec()
    };
    let expired = sim.submit(expires);
    let cancelled = sim.submit(spec());
    sim.cancel(cancelled).expect("it is cancelled");
    let epoch = sim.hosts["a"].only();
    sim.finish("a", epoch, Outcome::Cancelled);
    sim.settle();
    sleep(&mut sim, SECOND);
    let all = [succeeded, cancelled, expired, dead];
    assert_eq!(
        all.map(|id| sim.state(id)),
        ["succeeded", "cancelled", "expired", "dead"]
    );
    sleep(&mut sim, HOUR - SECOND * 2);
    assert_eq!(all.map(|id| sim.is_there(id)), [true; 4]);
    sleep(&mut sim, SECOND * 2);
    assert_eq!(all.map(|id| sim.is_there(id)), [false, true, true, true]);
    assert_eq!(rows(&sim, key::settled_all()), 0, "what was walked is gone");
    sleep(&mut sim, HOUR);
    assert_eq!(all.map(|id| sim.is_there(id)), [false, false, true, true]);
    sim.restart();
    sleep(&mut sim, HOUR);
    assert_eq!(all.map(|id| sim.is_there(id)), [false, false, false, true]);
    sleep(&mut sim, HOUR * 2);
    assert!(sim.ledger().tasks().is_empty());
    assert_eq!(rows(&sim, key::dues()), 0);
    assert_eq!(sim.wait, None, "nothing is left to wait for");
}

fn redriven_task_is_not_removed_for_its_earlier_end(store: NewStore) {
    let mut sim = sim(store);
    let id = ended(&mut sim, spec(), Outcome::FatalError);
    sleep(&mut sim, HOUR * 2);
    sim.redrive(id).expect("it is redriven");
    sim.hello("a");
    sim.settle();
    // It runs for as long as its end would have been kept, and then ends again.
    for _ in 0..4 {
        sim.advance(HOUR);
    }
    assert_eq!(sim.state(id), "running");
    let epoch = sim.hosts["a"].only();
    sim.finish("a", epoch, Outcome::FatalError);
    sim.settle();
    sleep(&mut sim, HOUR * 5 - SECOND);
    assert_eq!(sim.state(id), "dead");
    sleep(&mut sim, SECOND);
    assert!(!sim.is_there(id));
}

fn results_go_before_their_tasks_and_say_so(store: NewStore) {
    let mut sim = sim(store);
    let change = RetentionChange {
        results: Some(Some(SECOND * 60)),
        ..RetentionChange::default()
    };
    sim.keep(Some(change)).expect("it is in range");
    let apart = succeeded(&mut sim);
    let own = ended(
        &mut sim,
        Spec {
            result_ttl: Some(SECOND * 5),
            ..spec()
        },
        Outcome::Succeeded,
    );
    let longer = ended(
        &mut sim,
        Spec {
            result_ttl: Some(SECOND * 100),
            ..spec()
        },
        Outcome::Succeeded,
    );
    let in_row = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    let ended_at = sim.now.wall;
    let all = [own, apart, in_row, longer];
    let gone = |sim: &Sim| all.map(|id| sim.record(id).beside.result_gone);
    sleep(&mut sim, SECOND * 4);
    assert_eq!(gone(&sim), [None; 4]);
    sleep(&mut sim, SECOND);
    let at = |seconds| Some(ended_at.after(SECOND * seconds));
    assert_eq!(gone(&sim), [at(5), None, None, None]);
    assert!(!sim.record(in_row).result.is_empty());
    sleep(&mut sim, SECOND * 55);
    assert_eq!(gone(&sim), [at(5), at(60), at(60), None]);
    assert!(sim.record(in_row).result.is_empty());
    sleep(&mut sim, SECOND * 40);
    assert_eq!(gone(&sim), [at(5), at(60), at(60), at(100)]);
    let store = &sim.ledger().store;
    let data = store.scan(Space::Payloads, &[], &[], Direction::Ascending, 9);
    assert!(data.expect("the store can be read").is_empty());
    assert_eq!(all.map(|id| sim.state(id)), ["succeeded"; 4]);
    sleep(&mut sim, HOUR);
    assert_eq!(all.map(|id| sim.is_there(id)), [false; 4]);
}

fn task_stays_while_its_idempotency_key_is_remembered(store: NewStore) {
    let mut sim = sim(store);
    let keyed = || Spec {
        idempotency_key: "k".to_owned(),
        ..spec()
    };
    let id = ended(&mut sim, keyed(), Outcome::Succeeded);
    sleep(&mut sim, IDEMPOTENCY_WINDOW - SECOND);
    let again = sim.submit_all(vec![submission(keyed(), 0)]);
    assert!(matches!(&again, Ok(tasks) if tasks[0].existed && tasks[0].id == id));
    sleep(&mut sim, SECOND);
    assert!(!sim.is_there(id));
}

fn shorter_time_holds_for_what_has_ended_already(store: NewStore) {
    let mut sim = sim(store);
    let id = ended(&mut sim, spec(), Outcome::FatalError);
    let later = ended(&mut sim, spec(), Outcome::FatalError);
    sleep(&mut sim, HOUR * 2);
    let other = ended(&mut sim, spec(), Outcome::FatalError);
    sleep(&mut sim, HOUR);
    // All three are noted for the time that holds so far.
    assert_eq!(rows(&sim, key::settled_all()), 0);
    let change = RetentionChange {
        dead: Some(HOUR * 2),
        ..RetentionChange::default()
    };
    let kept = sim.keep(Some(change)).expect("it is in range");
    assert_eq!(kept.dead, HOUR * 2);
    assert_eq!(
        [id, later, other].map(|id| sim.is_there(id)),
        [false, false, true]
    );
    sim.crash(Crash::Process);
    assert_eq!(sim.keep(None), Ok(kept));
    sleep(&mut sim, HOUR);
    assert!(!sim.is_there(other));
}

fn longer_time_holds_for_what_has_ended_already(store: NewStore) {
    let mut sim = sim(store);
    let id = ended(&mut sim, spec(), Outcome::FatalError);
    sleep(&mut sim, HOUR * 2);
    let change = RetentionChange {
        dead: Some(HOUR * 9),
        ..RetentionChange::default()
    };
    sim.keep(Some(change)).expect("it is in range");
    sleep(&mut sim, HOUR * 6);
    assert!(sim.is_there(id));
    sleep(&mut sim, HOUR);
    assert!(!sim.is_there(id));
}

fn time_that_makes_no_sense_is_refused_and_names_itself(store: NewStore) {
    let mut sim = sim(store);
    let change = RetentionChange {
        expired: Some(Duration::ZERO),
        ..RetentionChange::default()
    };
    let refused = sim.keep(Some(change)).expect_err("it is out of range");
    assert_eq!(
        refused.to_string(),
        "retention of expired tasks is 0 ms; it may be 1000 to 316224000000 ms"
    );
    assert_eq!(sim.keep(None), Ok(SHORT));
}

fn many_go_in_slices_over_a_crash_and_live_ones_go_on(store: NewStore) {
    const TASKS: usize = 3 * RETENTION_SLICE + 10;
    let mut sim = Sim::empty(
        store,
        Config {
            retention: SHORT,
            ..Config::default()
        },
    );
    sim.deploy(super::sim::MODULE);
    sim.connect("a", 1_000);
    let tasks = (0..TASKS).map(|_| submission(spec(), 0)).collect();
    sim.submit_all(tasks).expect("they are taken");
    sim.finish_all("a");
    let live = sim.submit(spec());
    let there = |sim: &Sim| sim.ledger().tasks().len();
    assert_eq!(there(&sim), TASKS + 1);
    sim.skip(HOUR);
    sim.step();
    assert_eq!(there(&sim), TASKS + 1 - RETENTION_SLICE);
    assert_eq!(sim.wait, Some(Duration::ZERO), "it goes on at once");
    // A step in which others end removes as many more.
    sim.step();
    assert_eq!(there(&sim), TASKS + 1 - 2 * RETENTION_SLICE);
    sim.crash(Crash::Process);
    sim.settle();
    assert_eq!(
        sim.ledger().tasks().keys().copied().collect::<Vec<_>>(),
        [live]
    );
}

fn who_watches_from_before_what_is_gone_can_tell(store: NewStore) {
    let mut sim = sim(store);
    succeeded(&mut sim);
    let seq = *sim.ledger().shared().settled.borrow();
    let forgotten = |sim: &Sim| sim.ledger().shared().forgotten.load(Ordering::Acquire);
    assert_eq!(forgotten(&sim), 0);
    sleep(&mut sim, HOUR);
    assert_eq!(forgotten(&sim), seq);
    sim.restart();
    assert_eq!(forgotten(&sim), seq);
}

fn ends_of_builds_that_noted_no_time_are_found(store: NewStore) {
    let mut sim = sim(store);
    // The clock of a test begins soon after the epoch.
    sim.skip(HOUR * 2);
    let id = succeeded(&mut sim);
    let seq = *sim.ledger().shared().settled.borrow();
    let at = key::settled(seq);
    let row = sim
        .ledger()
        .store
        .get(&at)
        .expect("it can be read")
        .expect("it is there");
    let mut batch = crate::store::Batch::new();
    batch.put(at, row[..row.len() - 8].to_vec());
    let put = sim
        .ledger_mut()
        .store
        .commit(batch, crate::store::Level::Disk);
    assert!(
        matches!(put, Ok(crate::store::Committed::Yes(_))),
        "{put:?}"
    );
    sim.restart();
    sim.settle();
    assert_eq!(rows(&sim, key::settled_all()), 0);
    let first = key::due(Timestamp(0), 0, 0);
    assert!(sim.is_there(id) && rows(&sim, first.bytes[..1].to_vec()) == 1);
    sleep(&mut sim, HOUR);
    assert!(!sim.is_there(id));
}
