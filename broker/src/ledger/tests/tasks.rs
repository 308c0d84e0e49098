//! What happens to tasks while the broker and its hosts are well.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tq_core::limits::{IDEMPOTENCY_WINDOW, Limits, READY_WINDOW_PAYLOAD_BYTES};
use tq_core::outcome::Outcome;
use tq_core::task::{DataRef, Spec, State, Stop};
use tq_core::{Epoch, TaskId, Timestamp};

use super::sim::{
    MODULE, OTHER, Sim, TENANT, attempt_of, other, spec, submission, with_payload,
    with_payload_apart,
};
use super::stores::NewStore;
use crate::dispatch::message::{Data, FromHost};
use crate::ledger::{Command, Ended, LogChunk, Refused, Submission, Watch, WatchId, lock};
use crate::store::memory::Crash;
use crate::store::{Batch, Committed, Direction, Level, Space};
use crate::tables::key;

on_every_store![
    task_runs_once_and_keeps_its_result,
    large_payload_and_result_have_rows_of_their_own,
    payloads_that_find_no_room_in_memory_are_handed_out_whole,
    task_whose_payload_is_gone_ends_and_says_so,
    checkpoint_is_there_for_an_attempt_that_begins_in_the_same_step,
    redriven_task_keeps_what_it_was_redriven_with,
    batch_is_taken_whole_or_not_at_all,
    idempotency_key_names_one_task,
    idempotency_key_is_forgotten_after_a_day_and_not_before,
    each_key_has_a_window_of_its_own,
    one_task_waits_under_a_unique_key,
    unique_key_passes_on_within_one_step,
    same_request_is_answered_after_its_deadline_too,
    delayed_task_starts_at_its_time_and_not_before,
    ledger_asks_to_be_called_when_a_timer_is_due,
    deadline_ends_waiting_tasks_and_stops_running_ones,
    cancel_ends_waiting_tasks_and_stops_running_ones,
    cancel_and_success_of_one_step_give_the_answer_of_their_order,
    failed_attempts_are_repeated_after_a_pause_and_then_the_task_is_dead,
    redrive_runs_the_current_version,
    deadline_of_a_redriven_task_still_holds,
    checkpoint_is_given_to_the_next_attempt_and_goes_with_the_task,
    higher_priority_goes_first_and_equals_in_their_order,
    who_watches_all_is_told_from_memory_until_it_falls_behind,
    watch_is_answered_with_the_tasks_that_have_to_be_read,
    watchers_are_told_of_each_end_once,
    progress_is_that_of_the_running_attempt,
    log_is_bounded_and_goes_on_after_a_restart,
    module_that_two_hosts_cannot_compile_ends_its_tasks_until_it_is_deployed_again,
    host_that_lets_go_of_a_module_is_asked_for_it_again_when_tasks_wait,
];

const SECOND: Duration = Duration::from_secs(1);

fn in_seconds(sim: &Sim, seconds: u64) -> Option<Timestamp> {
    Some(sim.now.wall.after(SECOND * seconds as u32))
}

fn task_runs_once_and_keeps_its_result(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    let task = sim.task(id);
    assert_eq!(
        (task.state.name(), task.attempts.len(), task.result),
        ("succeeded", 1, Some(DataRef::Row { len: 3 }))
    );
    assert_eq!(sim.record(id).result, &b"out"[..]);
    let apart = key::result(sim.tenant(), id);
    assert_eq!(
        sim.ledger().store.get(&apart).expect("it can be read"),
        None
    );
    assert_eq!(sim.hosts["a"].acks, [(epoch, false)]);
    assert_eq!(sim.accepted, [(id, epoch, Outcome::Succeeded)]);
}

