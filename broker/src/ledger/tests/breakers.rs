//! Circuit breakers: what opens them, what waits for them, what closes them, and what operators make of them.

use std::time::Duration;

use tokio::sync::oneshot;
use tq_core::Epoch;
use tq_core::breaker::{Forced, Phase};
use tq_core::limits::{
    BREAKER_ATTEMPTS_MIN, BREAKER_CHANGES_MAX, BREAKER_KEPT, BREAKER_PAUSE_MIN, BREAKER_WINDOW,
    BREAKERS_MAX,
};
use tq_core::outcome::Outcome;
use tq_core::task::Spec;

use super::queues::{LIMITS, in_queue, of_key, with_priority};
use super::sim::{OTHER, Sim, TENANT, other, spec, submission};
use super::stores::NewStore;
use crate::ledger::{BreakerOrder, BreakerView, Command, QueuePatch, Refused};
use crate::store::memory::Crash;

on_every_store![
    a_function_that_fails_has_its_tasks_wait_and_nobody_elses,
    probes_close_a_breaker_and_one_that_fails_opens_it_for_longer,
    a_probe_that_says_nothing_gives_way_to_the_next,
    what_runs_when_a_breaker_opens_goes_on_and_says_nothing_new,
    what_is_nobodys_fault_opens_nothing,
    a_crash_speaks_against_a_task_that_ran_alone,
    lines_of_a_function_wait_together_and_hold_up_nobody,
    what_waits_for_a_breaker_may_be_cancelled_meanwhile,
    another_version_begins_with_a_closed_breaker,
    what_an_operator_forces_outlives_restarts_until_it_is_released,
    a_breaker_that_is_forced_closed_never_opens,
    a_breaker_that_is_released_is_tried_at_once,
    a_breaker_goes_with_its_version,
    a_restart_begins_with_closed_breakers,
    breakers_are_bounded_and_so_is_what_they_remember,
    a_breaker_of_what_nobody_calls_is_forgotten_in_time,
];

impl Sim {
    #[track_caller]
    fn order_breaker(
        &mut self,
        function: &str,
        order: BreakerOrder,
    ) -> Result<BreakerView, Refused> {
        let (reply, mut answer) = oneshot::channel();
        self.inbox.push(Command::Breaker {
            namespace: TENANT.to_owned(),
            function: function.to_owned(),
            order,
            reply,
        });
        self.settle();
        answer.try_recv().expect("an order is answered")
    }

    #[track_caller]
    fn breaker(&mut self) -> BreakerView {
        let shown = self.order_breaker("m/f", BreakerOrder::Show);
        shown.expect("the function is there")
    }

    #[track_caller]
    pub(super) fn force(&mut self, forced: Forced) {
        let order = BreakerOrder::Force(forced, "the shop is closed".to_owned());
        self.order_breaker("m/f", order)
            .expect("the function is there");
    }

    #[track_caller]
    fn release(&mut self) -> BreakerView {
        self.order_breaker("m/f", BreakerOrder::Release)
            .expect("the function is there")
    }

    #[track_caller]
    fn breakers(&mut self) -> Vec<BreakerView> {
        let (reply, mut answer) = oneshot::channel();
        self.inbox.push(Command::Breakers(TENANT.to_owned(), reply));
        self.settle();
        answer.try_recv().expect("a listing is answered")
    }

    /// Has every attempt that the host has of a function end, until it gets no more of it. Returns their number.
    #[track_caller]
    fn end_all(&mut self, function: &str, outcome: Outcome) -> u32 {
        let mut ended = 0;
        loop {
            let held = self.hosts["a"].held.iter();
            let of_function: Vec<Epoch> = held
                .filter(|(_, assignment)| assignment.spec.function == function)
                .map(|(epoch, _)| *epoch)
                .collect();
            if of_function.is_empty() {
                return ended;
            }
            for epoch in of_function {
                ended += 1;
                self.finish("a", epoch, outcome);
            }
            self.settle();
        }
    }

    /// Has the one attempt end that the host has.
    #[track_caller]
    fn end_probe(&mut self, outcome: Outcome) {
        let probe = self.hosts["a"].only();
        self.finish("a", probe, outcome);
        self.settle();
    }
}

fn once(spec: Spec) -> Spec {
    let mut spec = spec;
    spec.retry.max_attempts = 1;
    spec
}

fn of_function(function: &str) -> Spec {
    Spec {
        function: function.to_owned(),
        ..spec()
    }
}

