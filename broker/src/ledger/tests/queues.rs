//! Queues, concurrency keys, labels, and changes of tasks that wait.

use std::time::Duration;

use tokio::sync::oneshot;
use tq_core::label::{self, Labels};
use tq_core::outcome::Outcome;
use tq_core::placement::{Concurrency, Placement};
use tq_core::queue::{Order, Rate};
use tq_core::task::{Spec, State, Task};
use tq_core::transition::Amendment;
use tq_core::{Priority, TaskId, Timestamp};

use super::sim::{Sim, TENANT, spec, submission};
use super::stores::NewStore;
use crate::dispatch::queues::Closed;
use crate::ledger::{Command, QueueChange, QueuePatch, QueueView, Refused, Target};
use crate::store::memory::Crash;

on_every_store![
    a_queue_runs_no_more_at_once_than_its_limit_over_restarts_too,
    a_paused_queue_starts_nothing_until_it_is_resumed,
    a_rate_lets_a_burst_go_and_then_one_at_a_time,
    a_concurrency_key_holds_back_its_own_and_nobody_else,
    what_waits_for_a_key_may_be_cancelled_meanwhile,
    tasks_go_to_hosts_that_have_what_they_require,
    a_fifo_queue_takes_no_note_of_priorities,
    a_queue_that_is_gone_takes_nothing_and_can_come_back,
    a_task_that_waits_can_be_put_first_and_put_off,
    the_oldest_of_a_queue_tells_its_age,
];

pub(super) const LIMITS: QueuePatch = QueuePatch::Set {
    order: None,
    concurrency: None,
    rate: None,
};

impl Sim {
    #[track_caller]
    pub(super) fn change_queue(
        &mut self,
        name: &str,
        patch: QueuePatch,
    ) -> Result<QueueView, Refused> {
        let (reply, mut answer) = oneshot::channel();
        self.inbox.push(Command::Queue(QueueChange {
            namespace: TENANT.to_owned(),
            name: name.to_owned(),
            patch,
            reply,
        }));
        self.settle();
        answer.try_recv().expect("a change is answered")
    }

    #[track_caller]
    fn queue(&mut self, name: &str) -> QueueView {
        let (reply, mut answer) = oneshot::channel();
        let command = Command::Queues(TENANT.to_owned(), reply);
        self.inbox.push(command);
        self.settle();
        let queues = answer.try_recv().expect("a listing is answered");
        let mut queues = queues.into_iter();
        queues
            .find(|queue| queue.name == name)
            .expect("the queue is there")
    }

    #[track_caller]
    fn amend(&mut self, id: TaskId, amendment: Amendment) -> Result<Task, Refused> {
        let (reply, mut answer) = oneshot::channel();
        let target = Target {
            namespace: TENANT.to_owned(),
            id,
            seen: None,
            reply,
        };
        self.inbox.push(Command::Amend(Box::new(amendment), target));
        self.settle();
        answer.try_recv().expect("a change is answered")
    }

    /// The tasks that a host holds, in the order of their submits.
    pub(super) fn held(&self, name: &str) -> Vec<TaskId> {
        let held = self.hosts[name].held.values();
        let mut held: Vec<_> = held.map(|assignment| assignment.id).collect();
        held.sort();
        held
    }
}

pub(super) fn in_queue(queue: &str) -> Spec {
    Spec {
        placement: Placement {
            queue: queue.to_owned(),
            ..Placement::default()
        },
        ..spec()
    }
}

pub(super) fn of_key(key: &str, limit: u32) -> Spec {
    Spec {
        placement: Placement {
            concurrency: Some(Concurrency::new(key.to_owned(), limit).expect("a key")),
            ..Placement::default()
        },
        ..spec()
    }
}

pub(super) fn with_priority(spec: Spec, priority: u8) -> Spec {
    Spec {
        priority: Priority(priority),
        ..spec
    }
}

pub(super) fn labels(label: &str, value: &str) -> Labels {
    label::gather([(label, value)]).expect("a label")
}

const fn limited(concurrency: u32) -> QueuePatch {
    QueuePatch::Set {
        order: None,
        concurrency: Some(Some(concurrency)),
        rate: None,
    }
}

fn a_queue_runs_no_more_at_once_than_its_limit_over_restarts_too(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.change_queue("mail", limited(2)).expect("it is set up");
    let ids: Vec<_> = (0..6).map(|_| sim.submit(in_queue("mail"))).collect();
    let free = sim.submit(spec());
    sim.connect("a", 8);
    assert_eq!(sim.held("a"), [ids[0], ids[1], free]);
    let mail = sim.queue("mail");
    assert_eq!((mail.closed, mail.counters.ready), (Some(Closed::Full), 4));
    sim.crash(Crash::Process);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.held("a").len(), 3, "the limit counts what runs already");
    let held = sim.hosts["a"].held.iter();
    let epoch = held
        .filter(|(_, assignment)| assignment.id == ids[0])
        .map(|(epoch, _)| *epoch)
        .next();
    sim.finish("a", epoch.expect("it holds it"), Outcome::Succeeded);
    sim.settle();
    assert_eq!(
        sim.held("a").len(),
        3,
        "another one of the queue took its place"
    );
    sim.change_queue("mail", limited(3)).expect("it is changed");
    assert_eq!(sim.held("a").len(), 4);
    let unlimited = QueuePatch::Set {
        order: None,
        concurrency: Some(None),
        rate: None,
    };
    sim.change_queue("mail", unlimited).expect("it is changed");
    assert_eq!(sim.held("a").len(), 6);
}

