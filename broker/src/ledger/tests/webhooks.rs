//! A webhook is where it was after every crash, forgets nothing without saying so, and leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tq_core::limits::{
    WEBHOOK_ATTEMPTS_MAX, WEBHOOK_FAILING_MAX, WEBHOOK_LOG_MAX, WEBHOOK_PENDING_MAX, WEBHOOKS_MAX,
};
use tq_core::webhook::{Event, Filter};
use tq_core::{TaskId, Timestamp};

use super::sim::{Sim, TENANT, spec};
use super::stores::NewStore;
use crate::ledger::{
    Command, Cursor, Delivering, Delivery, DeliveryId, Error, Refused, RetentionChange, Tried,
    Webhook, WebhookChange, WebhookId, WebhookOrder,
};
use crate::secrets::Sealed;
use crate::store::memory::Crash;
use crate::tables::row;

on_every_store![
    deliveries_and_cursor_outlive_a_crash_together,
    no_two_attempts_have_one_number_although_the_broker_ends_between,
    delivery_is_tried_again_until_its_attempts_are_used_up,
    webhook_that_fails_for_long_or_is_not_wanted_is_paused,
    resumed_webhook_has_everything_due,
    ends_that_go_before_they_are_told_are_counted,
    deleted_webhook_leaves_nothing_and_its_number_is_not_used_again,
    log_and_numbers_are_bounded,
];

const HOUR: Duration = Duration::from_secs(3600);

fn order(sim: &mut Sim, name: &str, order: WebhookOrder) -> Result<Arc<Webhook>, Refused> {
    let (reply, mut answer) = oneshot::channel();
    sim.inbox.push(Command::Webhook(Box::new(WebhookChange {
        namespace: TENANT.to_owned(),
        name: name.to_owned(),
        order,
        reply,
    })));
    sim.step();
    answer.try_recv().expect("it is answered")
}

fn create(sim: &mut Sim, name: &str, filter: Filter) -> Result<WebhookId, Refused> {
    let created = order(
        sim,
        name,
        WebhookOrder::Create {
            endpoint: "https://a.example/x".parse().expect("it is one"),
            filter,
            secret: Sealed {
                key_id: [1; 8],
                nonce: [2; 12],
                bytes: Bytes::from_static(b"sealed"),
            },
        },
    )?;
    Ok(WebhookId {
        namespace: sim.tenant(),
        name: name.to_owned(),
        number: created.number,
    })
}

fn webhook(sim: &Sim, id: &WebhookId) -> Arc<Webhook> {
    let shared = sim.ledger().shared();
    let webhooks = super::super::read(&shared.webhooks);
    Arc::clone(&webhooks[&id.namespace][&id.name])
}

fn of(number: u8) -> DeliveryId {
    DeliveryId {
        seq: u64::from(number),
        task: TaskId([number; 16]),
    }
}

fn delivery(due: Timestamp) -> Delivery {
    Delivery {
        event: Event::Dead,
        ended_at: Timestamp(1),
        body: Bytes::from_static(b"{}"),
        attempts: 0,
        due,
        is_under_way: false,
    }
}

fn begun(sim: &mut Sim, id: &WebhookId, number: u8) -> Option<(u32, bool)> {
    let (reply, mut answer) = oneshot::channel();
    sim.inbox.push(Command::Deliver(Box::new(Delivering::Begun {
        webhook: id.clone(),
        delivery: of(number),
        reply,
    })));
    sim.step();
    let before = answer.try_recv().expect("it is answered");
    before.map(|before| (before.attempts + 1, before.is_under_way))
}

fn send_taken(sim: &mut Sim, id: &WebhookId, seq: u64, numbers: &[u8]) {
    let due = sim.ledger().time;
    let (reply, _) = oneshot::channel();
    sim.inbox.push(Command::Deliver(Box::new(Delivering::Taken {
        webhook: id.clone(),
        cursor: Cursor { seq, offset: 0 },
        deliveries: numbers
            .iter()
            .map(|number| (of(*number), delivery(due)))
            .collect(),
        missed: 0,
        reply,
    })));
}