/// A host with one slot and some tasks of `f`, of which so many have failed that its breaker is open.
fn opened(store: NewStore, tasks: u32) -> Sim {
    let mut sim = Sim::new(store);
    for _ in 0..BREAKER_ATTEMPTS_MIN + tasks {
        sim.submit(once(spec()));
    }
    sim.connect("a", 1);
    let failed = sim.end_all("f", Outcome::FatalError);
    assert_eq!(failed, BREAKER_ATTEMPTS_MIN);
    assert_eq!(sim.breaker().phase, Phase::Open);
    sim
}

fn reasons(view: &BreakerView) -> Vec<(Phase, &str)> {
    let events = view.history.iter();
    events
        .map(|event| (event.phase, event.reason.as_str()))
        .collect()
}

fn a_function_that_fails_has_its_tasks_wait_and_nobody_elses(store: NewStore) {
    let mut sim = Sim::new(store);
    let ids: Vec<_> = (0..60).map(|_| sim.submit(spec())).collect();
    sim.connect("a", 4);
    let failed = sim.end_all("f", Outcome::RetryableError);
    // What the host had already when the twentieth failed fails as well.
    assert_eq!(failed, BREAKER_ATTEMPTS_MIN);
    let waiting: Vec<_> = ids.iter().filter(|id| sim.state(**id) == "ready").collect();
    assert_eq!(waiting.len(), 40);
    assert!(waiting.iter().all(|id| sim.task(**id).attempts.is_empty()));
    // Retries of those that failed come to wait as well, and lose nothing.
    sim.advance(Duration::from_secs(4));
    assert!(ids.iter().all(|id| sim.state(*id) == "ready"));
    let beside = sim.submit(of_function("g"));
    assert_eq!(sim.held("a"), [beside], "others are not touched");
    let view = sim.breaker();
    assert_eq!(
        (view.phase, view.function.name.as_str()),
        (Phase::Open, "f")
    );
    assert_eq!(
        reasons(&view),
        [(
            Phase::Open,
            "20 of 20 attempts failed within 60s, the last with `retryable_error`; nothing starts for 5s"
        )]
    );
    assert_eq!(sim.metrics.breaker_openings.get(), 1);
    sim.finish_all("a");
    assert!(
        sim.wait.is_some_and(|wait| wait <= Duration::from_secs(1)),
        "it wants to be called when the pause is over: {:?}",
        sim.wait
    );
    sim.advance(Duration::from_millis(999));
    assert_eq!(sim.held("a"), []);
    sim.advance(Duration::from_millis(1));
    assert_eq!(sim.held("a").len(), 1, "one of them is the probe");
    // The function was mended.
    assert_eq!(sim.finish_all("a").len(), 60);
    assert!(ids.iter().all(|id| sim.state(*id) == "succeeded"));
    assert_eq!(sim.breaker().phase, Phase::Closed);
    assert_eq!(sim.breakers().len(), 1, "its history is there");
}

fn probes_close_a_breaker_and_one_that_fails_opens_it_for_longer(store: NewStore) {
    let mut sim = opened(store, 20);
    // Room for more than a probe.
    sim.connect("b", 4);
    sim.advance(BREAKER_PAUSE_MIN);
    let probe = |sim: &Sim| {
        let mut held = sim.hosts.iter().flat_map(|(name, host)| {
            let epochs = host.held.keys();
            epochs.map(|epoch| (*name, *epoch))
        });
        let probe = held.next().expect("there is a probe");
        assert_eq!(held.next(), None, "there is one probe");
        probe
    };
    for outcome in [Outcome::Succeeded, Outcome::Succeeded, Outcome::Trap] {
        let (host, epoch) = probe(&sim);
        sim.finish(host, epoch, outcome);
        sim.settle();
    }
    let view = sim.breaker();
    let until = sim.now.wall.after(BREAKER_PAUSE_MIN * 2);
    assert_eq!((view.phase, view.until), (Phase::Open, Some(until)));
    sim.advance(BREAKER_PAUSE_MIN);
    assert!(sim.hosts.values().all(|host| host.held.is_empty()));
    sim.advance(BREAKER_PAUSE_MIN);
    for _ in 0..3 {
        let (host, epoch) = probe(&sim);
        sim.finish(host, epoch, Outcome::Succeeded);
        sim.settle();
    }
    let held = sim.hosts.values().map(|host| host.held.len());
    assert_eq!(held.sum::<usize>(), 5, "everything starts again");
    let view = sim.breaker();
    assert_eq!((view.phase, view.until), (Phase::Closed, None));
    let half_open = "the pause is over; one task at a time starts, as a probe";
    let expected = [
        (Phase::HalfOpen, half_open),
        (
            Phase::Open,
            "a probe failed with `trap`; nothing starts for 10s",
        ),
        (Phase::HalfOpen, half_open),
        (Phase::Closed, "3 probes in a row succeeded"),
    ];
    assert_eq!(reasons(&view)[1..], expected);
    assert_eq!(sim.metrics.breaker_openings.get(), 2);
}

