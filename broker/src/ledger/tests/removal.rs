//! What is removed is gone with everything that is its own, and nothing else is.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tq_core::limits::{IDEMPOTENCY_WINDOW, LOG_ROWS_PER_STEP};
use tq_core::outcome::Outcome;
use tq_core::task::{DataRef, Spec, State};
use tq_core::{Digest, Epoch, TaskId, Timestamp};

use super::sim::{Sim, TENANT, attempt_of, spec, submission, with_payload_apart};
use super::stores::NewStore;
use crate::dispatch::message::{Data, FromHost};
use crate::ledger::{Command, Doomed, LogChunk, Refused, Submission};
use crate::store::memory::Crash;
use crate::store::{Direction, Space};
use crate::tables::key;

on_every_store![
    deleted_task_leaves_nothing_behind_and_its_key_is_free,
    live_task_is_not_deleted,
    commands_of_one_step_see_that_a_task_is_gone,
    only_what_is_as_it_was_read_is_deleted,
    many_logs_go_a_bounded_number_at_a_time_over_restarts_too,
    logs_of_tasks_that_are_deleted_together_go_and_those_between_them_stay,
    checkpoint_that_a_larger_one_replaced_leaves_nothing_behind,
    blob_is_told_of_when_the_last_task_ceases_to_name_it,
    blob_that_was_told_of_is_not_named_after_a_loss_of_power,
    late_outcome_of_a_deleted_task_is_fenced,
];

const SECOND: Duration = Duration::from_secs(1);

fn keyed(key: &str) -> Spec {
    Spec {
        idempotency_key: key.to_owned(),
        ..with_payload_apart(spec())
    }
}

/// A task that succeeded, with a payload and a result in rows of their own.
fn succeeded(sim: &mut Sim, spec: Spec) -> TaskId {
    let id = sim.submit(spec);
    let epoch = sim.hosts["a"].only();
    sim.finish_with("a", epoch, Outcome::Succeeded, &[b'o'; 1_025]);
    sim.settle();
    id
}

fn log(sim: &mut Sim, id: TaskId, epoch: Epoch, pieces: Range<usize>) {
    let text = Bytes::from_static(b"a line\n");
    sim.inbox.extend(pieces.map(|piece| {
        Command::Log(LogChunk {
            namespace: TENANT.to_owned(),
            id,
            epoch,
            offset: (piece * text.len()) as u64,
            text: text.clone(),
        })
    }));
}

/// Rows of payloads, results, checkpoints and logs.
fn data_rows(sim: &Sim) -> usize {
    let store = &sim.ledger().store;
    let rows = store.scan(Space::Payloads, &[], &[], Direction::Ascending, usize::MAX);
    rows.expect("the store can be read").len()
}

fn deleted_task_leaves_nothing_behind_and_its_key_is_free(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = succeeded(&mut sim, keyed("k"));
    let epoch = sim.task(id).attempts[0].epoch;
    log(&mut sim, id, epoch, 0..3);
    sim.settle();
    assert_eq!(data_rows(&sim), 5);
    assert_eq!(sim.delete(Doomed::One(id)), Ok(1));
    assert!(!sim.is_there(id));
    assert_eq!(data_rows(&sim), 0);
    let none = Refused::NoTask {
        namespace: TENANT.to_owned(),
        id,
    };
    assert_eq!(sim.delete(Doomed::One(id)), Err(none));
    // The key of another request under the same name, which would be a conflict while the task is there.
    let again = sim.submit_all(vec![submission(keyed("k"), 9)]);
    assert!(matches!(&again, Ok(tasks) if !tasks[0].existed && tasks[0].id != id));
    // The timer that was to forget the key went with it, and does not forget the new one.
    sim.skip(IDEMPOTENCY_WINDOW - SECOND);
    sim.settle();
}

fn live_task_is_not_deleted(store: NewStore) {
    let mut sim = Sim::new(store);
    let id = sim.submit(spec());
    let not_ended = |state| Err(Refused::NotEnded { id, state });
    assert_eq!(sim.delete(Doomed::One(id)), not_ended("ready"));
    sim.connect("a", 1);
    assert_eq!(sim.delete(Doomed::One(id)), not_ended("running"));
    let running = sim.task(id).state;
    assert_eq!(sim.delete(Doomed::As(vec![(id, running)])), Ok(0));
    assert!(sim.is_there(id));
}