fn send_tried(
    sim: &mut Sim,
    id: &WebhookId,
    (number, attempt): (u8, u32),
    status: u16,
) -> oneshot::Receiver<Option<Timestamp>> {
    let (reply, answer) = oneshot::channel();
    let DeliveryId { seq, task } = of(number);
    let error = match status {
        200 => String::new(),
        status => format!("the endpoint answered {status}"),
    };
    sim.inbox.push(Command::Deliver(Box::new(Delivering::Tried {
        webhook: id.clone(),
        tried: Tried {
            seq,
            task,
            event: Event::Dead,
            ended_at: Timestamp(1),
            attempt,
            is_after_restart: false,
            at: sim.ledger().time,
            took_ms: 1,
            status,
            error,
            next: None,
        },
        is_gone: status == 410,
        reply,
    })));
    answer
}

fn tried(sim: &mut Sim, id: &WebhookId, tried: (u8, u32), status: u16) -> Option<Timestamp> {
    let mut answer = send_tried(sim, id, tried, status);
    sim.step();
    answer.try_recv().expect("it is answered")
}

fn log(sim: &Sim, id: &WebhookId) -> Vec<Tried> {
    let store = sim.ledger().reader();
    row::list_tries::<Error>(&*store, id.number, usize::MAX).expect("it can be read")
}

fn deliveries_and_cursor_outlive_a_crash_together(store: NewStore) {
    let mut sim = Sim::new(store);
    let id = create(&mut sim, "a", Filter::default()).expect("it is made");
    let seq = webhook(&sim, &id).cursor.seq + 5;
    // Several changes of one step, of one delivery too, are one row.
    send_taken(&mut sim, &id, seq, &[1, 2, 3]);
    let first = send_tried(&mut sim, &id, (1, 1), 200);
    let second = send_tried(&mut sim, &id, (2, 1), 500);
    sim.step();
    drop((first, second));
    // Whoever began anew and found the same again changes nothing.
    send_taken(&mut sim, &id, seq, &[3]);
    sim.step();
    let before = row::encode_webhook(&webhook(&sim, &id));
    sim.crash(Crash::Process);
    let after = webhook(&sim, &id);
    assert_eq!(row::encode_webhook(&after), before);
    assert_eq!(
        (after.cursor.seq, after.pending, after.delivered),
        (seq, 2, 1)
    );
    assert_eq!(after.last_error, "the endpoint answered 500");
    assert_eq!(log(&sim, &id).len(), 2);
}

fn no_two_attempts_have_one_number_although_the_broker_ends_between(store: NewStore) {
    let mut sim = Sim::new(store);
    let id = create(&mut sim, "a", Filter::default()).expect("it is made");
    send_taken(&mut sim, &id, 1, &[1]);
    assert_eq!(begun(&mut sim, &id, 1), Some((1, false)));
    sim.crash(Crash::Process);
    assert_eq!(begun(&mut sim, &id, 1), Some((2, true)));
    sim.crash(Crash::Process);
    assert_eq!(begun(&mut sim, &id, 1), Some((3, true)));
    tried(&mut sim, &id, (1, 3), 503);
    assert_eq!(begun(&mut sim, &id, 1), Some((4, false)));
    tried(&mut sim, &id, (1, 4), 200);
    assert_eq!(begun(&mut sim, &id, 1), None);
}