fn large_payload_and_result_have_rows_of_their_own(store: NewStore) {
    let mut sim = Sim::new(store);
    // Handed out from memory, and read again for the second attempt.
    let id = sim.submit(with_payload_apart(spec()));
    sim.connect("a", 1);
    let first = sim.hosts["a"].only();
    sim.finish("a", first, Outcome::RetryableError);
    sim.settle();
    sim.advance(2 * SECOND);
    sim.settle();
    let second = sim.hosts["a"].only();
    let result = [b'o'; 1_025];
    sim.finish_with("a", second, Outcome::Succeeded, &result);
    sim.settle();
    let record = sim.record(id);
    assert_eq!(record.task.result, Some(DataRef::Row { len: 1_025 }));
    assert!(record.payload.is_empty() && record.result.is_empty());
    let read = |key| sim.ledger().store.get(&key).expect("it can be read");
    assert_eq!(
        read(key::payload(sim.tenant(), id)).map(|row| row.len()),
        Some(2_000)
    );
    assert_eq!(
        read(key::result(sim.tenant(), id)).as_deref(),
        Some(&result[..])
    );
}

fn payloads_that_find_no_room_in_memory_are_handed_out_whole(store: NewStore) {
    // Large ones fill the room, so that even a small one of the same commit has to be found elsewhere.
    const LARGE: u64 = 64 << 10;
    let mut sim = Sim::new(store);
    sim.connect("a", 1_000);
    let large = READY_WINDOW_PAYLOAD_BYTES as u64 / LARGE;
    let lens = (0..=large).map(|_| LARGE).chain([100]);
    let tasks = lens.map(|len| submission(with_payload(spec(), len), 0));
    sim.submit_all(tasks.collect())
        .expect("the submit is taken");
    // Each host compares what it gets with what was sent.
    assert_eq!(sim.hosts["a"].held.len() as u64, large + 2);
}

fn task_whose_payload_is_gone_ends_and_says_so(store: NewStore) {
    let mut sim = Sim::new(store);
    let id = sim.submit(with_payload_apart(spec()));
    // So that the payload has to be read.
    sim.restart();
    sim.settle();
    let mut loss = Batch::new();
    loss.delete(key::payload(sim.tenant(), id));
    let lost = sim.ledger_mut().store.commit(loss, Level::Disk);
    assert!(matches!(lost, Ok(Committed::Yes(_))), "{lost:?}");
    sim.connect("a", 1);
    let task = sim.task(id);
    assert_eq!(task.state.name(), "dead");
    let failure = task.attempts[0].failure.as_ref().expect("it failed");
    assert!(failure.message.contains("payload"), "{failure:?}");
    assert!(sim.hosts["a"].held.is_empty());
}

fn checkpoint_is_there_for_an_attempt_that_begins_in_the_same_step(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    sim.submit(spec());
    let first = sim.hosts["a"].only();
    let state = Data::Inline(Bytes::from_static(b"half"));
    let saved = FromHost::Checkpoint {
        attempt: attempt_of(&sim, "a", first),
        state: state.clone(),
    };
    // What it saves, and that its host cannot go on, is heard at once.
    sim.say("a", saved);
    sim.finish("a", first, Outcome::HostError);
    sim.settle();
    let second = sim.hosts["a"].only();
    assert_eq!(sim.hosts["a"].held[&second].checkpoint, Some(state));
}

fn redriven_task_keeps_what_it_was_redriven_with(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let mut late = spec();
    late.deadline = in_seconds(&sim, 1);
    late.run_at = in_seconds(&sim, 60);
    let id = sim.submit(late);
    sim.advance(2 * SECOND);
    sim.settle();
    assert_eq!(sim.state(id), "expired");
    sim.redrive(id).expect("it has ended");
    let record = sim.record(id);
    assert!(record.beside.is_amended);
    assert_eq!(record.task.spec.deadline, None, "it had passed");
}

fn batch_is_taken_whole_or_not_at_all(store: NewStore) {
    let mut sim = Sim::new(store);
    let mut late = spec();
    late.deadline = Some(Timestamp(1));
    let refused = sim.submit_all(vec![submission(spec(), 0), submission(late, 0)]);
    assert!(matches!(refused, Err(Refused::Rejected(_))));
    assert!(sim.ledger().tasks().is_empty());
    let taken = sim
        .submit_all(vec![submission(spec(), 0), submission(spec(), 0)])
        .expect("both are good");
    assert_eq!((taken.len(), sim.ledger().tasks().len()), (2, 2));
}

