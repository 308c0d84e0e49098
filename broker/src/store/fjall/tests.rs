use std::time::Instant;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::memory::Crash;
use crate::store::{Check, Repair, check, conformance, journal::Scan, repair};

/// A directory whose neighbours are its own too: the second mark lies beside the store.
pub(crate) struct Directory(TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory"))
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn open(&self) -> Result<Fjall, Error> {
        open(&self.store(), &OpenOptions::default())
    }

    fn layout(&self) -> Layout {
        Layout::new(&self.store(), &OpenOptions::default()).expect("a layout")
    }

    fn scan(&self) -> Scan {
        journal::scan(&self.layout().tables).expect("the journals can be read")
    }

    fn check(&self) -> Check {
        check(&self.store(), &OpenOptions::default()).expect("the store can be looked at")
    }

    fn repair(&self) -> Repair {
        repair(&self.store(), &OpenOptions::default()).expect("the store can be repaired")
    }

    /// The only journal, and its bytes without the zeros at its end.
    fn journal(&self) -> (PathBuf, Vec<u8>) {
        let journals: Vec<_> = fs::read_dir(self.layout().tables)
            .expect("the tables")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
            .collect();
        let [path] = &journals[..] else {
            panic!("there should be one journal: {journals:?}")
        };
        let mut bytes = fs::read(path).expect("the journal");
        bytes.truncate(
            bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1),
        );
        (path.clone(), bytes)
    }
}

impl conformance::Place for Directory {
    fn open(&self) -> Result<Box<dyn Store>, Error> {
        Ok(Box::new(Self::open(self)?))
    }

    /// The system has what a process wrote. Of what was not synced a loss of power keeps some commits, and tears the next.
    fn crash(&self, crash: Crash) {
        let kept = match crash {
            Crash::Process => return,
            Crash::Power => 0,
            Crash::PowerAfter(commits) => commits,
        };
        let marks = self.layout().marks().expect("the marks can be read");
        let synced = marks.inner.expect("an open store has a mark").seq;
        let path = journal::newest(&self.layout().tables).expect("there is a journal");
        let mut bytes = fs::read(&path).expect("the journal");
        bytes.truncate(journal::end_of(&bytes, synced + kept) + 1);
        fs::write(&path, bytes).expect("a write");
    }
}

fn task(n: u64) -> Key {
    Key::new(Space::Calls, n.to_be_bytes())
}

#[track_caller]
fn put(store: &mut Fjall, n: u64, level: Level) -> u64 {
    let mut batch = Batch::new();
    batch.put(task(n), format!("task {n} with some bytes of its own"));
    match store.commit(batch, level) {
        Ok(Committed::Yes(seq)) => seq,
        other => panic!("commit ended as {other:?}"),
    }
}

/// How many of the tasks below `n` are there, each of them as it was written.
#[track_caller]
fn count(store: &dyn Read, n: u64) -> u64 {
    let keys: Vec<_> = (0..n).map(task).collect();
    let values = store.get_many(&keys).expect("a read succeeds");
    for (n, value) in values.iter().enumerate() {
        if let Some(value) = value {
            assert_eq!(
                value[..],
                *format!("task {n} with some bytes of its own").as_bytes()
            );
        }
    }
    values.iter().flatten().count() as u64
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a copy");
            if target
                .extension()
                .is_some_and(|extension| extension == "jnl")
            {
                shorten(&target);
            }
        }
    }
}

/// Leaves some of the zeros at a journal's end. A copy of all 64 MiB would be most of what these tests do.
fn shorten(journal: &Path) {
    let bytes = fs::read(journal).expect("the journal");
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let file = File::options()
        .write(true)
        .open(journal)
        .expect("the journal");
    file.set_len(bytes.len().min(used + 4096) as u64)
        .expect("cut");
}

