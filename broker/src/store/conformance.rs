//! The contract of [`Store`], as checks that every backend passes. Tests call [`run`]; it panics at the first promise
//! that is not kept.

use std::collections::BTreeMap;

use super::memory::{self, Crash};
use super::{
    Batch, Bytes, Committed, Direction, Error, KEY_BYTES_MAX, Key, Level, Read, Space, Store,
    VALUE_BYTES_MAX,
};

/// Where a store can be opened, closed and opened again.
pub trait Place {
    /// Opens the store that is here, or creates it.
    ///
    /// # Errors
    /// Those of the backend.
    fn open(&self) -> Result<Box<dyn Store>, Error>;

    /// Leaves here what the end of a process or of its machine leaves. The store that was open has been dropped.
    fn crash(&self, crash: Crash);
}

impl Place for memory::Disk {
    fn open(&self) -> Result<Box<dyn Store>, Error> {
        Ok(Box::new(Self::open(self)?))
    }

    fn crash(&self, crash: Crash) {
        Self::crash(self, crash);
    }
}

/// Runs every check, each on an empty place of its own.
pub fn run<P: Place>(fresh: impl Fn() -> P) {
    for check in [
        empty_store_holds_nothing,
        values_are_returned_in_order_of_keys,
        spaces_are_apart,
        scan_is_ordered_and_stays_within_prefix,
        scan_begins_at_from_and_ends_at_limit,
        scan_descends,
        last_operation_on_a_key_counts,
        overwritten_and_deleted_rows_are_gone,
        refused_batch_applies_nothing,
        limits_are_those_that_are_told,
        readers_see_commits,
        big_values_are_kept,
        reopening_keeps_everything,
        generation_rises,
        second_opening_is_refused,
        closed_store_reads_nothing,
        sequence_counts_commits,
        syncer_makes_commits_durable,
        crash_leaves_what_came_before_it,
        agrees_with_a_map,
    ] {
        check(&fresh());
    }
}

fn key(bytes: &str) -> Key {
    Key::new(Space::Calls, bytes.as_bytes())
}

fn open(place: &dyn Place) -> Box<dyn Store> {
    place.open().expect("a place opens")
}

#[track_caller]
fn commit(store: &mut dyn Store, level: Level, fill: impl FnOnce(&mut Batch)) -> u64 {
    let mut batch = Batch::new();
    fill(&mut batch);
    match store.commit(batch, level) {
        Ok(Committed::Yes(seq)) => seq,
        other => panic!("commit ended as {other:?}"),
    }
}

#[track_caller]
fn put(store: &mut dyn Store, pairs: &[(&str, &str)]) {
    commit(store, Level::Disk, |batch| {
        for (name, value) in pairs {
            batch.put(key(name), value.as_bytes().to_vec());
        }
    });
}

#[track_caller]
fn scan(
    store: &dyn Read,
    prefix: &str,
    from: &str,
    direction: Direction,
    limit: usize,
) -> Vec<String> {
    let pairs = store
        .scan(
            Space::Calls,
            prefix.as_bytes(),
            from.as_bytes(),
            direction,
            limit,
        )
        .expect("a scan succeeds");
    pairs
        .into_iter()
        .map(|pair| String::from_utf8_lossy(&pair.key).into_owned())
        .collect()
}

#[track_caller]
fn get(store: &dyn Read, name: &str) -> Option<Bytes> {
    store.get(&key(name)).expect("a read succeeds")
}

fn empty_store_holds_nothing(place: &dyn Place) {
    let store = open(place);
    assert!(store.was_clean(), "a new store is clean");
    for space in Space::ALL {
        assert_eq!(
            store
                .scan(space, b"", b"", Direction::Ascending, 10)
                .expect("a scan succeeds"),
            []
        );
    }
    assert_eq!(get(store.as_ref(), "a"), None);
    assert_eq!(store.get_many(&[]).expect("a read succeeds"), []);
}

