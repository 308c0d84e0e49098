//! The index of tasks that have ended, and searches by it and without it. After every step the recount compares the index
//! with the tasks.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::oneshot;
use tq_core::label::Labels;
use tq_core::outcome::{Outcome, Usage};
use tq_core::{Priority, TaskId, Timestamp};

use super::sim::{Sim, TENANT, spec};
use super::stores::NewStore;
use crate::ledger::{Command, Doomed, Error, Refused, Seen, Target};
use crate::search::{Asked, Budget, Cursor, Filter, Search, States, scan};
use crate::store::{Batch, Committed, Level, Space};
use crate::tables::key;

on_every_store![
    searches_find_what_is_there_whatever_the_pages,
    store_of_an_older_build_is_indexed_once,
    what_came_further_since_it_was_found_stays_as_it_is,
    submits_are_found_whatever_the_clock_did,
];

/// Why a search found nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Ledger(Error),
    #[error(transparent)]
    Search(crate::search::Error),
}

impl From<crate::search::Error> for Failed {
    fn from(error: crate::search::Error) -> Self {
        Self::Search(error)
    }
}

impl From<crate::store::Error> for Failed {
    fn from(error: crate::store::Error) -> Self {
        Self::Ledger(error.into())
    }
}

impl From<crate::tables::row::Error> for Failed {
    fn from(error: crate::tables::row::Error) -> Self {
        Self::Ledger(error.into())
    }
}

/// What a search finds, page by page.
fn found(sim: &Sim, asked: &Asked<'_>, max: usize, budget: Budget) -> Result<Vec<TaskId>, Failed> {
    let ledger = sim.ledger();
    let shared = ledger.shared();
    let claim = |id| shared.claim(id);
    let mut ids = Vec::new();
    let mut text: Option<String> = None;
    for _ in 0..10_000 {
        let cursor = text.as_deref().map(Cursor::decode).transpose()?;
        let all = |_| Filter::of_states(States::ALL);
        let search = Search::new(asked, all, cursor.as_ref(), ledger.time)?;
        let (store, cursor) = (&*ledger.store, cursor.as_ref());
        let page = scan::<Failed>(store, sim.tenant(), &claim, &search, cursor, max, budget)?;
        assert!(
            page.found.len() <= max,
            "a page has no more than was asked for"
        );
        ids.extend(page.found.iter().map(|found| found.task.id));
        text = page.next.map(|next| next.encode());
        if text.is_none() {
            return Ok(ids);
        }
    }
    panic!("the search has no end");
}

/// Thirty tasks in all states but one, some of them in one commit, some redriven, some removed.
fn history(store: NewStore) -> Sim {
    let mut sim = Sim::new(store);
    for number in 0..30_u64 {
        let mut task = spec();
        task.submitted_at = sim.ledger().time;
        task.priority = Priority(u8::try_from(number % 7).expect("it is small"));
        task.retry.max_attempts = 1;
        let customer = if number.is_multiple_of(3) {
            "acme"
        } else {
            "other"
        };
        task.labels = Labels::from([("customer".into(), customer.into())]);
        sim.submit(task);
        if number.is_multiple_of(5) {
            sim.advance(Duration::from_secs(60));
        }
    }
    sim.connect("a", 4);
    let mut round = 0;
    while sim
        .ledger()
        .tasks()
        .values()
        .filter(|(_, task, _)| task.state.is_terminal())
        .count()
        < 20
    {
        round += 1;
        sim.usage = Usage {
            fuel: 1_000 * (round % 4),
            wall_ns: 10_000_000 * round,
            ..Usage::default()
        };
        let outcome = match round % 3 {
            0 => Outcome::Trap,
            _ => Outcome::Succeeded,
        };
        let epochs: Vec<_> = sim.host_mut("a").held.keys().copied().collect();
        for epoch in epochs {
            sim.finish("a", epoch, outcome);
        }
        sim.settle();
        sim.advance(Duration::from_secs(1));
    }
    let waiting: Vec<_> = with_state(&sim, "ready");
    for id in waiting.iter().take(2) {
        sim.cancel(*id).expect("it waits");
    }
    let dead = with_state(&sim, "dead");
    sim.redrive(dead[0]).expect("it is dead");
    sim.delete(Doomed::One(dead[1])).expect("it has ended");
    sim
}

fn with_state(sim: &Sim, state: &str) -> Vec<TaskId> {
    let tasks = sim.ledger().tasks();
    let those = tasks
        .values()
        .filter(|(_, task, _)| task.state.name() == state);
    those.map(|(_, task, _)| task.id).collect()
}