/// What a killed process would leave: the files as they are now, while the store is open.
fn as_after_kill(directory: &Directory) -> Directory {
    let copied = Directory::new();
    copy(directory.0.path(), copied.0.path());
    copied
}

#[test]
fn keeps_the_contract() {
    conformance::run(Directory::new);
}

#[test]
fn commits_survive_a_kill() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    for n in 0..100 {
        put(
            &mut store,
            n,
            if n % 10 == 0 {
                Level::Disk
            } else {
                Level::Process
            },
        );
    }
    let killed = as_after_kill(&directory);
    let again = killed.open().expect("opens after a kill");
    assert_eq!(count(&again, 100), 100);
    assert!(!again.was_clean());
    assert_eq!(again.generation(), store.generation() + 1);
    assert_eq!(again.seq(), store.seq() + 1);
}

#[test]
fn mark_is_exact_after_a_kill() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    for n in 0..20 {
        let seq = put(&mut store, n, Level::Disk);
        let marks = directory.layout().marks().expect("the marks can be read");
        assert_eq!(marks.inner.map(|mark| mark.seq), Some(seq));
        assert_eq!(marks.beside.map(|mark| mark.seq), Some(seq));
        // What is not synced is not in the mark.
        put(&mut store, n, Level::Process);
        let marks = directory.layout().marks().expect("the marks can be read");
        assert_eq!(marks.inner.map(|mark| mark.seq), Some(seq));
    }
}

/// The synced slots of the mark follow within its interval, without any further commit.
#[test]
#[expect(clippy::disallowed_methods, reason = "the mark is kept on real time")]
fn mark_is_synced_while_the_store_idles() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    let seq = put(&mut store, 0, Level::Disk);
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let mut bytes = fs::read(directory.layout().mark).expect("the mark");
        bytes[..512].fill(0);
        fs::write(directory.0.path().join("synced"), &bytes).expect("a copy");
        let synced = Mark::read(&directory.0.path().join("synced")).expect("the mark can be read");
        if synced.is_some_and(|mark| mark.seq == seq) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the synced slots stay at {synced:?}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn torn_slot_of_a_mark_is_passed_over() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    let seq = put(&mut store, 0, Level::Disk);
    let older = fs::read(directory.layout().mark).expect("the mark");
    Box::new(store).close().expect("closes");
    let mut bytes = fs::read(directory.layout().mark).expect("the mark");
    let newest = Mark::read(&directory.layout().mark)
        .expect("the mark can be read")
        .expect("a mark");
    assert_eq!(newest.seq, seq + 1);
    // The slot that is not synced is torn: the synced ones say the same after an orderly end.
    bytes[40] ^= 1;
    fs::write(directory.layout().mark, &bytes).expect("a write");
    assert_eq!(
        Mark::read(&directory.layout().mark).expect("can be read"),
        Some(newest)
    );
    // No slot is whole.
    for slot in 0..3 {
        bytes[slot * 512 + 100] ^= 1;
    }
    bytes[40] ^= 1;
    fs::write(directory.layout().mark, &bytes).expect("a write");
    assert_eq!(
        Mark::read(&directory.layout().mark).expect("can be read"),
        None
    );
    // A file that ends within its first slot.
    fs::write(directory.layout().mark, &older[..300]).expect("a write");
    assert_eq!(
        Mark::read(&directory.layout().mark).expect("can be read"),
        None
    );
    // The other mark is enough, and the store is as it was.
    let store = directory.open().expect("opens");
    assert!(store.was_clean());
    assert_eq!(count(&store, 1), 1);
}

