use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use tq_core::label::Labels;
use tq_core::outcome::{Outcome, Usage};
use tq_core::task::{Attempt, DataRef, Failure, Spec, State, Task};
use tq_core::{Digest, Epoch, Limits, Placement, Priority, RetryPolicy, TaskId, Timestamp};

use super::*;
use crate::tables::row::{decode_finished, encode_finished};

const NOW: Timestamp = Timestamp(1_900_000_000_000);

#[track_caller]
fn parsed(text: &str) -> Filter {
    let filter = Filter::parse(text, NOW);
    filter.unwrap_or_else(|error| panic!("`{text}` can be read: {error}"))
}

#[track_caller]
fn refused(text: &str, at: usize, words: &str) {
    match Filter::parse(text, NOW) {
        Err(Error::Filter {
            at: found, what, ..
        }) => {
            assert!(
                found == at && what.contains(words),
                "`{text}`: at {found}: {what}"
            );
        }
        other => panic!("`{text}` is refused, not {other:?}"),
    }
}

fn task() -> Task {
    Task {
        id: TaskId([9; 16]),
        spec: Arc::new(Spec {
            namespace: "n".to_owned(),
            module: "mail".to_owned(),
            version: 3,
            digest: Digest([7; 32]),
            function: "send".to_owned(),
            payload: DataRef::Row { len: 100 },
            content_type: String::new(),
            arguments: Vec::new(),
            limits: Limits::DEFAULT,
            retry: RetryPolicy::DEFAULT,
            priority: Priority(200),
            placement: Placement::default(),
            run_at: None,
            deadline: None,
            result_ttl: None,
            labels: Labels::from([("customer".into(), "acme".into())]),
            idempotency_key: "k-1".to_owned(),
            unique_key: String::new(),
            traceparent: String::new(),
            submitted_at: NOW.before(60_000),
            redriven_from: None,
        }),
        state: State::Dead {
            ended_at: NOW.before(1_000),
        },
        round: 1,
        failures: 1,
        losses: 0,
        strikes: None,
        started: 2,
        attempts: vec![Attempt {
            number: 2,
            round: 1,
            host: "h1".into(),
            epoch: Epoch::new(1, 1),
            outcome: Outcome::Trap,
            failure: Some(Failure {
                message: "Unreachable code: \"x\"".to_owned(),
                backtrace: String::new(),
            }),
            usage: Usage {
                fuel: 5_000,
                memory_bytes_peak: 64 << 20,
                wall_ns: 2_500_000_000,
                cpu_ns: 0,
                log_bytes: 0,
            },
            started_at: NOW.before(4_000),
            ended_at: NOW.before(1_000),
        }],
        last_epoch: None,
        settled: None,
        result: None,
    }
}

trait Before {
    fn before(self, ms: u64) -> Self;
}

impl Before for Timestamp {
    fn before(self, ms: u64) -> Self {
        Self(self.0 - ms)
    }
}