fn delivery_is_tried_again_until_its_attempts_are_used_up(store: NewStore) {
    let mut sim = Sim::new(store);
    let id = create(&mut sim, "a", Filter::default()).expect("it is made");
    send_taken(&mut sim, &id, 1, &[1, 2]);
    for attempt in 1..WEBHOOK_ATTEMPTS_MAX {
        let next = tried(&mut sim, &id, (1, attempt), 503);
        let next = next.expect("there is another attempt");
        assert!(next.since(sim.ledger().time) <= 4 * HOUR);
        assert_eq!(webhook(&sim, &id).pending, 2);
    }
    // As long as nothing goes through at all, it is not the delivery's fault.
    let next = tried(&mut sim, &id, (1, WEBHOOK_ATTEMPTS_MAX), 503);
    assert!(next.is_some_and(|next| next.since(sim.ledger().time) <= 4 * HOUR));
    assert_eq!(tried(&mut sim, &id, (2, 1), 200), None);
    let after = webhook(&sim, &id);
    assert_eq!((after.pending, after.given_up, after.delivered), (1, 0, 1));
    assert_eq!((after.failing_since, &after.last_error[..]), (None, ""));
    assert_eq!(
        tried(&mut sim, &id, (1, WEBHOOK_ATTEMPTS_MAX + 1), 503),
        None
    );
    let after = webhook(&sim, &id);
    assert_eq!((after.pending, after.given_up, after.delivered), (0, 1, 1));
    // What is over is over: a report that comes twice counts nothing again.
    tried(&mut sim, &id, (2, 1), 200);
    assert_eq!(webhook(&sim, &id).delivered, 1);
}

fn webhook_that_fails_for_long_or_is_not_wanted_is_paused(store: NewStore) {
    let mut sim = Sim::new(store);
    let id = create(&mut sim, "a", Filter::default()).expect("it is made");
    send_taken(&mut sim, &id, 1, &[1]);
    tried(&mut sim, &id, (1, 1), 503);
    sim.skip(WEBHOOK_FAILING_MAX - Duration::from_secs(1));
    tried(&mut sim, &id, (1, 2), 503);
    assert_eq!(webhook(&sim, &id).paused, None);
    sim.skip(Duration::from_secs(1));
    sim.step();
    tried(&mut sim, &id, (1, 3), 503);
    let paused = webhook(&sim, &id).paused.clone().expect("it is paused");
    assert_eq!(
        paused.reason,
        "every attempt has failed for 24 hours, the last one so: the endpoint answered 503"
    );
    let other = create(&mut sim, "b", Filter::default()).expect("it is made");
    send_taken(&mut sim, &other, 1, &[1]);
    tried(&mut sim, &other, (1, 1), 410);
    let paused = webhook(&sim, &other).paused.clone();
    assert!(paused.is_some_and(|paused| paused.reason.contains("410")));
    assert_eq!(sim.ledger().shared.metrics.webhooks_paused.get(), 2);
}

fn resumed_webhook_has_everything_due(store: NewStore) {
    let mut sim = Sim::new(store);
    let id = create(&mut sim, "a", Filter::default()).expect("it is made");
    send_taken(&mut sim, &id, 1, &[1, 2]);
    tried(&mut sim, &id, (1, 1), 503);
    order(&mut sim, "a", WebhookOrder::Pause).expect("it is there");
    // In one step with what makes a delivery of it.
    send_taken(&mut sim, &id, 2, &[3]);
    let resumed = order(&mut sim, "a", WebhookOrder::Resume).expect("it is there");
    assert_eq!(
        (resumed.paused.as_ref(), resumed.failing_since),
        (None, None)
    );
    let all = sim
        .ledger()
        .deliveries_of(id.number)
        .expect("they are read");
    let now = Timestamp::EPOCH;
    let due: Vec<_> = all
        .values()
        .map(|delivery| (delivery.attempts, delivery.due))
        .collect();
    assert_eq!(due, [(1, now), (0, now), (0, now)]);
}