/// Writes `tasks` tasks, copies what `part` names, writes as many again, and puts the copy back.
#[track_caller]
fn roll_back(part: impl Fn(&Directory) -> PathBuf, close: bool) -> (Directory, u64) {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    for n in 0..10 {
        put(&mut store, n, Level::Disk);
    }
    if close {
        Box::new(store).close().expect("closes");
    } else {
        drop(store);
    }
    let older = TempDir::new().expect("a temporary directory");
    copy(&part(&directory), &older.path().join("older"));
    let mut store = directory.open().expect("opens");
    for n in 10..20 {
        put(&mut store, n, Level::Disk);
    }
    let seq = store.seq();
    Box::new(store).close().expect("closes");
    fs::remove_dir_all(part(&directory)).expect("removed");
    copy(&older.path().join("older"), &part(&directory));
    (directory, seq)
}

#[track_caller]
fn refused_as_rolled_back(directory: &Directory, seq: u64) {
    match directory.open().err() {
        Some(Error::RolledBack {
            recovered,
            expected,
            ..
        }) => {
            assert_eq!(expected, seq + 1, "the closing commit was the last");
            assert!(recovered < seq);
        }
        other => panic!("an older copy was not refused: {other:?}"),
    }
}

#[test]
fn older_copy_of_the_tables_is_refused() {
    for close in [false, true] {
        let (directory, seq) = roll_back(|directory| directory.layout().tables, close);
        refused_as_rolled_back(&directory, seq);
        refused_as_rolled_back(&directory, seq);
    }
}

#[test]
fn older_copy_of_the_whole_directory_is_refused() {
    for close in [false, true] {
        let (directory, seq) = roll_back(Directory::store, close);
        refused_as_rolled_back(&directory, seq);
    }
}

#[test]
fn older_copy_is_accepted_by_a_repair() {
    let (directory, seq) = roll_back(Directory::store, true);
    let found = directory.check();
    assert_eq!(found.problems.len(), 1, "{found:?}");
    assert!(found.problems[0].is_repairable);
    assert_eq!(found.marked, Some(seq + 1));

    let repair = directory.repair();
    assert_eq!(repair.expected, seq + 1);
    assert_eq!(repair.lost, Some((repair.recovered + 1, seq + 1)));
    assert!(
        repair.resumed > seq + 1,
        "no sequence is used for a second time"
    );

    let mut store = directory.open().expect("opens after the repair");
    assert_eq!(count(&store, 20), 10);
    assert!(!store.was_clean(), "whoever ran tasks must be asked");
    assert!(store.seq() > repair.resumed);
    put(&mut store, 10, Level::Disk);
    drop(store);
    let store = directory.open().expect("opens again");
    assert_eq!(count(&store, 20), 11);
    Box::new(store).close().expect("closes");
    assert_eq!(directory.check().problems, []);
}

#[test]
fn removed_tables_are_refused() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    put(&mut store, 0, Level::Disk);
    drop(store);
    fs::remove_dir_all(directory.layout().tables).expect("removed");
    assert!(matches!(
        directory.open().err(),
        Some(Error::RolledBack { recovered: 0, .. })
    ));
}

#[test]
fn store_without_a_mark_opens() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    put(&mut store, 0, Level::Disk);
    drop(store);
    fs::remove_file(directory.layout().mark).expect("removed");
    fs::remove_file(directory.layout().mark_beside).expect("removed");
    let store = directory.open().expect("opens");
    assert_eq!(count(&store, 1), 1);
}

#[test]
fn mark_of_another_store_is_replaced_beside_a_new_one() {
    let directory = Directory::new();
    let store = directory.open().expect("opens");
    let first = store.store_id();
    drop(store);
    fs::remove_dir_all(directory.store()).expect("removed");
    let store = directory.open().expect("a new store is created");
    assert_ne!(store.store_id(), first);
    let marks = directory.layout().marks().expect("the marks can be read");
    assert_eq!(
        marks.beside.map(|mark| mark.store_id),
        Some(store.store_id())
    );
}

#[test]
fn tables_of_another_store_are_refused() {
    let (ours, theirs) = (Directory::new(), Directory::new());
    drop(ours.open().expect("opens"));
    drop(theirs.open().expect("opens"));
    fs::remove_dir_all(ours.layout().tables).expect("removed");
    copy(&theirs.layout().tables, &ours.layout().tables);
    assert!(matches!(ours.open().err(), Some(Error::Mixed { .. })));
    assert_eq!(ours.repair().lost, None);
    drop(ours.open().expect("opens after the repair"));
}