fn commands_of_one_step_see_that_a_task_is_gone(store: NewStore) {
    let mut sim = Sim::new(store);
    let (_, mut ends) = {
        let id = sim.submit(keyed("k"));
        sim.watch(vec![id])
    };
    sim.settle();
    let id = *sim.ledger().tasks().keys().next().expect("there is one");
    let mut cancelled = sim.send_cancel(id);
    let mut deleted = sim.send_delete(Doomed::One(id));
    let mut redriven = sim.send_redrive(id);
    let mut again = sim.send_delete(Doomed::One(id));
    let mut submitted = sim.send_submit(vec![submission(keyed("k"), 9)]);
    sim.settle();
    assert!(matches!(cancelled.try_recv(), Ok(Ok(_))));
    assert_eq!(deleted.try_recv().expect("it is answered"), Ok(1));
    let none = |refused: &Refused| matches!(refused, Refused::NoTask { .. });
    assert!(matches!(redriven.try_recv(), Ok(Err(refused)) if none(&refused)));
    assert!(matches!(again.try_recv(), Ok(Err(refused)) if none(&refused)));
    let submitted = submitted.try_recv().expect("it is answered");
    assert!(matches!(&submitted, Ok(tasks) if !tasks[0].existed));
    assert!(!sim.is_there(id));
    // Whoever watched it hears of its end all the same.
    assert_eq!(ends.try_recv().expect("it ended").task.id, id);
}

fn only_what_is_as_it_was_read_is_deleted(store: NewStore) {
    let mut sim = Sim::new(store);
    let ids: Vec<_> = (0..3).map(|_| sim.submit(spec())).collect();
    let mut read = Vec::new();
    for id in &ids {
        read.push((*id, sim.cancel(*id).expect("it is cancelled").state));
    }
    sim.redrive(ids[1]).expect("it is redriven");
    let ended_at = Timestamp(sim.now.wall.0 - 1);
    read[2].1 = State::Cancelled { ended_at };
    assert_eq!(sim.delete(Doomed::As(read.clone())), Ok(1));
    let left: Vec<_> = ids.iter().filter(|id| sim.is_there(**id)).collect();
    assert_eq!(left, [&ids[1], &ids[2]]);
    assert_eq!(sim.delete(Doomed::As(read)), Ok(0));
}

fn many_logs_go_a_bounded_number_at_a_time_over_restarts_too(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let other = succeeded(&mut sim, spec());
    let other_epoch = sim.task(other).attempts[0].epoch;
    log(&mut sim, other, other_epoch, 0..2);
    let id = succeeded(&mut sim, spec());
    let epoch = sim.task(id).attempts[0].epoch;
    log(&mut sim, id, epoch, 0..3 * LOG_ROWS_PER_STEP);
    sim.settle();
    let before = data_rows(&sim);
    let mut deleted = sim.send_delete(Doomed::One(id));
    // Its last words come in the same step.
    let words = sim.inbox.pop().expect("there is one");
    let pieces = 3 * LOG_ROWS_PER_STEP;
    log(&mut sim, id, epoch, pieces..pieces + 1);
    sim.inbox.push(words);
    sim.step();
    assert_eq!(deleted.try_recv().expect("it is answered"), Ok(1));
    // The result went as well.
    assert_eq!(data_rows(&sim), before - LOG_ROWS_PER_STEP);
    sim.crash(Crash::Process);
    sim.step();
    assert_eq!(data_rows(&sim), before - 2 * LOG_ROWS_PER_STEP);
    log(&mut sim, id, epoch, 0..1);
    sim.settle();
    // The result and the log of the other.
    assert_eq!(data_rows(&sim), 3);
}

fn logs_of_tasks_that_are_deleted_together_go_and_those_between_them_stay(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let ids: Vec<_> = (0..5).map(|_| succeeded(&mut sim, spec())).collect();
    for id in [ids[0], ids[1], ids[3]] {
        let epoch = sim.task(id).attempts[0].epoch;
        log(&mut sim, id, epoch, 0..70);
    }
    sim.settle();
    let doomed = [0, 2, 3, 4].map(|index| (ids[index], sim.task(ids[index]).state));
    assert_eq!(sim.delete(Doomed::As(doomed.to_vec())), Ok(4));
    // The result of the second, and its log.
    assert_eq!(data_rows(&sim), 71);
    let left = sim.ledger().store.scan(
        Space::Payloads,
        &key::logs(sim.tenant(), ids[1]),
        &[],
        Direction::Ascending,
        100,
    );
    assert_eq!(left.expect("the store can be read").len(), 70);
}

