//! Quotas of namespaces, and what attempts cost.

use std::time::Duration;

use prost::Message;
use tokio::sync::oneshot;
use tq_core::breaker::Forced;
use tq_core::limits::{COST_DAYS_MAX, Limits};
use tq_core::outcome::{Outcome, Usage};
use tq_core::placement::Placement;
use tq_core::quota::{Exceeded, Quota, Quotas};
use tq_core::task::Spec;
use tq_core::{Cost, Day, TaskId};

use super::queues::{labels, with_priority};
use super::sim::{OTHER, Sim, TENANT, module, spec, submission, with_payload_apart};
use super::stores::NewStore;
use crate::ledger::{
    Command, Doomed, Error, HostOrder, NamespaceSettings, QueuePatch, QuotaView, Refused,
    SetNamespace,
};
use crate::store::memory::Crash;
use crate::store::{Batch, Committed, Level};
use crate::tables::key::QueueId;
use crate::tables::row::Counters;
use crate::tables::{key, row};

on_every_store![
    submits_of_one_step_see_each_other_at_the_edge_of_a_quota,
    a_retry_of_the_same_step_waits_too,
    a_rate_lets_a_second_go_at_once_and_nothing_beyond_it,
    no_more_runs_than_the_quota_says_over_restarts_too,
    a_day_has_no_more_fuel_than_its_budget,
    what_fits_no_budget_is_held_back_alone_until_it_does,
    what_is_next_is_asked_anew_when_what_waits_changes,
    what_is_next_is_asked_anew_when_a_queue_a_breaker_or_a_host_changes,
    fuel_that_is_only_reserved_refuses_no_submit,
    what_is_kept_counts_and_results_are_kept_whatever_the_quota_says,
    what_was_never_counted_is_counted_once,
    each_attempt_costs_once_on_the_day_of_its_end,
    costs_go_when_their_time_is_over,
];

const NONE: Quotas = Quotas {
    waiting: None,
    running: None,
    stored_bytes: None,
    submits_per_second: None,
    fuel_per_day: None,
};
const DAY: Duration = Duration::from_secs(24 * 3600);

fn with_fuel(fuel: u64) -> Spec {
    Spec {
        limits: Limits {
            fuel,
            ..Limits::DEFAULT
        },
        ..spec()
    }
}

impl Sim {
    /// Sets all quotas of the namespace.
    #[track_caller]
    fn set_quotas(&mut self, quotas: Quotas) {
        let (reply, mut answer) = oneshot::channel();
        self.inbox.push(Command::SetNamespace(SetNamespace {
            namespace: TENANT.to_owned(),
            change: Box::new(move |before| NamespaceSettings { quotas, ..before }),
            reply,
        }));
        self.settle();
        let settings = answer.try_recv().expect("it is answered");
        assert_eq!(settings.quotas, quotas);
    }

    #[track_caller]
    fn quota_view(&mut self) -> QuotaView {
        let (reply, mut answer) = oneshot::channel();
        self.inbox.push(Command::Quotas(TENANT.to_owned(), reply));
        self.settle();
        answer.try_recv().expect("it is answered")
    }

    /// Submits tasks of one request.
    fn ask_for(&mut self, spec: &Spec, count: usize) -> Result<Vec<TaskId>, Refused> {
        let tasks = (0..count).map(|_| submission(spec.clone(), 0));
        let submitted = self.submit_all(tasks.collect())?;
        Ok(submitted.into_iter().map(|task| task.id).collect())
    }

    fn costs(&self) -> Vec<(Day, String, Cost)> {
        let all = (Day(0), self.ledger().shares.day());
        let page = row::list_costs::<Error>(&*self.ledger().store, self.tenant(), all, None);
        page.expect("rows can be read").rows
    }
}

#[track_caller]
fn exceeded<T: std::fmt::Debug>(answer: Result<T, Refused>, quota: Quota) -> Exceeded {
    match answer {
        Err(Refused::OverQuota {
            exceeded,
            namespace,
            ..
        }) => {
            assert_eq!((exceeded.quota(), &*namespace), (quota, TENANT));
            exceeded
        }
        other => panic!("it is to be refused: {other:?}"),
    }
}