fn searches_find_what_is_there_whatever_the_pages(store: NewStore) {
    let sim = history(store);
    let tasks = sim.ledger().tasks();
    let small = Budget {
        tasks: 3,
        entries: 4,
        sorted: 1_000,
    };
    for filter in [
        "",
        "state = ended",
        "state = dead",
        "state = running",
        "state = open AND priority > 2",
        "state = failed AND label.customer = acme",
        "label.customer = acme",
        "outcome = trap",
        "state = ended AND fuel >= 2000",
        "state = ended AND NOT fuel >= 2000",
        "ended > -3s",
        "ended <= -3s AND duration > 15ms",
        "submitted < -4m",
        "submitted > -4m AND state = ended",
        "module = x",
        "state = cancelled OR priority = 3",
    ] {
        let wanted = Filter::parse(filter, sim.ledger().time).expect("a filter");
        let expected: BTreeSet<_> = tasks
            .values()
            .filter(|(_, task, _)| wanted.takes(task))
            .map(|(_, task, _)| task.id)
            .collect();
        for sort in [
            "",
            "submitted",
            "-submitted",
            "ended",
            "-ended",
            "-duration",
            "fuel",
            "priority",
            "-priority",
        ] {
            let asked = Asked {
                filter,
                sort,
                ..Asked::default()
            };
            for (max, budget) in [
                (1, Budget::REQUEST),
                (3, small),
                (100, small),
                (100, Budget::REQUEST),
            ] {
                let what = format!("`{filter}` by `{sort}`, {max} a page");
                let ids = match found(&sim, &asked, max, budget) {
                    Ok(ids) => ids,
                    Err(Failed::Search(crate::search::Error::Open(_))) => continue,
                    Err(failed) => panic!("{what}: {failed}"),
                };
                let distinct: BTreeSet<_> = ids.iter().copied().collect();
                assert_eq!(distinct, expected, "{what}");
                assert_eq!(distinct.len(), ids.len(), "{what}: each once");
                let numbers: Vec<_> = ids.iter().map(|id| number(&tasks[id].1, sort)).collect();
                let is_sorted = match sort.starts_with('-') {
                    true => numbers.is_sorted_by(|one, next| one >= next),
                    false => numbers.is_sorted(),
                };
                assert!(sort.is_empty() || is_sorted, "{what}: {numbers:?}");
            }
        }
    }
    let asked = Asked {
        filter: "state = ended",
        sort: "fuel",
        ..Asked::default()
    };
    let less = Budget { sorted: 5, ..small };
    let refused = found(&sim, &asked, 1, less);
    assert!(
        matches!(
            refused,
            Err(Failed::Search(crate::search::Error::TooMany { .. }))
        ),
        "{refused:?}"
    );
}

fn number(task: &tq_core::task::Task, sort: &str) -> u64 {
    let last = task.attempts.last();
    match sort.trim_start_matches('-') {
        "submitted" => task.spec.submitted_at.0,
        "ended" => task.state.ended_at().unwrap_or(Timestamp(0)).0,
        "duration" => last.map_or(0, |last| last.usage.wall_ns),
        "fuel" => last.map_or(0, |last| last.usage.fuel),
        _ => task.spec.priority.0.into(),
    }
}

fn store_of_an_older_build_is_indexed_once(store: NewStore) {
    let mut sim = history(store);
    let before = sim.ledger().tasks();
    let rows = |sim: &Sim| {
        let (all, up) = (key::finished_all(), crate::store::Direction::Ascending);
        let rows = sim.ledger().store.scan(Space::Index, &all, &[], up, 1_000);
        rows.expect("they can be read")
    };
    let written = rows(&sim);
    assert!(!written.is_empty());
    let mut batch = Batch::default();
    batch.delete(key::finished_are_indexed());
    for row in &written {
        batch.delete(crate::store::Key::new(Space::Index, row.key.to_vec()));
    }
    let committed = sim.ledger_mut().store.commit(batch, Level::Process);
    assert!(matches!(committed, Ok(Committed::Yes(_))), "{committed:?}");
    sim.restart();
    assert_eq!(rows(&sim), written);
    assert_eq!(sim.ledger().tasks(), before);
    sim.restart();
    assert_eq!(rows(&sim), written, "nothing is indexed twice");
}

/// The same call, made again beside the first one, has found the same tasks.
fn what_came_further_since_it_was_found_stays_as_it_is(store: NewStore) {
    let mut sim = Sim::new(store);
    let mut once = spec();
    once.retry.max_attempts = 1;
    let id = sim.submit(once);
    sim.connect("a", 1);
    let die = |sim: &mut Sim| {
        let epoch = sim.hosts["a"].only();
        sim.finish("a", epoch, Outcome::Trap);
        sim.settle();
        assert_eq!(sim.state(id), "dead");
    };
    die(&mut sim);
    let seen = Seen::of(&sim.task(id));
    let redrive = |sim: &mut Sim| {
        let (reply, mut answer) = oneshot::channel();
        sim.inbox.push(Command::Redrive(Target {
            namespace: TENANT.to_owned(),
            id,
            seen: Some(seen),
            reply,
        }));
        sim.settle();
        answer.try_recv().expect("it is answered")
    };
    redrive(&mut sim).expect("it is as it was found");
    die(&mut sim);
    let refused = redrive(&mut sim).expect_err("it has died once more");
    assert!(matches!(refused, Refused::Rejected(_)), "{refused}");
    assert_eq!(sim.task(id).round, 2);
}

fn submits_are_found_whatever_the_clock_did(store: NewStore) {
    let mut sim = Sim::new(store);
    sim.advance(Duration::from_secs(3_600));
    let time = sim.ledger().time;
    // The machine's clock has gone back since, and says so in what is submitted.
    let mut task = spec();
    task.submitted_at = Timestamp(time.0 - 1_800_000);
    let id = sim.submit(task);
    let filter = format!("submitted < {}", time.0);
    let asked = Asked {
        filter: &filter,
        ..Asked::default()
    };
    let ids = found(&sim, &asked, 10, Budget::REQUEST).expect("a search");
    assert_eq!(ids, [id]);
}