fn values_are_returned_in_order_of_keys(place: &dyn Place) {
    let mut store = open(place);
    put(store.as_mut(), &[("a", "1"), ("b", "2")]);
    let values = store
        .get_many(&[key("b"), key("none"), key("a"), key("b")])
        .expect("a read succeeds");
    assert_eq!(
        values,
        [
            Some(Bytes::from("2")),
            None,
            Some(Bytes::from("1")),
            Some(Bytes::from("2"))
        ]
    );
}

fn spaces_are_apart(place: &dyn Place) {
    let mut store = open(place);
    commit(store.as_mut(), Level::Process, |batch| {
        for space in Space::ALL {
            batch.put(Key::new(space, b"k"), space.name());
        }
    });
    for space in Space::ALL {
        assert_eq!(
            store.get(&Key::new(space, b"k")).expect("a read succeeds"),
            Some(Bytes::from(space.name()))
        );
    }
}

fn scan_is_ordered_and_stays_within_prefix(place: &dyn Place) {
    let mut store = open(place);
    put(
        store.as_mut(),
        &[
            ("b", ""),
            ("ab", ""),
            ("a", ""),
            ("aa\u{0}", ""),
            ("aa", ""),
            ("c", ""),
        ],
    );
    assert_eq!(
        scan(store.as_ref(), "a", "", Direction::Ascending, 10),
        ["a", "aa", "aa\u{0}", "ab"]
    );
    assert_eq!(
        scan(store.as_ref(), "", "", Direction::Ascending, 10),
        ["a", "aa", "aa\u{0}", "ab", "b", "c"]
    );
    assert_eq!(
        scan(store.as_ref(), "aaa", "", Direction::Ascending, 10),
        [""; 0]
    );
    commit(store.as_mut(), Level::Process, |batch| {
        batch.put(Key::new(Space::Index, [0xff, 0xff]), "end");
        batch.put(Key::new(Space::Index, [0xff]), "before");
        batch.put(Key::new(Space::Index, [0xfe]), "outside");
    });
    let pairs = store
        .scan(Space::Index, &[0xff], b"", Direction::Ascending, 10)
        .expect("a scan succeeds");
    assert_eq!(
        pairs.iter().map(|pair| &pair.value[..]).collect::<Vec<_>>(),
        [&b"before"[..], b"end"]
    );
}

fn scan_begins_at_from_and_ends_at_limit(place: &dyn Place) {
    let mut store = open(place);
    put(
        store.as_mut(),
        &[("a1", ""), ("a2", ""), ("a4", ""), ("b1", "")],
    );
    assert_eq!(
        scan(store.as_ref(), "a", "a2", Direction::Ascending, 10),
        ["a2", "a4"]
    );
    assert_eq!(
        scan(store.as_ref(), "a", "a3", Direction::Ascending, 10),
        ["a4"]
    );
    assert_eq!(
        scan(store.as_ref(), "a", "a", Direction::Ascending, 2),
        ["a1", "a2"]
    );
    assert_eq!(
        scan(store.as_ref(), "b", "a2", Direction::Ascending, 10),
        ["b1"]
    );
    assert_eq!(
        scan(store.as_ref(), "a", "b1", Direction::Ascending, 10),
        [""; 0]
    );
    assert_eq!(
        scan(store.as_ref(), "a", "", Direction::Ascending, 0),
        [""; 0]
    );
}

fn scan_descends(place: &dyn Place) {
    let mut store = open(place);
    put(
        store.as_mut(),
        &[("a1", ""), ("a2", ""), ("a4", ""), ("b1", "")],
    );
    assert_eq!(
        scan(store.as_ref(), "a", "", Direction::Descending, 10),
        ["a4", "a2", "a1"]
    );
    assert_eq!(
        scan(store.as_ref(), "a", "a2", Direction::Descending, 10),
        ["a2", "a1"]
    );
    assert_eq!(
        scan(store.as_ref(), "a", "a3", Direction::Descending, 1),
        ["a2"]
    );
    assert_eq!(
        scan(store.as_ref(), "a", "b1", Direction::Descending, 1),
        ["a4"]
    );
    assert_eq!(
        scan(store.as_ref(), "b", "a4", Direction::Descending, 10),
        [""; 0]
    );
    assert_eq!(
        scan(store.as_ref(), "", "", Direction::Descending, 2),
        ["b1", "a4"]
    );
}

