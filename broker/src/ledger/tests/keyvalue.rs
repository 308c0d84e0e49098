//! What was acknowledged of a bucket is there, changes are atomic, namespaces do not meet, and only attempts that run and were
//! granted a bucket change it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tq_core::Grants;
use tq_core::limits::{
    KEYVALUE_BUCKETS_MAX, KEYVALUE_ENTRY_BYTES, KEYVALUE_KEYS_MAX, KEYVALUE_NAMESPACE_BYTES_MAX,
    KEYVALUE_VALUE_BYTES_MAX,
};
use tq_core::outcome::Outcome;

use super::sim::{MODULE, Sim, TENANT, module, spec};
use super::stores::NewStore;
use crate::dispatch::message::AttemptRef;
use crate::ledger::{BucketChange, Changed, ChangedBy, Command, Error, Refused, WhatChanges, read};
use crate::store::memory::{Crash, Disk};
use crate::tables::row::{self, Bucket};

on_every_store![
    what_was_set_is_there_after_a_restart,
    increments_of_one_step_all_count,
    what_is_no_number_is_not_incremented,
    swap_succeeds_only_on_what_was_read,
    limit_of_a_namespace_is_exact,
    buckets_are_bounded_and_gone_with_their_last_key,
    namespaces_and_buckets_do_not_meet,
    only_an_attempt_that_runs_changes_what_it_was_granted,
    bucket_is_cleared_a_page_at_a_time,
];

type Answer = oneshot::Receiver<Result<Changed, Refused>>;

fn send(sim: &mut Sim, by: ChangedBy, bucket: &str, what: WhatChanges) -> Answer {
    let (reply, answer) = oneshot::channel();
    sim.inbox.push(Command::Bucket(BucketChange {
        by,
        bucket: bucket.parse().expect("it is a name"),
        what,
        reply,
    }));
    answer
}

#[track_caller]
fn come(mut answer: Answer) -> Result<Changed, Refused> {
    answer.try_recv().expect("it is answered")
}

/// Has an operator change a bucket.
#[track_caller]
fn change_in(
    sim: &mut Sim,
    namespace: &str,
    bucket: &str,
    what: WhatChanges,
) -> Result<Changed, Refused> {
    let answer = send(sim, operator(namespace), bucket, what);
    sim.step();
    come(answer)
}

#[track_caller]
fn change(sim: &mut Sim, bucket: &str, what: WhatChanges) -> Result<Changed, Refused> {
    change_in(sim, TENANT, bucket, what)
}

fn operator(namespace: &str) -> ChangedBy {
    ChangedBy::Operator(namespace.to_owned())
}

fn set(name: &str, value: impl Into<Bytes>) -> WhatChanges {
    WhatChanges::Set(vec![(name.to_owned(), value.into())])
}

fn delete(name: &str) -> WhatChanges {
    WhatChanges::Delete(vec![name.to_owned()])
}

fn increment(name: &str, delta: i64) -> WhatChanges {
    WhatChanges::Increment(name.to_owned(), delta)
}

fn swap(name: &str, version: u64, value: &'static str) -> WhatChanges {
    WhatChanges::Swap(name.to_owned(), version, value.into())
}

/// The version and the value of a key.
fn get_in(sim: &Sim, namespace: &str, bucket: &str, name: &str) -> Option<(u64, Bytes)> {
    let namespace = *read(&sim.ledger().shared.namespaces).get(namespace)?;
    let reader = sim.ledger().reader();
    let found = row::find_value::<Error>(&*reader, namespace, bucket, name);
    let found = found.expect("the store can be read");
    found.map(|(entry, value)| (entry.version, value))
}

fn get(sim: &Sim, bucket: &str, name: &str) -> Option<Bytes> {
    get_in(sim, TENANT, bucket, name).map(|(_, value)| value)
}

fn version(sim: &Sim, bucket: &str, name: &str) -> u64 {
    get_in(sim, TENANT, bucket, name).map_or(0, |(version, _)| version)
}

fn buckets(sim: &Sim, namespace: &str) -> Vec<(String, Bucket)> {
    let namespace = read(&sim.ledger().shared.namespaces)
        .get(namespace)
        .copied();
    let namespace = namespace.expect("the namespace is there");
    let listed = row::list_buckets::<Error>(&*sim.ledger().reader(), namespace);
    listed.expect("the store can be read")
}