fn a_paused_queue_starts_nothing_until_it_is_resumed(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.change_queue("mail", LIMITS).expect("it is set up");
    sim.change_queue("mail", QueuePatch::Pause(true))
        .expect("it is paused");
    let waiting = sim.submit(in_queue("mail"));
    let free = sim.submit(spec());
    sim.connect("a", 4);
    assert_eq!(sim.held("a"), [free]);
    sim.crash(Crash::Process);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.held("a"), [free], "a pause outlives a restart");
    assert_eq!(sim.queue("mail").closed, Some(Closed::Paused));
    sim.change_queue("mail", QueuePatch::Pause(false))
        .expect("it is resumed");
    assert_eq!(sim.held("a"), [waiting, free]);
    assert!(matches!(
        sim.change_queue("other", QueuePatch::Pause(true)),
        Err(Refused::NoQueue { .. })
    ));
}

fn a_rate_lets_a_burst_go_and_then_one_at_a_time(store: NewStore) {
    let mut sim = Sim::new(store);
    let rate = Rate {
        tasks: 2,
        per: Duration::from_secs(1),
        burst: 3,
    };
    let rated = QueuePatch::Set {
        order: None,
        concurrency: None,
        rate: Some(Some(rate)),
    };
    sim.change_queue("mail", rated).expect("it is set up");
    for _ in 0..10 {
        sim.submit(in_queue("mail"));
    }
    sim.connect("a", 20);
    assert_eq!(sim.held("a").len(), 3);
    assert!(
        sim.wait
            .is_some_and(|wait| wait <= Duration::from_millis(500)),
        "it wants to be called when the next one may start: {:?}",
        sim.wait
    );
    sim.advance(Duration::from_millis(499));
    assert_eq!(sim.held("a").len(), 3);
    sim.advance(Duration::from_millis(1));
    assert_eq!(sim.held("a").len(), 4);
    sim.advance(Duration::from_secs(1));
    assert_eq!(sim.held("a").len(), 6);
    sim.restart();
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.held("a").len(), 6, "nothing is given anew by a restart");
}

fn a_concurrency_key_holds_back_its_own_and_nobody_else(store: NewStore) {
    let mut sim = Sim::new(store);
    let of_a: Vec<_> = (0..4).map(|_| sim.submit(of_key("a", 2))).collect();
    let of_b: Vec<_> = (0..2).map(|_| sim.submit(of_key("b", 1))).collect();
    let free = sim.submit(with_priority(spec(), 90));
    sim.connect("a", 20);
    assert_eq!(sim.held("a"), [of_a[0], of_a[1], of_b[0], free]);
    sim.crash(Crash::Process);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.held("a").len(), 4);
    let mut order = sim.finish_all("a");
    order.sort();
    let mut all: Vec<_> = of_a.into_iter().chain(of_b).chain([free]).collect();
    all.sort();
    assert_eq!(order, all);
}

fn what_waits_for_a_key_may_be_cancelled_meanwhile(store: NewStore) {
    let mut sim = Sim::new(store);
    let ids: Vec<_> = (0..3).map(|_| sim.submit(of_key("a", 1))).collect();
    sim.connect("a", 4);
    sim.cancel(ids[1]).expect("it waits");
    sim.cancel(ids[2]).expect("it waits");
    let last = sim.submit(of_key("a", 1));
    assert_eq!(sim.held("a"), [ids[0]]);
    let epoch = sim.hosts["a"].only();
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    assert_eq!(sim.held("a"), [last]);
}

fn tasks_go_to_hosts_that_have_what_they_require(store: NewStore) {
    let mut sim = Sim::new(store);
    let placed = |placement| Spec {
        placement,
        ..spec()
    };
    let on_gpu = sim.submit(placed(Placement {
        required: labels("gpu", "a100"),
        ..Placement::default()
    }));
    let in_eu = sim.submit(placed(Placement {
        preferred: labels("zone", "eu"),
        ..Placement::default()
    }));
    sim.connect("plain", 1);
    assert_eq!(
        sim.held("plain"),
        [in_eu],
        "what is preferred is not required"
    );
    sim.finish_all("plain");
    assert_eq!(sim.held("plain"), []);
    for (name, label, value) in [("eu", "zone", "eu"), ("gpu", "gpu", "a100")] {
        sim.add_host(name, 1);
        sim.host_mut(name).labels = labels(label, value);
        sim.hello(name);
        sim.settle();
    }
    assert_eq!(sim.held("gpu"), [on_gpu]);
    let in_eu = sim.submit(placed(Placement {
        preferred: labels("zone", "eu"),
        ..Placement::default()
    }));
    assert_eq!(sim.held("eu"), [in_eu]);
}