fn last_operation_on_a_key_counts(place: &dyn Place) {
    {
        let mut store = open(place);
        put(store.as_mut(), &[("gone", "old")]);
        commit(store.as_mut(), Level::Disk, |batch| {
            batch.put(key("twice"), "first");
            batch.put(key("twice"), "second");
            batch.put(key("gone"), "again");
            batch.delete(key("gone"));
            batch.delete(key("back"));
            batch.put(key("back"), "here");
        });
        for _ in 0..2 {
            assert_eq!(get(store.as_ref(), "twice"), Some(Bytes::from("second")));
            assert_eq!(get(store.as_ref(), "gone"), None);
            assert_eq!(get(store.as_ref(), "back"), Some(Bytes::from("here")));
        }
    }
    // The same after recovery, which replays the batch.
    let store = open(place);
    assert_eq!(get(store.as_ref(), "twice"), Some(Bytes::from("second")));
    assert_eq!(
        scan(store.as_ref(), "", "", Direction::Ascending, 10),
        ["back", "twice"]
    );
}

fn overwritten_and_deleted_rows_are_gone(place: &dyn Place) {
    let mut store = open(place);
    put(store.as_mut(), &[("a", "1"), ("b", "1")]);
    commit(store.as_mut(), Level::Process, |batch| {
        batch.put(key("a"), "2");
        batch.delete(key("b"));
        batch.delete(key("never"));
    });
    assert_eq!(get(store.as_ref(), "a"), Some(Bytes::from("2")));
    assert_eq!(
        scan(store.as_ref(), "", "", Direction::Ascending, 10),
        ["a"]
    );
}

fn refused_batch_applies_nothing(place: &dyn Place) {
    let mut store = open(place);
    let before = store.seq();
    let mut batch = Batch::new();
    batch.put(key("good"), "1");
    batch.put(key(""), "bad");
    assert!(matches!(
        store.commit(batch, Level::Disk),
        Err(Error::KeyLength { len: 0 })
    ));
    assert_eq!(get(store.as_ref(), "good"), None);
    assert_eq!(store.seq(), before);
    put(store.as_mut(), &[("good", "2")]);
}

fn limits_are_those_that_are_told(place: &dyn Place) {
    let mut store = open(place);
    let longest = Key::new(Space::Meta, vec![b'k'; KEY_BYTES_MAX]);
    commit(store.as_mut(), Level::Process, |batch| {
        batch.put(longest.clone(), "kept")
    });
    assert_eq!(
        store.get(&longest).expect("a read succeeds"),
        Some(Bytes::from("kept"))
    );
    let mut batch = Batch::new();
    batch.put(Key::new(Space::Meta, vec![b'k'; KEY_BYTES_MAX + 1]), "");
    assert!(matches!(
        store.commit(batch, Level::Process),
        Err(Error::KeyLength { .. })
    ));
    let mut batch = Batch::new();
    batch.put(key("large"), vec![0; VALUE_BYTES_MAX + 1]);
    assert!(matches!(
        store.commit(batch, Level::Process),
        Err(Error::ValueTooLarge { .. })
    ));
    assert!(store.free_bytes().expect("the file system answers") > 0);
}

fn readers_see_commits(place: &dyn Place) {
    let mut store = open(place);
    let reader = store.reader();
    assert_eq!(get(reader.as_ref(), "a"), None);
    commit(store.as_mut(), Level::Process, |batch| {
        batch.put(key("a"), "1")
    });
    let seen = std::thread::spawn(move || {
        (
            get(reader.as_ref(), "a"),
            scan(reader.as_ref(), "", "", Direction::Ascending, 10),
        )
    });
    let (value, keys) = seen.join().expect("a reader does not panic");
    assert_eq!(value, Some(Bytes::from("1")));
    assert_eq!(keys, ["a"]);
}

