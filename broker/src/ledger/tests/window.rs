//! Tasks that are rows because the windows are full.

use tq_core::outcome::Outcome;

use super::sim::{OTHER, Sim, other, spec, submission};
use super::stores::NewStore;
use crate::store::memory::Crash;

on_every_store![
    tasks_behind_the_window_run_in_their_order,
    tasks_that_one_step_writes_and_hands_out_keep_their_order,
    cancelled_tasks_leave_no_rows_behind,
    lane_that_nobody_serves_does_not_take_the_window_from_others,
    windows_do_not_fill_with_tasks_that_are_gone,
    task_that_comes_back_goes_to_the_end_of_its_lane,
    rows_of_cancelled_tasks_do_not_hold_up_a_step,
];

fn tasks_behind_the_window_run_in_their_order(store: NewStore) {
    let mut sim = Sim::new(store);
    let batch = || (0..10).map(|_| submission(spec(), 0)).collect();
    let mut ids: Vec<_> = Vec::new();
    for _ in 0..3 {
        let submitted = sim.submit_all(batch()).expect("they are taken");
        ids.extend(submitted.into_iter().map(|task| task.id));
    }
    assert_eq!(sim.ledger().open.len(), 4, "the others are rows");
    sim.connect("a", 3);
    assert_eq!(sim.finish_all("a"), ids);
    assert_eq!(sim.ledger().lanes.lines(), 0);
}

fn tasks_that_one_step_writes_and_hands_out_keep_their_order(store: NewStore) {
    let mut sim = Sim::new(store);
    let mut ids: Vec<_> = (0..6).map(|_| sim.submit(spec())).collect();
    sim.connect("a", 40);
    assert_eq!(sim.hosts["a"].held.len(), 6);
    // More than the window holds, all of it wanted at once.
    let batch = (0..20).map(|_| submission(spec(), 0)).collect();
    ids.extend(
        sim.submit_all(batch)
            .expect("they are taken")
            .into_iter()
            .map(|task| task.id),
    );
    assert_eq!(sim.hosts["a"].held.len(), 26);
    assert_eq!(sim.finish_all("a"), ids);
}

fn cancelled_tasks_leave_no_rows_behind(store: NewStore) {
    let mut sim = Sim::new(store);
    let ids: Vec<_> = (0..20).map(|_| sim.submit(spec())).collect();
    for id in ids.iter().step_by(2) {
        sim.cancel(*id).expect("it waits");
    }
    sim.crash(Crash::Process);
    for id in ids.iter().skip(1).step_by(4) {
        sim.cancel(*id).expect("it waits");
    }
    sim.connect("a", 2);
    let left: Vec<_> = ids.iter().skip(3).step_by(4).copied().collect();
    assert_eq!(sim.finish_all("a"), left);
}

fn lane_that_nobody_serves_does_not_take_the_window_from_others(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.deploy(OTHER);
    for _ in 0..10 {
        sim.submit(other());
    }
    let id = sim.submit(spec());
    assert!(
        sim.ledger().open.contains_key(&id),
        "it has a window of its own"
    );
    sim.connect("a", 1);
    assert_eq!(sim.finish_all("a"), [id]);
}

fn windows_do_not_fill_with_tasks_that_are_gone(store: NewStore) {
    let mut sim = Sim::new(store);
    for _ in 0..500 {
        let id = sim.submit(spec());
        sim.cancel(id).expect("it waits");
    }
    assert_eq!(
        (sim.ledger().open.len(), sim.ledger().lanes.lines()),
        (0, 0)
    );
}

fn task_that_comes_back_goes_to_the_end_of_its_lane(store: NewStore) {
    let mut sim = Sim::new(store);
    let ids: Vec<_> = (0..8).map(|_| sim.submit(spec())).collect();
    sim.connect("a", 1);
    let epoch = sim.hosts["a"].only();
    // The host could not run it, through no fault of the task.
    sim.finish("a", epoch, Outcome::HostError);
    sim.settle();
    let expected: Vec<_> = ids[1..].iter().chain(&ids[..1]).copied().collect();
    assert_eq!(sim.finish_all("a"), expected);
}

fn rows_of_cancelled_tasks_do_not_hold_up_a_step(store: NewStore) {
    let mut sim = Sim::new(store);
    let ids: Vec<_> = (0..200).map(|_| sim.submit(spec())).collect();
    let (last, others) = ids.split_last().expect("there are tasks");
    for id in others {
        sim.cancel(*id).expect("it waits");
    }
    sim.add_host("a", 1);
    sim.hello("a");
    let mut steps = 0;
    while sim.hosts["a"].held.is_empty() {
        sim.step();
        steps += 1;
        assert!(steps < 100, "it finds the task in the end");
    }
    assert!(steps > 5, "{steps} steps look at a few rows each");
    assert_eq!(sim.finish_all("a"), [*last]);
}