fn idempotency_key_names_one_task(store: NewStore) {
    let mut sim = Sim::new(store);
    let mut keyed = spec();
    keyed.idempotency_key = "k".to_owned();
    // Twins in one request are one task.
    let twins = sim
        .submit_all(vec![
            submission(keyed.clone(), 1),
            submission(keyed.clone(), 1),
        ])
        .expect("twins are one");
    let id = twins[0].id;
    assert_eq!(
        twins
            .iter()
            .map(|task| (task.id, task.existed))
            .collect::<Vec<_>>(),
        [(id, false), (id, true)]
    );
    for crash in [Crash::Process, Crash::Power] {
        sim.crash(crash);
        let again = sim
            .submit_all(vec![submission(keyed.clone(), 1)])
            .expect("the same request");
        assert_eq!((again[0].id, again[0].existed), (id, true));
    }
    let conflict = |id| {
        Err(Refused::KeyConflict {
            key: "k".to_owned(),
            id,
        })
    };
    assert_eq!(
        sim.submit_all(vec![submission(keyed.clone(), 2)]),
        conflict(Some(id))
    );
    let mut other = keyed.clone();
    other.idempotency_key = "l".to_owned();
    assert_eq!(
        sim.submit_all(vec![submission(other.clone(), 1), submission(other, 2)]),
        Err(Refused::KeyConflict {
            key: "l".to_owned(),
            id: None
        })
    );
    assert_eq!(sim.ledger().tasks().len(), 1);
}

fn idempotency_key_is_forgotten_after_a_day_and_not_before(store: NewStore) {
    let mut sim = Sim::new(store);
    let mut keyed = spec();
    keyed.idempotency_key = "k".to_owned();
    let first = sim.submit(keyed.clone());
    sim.skip(IDEMPOTENCY_WINDOW - SECOND);
    assert_eq!(sim.submit(keyed.clone()), first);
    sim.skip(SECOND);
    // The timer of the first use is due in the very step that brings the second one.
    let second = sim.submit(keyed.clone());
    assert_ne!(second, first);
    assert_eq!(sim.submit(keyed), second);
    sim.skip(IDEMPOTENCY_WINDOW);
    sim.settle();
    let key = key::idempotency(sim.tenant(), "k");
    assert_eq!(
        sim.ledger().store.get(&key).expect("the store can be read"),
        None
    );
}

fn each_key_has_a_window_of_its_own(store: NewStore) {
    let mut sim = Sim::new(store);
    let keyed = |window| {
        let spec = Spec {
            idempotency_key: "k".to_owned(),
            ..spec()
        };
        Submission {
            key_window: window,
            ..submission(spec, 1)
        }
    };
    let mut submit = |window, skip| {
        let taken = sim.submit_all(vec![keyed(window)]).expect("it is taken");
        sim.skip(skip);
        taken[0].id
    };
    let first = submit(SECOND * 60, SECOND * 59);
    // What the first submit said counts.
    assert_eq!(submit(SECOND, SECOND), first);
    let second = submit(IDEMPOTENCY_WINDOW * 2, IDEMPOTENCY_WINDOW * 2 - SECOND);
    assert_ne!(second, first);
    assert_eq!(submit(SECOND, SECOND), second);
    assert_ne!(submit(SECOND, SECOND), second);
}

fn one_task_waits_under_a_unique_key(store: NewStore) {
    let mut sim = Sim::new(store);
    let unique = |argument: &str| Spec {
        unique_key: "u".to_owned(),
        arguments: vec![argument.to_owned()],
        ..spec()
    };
    // Whatever else they ask for, and in one request too.
    let twins = sim
        .submit_all(vec![submission(unique("1"), 1), submission(unique("2"), 2)])
        .expect("they are one");
    let first = twins[0].id;
    assert_eq!((twins[1].id, twins[1].existed), (first, true));
    for crash in [Crash::Process, Crash::Power] {
        sim.crash(crash);
        assert_eq!(sim.submit(unique("3")), first);
    }
    // Once it has begun, another one may wait; and no third one beside that.
    sim.connect("a", 1);
    let epoch = sim.hosts["a"].only();
    let second = sim.submit(unique("4"));
    assert_ne!(second, first);
    assert_eq!(sim.submit(unique("5")), second);
    // The first one waits for its second attempt, which does not count.
    sim.finish("a", epoch, Outcome::Trap);
    sim.settle();
    assert_eq!(sim.state(second), "running");
    let third = sim.submit(unique("6"));
    assert!(![first, second].contains(&third));
    sim.cancel(third).expect("it waits");
    let fourth = sim.submit(unique("7"));
    assert_ne!(fourth, third);
    // It never started, and yet does not have the key again.
    sim.redrive(third).expect("it was cancelled");
    assert_eq!(sim.submit(unique("8")), fourth);
    let other = Spec {
        unique_key: "v".to_owned(),
        ..spec()
    };
    let other = sim.submit(other);
    assert_eq!(sim.state(other), "ready");
}