fn big_values_are_kept(place: &dyn Place) {
    let value = Bytes::from(
        (0..1 << 20)
            .map(|n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
            .collect::<Vec<_>>(),
    );
    {
        let mut store = open(place);
        commit(store.as_mut(), Level::Disk, |batch| {
            for name in ["big 1", "big 2", "big 3"] {
                batch.put(key(name), value.clone());
            }
            batch.put(key("empty"), "");
        });
        assert_eq!(get(store.as_ref(), "big 2"), Some(value.clone()));
    }
    let store = open(place);
    assert_eq!(get(store.as_ref(), "big 3"), Some(value));
    assert_eq!(get(store.as_ref(), "empty"), Some(Bytes::new()));
}

fn reopening_keeps_everything(place: &dyn Place) {
    let mut store = open(place);
    let id = store.store_id();
    put(store.as_mut(), &[("a", "1"), ("b", "1")]);
    store.close().expect("a store closes");

    let mut store = open(place);
    assert!(store.was_clean(), "it was closed");
    assert_eq!(store.store_id(), id);
    commit(store.as_mut(), Level::Process, |batch| {
        batch.put(key("c"), "1");
        batch.delete(key("a"));
    });
    let seq = store.seq();
    drop(store);

    let store = open(place);
    assert!(!store.was_clean(), "it was dropped without being closed");
    assert_eq!(store.store_id(), id);
    assert_eq!(
        (store.recovered_seq(), store.seq()),
        (seq, seq + 1),
        "the sequence goes on"
    );
    assert_eq!(
        scan(store.as_ref(), "", "", Direction::Ascending, 10),
        ["b", "c"]
    );
}

fn generation_rises(place: &dyn Place) {
    let mut last = 0;
    for round in 0..4 {
        let store = open(place);
        assert!(
            store.generation() > last,
            "generation {} after {last}",
            store.generation()
        );
        assert!(
            store.durable_seq() > 0,
            "the generation is on disk before anything is done with it"
        );
        last = store.generation();
        if round % 2 == 0 {
            store.close().expect("a store closes");
        }
    }
}

fn second_opening_is_refused(place: &dyn Place) {
    let store = open(place);
    assert!(matches!(place.open().err(), Some(Error::Locked { .. })));
    store.close().expect("a store closes");
    drop(open(place));
}

fn closed_store_reads_nothing(place: &dyn Place) {
    let mut store = open(place);
    put(store.as_mut(), &[("a", "1")]);
    let reader = store.reader();
    store.close().expect("a store closes");
    assert!(matches!(reader.get(&key("a")), Err(Error::Closed)));
    assert!(matches!(
        reader.scan(Space::Calls, b"", b"", Direction::Ascending, 1),
        Err(Error::Closed)
    ));
    // A reader that is left does not keep the next opening out, however the store went.
    let store = open(place);
    let reader = store.reader();
    drop(store);
    assert!(matches!(reader.get(&key("a")), Err(Error::Closed)));
    let store = open(place);
    assert_eq!(get(store.as_ref(), "a"), Some(Bytes::from("1")));
}

fn sequence_counts_commits(place: &dyn Place) {
    let mut store = open(place);
    let first = store.seq();
    assert_eq!(store.durable_seq(), first);
    let seq = commit(store.as_mut(), Level::Process, |batch| {
        batch.put(key("a"), "1")
    });
    assert_eq!(
        (seq, store.seq(), store.durable_seq()),
        (first + 1, first + 1, first)
    );
    let seq = commit(store.as_mut(), Level::Disk, |_| {});
    assert_eq!(
        (seq, store.seq(), store.durable_seq()),
        (first + 2, first + 2, first + 2)
    );
}

/// Many small random batches, each followed by random reads, against a map. The numbers are the same in every run.
fn syncer_makes_commits_durable(place: &dyn Place) {
    let mut store = open(place);
    let mut syncer = store.syncer();
    let before = store.durable_seq();
    let seq = commit(store.as_mut(), Level::Process, |batch| {
        batch.put(key("a"), b"1".to_vec())
    });
    assert_eq!(
        store.durable_seq(),
        before,
        "a commit at the lower level is not durable yet"
    );
    for _ in 0..2 {
        assert_eq!(syncer.sync().expect("a sync succeeds"), seq);
        assert_eq!(store.durable_seq(), seq);
    }
    store.close().expect("a store closes");
    assert!(
        matches!(syncer.sync(), Err(Error::Closed)),
        "a closed store is not synced"
    );
}

fn crash_leaves_what_came_before_it(place: &dyn Place) {
    for (crash, kept) in [
        (Crash::Process, 4),
        (Crash::Power, 2),
        (Crash::PowerAfter(1), 3),
    ] {
        let mut store = open(place);
        let seq = store.seq();
        for (name, level) in [
            ("a", Level::Process),
            ("b", Level::Disk),
            ("c", Level::Process),
            ("d", Level::Process),
        ] {
            commit(store.as_mut(), level, |batch| batch.put(key(name), ""));
        }
        drop(store);
        place.crash(crash);

        let mut store = open(place);
        assert!(!store.was_clean(), "it was dropped without being closed");
        let found = scan(store.as_ref(), "", "", Direction::Ascending, 10);
        assert!(found.len() >= kept, "{crash:?} has taken what it may not");
        assert_eq!(
            found,
            ["a", "b", "c", "d"][..found.len()],
            "none outlives one before it"
        );
        assert_eq!(store.recovered_seq(), seq + found.len() as u64);
        commit(store.as_mut(), Level::Disk, |batch| {
            for name in found {
                batch.delete(key(&name));
            }
        });
        store.close().expect("a store closes");
    }
}

fn agrees_with_a_map(place: &dyn Place) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut model = BTreeMap::<Vec<u8>, Vec<u8>>::new();
    let mut store = open(place);
    for round in 0..600_u64 {
        commit(
            store.as_mut(),
            if round % 7 == 0 {
                Level::Disk
            } else {
                Level::Process
            },
            |batch| {
                for _ in 0..random(6) {
                    let name = format!("{:03}", random(300)).into_bytes();
                    if random(3) == 0 {
                        batch.delete(Key::new(Space::Index, name.clone()));
                        model.remove(&name);
                    } else {
                        let value = random(1 << 32).to_be_bytes().to_vec();
                        batch.put(Key::new(Space::Index, name.clone()), value.clone());
                        model.insert(name, value);
                    }
                }
            },
        );
        let prefix = format!("{:03}", random(300)).into_bytes()[..random(3) as usize].to_vec();
        let from = format!("{:03}", random(300)).into_bytes()[..random(4) as usize].to_vec();
        let limit = random(20) as usize;
        let within = |key: &&Vec<u8>| key.starts_with(&prefix);
        for direction in [Direction::Ascending, Direction::Descending] {
            let expected: Vec<_> = match direction {
                Direction::Ascending => model
                    .keys()
                    .filter(within)
                    .filter(|key| **key >= from)
                    .take(limit)
                    .collect(),
                Direction::Descending => model
                    .keys()
                    .rev()
                    .filter(within)
                    .filter(|key| from.is_empty() || **key <= from)
                    .take(limit)
                    .collect(),
            };
            let found = store
                .scan(Space::Index, &prefix, &from, direction, limit)
                .expect("a scan succeeds");
            assert_eq!(
                found
                    .iter()
                    .map(|pair| pair.key.to_vec())
                    .collect::<Vec<_>>(),
                expected.into_iter().cloned().collect::<Vec<_>>()
            );
            assert!(
                found
                    .iter()
                    .all(|pair| model[&pair.key.to_vec()] == pair.value[..])
            );
        }
        if round % 151 == 150 {
            drop(store);
            store = open(place);
        }
    }
}

/// Makes a store on disk look as if a newer tq had written it: for the tests of what happens then.
///
/// # Errors
/// Those of opening it.
pub fn change_format(dir: &std::path::Path, format: u32) -> Result<(), Error> {
    super::fjall::change_format(dir, format)
}