fn what_was_set_is_there_after_a_restart(store: NewStore) {
    let mut sim = Sim::new(store);
    let large = Bytes::from(vec![b'x'; KEYVALUE_VALUE_BYTES_MAX]);
    for (name, value) in [
        ("small", Bytes::from("v")),
        ("large", large.clone()),
        ("", Bytes::new()),
    ] {
        assert_eq!(
            change(&mut sim, "cache", set(name, value)),
            Ok(Changed::Done)
        );
    }
    sim.crash(Crash::Process);
    assert_eq!(get(&sim, "cache", "small"), Some("v".into()));
    assert_eq!(get(&sim, "cache", "large"), Some(large));
    assert_eq!(get(&sim, "cache", ""), Some(Bytes::new()));
    // A value that becomes small, and one that goes, leave nothing behind: the recount looks after every step.
    assert_eq!(
        change(&mut sim, "cache", set("large", "now small")),
        Ok(Changed::Done)
    );
    assert_eq!(
        change(&mut sim, "cache", delete("small")),
        Ok(Changed::Done)
    );
    assert_eq!(
        change(&mut sim, "cache", delete("small")),
        Ok(Changed::Done)
    );
    sim.restart();
    assert_eq!(get(&sim, "cache", "large"), Some("now small".into()));
    assert_eq!(get(&sim, "cache", "small"), None);
}

fn increments_of_one_step_all_count(store: NewStore) {
    let mut sim = Sim::new(store);
    let send_all = |sim: &mut Sim| -> Vec<i64> {
        let answers: Vec<Answer> = (0..50)
            .map(|_| send(sim, operator(TENANT), "counters", increment("hits", 2)))
            .collect();
        sim.step();
        let sums = answers.into_iter().map(|answer| match come(answer) {
            Ok(Changed::Sum(sum)) => sum,
            other => panic!("{other:?}"),
        });
        sums.collect()
    };
    assert_eq!(
        send_all(&mut sim),
        (1..=50).map(|n| 2 * n).collect::<Vec<_>>()
    );
    sim.crash(Crash::Process);
    assert_eq!(
        send_all(&mut sim),
        (51..=100).map(|n| 2 * n).collect::<Vec<_>>()
    );
    assert_eq!(get(&sim, "counters", "hits"), Some("200".into()));
}

fn what_is_no_number_is_not_incremented(store: NewStore) {
    let mut sim = Sim::new(store);
    let max = i64::MAX.to_string();
    let long = "1".repeat(KEYVALUE_VALUE_BYTES_MAX);
    for value in ["", "1.5", "a", &max, &long] {
        let value = Bytes::from(value.to_owned());
        assert_eq!(
            change(&mut sim, "b", set("k", value.clone())),
            Ok(Changed::Done)
        );
        let refused = Refused::NoNumber {
            key: "k".to_owned(),
            delta: 1,
        };
        assert_eq!(change(&mut sim, "b", increment("k", 1)), Err(refused));
        assert_eq!(get(&sim, "b", "k"), Some(value));
    }
    let sum = change(&mut sim, "b", increment("other", i64::MIN));
    assert_eq!(sum, Ok(Changed::Sum(i64::MIN)));
}

fn swap_succeeds_only_on_what_was_read(store: NewStore) {
    let mut sim = Sim::new(store);
    assert_eq!(
        change(&mut sim, "b", swap("k", 7, "a")),
        Ok(Changed::Swapped(false))
    );
    assert_eq!(
        change(&mut sim, "b", swap("k", 0, "a")),
        Ok(Changed::Swapped(true))
    );
    assert_eq!(
        change(&mut sim, "b", swap("k", 0, "b")),
        Ok(Changed::Swapped(false))
    );
    // Two in one step from the same version: one of them wins.
    let first = version(&sim, "b", "k");
    let [one, two] =
        ["one", "two"].map(|value| send(&mut sim, operator(TENANT), "b", swap("k", first, value)));
    sim.step();
    assert_eq!(
        (come(one), come(two)),
        (Ok(Changed::Swapped(true)), Ok(Changed::Swapped(false)))
    );
    assert_eq!(get(&sim, "b", "k"), Some("one".into()));
    // One that was deleted and is there again with the same value is another one.
    let before = version(&sim, "b", "k");
    assert_eq!(change(&mut sim, "b", delete("k")), Ok(Changed::Done));
    sim.restart();
    assert_eq!(change(&mut sim, "b", set("k", "one")), Ok(Changed::Done));
    assert_eq!(
        change(&mut sim, "b", swap("k", before, "x")),
        Ok(Changed::Swapped(false))
    );
}

