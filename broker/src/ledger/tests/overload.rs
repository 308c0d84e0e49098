//! Who is let in when many tasks wait.

use std::time::Duration;

use tq_core::limits::OVERLOAD_CALM;
use tq_core::outcome::Outcome;
use tq_core::task::Spec;
use tq_core::{Priority, TaskId, Tier};

use super::sim::{Sim, spec, submission};
use super::stores::NewStore;
use crate::ledger::{Config, OverloadView, Refused};
use crate::store::memory::Crash;

on_every_store![
    the_less_urgent_is_refused_first_and_let_in_as_tasks_end,
    what_waits_counts_over_a_restart_and_whatever_it_waits_for,
    the_level_says_what_is_refused_and_falls_when_nothing_is,
];

const LOW: Priority = Priority(10);
const NORMAL: Priority = Priority(127);
const HIGH: Priority = Priority(200);

fn of(priority: Priority) -> Spec {
    Spec { priority, ..spec() }
}

impl Sim {
    /// One with the module deployed, in which so many tasks may wait.
    fn with_waiting_max(store: NewStore, waiting_max: u64) -> Self {
        let config = Config {
            waiting_max,
            ..Config::default()
        };
        let mut sim = Self::empty(store, config);
        sim.deploy(super::sim::MODULE);
        sim
    }

    /// Submits a task of each priority in one request.
    fn ask(&mut self, priorities: &[Priority]) -> Result<Vec<TaskId>, Refused> {
        let tasks = priorities
            .iter()
            .map(|priority| submission(of(*priority), 0));
        let submitted = self.submit_all(tasks.collect())?;
        Ok(submitted.into_iter().map(|task| task.id).collect())
    }

    fn overload(&self) -> OverloadView {
        let ledger = self.ledger();
        ledger.shared().admission.view(self.now.wall)
    }
}

#[track_caller]
fn is_refused(answer: Result<Vec<TaskId>, Refused>, tier: &str) {
    match answer {
        Err(Refused::Overloaded { rule, .. }) => assert!(rule.contains(tier), "{rule}"),
        other => panic!("it is to be refused: {other:?}"),
    }
}

fn the_less_urgent_is_refused_first_and_let_in_as_tasks_end(store: NewStore) {
    let mut sim = Sim::with_waiting_max(store, 10);
    sim.ask(&[LOW; 7]).expect("there is room");
    // One request may go beyond the share, so that it fits at all.
    sim.ask(&[LOW; 2]).expect("7 of 8 are taken");
    // As a whole a request is as urgent as its least urgent task.
    for (priorities, tier) in [
        (&[LOW][..], "low"),
        (&[HIGH, LOW, HIGH], "low"),
        (&[NORMAL], "normal"),
        (&[HIGH, NORMAL], "normal"),
    ] {
        is_refused(sim.ask(priorities), tier);
    }
    sim.ask(&[HIGH]).expect("9 of 10 are taken");
    is_refused(sim.ask(&[HIGH]), "high");
    assert_eq!(sim.overload().level.number(), 3);

    sim.connect("a", 2);
    let waiting = sim.overload().gauges[0].taken;
    assert_eq!(waiting, 8, "what runs does not wait");
    is_refused(sim.ask(&[LOW]), "low");
    sim.ask(&[NORMAL]).expect("8 of 9 are taken");
    is_refused(sim.ask(&[NORMAL]), "normal");
    assert_eq!(sim.finish_all("a").len(), 11);
    assert_eq!(sim.overload().gauges[0].taken, 0);
    sim.ask(&[LOW]).expect("there is room again");
}

fn what_waits_counts_over_a_restart_and_whatever_it_waits_for(store: NewStore) {
    let mut sim = Sim::with_waiting_max(store, 4);
    let later = Spec {
        run_at: Some(sim.now.wall.after(Duration::from_secs(3600))),
        ..of(HIGH)
    };
    let delayed = sim.submit(later);
    let ids = sim.ask(&[HIGH; 3]).expect("there is room");
    is_refused(sim.ask(&[HIGH]), "4 tasks wait");
    sim.crash(Crash::Process);
    sim.restart();
    is_refused(sim.ask(&[HIGH]), "4 tasks wait");
    // Neither its operators nor its hosts are held up.
    sim.cancel(delayed).expect("it waits");
    sim.connect("a", 1);
    let epoch = sim.host_mut("a").only();
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    assert_eq!(sim.state(ids[0]), "succeeded");
    assert_eq!(sim.overload().gauges[0].taken, 1);
    sim.ask(&[HIGH]).expect("there is room again");
}

fn the_level_says_what_is_refused_and_falls_when_nothing_is(store: NewStore) {
    let mut sim = Sim::with_waiting_max(store, 10);
    sim.ask(&[HIGH; 9]).expect("there is room");
    is_refused(sim.ask(&[LOW; 3]), "low");
    is_refused(sim.ask(&[NORMAL; 2]), "normal");
    let view = sim.overload();
    assert_eq!(
        view.refused,
        [(Tier::High, 0), (Tier::Normal, 2), (Tier::Low, 3)]
    );
    assert_eq!(
        view.level.refuses().collect::<Vec<_>>(),
        [Tier::Low, Tier::Normal]
    );
    sim.advance(OVERLOAD_CALM);
    let levels = |view: OverloadView| -> Vec<u8> {
        let changes = view.changes.iter();
        changes.map(|change| change.level.number()).collect()
    };
    assert_eq!(levels(sim.overload()), [1, 2, 0]);
    assert_eq!(sim.metrics.overload_level.get(), 0);
    assert_eq!(sim.overload().gauges[0].taken, 9, "the tasks wait on");
}