fn unique_key_passes_on_within_one_step(store: NewStore) {
    let mut sim = Sim::new(store);
    let unique = Spec {
        unique_key: "u".to_owned(),
        ..spec()
    };
    let first = sim.submit(unique.clone());
    let mut cancelled = sim.send_cancel(first);
    let second = sim.submit(unique.clone());
    assert!(cancelled.try_recv().is_ok_and(|answer| answer.is_ok()));
    assert_ne!(second, first);
    sim.crash(Crash::Process);
    assert_eq!(sim.submit(unique), second);
}

fn same_request_is_answered_after_its_deadline_too(store: NewStore) {
    let mut sim = Sim::new(store);
    let mut keyed = spec();
    keyed.idempotency_key = "k".to_owned();
    keyed.deadline = in_seconds(&sim, 5);
    let id = sim.submit(keyed.clone());
    sim.advance(SECOND * 6);
    assert_eq!((sim.submit(keyed), sim.state(id)), (id, "expired"));
}

fn delayed_task_starts_at_its_time_and_not_before(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let mut delayed = spec();
    delayed.run_at = in_seconds(&sim, 5);
    let id = sim.submit(delayed);
    sim.advance(Duration::from_millis(4_999));
    assert_eq!((sim.state(id), sim.hosts["a"].held.len()), ("scheduled", 0));
    sim.advance(Duration::from_millis(1));
    assert_eq!((sim.state(id), sim.hosts["a"].held.len()), ("running", 1));
}

fn ledger_asks_to_be_called_when_a_timer_is_due(store: NewStore) {
    let mut sim = Sim::new(store);
    assert_eq!(sim.wait, None);
    let mut delayed = spec();
    delayed.run_at = in_seconds(&sim, 5);
    sim.submit(delayed);
    assert_eq!(sim.wait, Some(SECOND * 5));
    sim.restart();
    sim.step();
    assert_eq!(sim.wait, Some(SECOND * 5));
}

fn deadline_ends_waiting_tasks_and_stops_running_ones(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let mut urgent = spec();
    urgent.deadline = in_seconds(&sim, 5);
    let (runs, waits) = (sim.submit(urgent.clone()), sim.submit(urgent));
    sim.advance(SECOND * 5);
    let epoch = sim.hosts["a"].only();
    assert_eq!((sim.state(runs), sim.state(waits)), ("running", "expired"));
    assert_eq!(sim.hosts["a"].stops, [(epoch, Some(Stop::Deadline))]);
    sim.finish("a", epoch, Outcome::DeadlineExceeded);
    sim.settle();
    assert_eq!(
        (sim.state(runs), sim.task(runs).outcome()),
        ("expired", Some(Outcome::DeadlineExceeded))
    );
}

fn cancel_ends_waiting_tasks_and_stops_running_ones(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let (runs, waits) = (sim.submit(spec()), sim.submit(spec()));
    assert!(
        sim.cancel(waits)
            .is_ok_and(|task| task.state.name() == "cancelled")
    );
    assert!(sim.cancel(runs).is_ok_and(|task| matches!(
        task.state,
        State::Running {
            stop: Some(Stop::Cancel),
            ..
        }
    )));
    assert!(
        sim.cancel(runs).is_ok(),
        "cancelling twice is cancelling once"
    );
    let epoch = sim.hosts["a"].only();
    assert_eq!(sim.hosts["a"].stops, [(epoch, Some(Stop::Cancel))]);
    sim.finish("a", epoch, Outcome::Cancelled);
    sim.settle();
    assert_eq!(sim.state(runs), "cancelled");
    assert!(matches!(
        sim.cancel(TaskId([1; 16])),
        Err(Refused::NoTask { .. })
    ));
}