fn a_probe_that_says_nothing_gives_way_to_the_next(store: NewStore) {
    let mut sim = opened(store, 8);
    sim.advance(BREAKER_PAUSE_MIN);
    for outcome in [
        Outcome::HostError,
        Outcome::HostDrained,
        Outcome::InvalidInput,
    ] {
        sim.end_probe(outcome);
        assert_eq!(sim.breaker().phase, Phase::HalfOpen, "after {outcome}");
    }
    // A host that is lost with the probe.
    sim.disconnect("a", true);
    sim.connect("b", 4);
    assert_eq!(sim.held("b"), []);
    sim.advance(Duration::from_secs(11));
    assert_eq!(sim.held("b").len(), 1);
    // A task that is cancelled while it is the probe.
    let id = sim.held("b")[0];
    sim.cancel(id).expect("it runs");
    let epoch = sim.hosts["b"].only();
    sim.finish("b", epoch, Outcome::Cancelled);
    sim.settle();
    assert_eq!(sim.held("b").len(), 1);
    assert_eq!(sim.finish_all("b").len(), 6);
    assert_eq!(sim.breaker().phase, Phase::Closed);
}

fn what_runs_when_a_breaker_opens_goes_on_and_says_nothing_new(store: NewStore) {
    let mut sim = Sim::new(store);
    for _ in 0..40 {
        sim.submit(once(spec()));
    }
    sim.connect("a", 30);
    let held: Vec<_> = sim.hosts["a"].held.keys().copied().collect();
    for epoch in &held[..20] {
        sim.finish("a", *epoch, Outcome::FatalError);
    }
    sim.settle();
    let before = sim.breaker();
    assert_eq!(before.phase, Phase::Open);
    assert_eq!(sim.hosts["a"].held.len(), 10, "nobody stops what runs");
    sim.finish("a", held[20], Outcome::FatalError);
    sim.finish("a", held[21], Outcome::Succeeded);
    sim.settle();
    assert_eq!(sim.breaker(), before);
    // Probes run beside it; and what it does then is of the time before.
    sim.advance(BREAKER_PAUSE_MIN);
    for _ in 0..3 {
        let probe = *sim.hosts["a"].held.keys().next_back().expect("a probe");
        assert!(probe > held[29]);
        sim.finish("a", probe, Outcome::Succeeded);
        sim.settle();
    }
    assert_eq!(sim.breaker().phase, Phase::Closed);
    for epoch in &held[22..] {
        sim.finish("a", *epoch, Outcome::FatalError);
    }
    sim.settle();
    assert_eq!(sim.breaker().tally.ended, 0);
}

fn what_is_nobodys_fault_opens_nothing(store: NewStore) {
    let mut sim = Sim::new(store);
    for _ in 0..40 {
        sim.submit(spec());
    }
    sim.connect("a", 4);
    assert_eq!(sim.end_all("f", Outcome::InvalidInput), 40);
    assert_eq!(sim.breakers(), []);
    // One in three fails, and it gets more done so.
    for _ in 0..30 {
        for outcome in [Outcome::Succeeded, Outcome::Succeeded, Outcome::FatalError] {
            sim.submit(spec());
            assert_eq!(sim.end_all("f", outcome), 1);
        }
    }
    let breakers = sim.breakers();
    let tally = breakers.first().map(|view| (view.phase, view.tally));
    let (phase, tally) = tally.expect("it failed at times");
    // It begins to count with the first failure.
    assert_eq!((phase, tally.failed, tally.ended), (Phase::Closed, 30, 88));
    sim.advance(BREAKER_WINDOW + BREAKER_PAUSE_MIN);
    assert_eq!(sim.breakers(), [], "what is old is forgotten");
}