fn a_fifo_queue_takes_no_note_of_priorities(store: NewStore) {
    let mut sim = Sim::new(store);
    let fifo = QueuePatch::Set {
        order: Some(Order::Fifo),
        concurrency: None,
        rate: None,
    };
    sim.change_queue("steps", fifo).expect("it is set up");
    let ids: Vec<_> = [10, 250, 127, 40, 250, 0]
        .into_iter()
        .map(|priority| sim.submit(with_priority(in_queue("steps"), priority)))
        .collect();
    let priority = QueuePatch::Set {
        order: Some(Order::Priority),
        concurrency: None,
        rate: None,
    };
    assert!(matches!(
        sim.change_queue("steps", priority),
        Err(Refused::OrderInUse { ready: 6, .. })
    ));
    sim.crash(Crash::Process);
    sim.connect("a", 1);
    assert_eq!(sim.finish_all("a"), ids);
    sim.change_queue("steps", priority)
        .expect("it is empty by now");
}

fn a_queue_that_is_gone_takes_nothing_and_can_come_back(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.change_queue("mail", LIMITS).expect("it is set up");
    let id = sim.submit(in_queue("mail"));
    assert!(matches!(
        sim.change_queue("mail", QueuePatch::Delete),
        Err(Refused::QueueInUse {
            waiting: 1,
            running: 0,
            ..
        })
    ));
    sim.cancel(id).expect("it waits");
    sim.change_queue("mail", QueuePatch::Delete)
        .expect("it is empty");
    sim.crash(Crash::Process);
    let refused = sim.submit_all(vec![submission(in_queue("mail"), 0)]);
    assert!(matches!(refused, Err(Refused::NoQueue { .. })));
    assert!(matches!(sim.redrive(id), Err(Refused::NoQueue { .. })));
    sim.change_queue("mail", limited(1)).expect("it is set up");
    sim.redrive(id).expect("its queue is back");
    assert_eq!(sim.queue("mail").counters.ready, 1);
    assert!(matches!(
        sim.change_queue("default", QueuePatch::Delete),
        Err(Refused::DefaultQueue)
    ));
}

fn a_task_that_waits_can_be_put_first_and_put_off(store: NewStore) {
    let mut sim = Sim::new(store);
    let ids: Vec<_> = (0..12).map(|_| sim.submit(spec())).collect();
    let urgent = Amendment {
        priority: Some(Priority(150)),
        ..Amendment::default()
    };
    // One that is in the window, and one that is a row.
    for id in [ids[1], ids[9]] {
        sim.amend(id, urgent.clone()).expect("it waits");
    }
    // What is as urgent as before keeps its place.
    let expires = Amendment {
        deadline: Some(Some(sim.now.wall.after(Duration::from_secs(3_600)))),
        ..Amendment::default()
    };
    for id in [ids[2], ids[8]] {
        sim.amend(id, expires.clone()).expect("it waits");
    }
    let off = Amendment {
        run_at: Some(sim.now.wall.after(Duration::from_secs(60))),
        ..Amendment::default()
    };
    for id in [ids[0], ids[10]] {
        let task = sim.amend(id, off.clone()).expect("it waits");
        assert!(matches!(task.state, State::Scheduled { .. }));
    }
    sim.crash(Crash::Power);
    sim.connect("a", 1);
    let order = sim.finish_all("a");
    let rest = ids
        .iter()
        .filter(|id| ![ids[0], ids[1], ids[9], ids[10]].contains(id));
    let expected: Vec<_> = [ids[1], ids[9]].iter().chain(rest).copied().collect();
    assert_eq!(order, expected);
    sim.amend(
        ids[10],
        Amendment {
            run_at: Some(Timestamp(0)),
            ..Amendment::default()
        },
    )
    .expect("it waits");
    sim.advance(Duration::from_millis(1));
    assert_eq!(sim.finish_all("a"), [ids[10]]);
    assert!(matches!(sim.amend(ids[10], off), Err(Refused::Rejected(_))));
}

fn the_oldest_of_a_queue_tells_its_age(store: NewStore) {
    let mut sim = Sim::new(store);
    assert_eq!(sim.queue("default").oldest, None);
    let since = sim.now.wall;
    sim.submit(spec());
    sim.advance(Duration::from_secs(5));
    for _ in 0..20 {
        sim.submit(spec());
    }
    assert_eq!(sim.queue("default").oldest, Some(since));
    sim.crash(Crash::Process);
    assert_eq!(sim.queue("default").oldest, Some(since));
    sim.connect("a", 1);
    let epoch = sim.hosts["a"].only();
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    let oldest = sim.queue("default").oldest;
    assert_eq!(oldest, Some(since.after(Duration::from_secs(5))));
}