fn limit_of_a_namespace_is_exact(store: NewStore) {
    let mut sim = Sim::new(store);
    let value = Bytes::from(vec![0; KEYVALUE_VALUE_BYTES_MAX]);
    // Each key has four digits, and its bucket's name one letter.
    let each = value.len() as u64 + 4 + 1 + KEYVALUE_ENTRY_BYTES;
    let fit = KEYVALUE_NAMESPACE_BYTES_MAX / each;
    let pairs = (0..fit).map(|n| (format!("{n:04}"), value.clone()));
    for pairs in pairs.collect::<Vec<_>>().chunks(128) {
        // Without the recount of each step, which reads all of it.
        let answer = send(
            &mut sim,
            operator(TENANT),
            "b",
            WhatChanges::Set(pairs.to_vec()),
        );
        sim.try_step().expect("the ledger goes on");
        assert_eq!(come(answer), Ok(Changed::Done));
    }
    sim.restart();
    let left = KEYVALUE_NAMESPACE_BYTES_MAX - fit * each;
    let rest = usize::try_from(left - 1 - 1 - KEYVALUE_ENTRY_BYTES).expect("it is small");
    let too_much = change(&mut sim, "c", set("r", vec![0; rest + 1]));
    let full = Refused::BucketsFull {
        bytes: KEYVALUE_NAMESPACE_BYTES_MAX + 1,
    };
    assert_eq!(too_much, Err(full));
    assert_eq!(
        change(&mut sim, "c", set("r", vec![0; rest])),
        Ok(Changed::Done)
    );
    assert!(change(&mut sim, "b", increment("n", 1)).is_err());
    // What makes it less is taken, and makes room; other namespaces have their own.
    assert_eq!(change(&mut sim, "b", set("0000", "")), Ok(Changed::Done));
    assert_eq!(
        change(&mut sim, "b", increment("n", 1)),
        Ok(Changed::Sum(1))
    );
    assert_eq!(
        change_in(&mut sim, "other", "b", set("k", value)),
        Ok(Changed::Done)
    );
}

fn buckets_are_bounded_and_gone_with_their_last_key(store: NewStore) {
    let mut sim = Sim::new(store);
    let answers: Vec<Answer> = (0..KEYVALUE_BUCKETS_MAX)
        .map(|n| send(&mut sim, operator(TENANT), &format!("b{n}"), set("k", "v")))
        .collect();
    sim.step();
    assert!(
        answers
            .into_iter()
            .all(|answer| come(answer) == Ok(Changed::Done))
    );
    assert_eq!(
        change(&mut sim, "more", set("k", "v")),
        Err(Refused::TooManyBuckets)
    );
    assert_eq!(change(&mut sim, "b0", set("l", "v")), Ok(Changed::Done));
    assert_eq!(change(&mut sim, "b0", delete("k")), Ok(Changed::Done));
    assert_eq!(change(&mut sim, "b0", delete("l")), Ok(Changed::Done));
    sim.restart();
    assert_eq!(change(&mut sim, "more", set("k", "v")), Ok(Changed::Done));
    let names: Vec<String> = buckets(&sim, TENANT)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names.len(), KEYVALUE_BUCKETS_MAX);
    assert!(!names.contains(&"b0".to_owned()));
}

fn namespaces_and_buckets_do_not_meet(store: NewStore) {
    let mut sim = Sim::new(store);
    // What would be one, if names were only put one behind the other.
    for (namespace, bucket, name) in [
        (TENANT, "a", "b\0c"),
        (TENANT, "ab", "c"),
        ("other", "a", "b\0c"),
        (TENANT, "a", "bc"),
    ] {
        let value = format!("{namespace}/{bucket}/{name}");
        assert_eq!(
            change_in(&mut sim, namespace, bucket, set(name, value)),
            Ok(Changed::Done)
        );
    }
    assert_eq!(change(&mut sim, "a", delete("b\0c")), Ok(Changed::Done));
    assert_eq!(get(&sim, "a", "b\0c"), None);
    assert_eq!(get(&sim, "ab", "c"), Some("demo/ab/c".into()));
    assert_eq!(get(&sim, "a", "bc"), Some("demo/a/bc".into()));
    let other = get_in(&sim, "other", "a", "b\0c").expect("it is there");
    assert_eq!(other.1, "other/a/b\0c");
    let cleared = change_in(&mut sim, "nobody", "a", WhatChanges::Clear(None));
    assert_eq!(cleared, Ok(Changed::Cleared(0, None)));
    assert!(!read(&sim.ledger().shared.namespaces).contains_key("nobody"));
}