fn submits_of_one_step_see_each_other_at_the_edge_of_a_quota(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.set_quotas(Quotas {
        waiting: Some(10),
        ..NONE
    });
    let submits =
        (0..9).map(|_| sim.send_submit(vec![submission(spec(), 0), submission(spec(), 0)]));
    let answers: Vec<_> = submits.collect();
    sim.settle();
    let answers = answers.into_iter().map(|mut answer| answer.try_recv());
    let taken = answers.filter(|answer| matches!(answer, Ok(Ok(_)))).count();
    assert_eq!((taken, sim.quota_view().used.waiting), (5, 10));
    let refused = exceeded(sim.ask_for(&spec(), 1), Quota::Waiting);
    let expected = Exceeded::Waiting {
        limit: 10,
        waiting: 10,
        asked: 1,
    };
    assert_eq!(refused, expected);
    // What is there already is answered with.
    let keyed = Spec {
        idempotency_key: "k".to_owned(),
        ..spec()
    };
    exceeded(sim.ask_for(&keyed, 1), Quota::Waiting);
    sim.connect("a", 1);
    let id = sim.ask_for(&keyed, 1).expect("one runs, so that nine wait");
    assert_eq!(sim.ask_for(&keyed, 1), Ok(id));
    exceeded(sim.ask_for(&spec(), 1), Quota::Waiting);
    sim.crash(Crash::Process);
    exceeded(sim.ask_for(&spec(), 1), Quota::Waiting);
    assert_eq!(sim.ledger().shared().metrics.submitted.get(), 11);
}

fn a_retry_of_the_same_step_waits_too(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.set_quotas(Quotas {
        waiting: Some(1),
        ..NONE
    });
    sim.connect("a", 1);
    sim.submit(spec());
    let epoch = sim.host_mut("a").only();
    sim.finish("a", epoch, Outcome::Trap);
    let mut answer = sim.send_submit(vec![submission(spec(), 0)]);
    sim.settle();
    let answer = answer.try_recv().expect("it is answered");
    exceeded(answer, Quota::Waiting);
}

fn a_rate_lets_a_second_go_at_once_and_nothing_beyond_it(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.set_quotas(Quotas {
        submits_per_second: Some(4),
        ..NONE
    });
    let refused = exceeded(sim.ask_for(&spec(), 5), Quota::SubmitRate);
    assert_eq!(refused.resets_at(), None, "it never fits");
    assert!(refused.to_string().contains("never fits"), "{refused}");
    sim.ask_for(&spec(), 3).expect("it is full");
    let refused = exceeded(sim.ask_for(&spec(), 2), Quota::SubmitRate);
    let in_a_while = sim.now.wall.after(Duration::from_millis(250));
    assert_eq!(refused.resets_at(), Some(in_a_while));
    sim.ask_for(&spec(), 1)
        .expect("a refused one takes nothing");
    exceeded(sim.ask_for(&spec(), 1), Quota::SubmitRate);
    sim.skip(Duration::from_millis(250));
    sim.ask_for(&spec(), 1).expect("it is time");
    exceeded(sim.ask_for(&spec(), 1), Quota::SubmitRate);
    // What was spent before a restart is not known.
    sim.skip(Duration::from_secs(5));
    sim.restart();
    exceeded(sim.ask_for(&spec(), 1), Quota::SubmitRate);
    sim.skip(Duration::from_secs(1));
    sim.ask_for(&spec(), 4).expect("it is full again");
}

fn no_more_runs_than_the_quota_says_over_restarts_too(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.set_quotas(Quotas {
        running: Some(2),
        ..NONE
    });
    sim.connect("a", 4);
    sim.connect("b", 4);
    let ids = sim.ask_for(&spec(), 9).expect("they wait");
    let held = |sim: &Sim| sim.hosts["a"].held.len() + sim.hosts["b"].held.len();
    assert_eq!(held(&sim), 2);
    let view = sim.quota_view();
    assert!(view.reason.contains("quota `running` of 2"), "{view:?}");
    sim.crash(Crash::Process);
    sim.hello("a");
    sim.hello("b");
    sim.settle();
    assert_eq!((held(&sim), sim.quota_view().used.running), (2, 2));
    sim.set_quotas(Quotas {
        running: Some(3),
        ..NONE
    });
    assert_eq!(held(&sim), 3);
    sim.set_quotas(Quotas {
        running: Some(1),
        ..NONE
    });
    while held(&sim) > 0 {
        let before = held(&sim);
        let name = if sim.hosts["a"].held.is_empty() {
            "b"
        } else {
            "a"
        };
        let epoch = *sim.hosts[name].held.keys().next().expect("it has some");
        sim.finish(name, epoch, Outcome::Succeeded);
        sim.settle();
        assert!(held(&sim) <= 1.max(before - 1), "{before} ran");
    }
    assert!(ids.iter().all(|id| sim.state(*id) == "succeeded"));
    assert_eq!(sim.quota_view().reason, "");
}