#[test]
fn other_formats_are_refused_with_both_numbers() {
    for (found, age) in [(FORMAT + 6, "newer"), (FORMAT - 1, "older")] {
        let directory = Directory::new();
        drop(directory.open().expect("opens"));
        conformance::change_format(&directory.store(), found).expect("the format can be changed");
        let error = directory.open().err().expect("another format is refused");
        assert!(matches!(error, Error::OtherFormat { .. }), "{error}");
        for part in [age, &found.to_string(), &FORMAT.to_string()] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[test]
fn syncer_goes_on_with_the_next_journal() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    let mut syncer = store.journal_syncer();
    let opened = |syncer: &JournalSyncer| {
        let (path, _) = syncer.newest.as_ref().expect("it has synced");
        path.clone()
    };
    put(&mut store, 0, Level::Process);
    assert!(store.durable_seq() < store.seq());
    syncer.sync().expect("syncs");
    assert_eq!(store.durable_seq(), store.seq());
    let first = opened(&syncer);
    let newest = || journal::newest(&directory.layout().tables).expect("there is a journal");
    // A keyspace that is full is flushed, and a new journal begun. When there are too many, the oldest are removed:
    // also the one that came after the last sync.
    let second = first.with_file_name("1.jnl");
    for has_come in [&(|| newest() != first) as &dyn Fn() -> bool, &|| {
        newest() != second && !second.try_exists().expect("the disk answers")
    }] {
        let mut batches = 0_u16;
        while !has_come() {
            let mut batch = Batch::new();
            let at = Key::new(Space::Calls, batches.to_be_bytes());
            batch.put(at, vec![0; 1 << 20]);
            assert!(matches!(
                store.commit(batch, Level::Process),
                Ok(Committed::Yes(_))
            ));
            batches += 1;
        }
        // The store may begin another one by itself meanwhile.
        let before = newest();
        assert_eq!(syncer.sync().expect("syncs"), store.seq());
        assert_eq!(store.durable_seq(), store.seq());
        assert!([before, newest()].contains(&opened(&syncer)));
    }
    Box::new(store).close().expect("closes");
    assert!(matches!(syncer.sync(), Err(Error::Closed)));
}

#[test]
fn half_created_store_is_created_again() {
    let directory = Directory::new();
    let fresh = directory.store().join("tables.new");
    fs::create_dir_all(&fresh).expect("a directory");
    fs::write(fresh.join("0.jnl"), b"what a crash left").expect("a write");
    let mut store = directory.open().expect("opens");
    put(&mut store, 0, Level::Disk);
}

#[test]
fn check_of_a_good_store_counts_its_rows() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    for n in 0..7 {
        put(&mut store, n, Level::Disk);
    }
    assert!(matches!(
        check(&directory.store(), &OpenOptions::default()),
        Err(Error::Locked { .. })
    ));
    let seq = store.seq();
    Box::new(store).close().expect("closes");
    let found = directory.check();
    assert_eq!(found.problems, []);
    assert!(found.is_clean);
    assert_eq!((found.seq, found.marked), (seq + 1, Some(seq + 1)));
    let tasks = found
        .spaces
        .iter()
        .find(|(space, _, _)| *space == Space::Calls);
    assert_eq!(tasks.map(|(_, pairs, _)| *pairs), Some(7));
    assert!(matches!(
        check(&directory.0.path().join("nowhere"), &OpenOptions::default()),
        Err(Error::Missing { .. })
    ));
}

/// A store that was killed after each of its commits was synced, and what its journal holds.
fn killed_with(commits: u64) -> (Directory, PathBuf, Vec<u8>) {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    for n in 0..commits {
        put(&mut store, n, Level::Disk);
    }
    let killed = as_after_kill(&directory);
    let (path, bytes) = killed.journal();
    (killed, path, bytes)
}