fn a_crash_speaks_against_a_task_that_ran_alone(store: NewStore) {
    let mut sim = Sim::new(store);
    for _ in 0..30 {
        sim.submit(spec());
    }
    sim.connect("a", 30);
    let held: Vec<_> = sim.hosts["a"].held.keys().copied().collect();
    for epoch in held {
        sim.finish("a", epoch, Outcome::RunnerCrashed);
    }
    sim.settle();
    assert_eq!(sim.breakers(), [], "any of them may be the cause");
    assert_eq!(sim.end_all("f", Outcome::RunnerCrashed), 30);
    assert_eq!(sim.breaker().phase, Phase::Open);
}

fn lines_of_a_function_wait_together_and_hold_up_nobody(store: NewStore) {
    let mut sim = opened(store, 0);
    sim.change_queue("mail", LIMITS).expect("it is set up");
    let urgent = sim.submit(with_priority(in_queue("mail"), 200));
    let mut of_f = vec![urgent];
    of_f.extend((0..4).map(|_| sim.submit(of_key("a", 1))));
    of_f.extend((0..2).map(|_| sim.submit(with_priority(spec(), 10))));
    assert_eq!(sim.held("a"), []);
    let beside = sim.submit(with_priority(of_function("g"), 0));
    assert_eq!(sim.finish_all("a"), [beside]);
    // The one that would be first waits for something else too.
    sim.change_queue("mail", QueuePatch::Pause(true))
        .expect("it is there");
    sim.host_mut("a").slots = 8;
    sim.hello("a");
    sim.advance(BREAKER_PAUSE_MIN);
    assert_eq!(sim.held("a"), [of_f[1]]);
    sim.end_probe(Outcome::Succeeded);
    sim.end_probe(Outcome::Succeeded);
    assert_eq!(sim.held("a").len(), 1, "there is one probe");
    sim.end_probe(Outcome::Succeeded);
    assert_eq!(sim.held("a").len(), 3, "of the key, one at a time");
    sim.change_queue("mail", QueuePatch::Pause(false))
        .expect("it is there");
    sim.finish_all("a");
    assert!(of_f.iter().all(|id| sim.state(*id) == "succeeded"));
}

fn what_waits_for_a_breaker_may_be_cancelled_meanwhile(store: NewStore) {
    let mut sim = opened(store, 0);
    let ids: Vec<_> = (0..6)
        .map(|n| sim.submit(of_key(&n.to_string(), 1)))
        .collect();
    for id in &ids[..5] {
        sim.cancel(*id).expect("it waits");
    }
    // That no line is waited for which is gone is checked after each step.
    sim.advance(BREAKER_PAUSE_MIN);
    assert_eq!(sim.held("a"), [ids[5]]);
    sim.finish_all("a");
    let lines: Vec<_> = sim.ledger().lanes.stopped().collect();
    assert_eq!(lines, []);
}

fn another_version_begins_with_a_closed_breaker(store: NewStore) {
    let mut sim = opened(store, 2);
    sim.deploy(OTHER);
    sim.host_mut("a").ready.insert(OTHER);
    sim.hello("a");
    sim.settle();
    let mended = sim.submit(other());
    assert_eq!(sim.held("a"), [mended]);
    assert_eq!(
        sim.breaker().phase,
        Phase::Closed,
        "it is the current one's"
    );
    let before = sim.order_breaker("m@1/f", BreakerOrder::Show);
    assert_eq!(before.map(|view| view.phase), Ok(Phase::Open));
    assert!(matches!(
        sim.order_breaker("m@3/f", BreakerOrder::Show),
        Err(Refused::Unknown(_))
    ));
}

fn what_an_operator_forces_outlives_restarts_until_it_is_released(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 4);
    let running = sim.submit(spec());
    sim.force(Forced::Open);
    let waiting: Vec<_> = (0..4).map(|_| sim.submit(spec())).collect();
    let beside = sim.submit(of_function("g"));
    assert_eq!(sim.held("a"), [running, beside]);
    for crash in [Crash::Process, Crash::Power] {
        sim.crash(crash);
        sim.hello("a");
        sim.settle();
        sim.advance(Duration::from_secs(3_600));
        assert_eq!(sim.held("a"), [running, beside]);
    }
    let view = sim.breaker();
    assert_eq!((view.phase, view.until), (Phase::Open, None));
    assert_eq!(
        reasons(&view),
        [(Phase::Open, "someone forced it open: the shop is closed")]
    );
    // Failures of what ran say nothing while it is forced.
    sim.end_all("f", Outcome::RetryableError);
    let view = sim.release();
    assert_eq!((view.phase, view.forced), (Phase::HalfOpen, None));
    assert_eq!(sim.held("a").len(), 2, "a probe runs beside the other");
    sim.finish_all("a");
    sim.restart();
    assert_eq!(sim.breakers(), []);
    sim.hello("a");
    sim.advance(Duration::from_secs(4));
    sim.finish_all("a");
    let all = waiting.iter().chain([&running, &beside]);
    assert!(all.into_iter().all(|id| sim.state(*id) == "succeeded"));
}