fn a_day_has_no_more_fuel_than_its_budget(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.set_quotas(Quotas {
        fuel_per_day: Some(100),
        ..NONE
    });
    let refused = exceeded(sim.ask_for(&with_fuel(101), 1), Quota::FuelPerDay);
    let expected = Exceeded::FuelOfTask {
        limit: 100,
        asked: 101,
    };
    assert_eq!(refused, expected);
    sim.connect("a", 8);
    let ids = sim.ask_for(&with_fuel(40), 4).expect("something is left");
    assert_eq!(sim.hosts["a"].held.len(), 2, "80 are reserved");
    // One that leaves much makes room for another.
    sim.usage.fuel = 10;
    let first = *sim.hosts["a"].held.keys().next().expect("it has some");
    sim.finish("a", first, Outcome::Succeeded);
    sim.settle();
    let view = sim.quota_view();
    assert_eq!((view.used.fuel, view.used.fuel_reserved), (10, 80));
    assert!(view.reason.contains("1970-01-02T00:00:00Z"), "{view:?}");
    // Neither does a host charge more than it was given.
    sim.usage.fuel = 1_000;
    let second = *sim.hosts["a"].held.keys().next().expect("it has some");
    sim.finish("a", second, Outcome::Succeeded);
    sim.settle();
    let used = sim.quota_view().used;
    assert_eq!((used.fuel, used.fuel_reserved), (50, 40));
    sim.crash(Crash::Process);
    sim.hello("a");
    sim.settle();
    assert_eq!(
        sim.quota_view().used,
        used,
        "a restart forgets nothing of it"
    );
    let third = sim.host_mut("a").only();
    sim.usage.fuel = 40;
    sim.finish("a", third, Outcome::Trap);
    sim.settle();
    assert_eq!(sim.quota_view().used.fuel, 90, "a failure has used it too");
    sim.ask_for(&with_fuel(10), 1).expect("something is left");
    assert_eq!(sim.hosts["a"].held.len(), 0, "those before it come first");

    // Nothing comes in, and yet the next day begins.
    let today = sim.now.wall;
    let until_tomorrow = Day::of(today).next().begins_at().since(today);
    assert!(sim.wait.is_some_and(|wait| wait <= until_tomorrow));
    sim.skip(until_tomorrow.saturating_sub(Duration::from_millis(1)));
    sim.settle();
    assert_eq!(sim.hosts["a"].held.len(), 0);
    // Its session ended meanwhile.
    sim.skip(Duration::from_millis(1));
    sim.hello("a");
    sim.settle();
    let used = sim.quota_view().used;
    assert_eq!((used.fuel, used.fuel_reserved), (0, 90));
    sim.usage.fuel = 40;
    while let Some(epoch) = sim.hosts["a"].held.keys().next().copied() {
        sim.finish("a", epoch, Outcome::Succeeded);
        sim.settle();
    }
    let used = sim.quota_view().used;
    assert_eq!((used.fuel, used.fuel_reserved), (90, 0));
    assert!(ids.iter().all(|id| sim.state(*id) == "succeeded"));
    sim.usage.fuel = 10;
    sim.submit(with_fuel(10));
    let epoch = sim.host_mut("a").only();
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    let refused = exceeded(sim.ask_for(&with_fuel(1), 1), Quota::FuelPerDay);
    assert_eq!(
        refused.to_string(),
        "its budget of 100 fuel for 1970-01-02: 100 are used; it resets at 1970-01-03T00:00:00Z"
    );
}

fn what_fits_no_budget_is_held_back_alone_until_it_does(store: NewStore) {
    let mut sim = Sim::new(store);
    let large = sim.submit(with_fuel(500));
    let other = Spec {
        function: "g".to_owned(),
        ..with_fuel(50)
    };
    let small = sim.submit(other);
    sim.set_quotas(Quotas {
        fuel_per_day: Some(100),
        ..NONE
    });
    sim.connect("a", 2);
    assert_eq!(sim.held("a"), [small], "it holds up nobody else");
    let view = sim.quota_view();
    assert_eq!((view.holds_back, &*view.reason), (true, ""));
    sim.set_quotas(NONE);
    assert_eq!(sim.held("a"), [large, small]);
    assert!(!sim.quota_view().holds_back);
}