fn checkpoint_that_a_larger_one_replaced_leaves_nothing_behind(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    let large = Data::Blob {
        digest: Digest([3; 32]),
        len: 70_000,
    };
    for state in [Data::Inline(Bytes::from_static(b"half")), large] {
        let attempt = attempt_of(&sim, "a", epoch);
        sim.say("a", FromHost::Checkpoint { attempt, state });
        sim.settle();
    }
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    assert_eq!(sim.delete(Doomed::One(id)), Ok(1));
    assert_eq!(data_rows(&sim), 0);
}

fn blob_is_told_of_when_the_last_task_ceases_to_name_it(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let blob = |byte| Digest([byte; 32]);
    let data = |digest| DataRef::Blob {
        digest,
        len: 70_000,
    };
    let (payload, result, state) = (blob(1), blob(2), blob(3));
    let told = |sim: &Sim| sim.ledger().shared.unnamed.take(usize::MAX);
    let is_named = |sim: &Sim, digest| {
        let uses = key::blob_uses(digest);
        let store = &sim.ledger().store;
        let rows = store.scan(Space::Index, &uses, &[], Direction::Ascending, 1);
        !rows.expect("the store can be read").is_empty()
    };
    let mut ids = Vec::new();
    for last in [false, true] {
        let with_blob = Submission {
            payload: None,
            spec: Spec {
                payload: data(payload),
                ..spec()
            },
            request: [0; 32],
            key_window: IDEMPOTENCY_WINDOW,
        };
        let id = sim.submit_all(vec![with_blob]).expect("it is taken")[0].id;
        let epoch = sim.hosts["a"].only();
        let attempt = attempt_of(&sim, "a", epoch);
        let state_blob = Data::Blob {
            digest: state,
            len: 70_000,
        };
        let saved = FromHost::Checkpoint {
            attempt,
            state: state_blob,
        };
        sim.say("a", saved);
        sim.settle();
        assert!(is_named(&sim, state));
        let result = Data::Blob {
            digest: result,
            len: 70_000,
        };
        sim.finish_as("a", epoch, Outcome::Succeeded, Some(result));
        sim.settle();
        assert_eq!(told(&sim), [state], "its state went with its end");
        ids.push(id);
        if last {
            sim.restart();
            sim.hello("a");
            sim.settle();
        }
    }
    for (id, is_last) in ids.into_iter().zip([false, true]) {
        assert!(is_named(&sim, payload) && is_named(&sim, result));
        assert_eq!(sim.delete(Doomed::One(id)), Ok(1));
        // Whoever is told looks whether another task still names them.
        let mut gone = told(&sim);
        gone.sort_unstable();
        assert_eq!(gone, [payload, result]);
        assert_eq!(is_named(&sim, payload) || is_named(&sim, result), !is_last);
    }
}

fn blob_that_was_told_of_is_not_named_after_a_loss_of_power(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    sim.submit(spec());
    let attempt = attempt_of(&sim, "a", sim.hosts["a"].only());
    let (first, second) = (Digest([1; 32]), Digest([2; 32]));
    for digest in [first, second] {
        let state = Data::Blob {
            digest,
            len: 70_000,
        };
        let attempt = attempt.clone();
        sim.say("a", FromHost::Checkpoint { attempt, state });
        sim.settle();
    }
    assert_eq!(sim.ledger().shared.unnamed.take(usize::MAX), [first]);
    sim.crash(Crash::Power);
    let uses = key::blob_uses(first);
    let store = &sim.ledger().store;
    let rows = store.scan(Space::Index, &uses, &[], Direction::Ascending, 1);
    assert_eq!(rows.expect("the store can be read"), []);
}

fn late_outcome_of_a_deleted_task_is_fenced(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.connect("a", 1);
    let id = sim.submit(spec());
    let epoch = sim.hosts["a"].only();
    sim.disconnect("a", false);
    // Its lease runs out, and the task ends without it.
    sim.skip(tq_core::limits::LEASE + SECOND);
    sim.settle();
    sim.cancel(id).expect("it is cancelled");
    assert_eq!(sim.delete(Doomed::One(id)), Ok(1));
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.hello("a");
    sim.settle();
    assert_eq!(sim.hosts["a"].acks, [(epoch, true)]);
    assert!(!sim.is_there(id));
}