fn ends_that_go_before_they_are_told_are_counted(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.keep(Some(RetentionChange {
        succeeded: Some(HOUR),
        ..RetentionChange::default()
    }))
    .expect("it is in range");
    sim.connect("a", 1);
    let all = create(&mut sim, "all", Filter::default()).expect("it is made");
    let dead = Filter {
        events: [Event::Dead].into(),
        ..Filter::default()
    };
    let dead = create(&mut sim, "dead", dead).expect("it is made");
    let up_to_date = create(&mut sim, "new", Filter::default()).expect("it is made");
    for _ in 0..3 {
        sim.submit(spec());
        sim.settle();
        sim.finish_all("a");
    }
    let seq = *sim.ledger().shared().settled.borrow();
    send_taken(&mut sim, &up_to_date, seq, &[]);
    sim.step();
    sim.disconnect("a", true);
    sim.skip(HOUR * 2);
    sim.settle();
    assert_eq!(sim.ledger().tasks().len(), 0);
    let of = |id| {
        let webhook = webhook(&sim, id);
        (webhook.missed, webhook.cursor.seq)
    };
    assert_eq!(of(&all), (3, seq));
    assert_eq!(of(&dead), (0, seq));
    assert_eq!(of(&up_to_date), (0, seq));
    assert_eq!(sim.ledger().shared.metrics.webhook_events_missed.get(), 3);
}

fn deleted_webhook_leaves_nothing_and_its_number_is_not_used_again(store: NewStore) {
    let mut sim = Sim::new(store);
    let id = create(&mut sim, "a", Filter::default()).expect("it is made");
    send_taken(&mut sim, &id, 1, &[1, 2]);
    tried(&mut sim, &id, (1, 1), 503);
    // What the same step wrote goes too.
    send_taken(&mut sim, &id, 2, &[3]);
    order(&mut sim, "a", WebhookOrder::Delete).expect("it is there");
    let missing = order(&mut sim, "a", WebhookOrder::Pause).map(drop);
    assert!(
        matches!(missing, Err(Refused::NoWebhook { .. })),
        "{missing:?}"
    );
    sim.crash(Crash::Process);
    let next = create(&mut sim, "a", Filter::default()).expect("it is made");
    assert!(next.number > id.number);
    // Who still has the one before changes nothing of this one.
    send_taken(&mut sim, &id, 9, &[4]);
    assert_eq!(tried(&mut sim, &id, (4, 1), 200), None);
    assert_eq!(
        (webhook(&sim, &next).pending, webhook(&sim, &next).delivered),
        (0, 0)
    );
}

fn log_and_numbers_are_bounded(store: NewStore) {
    let mut sim = Sim::new(store);
    let id = create(&mut sim, "a", Filter::default()).expect("it is made");
    let again = create(&mut sim, "a", Filter::default());
    assert_eq!(again, Err(Refused::WebhookExists("a".to_owned())));
    for number in 1..WEBHOOKS_MAX {
        create(&mut sim, &format!("a{number}"), Filter::default()).expect("it is made");
    }
    let over = create(&mut sim, "z", Filter::default());
    assert_eq!(over, Err(Refused::TooManyWebhooks));
    for _ in 0..WEBHOOK_LOG_MAX + 7 {
        drop(send_tried(&mut sim, &id, (1, 1), 200));
    }
    drop(send_tried(&mut sim, &id, (2, 1), 503));
    sim.step();
    let log = log(&sim, &id);
    assert_eq!(log.len() as u64, WEBHOOK_LOG_MAX);
    assert_eq!((log[0].status, log[1].status), (503, 200));

    let due = sim.ledger().time;
    let deliveries = (0..WEBHOOK_PENDING_MAX).map(|seq| {
        let task = TaskId([1; 16]);
        (DeliveryId { seq, task }, delivery(due))
    });
    let (reply, _) = oneshot::channel();
    sim.inbox.push(Command::Deliver(Box::new(Delivering::Taken {
        webhook: id.clone(),
        cursor: Cursor { seq: 1, offset: 0 },
        deliveries: deliveries.collect(),
        missed: 0,
        reply,
    })));
    let again = |sim: &mut Sim, seq| {
        let (reply, mut answer) = oneshot::channel();
        let task = TaskId([1; 16]);
        sim.inbox.push(Command::Deliver(Box::new(Delivering::Again {
            webhook: id.clone(),
            delivery: (DeliveryId { seq, task }, delivery(due)),
            reply,
        })));
        sim.step();
        answer.try_recv().expect("it is answered")
    };
    assert_eq!(again(&mut sim, 5), Ok(()));
    assert_eq!(again(&mut sim, u64::MAX), Err(Refused::WebhookFull));
}