/// The promise of the whole arrangement: whichever bit of the journal flips, the store either refuses or has every row.
#[test]
fn flipped_bit_in_the_journal_never_loses_rows_in_silence() {
    const COMMITS: u64 = 12;
    let (killed, path, bytes) = killed_with(COMMITS);
    let mut refused = 0;
    for offset in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[offset] ^= 1 << (offset % 8);
        // Only the journal is damaged: the rest is as it was left.
        let trial = as_after_kill(&killed);
        let journal = trial
            .layout()
            .tables
            .join(path.file_name().expect("a name"));
        let file = File::options()
            .write(true)
            .open(&journal)
            .expect("the journal");
        std::os::unix::fs::FileExt::write_all_at(&file, &damaged, 0).expect("a write");
        let before = fs::read(&journal).expect("the journal");
        match trial.open() {
            Ok(store) => assert_eq!(
                count(&store, COMMITS),
                COMMITS,
                "rows are missing after a flip at byte {offset}"
            ),
            Err(error) => {
                assert!(
                    matches!(error, Error::Damaged { .. }),
                    "byte {offset}: {error:?}"
                );
                assert_eq!(
                    fs::read(&journal).expect("the journal"),
                    before,
                    "a refusal changes nothing"
                );
                refused += 1;
            }
        }
    }
    assert!(
        refused > bytes.len() / 7 / 2,
        "only {refused} flips were noticed"
    );
}

#[test]
fn damage_in_the_middle_is_cut_off_by_a_repair() {
    let (killed, path, mut bytes) = killed_with(20);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&path, &bytes).expect("a write");
    let error = killed.open().err().expect("damage is refused");
    let Error::Damaged {
        recovered,
        expected,
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    let found = killed.check();
    assert!(
        found.problems.iter().any(|problem| problem.is_repairable),
        "{found:?}"
    );

    let repair = killed.repair();
    assert_eq!((repair.recovered, repair.expected), (recovered, expected));
    assert_eq!(repair.lost, Some((recovered + 1, expected)));
    let kept = fs::read(&repair.kept[0]).expect("what was cut off is kept");
    assert!(bytes.ends_with(&kept) && !kept.is_empty());
    let store = killed.open().expect("opens after the repair");
    let left = count(&store, 20);
    assert!(left > 5 && left < 15, "{left} of 20 are left");
}

/// Commits that were never synced may be torn by a loss of power. Nobody was told of them, so that they are cut off
/// without ado; those before them are all there.
#[test]
fn torn_end_that_was_never_synced_is_cut_off() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    for n in 0..10 {
        put(&mut store, n, Level::Disk);
    }
    let (path, synced) = directory.journal();
    for n in 10..13 {
        put(&mut store, n, Level::Process);
    }
    let (_, all) = directory.journal();
    // Pages reach the disk in any order: what follows a hole may be whole.
    for hole in [
        synced.len() + 20..synced.len() + 60,
        synced.len()..synced.len() + 5,
        all.len() - 3..all.len(),
    ] {
        let lost_power = as_after_kill(&directory);
        let mut torn = all.clone();
        torn[hole.clone()].fill(0);
        let journal = lost_power
            .layout()
            .tables
            .join(path.file_name().expect("a name"));
        let file = File::options()
            .write(true)
            .open(&journal)
            .expect("the journal");
        std::os::unix::fs::FileExt::write_all_at(&file, &torn, 0).expect("a write");
        let mut store = lost_power
            .open()
            .unwrap_or_else(|error| panic!("{hole:?}: {error}"));
        assert_eq!(count(&store, 10), 10);
        assert!(count(&store, 13) < 13);
        put(&mut store, 20, Level::Disk);
        drop(store);
        let store = lost_power.open().expect("opens again");
        assert_eq!(count(&store, 21), count(&store, 13) + 1);
    }
}