fn cancel_and_success_of_one_step_give_the_answer_of_their_order(store: NewStore) {
    for cancel_first in [true, false] {
        let mut sim = Sim::new(store);
        sim.connect("a", 1);
        let id = sim.submit(spec());
        let epoch = sim.hosts["a"].only();
        let mut answer = None;
        if cancel_first {
            answer = Some(sim.send_cancel(id));
        }
        sim.finish("a", epoch, Outcome::Succeeded);
        let mut answer = answer.unwrap_or_else(|| sim.send_cancel(id));
        sim.settle();
        // Told to stop or not, what succeeded has succeeded.
        assert_eq!(sim.state(id), "succeeded");
        assert_eq!(
            answer.try_recv().expect("a cancel is answered").is_ok(),
            cancel_first
        );
    }
}

fn failed_attempts_are_repeated_after_a_pause_and_then_the_task_is_dead(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    for attempt in 1..=3 {
        let epoch = sim.hosts["a"].only();
        sim.finish("a", epoch, Outcome::Trap);
        sim.settle();
        assert_eq!(
            sim.state(id),
            if attempt < 3 { "scheduled" } else { "dead" }
        );
        sim.advance(SECOND * 4);
    }
    assert_eq!(sim.task(id).attempts.len(), 3);
    let id = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    sim.finish("a", epoch, Outcome::FuelExhausted);
    sim.settle();
    assert_eq!(
        sim.state(id),
        "dead",
        "what would end alike is not repeated"
    );
}

fn redrive_runs_the_current_version(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    assert!(
        matches!(sim.redrive(id), Err(Refused::Rejected(_))),
        "it has not ended"
    );
    sim.finish("a", epoch, Outcome::FatalError);
    sim.settle();
    sim.host_mut("a").ready.insert(OTHER);
    sim.deploy(OTHER);
    assert!(sim.redrive(id).is_ok());
    sim.settle();
    let epoch = sim.hosts["a"].only();
    let assignment = &sim.hosts["a"].held[&epoch];
    assert_eq!((assignment.spec.digest, assignment.number), (OTHER, 1));
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    let task = sim.task(id);
    assert_eq!(
        (task.state.name(), task.round, task.spec.version),
        ("succeeded", 2, 2)
    );
}

fn deadline_of_a_redriven_task_still_holds(store: NewStore) {
    let mut sim = Sim::new(store);
    let mut urgent = spec();
    urgent.deadline = in_seconds(&sim, 60);
    let id = sim.submit(urgent);
    sim.cancel(id).expect("it waits");
    // The timer of the cancelled task is gone, and whoever waits for the next one knows of none.
    sim.advance(SECOND * 61 - SECOND * 60);
    let mut other = spec();
    other.run_at = in_seconds(&sim, 1);
    sim.submit(other);
    sim.advance(SECOND * 2);
    sim.redrive(id).expect("it was cancelled");
    sim.advance(SECOND * 60);
    assert_eq!(sim.state(id), "expired");
}

fn checkpoint_is_given_to_the_next_attempt_and_goes_with_the_task(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    let attempt = attempt_of(&sim, "a", epoch);
    let state = Data::Inline(Bytes::from_static(b"half"));
    sim.say(
        "a",
        FromHost::Checkpoint {
            attempt: attempt.clone(),
            state: state.clone(),
        },
    );
    sim.finish("a", epoch, Outcome::Timeout);
    sim.advance(SECOND * 4);
    let next = sim.hosts["a"].only();
    assert_eq!(sim.hosts["a"].held[&next].checkpoint, Some(state.clone()));
    // That of an attempt that is over comes too late.
    sim.say(
        "a",
        FromHost::Checkpoint {
            attempt,
            state: Data::Inline(Bytes::from_static(b"old")),
        },
    );
    sim.settle();
    sim.finish("a", next, Outcome::Succeeded);
    sim.settle();
    let row = sim
        .ledger()
        .store
        .get(&key::checkpoint(sim.tenant(), id))
        .expect("the store can be read");
    assert_eq!(row, None);
}