fn what_is_next_is_asked_anew_when_what_waits_changes(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.set_quotas(Quotas {
        fuel_per_day: Some(100),
        ..NONE
    });
    sim.connect("a", 4);
    sim.submit(with_fuel(60));
    let large = sim.submit(with_fuel(50));
    let small = sim.submit(with_fuel(10));
    assert_eq!(sim.hosts["a"].held.len(), 1, "no task overtakes another");
    let urgent = sim.submit(with_priority(with_fuel(20), 255));
    assert_eq!(sim.state(urgent), "running", "it comes first");
    assert_eq!(sim.state(small), "ready");
    sim.cancel(large).expect("it waits");
    assert_eq!(sim.state(small), "running", "nothing is before it any more");

    // Likewise of what fits no budget at all.
    sim.finish_all("a");
    sim.set_quotas(NONE);
    let paused = QueuePatch::Pause(true);
    sim.change_queue("default", paused).expect("it is there");
    let never = sim.submit(with_fuel(1_000));
    let behind = sim.submit(with_fuel(5));
    sim.set_quotas(Quotas {
        fuel_per_day: Some(100),
        ..NONE
    });
    let resumed = QueuePatch::Pause(false);
    sim.change_queue("default", resumed).expect("it is there");
    assert_eq!((sim.state(never), sim.state(behind)), ("ready", "ready"));
    sim.cancel(never).expect("it waits");
    assert_eq!(sim.state(behind), "running");
}

fn what_is_next_is_asked_anew_when_a_queue_a_breaker_or_a_host_changes(store: NewStore) {
    let placed = |placement: Placement| Spec {
        placement,
        ..with_fuel(60)
    };
    let in_bulk = placed(Placement {
        queue: "bulk".to_owned(),
        ..Placement::default()
    });
    let on_b = placed(Placement {
        required: labels("zone", "b"),
        ..Placement::default()
    });
    let of_other = Spec {
        function: "g".to_owned(),
        ..with_fuel(10)
    };
    for (first, second, change) in [
        (
            in_bulk,
            with_fuel(10),
            Box::new(|sim: &mut Sim| {
                let paused = QueuePatch::Pause(true);
                sim.change_queue("bulk", paused).expect("it is there");
            }) as Box<dyn Fn(&mut Sim)>,
        ),
        (
            with_fuel(60),
            of_other.clone(),
            Box::new(|sim: &mut Sim| sim.force(Forced::Open)),
        ),
        (
            on_b,
            of_other.clone(),
            Box::new(|sim: &mut Sim| {
                sim.order("b", HostOrder::Pause).expect("it is there");
            }),
        ),
    ] {
        let mut sim = Sim::new(store);
        sim.set_quotas(Quotas {
            fuel_per_day: Some(100),
            ..NONE
        });
        sim.connect("a", 4);
        sim.add_host("b", 4);
        sim.host_mut("b").labels = labels("zone", "b");
        sim.hello("b");
        sim.settle();
        let queue = QueuePatch::Set {
            order: None,
            concurrency: None,
            rate: None,
        };
        sim.change_queue("bulk", queue).expect("it can be made");
        let uses_half = sim.submit(with_fuel(50));
        assert_eq!(sim.state(uses_half), "running");
        let first = sim.submit(with_priority(first, 255));
        let second = sim.submit(second);
        assert_eq!(
            (sim.state(first), sim.state(second)),
            ("ready", "ready"),
            "the first is next, and does not fit"
        );
        change(&mut sim);
        sim.settle();
        assert_eq!(
            sim.state(second),
            "running",
            "the first is not next any more"
        );
    }
}

fn fuel_that_is_only_reserved_refuses_no_submit(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.set_quotas(Quotas {
        fuel_per_day: Some(100),
        ..NONE
    });
    sim.connect("a", 4);
    let first = sim.submit(with_fuel(100));
    assert_eq!(sim.state(first), "running");
    let next = sim.ask_for(&with_fuel(100), 1);
    let next = next.expect("the first may use nothing of it")[0];
    assert_eq!(sim.state(next), "ready");
    let epoch = sim.host_mut("a").only();
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    assert_eq!(sim.quota_view().used.fuel, 0, "it has used nothing");
    assert_eq!(sim.state(next), "running");
}