/// The mark alone shows the loss when the journal ends cleanly, but too early.
#[test]
fn journal_that_ends_early_is_refused() {
    let (killed, path, bytes) = killed_with(10);
    // The last commit's end is its batch's start plus its length: cut there, nothing looks torn.
    let last = bytes
        .windows(9)
        .rposition(|window| window == ROW_KEY)
        .expect("a commit")
        - 34;
    let file = File::options()
        .write(true)
        .open(&path)
        .expect("the journal");
    file.set_len(last as u64).expect("cut");
    assert!(killed.scan().damage.is_none(), "the journal looks whole");
    assert!(matches!(
        killed.open().err(),
        Some(Error::RolledBack { .. })
    ));
}

#[test]
fn failed_write_stops_the_store_for_good() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    put(&mut store, 0, Level::Disk);
    store.check().expect("nothing has failed");
    store
        .poison
        .set("the disk is gone".to_owned())
        .expect("nothing failed before");
    for _ in 0..2 {
        let refused = store.commit(Batch::new(), Level::Disk);
        assert!(
            matches!(&refused, Err(Error::Poisoned { cause }) if cause == "the disk is gone"),
            "{refused:?}"
        );
    }
    assert!(matches!(store.check(), Err(Error::Poisoned { .. })));
    assert_eq!(count(&store, 1), 1, "reads go on");
    assert!(matches!(
        Box::new(store).close(),
        Err(Error::Poisoned { .. })
    ));
    assert!(!directory.open().expect("opens").was_clean());
}

#[test]
fn journals_that_rotate_are_read_in_order() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    // More than one journal's worth, so that the engine begins another.
    for n in 0..100_u64 {
        let mut batch = Batch::new();
        let mut value = vec![0; 1 << 20];
        for (at, byte) in value.iter_mut().enumerate() {
            *byte = (at as u64).wrapping_mul(n + 1).to_le_bytes()[1];
        }
        batch.put(Key::new(Space::Payloads, n.to_be_bytes()), value);
        batch.put(task(n), format!("task {n} with some bytes of its own"));
        assert!(matches!(
            store.commit(batch, Level::Disk),
            Ok(Committed::Yes(_))
        ));
    }
    drop(store);
    let scan = directory.scan();
    assert!(scan.damage.is_none(), "{scan:?}");
    let store = directory.open().expect("opens");
    assert_eq!(count(&store, 100), 100);
    Box::new(store).close().expect("closes");
    assert_eq!(directory.check().problems, []);
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Whatever bit of the engine's own files flips: no row is missing or wrong without an error that says so.
#[test]
fn flipped_bit_in_the_tables_never_loses_rows_in_silence() {
    const TASKS: u64 = 2_000;
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    for n in 0..TASKS {
        put(&mut store, n, Level::Process);
    }
    Box::new(store).close().expect("closes");
    // Whatever is in the journal moves into tables, so that those must be read.
    let layout = directory.layout();
    let opened = open_tables(&layout, &directory.scan()).expect("opens");
    for keyspace in opened.engine.spaces.iter().chain([&opened.engine.commits]) {
        keyspace.rotate_memtable_and_wait().expect("flushed");
    }
    drop(opened);

    let mut files = Vec::new();
    files_below(&layout.tables.join("keyspaces"), &mut files);
    files.sort_unstable();
    let mut noticed = 0;
    let mut trials = 0;
    for file in &files {
        let len = fs::metadata(file).expect("a file").len();
        for part in 0..6_u64.min(len) {
            let trial = as_after_kill(&directory);
            let damaged = trial.layout().tables.join(
                file.strip_prefix(&layout.tables)
                    .expect("a file of the tables"),
            );
            let mut bytes = fs::read(&damaged).expect("a file");
            bytes[(part * (len - 1) / 5) as usize] ^= 4;
            fs::write(&damaged, bytes).expect("a write");
            trials += 1;
            let Ok(store) = trial.open() else {
                noticed += 1;
                continue;
            };
            let keys: Vec<_> = (0..TASKS).map(task).collect();
            let got = store.get_many(&keys);
            let scanned = store.scan(Space::Calls, b"", b"", Direction::Ascending, usize::MAX);
            noticed += u32::from(got.is_err() || scanned.is_err());
            let what = format!(
                "byte {} of {len} in {}",
                part * (len - 1) / 5,
                file.display()
            );
            if got.is_ok() {
                assert_eq!(count(&store, TASKS), TASKS, "{what}");
            }
            if let Ok(pairs) = scanned {
                assert_eq!(pairs.len() as u64, TASKS, "{what}");
            }
        }
    }
    assert!(
        noticed > trials / 4,
        "only {noticed} of {trials} flips were noticed"
    );
}