fn higher_priority_goes_first_and_equals_in_their_order(store: NewStore) {
    let mut sim = Sim::new(store);
    let mut tasks = Vec::new();
    for priority in [100, 120, 100, 120, 110] {
        let mut task = spec();
        task.priority = tq_core::Priority(priority);
        tasks.push((priority, sim.submit(task)));
    }
    sim.connect("a", 1);
    let order = sim.finish_all("a");
    tasks.sort_by_key(|(priority, id)| (u8::MAX - priority, *id));
    assert_eq!(
        order,
        tasks.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    );
}

fn who_watches_all_is_told_from_memory_until_it_falls_behind(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1_000);
    let shared = sim.ledger().shared();
    let ended_after = |seq| {
        let (ended, last) = lock(&shared.recent).after(seq)?;
        Some((
            ended.iter().map(|ended| ended.task.id).collect::<Vec<_>>(),
            last,
        ))
    };
    let seq = || *shared.settled.borrow();
    let before = seq();
    sim.submit(spec());
    sim.finish_all("a");
    assert_eq!(
        ended_after(before),
        None,
        "nobody watched, so it was not kept"
    );
    let watching = shared.settled.subscribe();
    let before = seq();
    assert_eq!(ended_after(before), Some((vec![], before)));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(sim.submit(spec()));
        sim.finish_all("a");
    }
    assert_eq!(ended_after(before), Some((ids.clone(), seq())));
    assert_eq!(ended_after(seq()), Some((vec![], seq())));
    let many: Vec<_> = (0..5_000).map(|_| submission(spec(), 0)).collect();
    sim.submit_all(many).expect("the submit is taken");
    sim.finish_all("a");
    assert_eq!(ended_after(before), None, "it is too much to keep");
    drop(watching);
}

fn watch_is_answered_with_the_tasks_that_have_to_be_read(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let ended = sim.submit(spec());
    sim.finish_all("a");
    let (runs, waits) = (sim.submit(spec()), sim.submit(spec()));
    let absent = TaskId([3; 16]);
    let ids = vec![ended, runs, waits, absent];
    for (namespace, expected) in [(TENANT, vec![ended, absent]), ("another", ids.clone())] {
        let ((reply, mut answer), (told, _)) = (oneshot::channel(), mpsc::unbounded_channel());
        sim.inbox.push(Command::Watch(Watch {
            id: WatchId(7),
            namespace: namespace.to_owned(),
            ids: ids.clone(),
            ended: told,
            reply,
        }));
        sim.inbox.push(Command::Unwatch(WatchId(7)));
        sim.settle();
        assert_eq!(answer.try_recv(), Ok(expected));
    }
}

fn watchers_are_told_of_each_end_once(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 2);
    let (first, second) = (sim.submit(spec()), sim.submit(spec()));
    let (id, mut ends) = sim.watch(vec![first, second, first]);
    let (_, mut others) = sim.watch(vec![first]);
    sim.settle();
    sim.finish_all("a");
    let told = |ends: &mut mpsc::UnboundedReceiver<Arc<Ended>>| {
        let ended = std::iter::from_fn(|| ends.try_recv().ok());
        let mut ids: Vec<_> = ended
            .inspect(|ended| {
                assert_eq!(
                    (&ended.task, &ended.result[..]),
                    (&sim.task(ended.task.id), &b"out"[..])
                )
            })
            .map(|ended| ended.task.id)
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(told(&mut ends), [first, second]);
    assert_eq!(told(&mut others), [first]);
    sim.inbox.push(Command::Unwatch(id));
    let (unheard, _) = sim.watch(vec![TaskId([3; 16])]);
    sim.inbox.push(Command::Unwatch(unheard));
    sim.settle();
    assert_eq!(
        (sim.ledger().watches.len(), sim.ledger().watched.len()),
        (1, 0)
    );
}

fn progress_is_that_of_the_running_attempt(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    let foreign = TaskId([3; 16]);
    sim.say(
        "a",
        FromHost::Progress(vec![
            (id, epoch, 0.5, "half".to_owned()),
            (foreign, epoch, 0.5, String::new()),
        ]),
    );
    sim.settle();
    let shared = sim.ledger().shared();
    assert_eq!(
        lock(&shared.progress)
            .get(&id)
            .map(|(fraction, _)| *fraction),
        Some(0.5)
    );
    assert_eq!(lock(&shared.progress).len(), 1);
    sim.finish("a", epoch, Outcome::Trap);
    sim.settle();
    assert!(lock(&shared.progress).is_empty());
}