fn only_an_attempt_that_runs_changes_what_it_was_granted(store: NewStore) {
    let mut sim = Sim::new(store);
    let mut granting = module(MODULE);
    granting.functions[0].grants = Arc::new(Grants {
        keyvalue: ["cache".parse().expect("it is a name")].into(),
        ..Grants::default()
    });
    let deployed = sim.deploy_as(granting, false).expect("it is taken");
    sim.connect("a", 1);
    let of_version = |version| tq_core::task::Spec { version, ..spec() };
    sim.submit(of_version(deployed.version));
    sim.settle();
    let epoch = sim.hosts["a"].only();
    let attempt = sim.hosts["a"].held[&epoch].attempt();
    let by = |attempt: &AttemptRef| ChangedBy::Attempt(attempt.clone());
    let try_as = |sim: &mut Sim, attempt: &AttemptRef, bucket: &str, value: &'static str| {
        let answer = send(sim, by(attempt), bucket, set("k", value));
        sim.step();
        come(answer)
    };
    assert_eq!(try_as(&mut sim, &attempt, "cache", "1"), Ok(Changed::Done));
    let not_granted = Refused::BucketNotGranted("other".parse().expect("it is a name"));
    assert_eq!(try_as(&mut sim, &attempt, "other", "1"), Err(not_granted));
    let fenced = Err(Refused::NotHeld {
        id: attempt.id,
        epoch,
    });
    let mut forged = attempt.clone();
    forged.token.0[0] ^= 1;
    assert_eq!(try_as(&mut sim, &forged, "cache", "2"), fenced);
    let elsewhere = AttemptRef {
        namespace: "other".to_owned(),
        ..attempt.clone()
    };
    assert_eq!(try_as(&mut sim, &elsewhere, "cache", "2"), fenced);
    // Its host was silent for too long: the task may run elsewhere, and this attempt changes nothing more.
    sim.disconnect("a", true);
    sim.advance(Duration::from_secs(60));
    assert_eq!(try_as(&mut sim, &attempt, "cache", "2"), fenced);
    assert_eq!(get(&sim, "cache", "k"), Some("1".into()));
    assert_eq!(get(&sim, "other", "k"), None);
    // The next attempt may; and one that ended may not.
    sim.kill("a");
    sim.hello("a");
    sim.advance(Duration::from_secs(10));
    let epoch = sim.hosts["a"].only();
    let next = sim.hosts["a"].held[&epoch].attempt();
    assert_eq!(try_as(&mut sim, &next, "cache", "3"), Ok(Changed::Done));
    sim.finish("a", epoch, Outcome::Succeeded);
    sim.settle();
    let ended = Err(Refused::NotHeld { id: next.id, epoch });
    assert_eq!(try_as(&mut sim, &next, "cache", "4"), ended);
    assert_eq!(get(&sim, "cache", "k"), Some("3".into()));
}

fn bucket_is_cleared_a_page_at_a_time(store: NewStore) {
    let mut sim = Sim::new(store);
    let all: Vec<_> = (0..KEYVALUE_KEYS_MAX + 5)
        .map(|n| (format!("{n:05}"), Bytes::from("v")))
        .collect();
    for pairs in all.chunks(KEYVALUE_KEYS_MAX) {
        let what = WhatChanges::Set(pairs.to_vec());
        assert_eq!(change(&mut sim, "b", what), Ok(Changed::Done));
    }
    assert_eq!(change(&mut sim, "c", set("k", "v")), Ok(Changed::Done));
    // Two at once delete nothing twice.
    let [one, two] =
        [(); 2].map(|()| send(&mut sim, operator(TENANT), "b", WhatChanges::Clear(None)));
    sim.step();
    let last = Some(all[KEYVALUE_KEYS_MAX - 1].0.clone());
    assert_eq!(
        come(one),
        Ok(Changed::Cleared(KEYVALUE_KEYS_MAX as u64, last.clone()))
    );
    assert_eq!(come(two), Ok(Changed::Cleared(0, last.clone())));
    let rest = change(&mut sim, "b", WhatChanges::Clear(last));
    assert_eq!(rest, Ok(Changed::Cleared(5, None)));
    let names: Vec<String> = buckets(&sim, TENANT)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["c"]);
}

#[test]
fn answers_wait_for_the_disk() {
    let disk = Disk::new();
    let mut sim = Sim::on(disk.clone());
    assert_eq!(change(&mut sim, "b", set("k", "1")), Ok(Changed::Done));
    sim.crash(Crash::Power);
    assert_eq!(get(&sim, "b", "k"), Some("1".into()));
    disk.fail_sync();
    let mut answer = send(&mut sim, operator(TENANT), "b", set("k", "2"));
    assert!(sim.try_step().is_err());
    assert!(answer.try_recv().is_err(), "nobody is told that it is done");
}

#[test]
fn little_space_refuses_values_and_lets_them_go() {
    let disk = Disk::new();
    let mut sim = Sim::on(disk.clone());
    assert_eq!(change(&mut sim, "b", set("k", "1")), Ok(Changed::Done));
    disk.set_free_bytes(1_000);
    sim.advance(Duration::from_secs(1));
    let full = Err(Refused::DiskFull {
        free: 1_000,
        floor: sim.config.free_bytes_floor,
    });
    assert_eq!(change(&mut sim, "b", set("k", "2")), full);
    assert_eq!(change(&mut sim, "b", increment("n", 2)), full);
    assert_eq!(change(&mut sim, "b", delete("k")), Ok(Changed::Done));
}