fn a_breaker_that_is_forced_closed_never_opens(store: NewStore) {
    let mut sim = opened(store, 40);
    sim.force(Forced::Closed);
    assert_eq!(sim.end_all("f", Outcome::FatalError), 40);
    sim.restart();
    sim.hello("a");
    for _ in 0..30 {
        sim.submit(once(spec()));
    }
    assert_eq!(sim.end_all("f", Outcome::FatalError), 30);
    let forced = sim.breaker().forced.map(|forced| forced.forced);
    assert_eq!(forced, Some(Forced::Closed));
    assert_eq!(sim.release().phase, Phase::Closed);
    for _ in 0..30 {
        sim.submit(once(spec()));
    }
    let failed = sim.end_all("f", Outcome::FatalError);
    assert_eq!(failed, BREAKER_ATTEMPTS_MIN, "it begins anew");
}

fn a_breaker_that_is_released_is_tried_at_once(store: NewStore) {
    let mut sim = opened(store, 4);
    assert_eq!(sim.held("a"), []);
    assert_eq!(sim.release().phase, Phase::HalfOpen);
    assert_eq!(sim.held("a").len(), 1);
    sim.end_probe(Outcome::FatalError);
    let view = sim.breaker();
    let until = sim.now.wall.after(BREAKER_PAUSE_MIN);
    assert_eq!((view.phase, view.until), (Phase::Open, Some(until)));
}

fn a_breaker_goes_with_its_version(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.force(Forced::Open);
    sim.deploy(OTHER);
    assert_eq!(sim.delete_module(1), Ok(1));
    assert_eq!(sim.breakers(), []);
    sim.restart();
    assert_eq!(sim.breakers(), []);
}

fn a_restart_begins_with_closed_breakers(store: NewStore) {
    let mut sim = opened(store, 3);
    sim.crash(Crash::Process);
    assert_eq!(sim.breakers(), []);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.finish_all("a").len(), 3);
}

fn breakers_are_bounded_and_so_is_what_they_remember(store: NewStore) {
    let mut sim = opened(store, 100);
    for _ in 0..BREAKER_CHANGES_MAX {
        sim.release();
        sim.end_probe(Outcome::FatalError);
    }
    assert_eq!(sim.breaker().history.len(), BREAKER_CHANGES_MAX);
    sim.host_mut("a").slots = 2_000;
    sim.hello("a");
    let functions = (0..BREAKERS_MAX + 50).map(|number| format!("g{number}"));
    let tasks = functions.map(|function| submission(once(of_function(&function)), 0));
    sim.submit_all(tasks.collect()).expect("they are taken");
    let held: Vec<_> = sim.hosts["a"].held.keys().copied().collect();
    assert_eq!(held.len(), BREAKERS_MAX + 50);
    for epoch in held {
        sim.finish("a", epoch, Outcome::Trap);
    }
    sim.settle();
    assert_eq!(sim.breakers().len(), BREAKERS_MAX);
    let order = BreakerOrder::Force(Forced::Open, String::new());
    sim.order_breaker("m/f", order.clone()).expect("it has one");
    sim.deploy(OTHER);
    let full = sim.order_breaker("m@2/f", order.clone());
    assert_eq!(full, Err(Refused::TooManyBreakers));
    sim.advance(BREAKER_WINDOW + Duration::from_secs(10));
    assert_eq!(sim.breakers().len(), 1);
    sim.order_breaker("m@2/f", order).expect("there is room");
}

fn a_breaker_of_what_nobody_calls_is_forgotten_in_time(store: NewStore) {
    let mut sim = opened(store, 0);
    for (pause, other, left) in [(BREAKER_KEPT / 2, "g", 2), (BREAKER_KEPT, "h", 1)] {
        sim.skip(pause);
        sim.hello("a");
        sim.settle();
        assert_eq!(sim.breaker().phase, Phase::HalfOpen);
        // It is looked when another one fails.
        sim.submit(once(of_function(other)));
        sim.end_all(other, Outcome::FatalError);
        assert_eq!(sim.breakers().len(), left);
    }
    assert_eq!(sim.breaker().phase, Phase::Closed);
}