#[test]
fn filters_take_what_they_say() {
    let task = task();
    let takes = |text: &str| {
        let filter = parsed(text);
        let mut entry = Vec::new();
        encode_finished(&task, &mut entry);
        let (finished, _) = decode_finished(&entry).next().expect("an entry");
        let ended_at = task.state.ended_at().expect("it has ended");
        let taken = filter.takes(&task);
        // The index never says otherwise.
        let verdict = filter.verdict(&finished, ended_at);
        assert!(
            verdict.is_none_or(|verdict| verdict == taken),
            "`{text}`: {verdict:?}"
        );
        taken
    };
    for text in [
        "",
        "  ",
        "state = dead",
        "state = failed AND state != succeeded",
        "state IN (cancelled, dead)",
        "module = mail",
        "function=mail/send",
        "function = \"mail/send\" module=mail",
        "(module = x OR module = mail) and not state = open",
        "NOT (module = x)",
        "queue = default",
        "outcome = trap",
        "error : unreachable",
        "error : \"\\\"X\\\"\"",
        "host = h1",
        "label.customer = acme",
        "label.customer : ACM",
        "label.other = \"\"",
        "idempotency_key : k-",
        "priority > 127 AND priority = 200 AND priority <= 200",
        "attempts >= 2",
        "version = 3",
        "duration > 2s AND duration < 2.6s",
        "fuel >= 5k",
        "memory = 64MiB",
        "payload_bytes = 100",
        "submitted < -30s AND submitted > -1h",
        "ended > -2s AND ended <= now",
        "started > -5s",
        "ended > 2030-01-01 AND ended < 2031-01-01T00:00:00+02:00",
        "ended > 1800000000000",
        "submitted >= yesterday",
        "id = 09090909-0909-0909-0909-090909090909",
        "module != x OR module = x AND module = y",
        "error : \"\" AND host : \"\"",
    ] {
        assert!(takes(text), "`{text}`");
    }
    for text in [
        "state = succeeded",
        "state = open",
        "state != ended",
        "module = mai",
        "module = mail AND module = x",
        "module = x OR module = y AND module = mail",
        "outcome != trap",
        "error : timeout",
        "label.customer = Acme",
        "label.other : a",
        "priority > 200",
        "result_bytes > 0",
        "run_at > 2000-01-01",
        "ended < -2s",
        "submitted > now",
        "duration > 1h",
        "NOT duration > 1s",
    ] {
        assert!(!takes(text), "`{text}`");
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_place() {
    refused(
        "modul = x",
        1,
        "there is no field `modul`; fields are state, id, function, module,",
    );
    refused(
        "state = done",
        9,
        "`done` is not a state; states are blocked,",
    );
    refused("state > dead", 7, "`>` does not go with `state`");
    refused("module > x", 8, "`>` does not go with `module`");
    refused("priority = high", 12, "a number is written like");
    refused("duration > 5", 12, "a duration is written like");
    refused("submitted > gestern", 13, "a time is written like");
    refused("submitted = today", 11, "compared by `<`");
    refused("memory > 5 parsecs", 19, "behind `parsecs`, not the end");
    refused("module =", 9, "a value was expected");
    refused("module mail", 8, "was expected behind `module`, not `mail`");
    refused("(module = x", 12, "`)` was expected, not the end");
    refused("module = x)", 11, "`)` was not expected");
    refused("module = \"x", 10, "has no end");
    refused("module = \"x\\n\"", 12, "comes before");
    refused("module = x AND", 15, "a field was expected, not the end");
    refused("module = ü AND §", 16, "`§` was not expected");
    refused("label. = ", 10, "a value was expected");
    let deep = format!("{}module = x{}", "(".repeat(17), ")".repeat(17));
    refused(&deep, 17, "nested more than 16 deep");
    let many = vec!["priority = 1"; 65].join(" OR ");
    refused(&many, 65 * 16 - 15, "more than 64 tests");
    let deepest = format!("{}module = x{}", "(".repeat(15), ")".repeat(15));
    parsed(&deepest);
}

#[test]
fn bounds_hold_all_that_is_taken() {
    let bounds = |text: &str| parsed(text).bounds();
    let ended = |text: &str| bounds(text).states.is_within(States::ENDED);
    for text in [
        "state = dead",
        "ended > -1h",
        "state = dead OR ended < -1h",
        "NOT state = open",
        "state IN (dead, expired) AND module = x",
    ] {
        assert!(ended(text), "`{text}`");
    }
    for text in [
        "",
        "module = x",
        "NOT ended > -1h",
        "state = dead OR module = x",
        "outcome = trap",
    ] {
        assert!(!ended(text), "`{text}`");
    }
    let range =
        bounds("submitted > 5 AND submitted <= 9 OR submitted > 20 AND submitted < 22").submitted;
    assert_eq!((range.from, range.to), (6, 21));
}

#[test]
fn presets_can_be_read() {
    for preset in PRESETS {
        let asked = Asked {
            preset: preset.name,
            ..Asked::default()
        };
        let all = |_| Filter::of_states(States::ALL);
        let search = Search::new(&asked, all, None, NOW);
        search.unwrap_or_else(|error| panic!("`{}`: {error}", preset.name));
    }
}

#[test]
fn cursors_are_those_of_their_search() {
    let all = |_| Filter::of_states(States::ALL);
    let asked = Asked {
        filter: "state = dead",
        ..Asked::default()
    };
    let search = Search::new(&asked, all, None, NOW).expect("a search");
    let place = cursor::Place::Ended(Timestamp(5), 6, TaskId([7; 16]));
    let cursor = Cursor::new(&search, place);
    let text = cursor.encode();
    let read = Cursor::decode(&text).expect("it was given");
    assert_eq!(read, cursor);
    let later = Timestamp(NOW.0 + 60_000);
    let again = Search::new(&asked, all, Some(&read), later).expect("it is of this search");
    assert_eq!(again.now(), NOW, "what is relative stays where it was");
    for other in [
        Asked {
            filter: "state = dead ",
            ..asked
        },
        Asked {
            sort: "-duration",
            ..asked
        },
        Asked {
            preset: "failed",
            ..asked
        },
        Asked { action: 1, ..asked },
    ] {
        let refused = Search::new(&other, all, Some(&read), NOW);
        assert_eq!(refused, Err(Error::OtherCursor), "{other:?}");
    }
    // One of this search that is of another order.
    let other = Cursor::new(&search, cursor::Place::Submitted(TaskId([7; 16])));
    let refused = Search::new(&asked, all, Some(&other), NOW);
    assert_eq!(refused, Err(Error::OtherCursor));
    for text in ["", "x", "AAAA", &text[1..]] {
        assert_eq!(Cursor::decode(text), Err(Error::Cursor), "{text}");
    }
}

fn some_test() -> impl Strategy<Value = String> {
    let text = (
        select(vec![
            "module",
            "function",
            "queue",
            "outcome",
            "host",
            "label.customer",
            "error",
        ]),
        select(vec!["=", "!=", ":"]),
        select(vec![
            "mail",
            "mail/send",
            "default",
            "trap",
            "h1",
            "acme",
            "\"\"",
            "unreachable",
            "x",
        ]),
    );
    let number = (
        select(vec!["fuel", "priority", "attempts", "memory", "version"]),
        select(vec!["=", "!=", "<", "<=", ">", ">="]),
        select(vec!["0", "1", "2", "3", "200", "5000", "67108864"]),
    );
    let time = (
        select(vec!["submitted", "ended", "started", "run_at"]),
        select(vec!["<", "<=", ">", ">="]),
        select(vec!["-1h", "-10s", "-1s", "now", "0"]),
    );
    let state = (
        select(vec!["state"]),
        select(vec!["=", "!="]),
        select(vec![
            "dead",
            "ended",
            "open",
            "failed",
            "succeeded",
            "ready",
        ]),
    );
    prop_oneof![text, number, time, state]
        .prop_map(|(field, operator, value)| format!("{field} {operator} {value}"))
}

fn some_filter() -> impl Strategy<Value = String> {
    some_test().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("NOT ({one})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} AND {other})")),
            (inner.clone(), inner).prop_map(|(one, other)| format!("({one} OR {other})")),
        ]
    })
}