#[test]
fn missing_part_of_the_tables_is_refused() {
    let directory = Directory::new();
    let mut store = directory.open().expect("opens");
    put(&mut store, 0, Level::Disk);
    drop(store);
    let keyspaces = directory.layout().tables.join("keyspaces");
    for name in ["1", "2", "3", "4", "5"] {
        let trial = as_after_kill(&directory);
        let gone = trial.layout().tables.join("keyspaces").join(name);
        assert!(keyspaces.join(name).is_dir());
        fs::remove_dir_all(gone).expect("removed");
        let refused = trial.open().err();
        assert!(
            matches!(refused, Some(Error::Corrupt { .. })),
            "{name}: {refused:?}"
        );
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u8, Option<Vec<u8>>)>, bool),
    Reopen { close: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (
        0..40_u8,
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
    );
    let step = prop_oneof![
        8 => (proptest::collection::vec(write, 0..8), any::<bool>()).prop_map(|(writes, disk)| Step::Commit(writes, disk)),
        1 => any::<bool>().prop_map(|close| Step::Reopen { close }),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// fjall and memory answer alike, whatever is done to them.
    #[test]
    fn agrees_with_memory(steps in steps()) {
        let directory = Directory::new();
        let disk = crate::store::memory::Disk::new();
        let mut ours = directory.open().expect("opens");
        let mut model = disk.open().expect("opens");
        for step in steps {
            match step {
                Step::Commit(writes, disk) => {
                    let mut batch = Batch::new();
                    for (name, value) in writes {
                        let key = Key::new(Space::Meta, [b'k', name]);
                        match value {
                            Some(value) => batch.put(key, value),
                            None => batch.delete(key),
                        }
                    }
                    let level = if disk { Level::Disk } else { Level::Process };
                    let committed = ours.commit(batch.clone(), level).expect("commits");
                    prop_assert!(matches!(committed, Committed::Yes(_)));
                    prop_assert!(matches!(model.commit(batch, level), Ok(Committed::Yes(_))));
                }
                Step::Reopen { close } => {
                    if close {
                        Box::new(ours).close().expect("closes");
                        Box::new(model).close().expect("closes");
                    } else {
                        drop(ours);
                        drop(model);
                    }
                    ours = directory.open().expect("opens");
                    model = disk.open().expect("opens");
                    prop_assert_eq!(ours.was_clean(), close);
                    prop_assert_eq!(model.was_clean(), close);
                }
            }
            for (prefix, from, direction) in [
                (&b""[..], &b""[..], Direction::Ascending),
                (b"k", b"k\x05", Direction::Descending),
                (b"k\x07", b"", Direction::Ascending),
            ] {
                prop_assert_eq!(
                    ours.scan(Space::Meta, prefix, from, direction, 25).expect("scans"),
                    model.scan(Space::Meta, prefix, from, direction, 25).expect("scans")
                );
            }
            prop_assert_eq!(ours.generation(), model.generation());
        }
    }
}