fn what_is_kept_counts_and_results_are_kept_whatever_the_quota_says(store: NewStore) {
    let mut sim = Sim::new(store);
    // The module has 100 bytes.
    assert_eq!(sim.quota_view().used.stored_bytes, 100);
    sim.set_quotas(Quotas {
        stored_bytes: Some(4_150),
        ..NONE
    });
    let ids = sim
        .ask_for(&with_payload_apart(spec()), 2)
        .expect("4,100 of 4,150");
    exceeded(sim.ask_for(&with_payload_apart(spec()), 1), Quota::Stored);
    exceeded(sim.deploy_as(module(OTHER), false), Quota::Stored);
    sim.connect("a", 1);
    let epoch = sim.host_mut("a").only();
    sim.finish_with("a", epoch, Outcome::Succeeded, &[7; 500]);
    sim.settle();
    assert_eq!(sim.state(ids[0]), "succeeded", "no result is lost for it");
    assert_eq!(sim.quota_view().used.stored_bytes, 4_600);
    exceeded(sim.ask_for(&spec(), 1), Quota::Stored);
    sim.crash(Crash::Process);
    assert_eq!(sim.quota_view().used.stored_bytes, 4_600);
    sim.delete(Doomed::One(ids[0])).expect("it has ended");
    assert_eq!(sim.quota_view().used.stored_bytes, 2_100);
    sim.deploy_as(module(OTHER), false).expect("there is room");
    assert_eq!(sim.quota_view().used.stored_bytes, 2_200);
}

fn what_was_never_counted_is_counted_once(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.ask_for(&with_payload_apart(spec()), 3)
        .expect("they wait");
    let at = key::counters(sim.tenant(), QueueId::DEFAULT);
    let ledger = sim.ledger_mut();
    let row = ledger.store.get(&at).expect("it can be read");
    let counters = Counters::decode(row.expect("it is there")).expect("counters");
    assert_eq!(counters.kept_bytes, 6_000);
    // As a store is that an older build has written.
    let mut batch = Batch::default();
    batch.delete(key::kept_is_counted());
    let uncounted = Counters {
        kept_bytes: 0,
        ..counters
    };
    batch.put(at.clone(), uncounted.encode_to_vec());
    let committed = ledger.store.commit(batch, Level::Process);
    assert!(matches!(committed, Ok(Committed::Yes(_))), "{committed:?}");
    sim.restart();
    let row = sim.ledger().store.get(&at).expect("it can be read");
    assert_eq!(row.as_deref(), Some(&counters.encode_to_vec()[..]));
    assert_eq!(sim.quota_view().used.stored_bytes, 6_100);
}

fn each_attempt_costs_once_on_the_day_of_its_end(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.usage = Usage {
        fuel: 7,
        memory_bytes_peak: 1_000,
        wall_ns: 2_000_000,
        cpu_ns: 1_000_000,
        log_bytes: 0,
    };
    sim.connect("a", 1);
    let id = sim.submit(with_payload_apart(spec()));
    let epoch = sim.host_mut("a").only();
    sim.finish("a", epoch, Outcome::Trap);
    let outcome = sim.hosts["a"].outcomes[&epoch].clone();
    sim.settle();
    // It has not heard of the acknowledgement.
    sim.host_mut("a").outcomes.insert(epoch, outcome);
    sim.disconnect("a", true);
    sim.crash(Crash::Process);
    sim.hello("a");
    sim.settle();
    let failed = Cost {
        attempts: 1,
        fuel: 7,
        memory_byte_us: 2_000_000,
        wall_ns: 2_000_000,
        cpu_ns: 1_000_000,
        bytes_in: 2_000,
        bytes_out: 0,
    };
    let costs = sim.costs();
    assert_eq!(costs, [(Day(0), "m/f".to_owned(), failed)]);
    sim.advance(Duration::from_secs(5));
    let epoch = sim.host_mut("a").only();
    sim.skip(DAY);
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    // The host was silent for a day, but what it says first is heard first.
    assert_eq!(sim.state(id), "succeeded");
    let succeeded = Cost {
        bytes_out: 3,
        ..failed
    };
    let costs = sim.costs();
    assert_eq!(costs.len(), 2, "{costs:?}");
    assert_eq!(costs[1], (Day(1), "m/f".to_owned(), succeeded));
}

fn costs_go_when_their_time_is_over(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    sim.submit(spec());
    sim.finish_all("a");
    sim.skip(DAY * COST_DAYS_MAX);
    sim.settle();
    assert_eq!(sim.costs().len(), 1);
    sim.skip(DAY);
    sim.settle();
    let rows = sim
        .ledger()
        .read_all(crate::store::Space::Index, &key::costs());
    assert_eq!(rows.expect("rows can be read").len(), 0);
}