proptest! {
    /// Whatever a filter asks, the index only says what the task's own rows say, and bounds leave nothing out.
    #[test]
    fn index_and_bounds_agree_with_the_task(text in some_filter(), attempted: bool, failed: bool, fuel in select(vec![0, 1, 5_000]), ended: bool) {
        let mut task = task();
        if !ended {
            task.state = State::Ready { since: NOW };
        }
        task.attempts[0].usage.fuel = fuel;
        if !failed {
            task.attempts[0].failure = None;
        }
        if !attempted {
            task.attempts.clear();
            task.started = 0;
        }
        let filter = parsed(&text);
        let taken = filter.takes(&task);
        let bounds = filter.bounds();
        if taken {
            prop_assert!(States::of(&task.state).is_within(bounds.states));
            let submitted = task.spec.submitted_at.0;
            prop_assert!((bounds.submitted.from..=bounds.submitted.to).contains(&submitted));
        }
        let mut entry = Vec::new();
        if encode_finished(&task, &mut entry) && let Some(at) = task.state.ended_at() {
            let (finished, bytes) = decode_finished(&entry).next().expect("an entry");
            prop_assert_eq!(bytes, &entry[..]);
            let verdict = filter.verdict(&finished, at);
            prop_assert!(verdict.is_none_or(|verdict| verdict == taken));
            prop_assert!(!taken || (bounds.ended.from..=bounds.ended.to).contains(&at.0));
        }
    }

    #[test]
    fn no_text_and_no_bytes_panic(text: String, bytes: Vec<u8>) {
        let _ = (Filter::parse(&text, NOW).is_ok(), Cursor::decode(&text).is_ok());
        drop(text.parse::<Sort>());
        decode_finished(&bytes).for_each(drop);
    }
}