fn log_is_bounded_and_goes_on_after_a_restart(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    let chunk = |epoch, offset, len| {
        let text = Bytes::from(vec![b'x'; len]);
        Command::Log(LogChunk {
            namespace: TENANT.to_owned(),
            id,
            epoch,
            offset,
            text,
        })
    };
    let pieces = |sim: &Sim| {
        let prefix = key::logs(sim.tenant(), id);
        let pairs = sim.ledger().store.scan(
            Space::Payloads,
            &prefix,
            &[],
            Direction::Ascending,
            usize::MAX,
        );
        pairs
            .expect("the store can be read")
            .iter()
            .map(|pair| pair.value.len())
            .collect::<Vec<_>>()
    };
    sim.inbox.extend([
        chunk(epoch, 0, 10),
        chunk(epoch, 10, 20),
        chunk(Epoch(77), 0, 30),
    ]);
    sim.settle();
    assert_eq!(
        pieces(&sim),
        [10, 20],
        "an attempt that the task never had has no log"
    );
    sim.restart();
    // What a host sends again is there already; what it dropped in between is not there.
    sim.inbox
        .extend([chunk(epoch, 10, 20), chunk(epoch, 50, 40)]);
    sim.settle();
    assert_eq!(pieces(&sim), [10, 20, 40]);
    let log_bytes = Limits::DEFAULT.log_bytes;
    let len = log_bytes as usize;
    sim.inbox.extend([
        chunk(epoch, 90, len),
        chunk(epoch, 90 + log_bytes, len),
        chunk(epoch, u64::MAX, 5),
        chunk(epoch, 90 + log_bytes, 5),
    ]);
    sim.settle();
    assert_eq!(pieces(&sim), [10, 20, 40, len, 5]);
}

fn module_that_two_hosts_cannot_compile_ends_its_tasks_until_it_is_deployed_again(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.deploy(OTHER);
    let ids: Vec<_> = (0..9).map(|_| sim.submit(other())).collect();
    let runs = sim.submit(spec());
    sim.connect("a", 1);
    sim.connect("b", 1);
    for name in ["a", "b"] {
        assert_eq!(sim.hosts[name].prepares, [OTHER], "it is asked once");
        let message = "no".to_owned();
        sim.say(
            name,
            FromHost::PrepareFailed {
                digest: OTHER,
                message,
                permanent: false,
            },
        );
        sim.settle();
        sim.host_mut(name).prepares.clear();
    }
    for id in &ids {
        let task = sim.task(*id);
        assert_eq!(
            (task.state.name(), task.outcome()),
            ("dead", Some(Outcome::CompileFailed))
        );
    }
    assert_eq!(
        (sim.state(runs), sim.hosts["a"].prepares.len()),
        ("running", 0)
    );
    sim.host_mut("a").ready.insert(OTHER);
    sim.deploy(OTHER);
    sim.redrive(ids[0]).expect("it is dead");
    sim.finish_all("a");
    sim.finish_all("b");
    sim.finish_all("a");
    assert_eq!(
        (sim.state(ids[0]), sim.state(runs)),
        ("succeeded", "succeeded")
    );
}

fn host_that_lets_go_of_a_module_is_asked_for_it_again_when_tasks_wait(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let (first, second) = (sim.submit(spec()), sim.submit(spec()));
    sim.host_mut("a").ready.clear();
    sim.say(
        "a",
        FromHost::Ready {
            held: Vec::new(),
            dropped: vec![MODULE],
        },
    );
    sim.settle();
    assert_eq!(sim.hosts["a"].prepares, [MODULE]);
    sim.finish_all("a");
    assert_eq!(
        (sim.state(first), sim.state(second)),
        ("succeeded", "ready")
    );
    sim.host_mut("a").ready.insert(MODULE);
    sim.say(
        "a",
        FromHost::Ready {
            held: vec![MODULE],
            dropped: Vec::new(),
        },
    );
    sim.settle();
    assert_eq!(sim.state(second), "running");
}
