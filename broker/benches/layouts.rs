//! Compares layouts of a task's rows on bare fjall: what the decision in docs/adr/0001-call-and-state.md rests on.
//!
//! `cargo bench -p tq-broker --bench layouts -- [--layout NAME] [--scenario passed|backlog] [--tasks N] [--backlog N]
//! [--seconds N] [--dir DIR]`. Each layout runs in a process of its own, so that its memory is its own. Prints a table
//! to stdout and one line of JSON for each run.

#![expect(
    clippy::disallowed_methods,
    reason = "it measures how long things take"
)]

use std::{
    collections::VecDeque,
    error::Error,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice,
    UserKey, compaction::Leveled, config::CompressionPolicy,
};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

const ROW_BYTES: usize = 300;
const PAYLOAD_BYTES: usize = 100;
/// Of a row, what says who has the task.
const CLAIM_BYTES: usize = 60;
/// Of a row, what is known only when the task has ended.
const STATE_BYTES: usize = 120;
/// The part of a run whose rate is "fresh" at its beginning and "last" at its end, as a share of all tasks.
const WINDOW_SHARE: u64 = 10;
const MIB: u64 = 1024 * 1024;

/// How a task's life is laid out in rows and commits. All keep payload and result apart, written once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// A row each for the task, its being ready, its lease and its end, each deleted when it is over.
    RowPerState,
    /// One row under a random key (UUIDv4), overwritten in place.
    RandomKey,
    /// One row under a rising key (UUIDv7), overwritten in place; submit, claim and settlement commit apart.
    RisingKey,
    /// The same, but the submits, claims and settlements of one round share a commit, which also logs who was settled.
    SharedCommit,
    /// As `SharedCommit`, but what never changes (the call and its payload) is a row of its own, written once; the state
    /// is a small row beside it, written when the task is claimed and, with its result, when it is settled.
    SplitState,
    /// As `SplitState`, but claims have no rows: each commit logs them in one.
    LoggedClaims,
}

impl Layout {
    const ALL: [Self; 6] = [
        Self::RowPerState,
        Self::RandomKey,
        Self::RisingKey,
        Self::SharedCommit,
        Self::SplitState,
        Self::LoggedClaims,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::RowPerState => "row-per-state",
            Self::RandomKey => "random-key",
            Self::RisingKey => "rising-key",
            Self::SharedCommit => "shared-commit",
            Self::SplitState => "split-state",
            Self::LoggedClaims => "logged-claims",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// Tasks are settled as fast as they are submitted.
    Passed,
    /// The same while many others wait, so that what is claimed was long ago written and must be read.
    Backlog,
}

impl Scenario {
    const ALL: [Self; 2] = [Self::Passed, Self::Backlog];

    fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Backlog => "backlog",
        }
    }
}

#[derive(Clone)]
struct Options {
    layouts: Vec<Layout>,
    scenarios: Vec<Scenario>,
    tasks: u64,
    backlog: u64,
    batch: u64,
    seconds: Option<u64>,
    dir: PathBuf,
    // What the store of the broker is set to; see broker/src/store/fjall.rs.
    rows_mib: u64,
    payloads_mib: u64,
    index_mib: u64,
    tables_mib: u64,
    cache_mib: u64,
    journals_mib: u64,
    workers: usize,
    is_child: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self {
            layouts: Layout::ALL.to_vec(),
            scenarios: Scenario::ALL.to_vec(),
            tasks: 5_000_000,
            backlog: 2_000_000,
            batch: 100,
            seconds: None,
            dir: std::env::temp_dir().join(format!("tq-layouts-{}", std::process::id())),
            rows_mib: 6,
            payloads_mib: 4,
            index_mib: 4,
            tables_mib: 4,
            cache_mib: 8,
            journals_mib: 256,
            workers: 3,
            is_child: false,
        };
        let mut arguments = arguments.skip(1);
        while let Some(flag) = arguments.next() {
            // Cargo says that this is a benchmark; it is nothing else.
            if flag == "--bench" {
                continue;
            }
            if flag == "--child" {
                options.is_child = true;
                continue;
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("`{flag}` needs a value"))?;
            match flag.as_str() {
                "--layout" => {
                    let found = Layout::ALL
                        .into_iter()
                        .find(|layout| layout.name() == value);
                    options.layouts =
                        vec![found.ok_or_else(|| format!("there is no layout `{value}`"))?];
                }
                "--scenario" => {
                    let found = Scenario::ALL
                        .into_iter()
                        .find(|scenario| scenario.name() == value);
                    options.scenarios =
                        vec![found.ok_or_else(|| format!("there is no scenario `{value}`"))?];
                }
                "--tasks" => options.tasks = value.parse()?,
                "--backlog" => options.backlog = value.parse()?,
                "--batch" => options.batch = value.parse()?,
                "--seconds" => options.seconds = Some(value.parse()?),
                "--dir" => options.dir = value.into(),
                "--rows-mib" => options.rows_mib = value.parse()?,
                "--payloads-mib" => options.payloads_mib = value.parse()?,
                "--index-mib" => options.index_mib = value.parse()?,
                "--tables-mib" => options.tables_mib = value.parse()?,
                "--cache-mib" => options.cache_mib = value.parse()?,
                "--journals-mib" => options.journals_mib = value.parse()?,
                "--workers" => options.workers = value.parse()?,
                _ => return Err(format!("`{flag}` is not known").into()),
            }
        }
        if options.batch == 0 || options.tasks < WINDOW_SHARE * options.batch {
            return Err(format!("`--tasks` must be at least {} batches", WINDOW_SHARE).into());
        }
        Ok(options)
    }
}

fn main() -> Outcome<()> {
    let options = Options::parse(std::env::args())?;
    let mut out = std::io::stdout().lock();
    if options.is_child {
        let report = Run::new(&options, options.layouts[0])?.run(options.scenarios[0])?;
        writeln!(out, "{report}")?;
        return Ok(());
    }
    let mut reports = Vec::new();
    for scenario in &options.scenarios {
        for layout in &options.layouts {
            fs::create_dir_all(&options.dir)?;
            let mut child = Command::new(std::env::current_exe()?);
            // The later flag wins, so that the given ones need not be taken apart.
            child.args(std::env::args().skip(1)).args([
                "--child",
                "--layout",
                layout.name(),
                "--scenario",
                scenario.name(),
            ]);
            child.arg("--dir").arg(&options.dir);
            let output = child.stderr(std::process::Stdio::inherit()).output()?;
            fs::remove_dir_all(&options.dir)?;
            if !output.status.success() {
                return Err(format!("layout `{}` failed: {}", layout.name(), output.status).into());
            }
            let report: Value = serde_json::from_slice(&output.stdout)?;
            writeln!(out, "{report}")?;
            out.flush()?;
            reports.push(report);
        }
    }
    print_table(&mut out, &reports)
}

/// One row of the table: its heading, the field of the report, and how to write it.
type Column = (&'static str, &'static str, fn(f64) -> String);

fn print_table(out: &mut impl Write, reports: &[Value]) -> Outcome<()> {
    let whole = |value: f64| format!("{value:.0}");
    let tenth = |value: f64| format!("{value:.1}");
    let columns: [Column; 12] = [
        ("tasks", "tasks", whole),
        ("fresh/s", "fresh_per_second", whole),
        ("last/s", "last_per_second", whole),
        ("last/fresh %", "last_of_fresh_percent", whole),
        ("CPU µs", "last_cpu_us_per_task", tenth),
        ("written B", "last_written_bytes_per_task", whole),
        ("raw worst ms", "raw_sync_worst_ms", tenth),
        ("p50 ms", "commit_p50_ms", tenth),
        ("p99.9 ms", "commit_p999_ms", tenth),
        ("worst ms", "commit_worst_ms", tenth),
        ("disk MiB", "disk_mib", whole),
        ("RSS MiB", "rss_peak_mib", whole),
    ];
    write!(out, "\n{:<9}{:<15}", "scenario", "layout")?;
    for (heading, _, _) in &columns {
        write!(out, "{heading:>13}")?;
    }
    writeln!(out)?;
    for report in reports {
        let text = |field: &str| report[field].as_str().unwrap_or("?").to_owned();
        write!(out, "{:<9}{:<15}", text("scenario"), text("layout"))?;
        for (_, field, format) in &columns {
            write!(
                out,
                "{:>13}",
                report[*field]
                    .as_f64()
                    .map_or_else(|| "?".to_owned(), format)
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A task in the hands of the writer, which keeps what is in its window.
#[derive(Clone, Copy)]
struct Task {
    key: [u8; 16],
}

struct Run<'a> {
    options: &'a Options,
    layout: Layout,
    database: Database,
    commits: Keyspace,
    rows: Keyspace,
    ready: Keyspace,
    leases: Keyspace,
    done: Keyspace,
    settled: Keyspace,
    payloads: Keyspace,
    random: Random,
    submitted: u64,
    commit_seq: u64,
    /// Where the next claim begins to read in the order of submission. What lies before it is never read again.
    cursor: Vec<u8>,
    /// Random keys have no order to be scanned in, so that the order of the waiting tasks is kept here: in the favour of
    /// that layout, which would need a second row for it.
    waiting: VecDeque<Task>,
    commit_times: Vec<Duration>,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, layout: Layout) -> Outcome<Self> {
        let path = options.dir.join(layout.name());
        if path.try_exists()? {
            fs::remove_dir_all(&path)?;
        }
        let database = Database::builder(&path)
            .cache_size(options.cache_mib * MIB)
            .max_cached_files(Some(256))
            .manual_journal_persist(true)
            .journal_compression(CompressionType::None)
            .max_journaling_size(options.journals_mib * MIB)
            .worker_threads(options.workers)
            .open()?;
        let keyspace = |name: &str, mib: u64| {
            database.keyspace(name, || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(mib * MIB)
                    .compaction_strategy(Arc::new(
                        Leveled::default().with_table_target_size(options.tables_mib * MIB),
                    ))
                    .data_block_compression_policy(CompressionPolicy::new([
                        CompressionType::None,
                        CompressionType::Lz4,
                    ]))
            })
        };
        Ok(Self {
            options,
            layout,
            commits: keyspace("commits", 1)?,
            rows: keyspace("rows", options.rows_mib)?,
            ready: keyspace("ready", options.index_mib)?,
            leases: keyspace("leases", options.index_mib)?,
            done: keyspace("done", options.rows_mib)?,
            settled: keyspace("settled", options.index_mib)?,
            payloads: keyspace("payloads", options.payloads_mib)?,
            database,
            random: Random(0x9e37_79b9_7f4a_7c15),
            submitted: 0,
            commit_seq: 0,
            cursor: vec![0],
            waiting: VecDeque::new(),
            commit_times: Vec::new(),
        })
    }

    fn run(mut self, scenario: Scenario) -> Outcome<Value> {
        let backlog = match scenario {
            Scenario::Passed => 0,
            Scenario::Backlog => self.options.backlog,
        };
        // Tasks that pass while a backlog stands; the backlog itself is twice as many, so this shows a steady state.
        let tasks = match scenario {
            Scenario::Passed => self.options.tasks,
            Scenario::Backlog => (self.options.backlog / 2).max(WINDOW_SHARE * self.options.batch),
        };
        let raw = raw_syncs(&self.options.dir)?;
        while self.submitted < backlog {
            let batch = self.submit();
            let mut writes = self.writes();
            self.put_submitted(&mut writes, &batch);
            self.commit(writes, PersistMode::SyncData)?;
            self.waiting_push(&batch);
        }
        let fill = Times::of(std::mem::take(&mut self.commit_times));

        let window = tasks / WINDOW_SHARE;
        let deadline = self
            .options
            .seconds
            .map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let start = Instant::now();
        let mut windows = vec![Window::now(0)?];
        let mut passed = 0;
        let mut in_claim = Vec::new();
        let mut in_settle = Vec::new();
        while passed < tasks && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            match self.layout {
                Layout::SharedCommit | Layout::SplitState | Layout::LoggedClaims => {
                    // One round: what was claimed in the last round is settled, what waits is claimed, new ones arrive.
                    let settled = std::mem::replace(&mut in_settle, std::mem::take(&mut in_claim));
                    let submitted = self.submit();
                    let mut writes = self.writes();
                    self.put_submitted(&mut writes, &submitted);
                    self.put_claimed(&mut writes, &in_settle);
                    self.put_settled(&mut writes, &settled);
                    let log: Vec<u8> = settled.iter().flat_map(|task| task.key).collect();
                    if !log.is_empty() {
                        writes.insert(
                            &self.settled,
                            UserKey::from(self.commit_seq.to_be_bytes()),
                            log,
                        );
                    }
                    self.commit(writes, PersistMode::SyncData)?;
                    self.waiting_push(&submitted);
                    in_claim = self.next_to_claim(backlog, &submitted)?;
                    passed += settled.len() as u64;
                }
                Layout::RowPerState | Layout::RandomKey | Layout::RisingKey => {
                    let submitted = self.submit();
                    let mut writes = self.writes();
                    self.put_submitted(&mut writes, &submitted);
                    self.commit(writes, PersistMode::SyncData)?;
                    self.waiting_push(&submitted);
                    let claimed = self.next_to_claim(backlog, &submitted)?;
                    let mut writes = self.writes();
                    self.put_claimed(&mut writes, &claimed);
                    self.commit(writes, PersistMode::Buffer)?;
                    let mut writes = self.writes();
                    self.put_settled(&mut writes, &claimed);
                    self.commit(writes, PersistMode::SyncData)?;
                    passed += claimed.len() as u64;
                }
            }
            if passed >= windows.len() as u64 * window {
                windows.push(Window::now(passed)?);
            }
        }
        let per_second = rate(passed, start.elapsed());
        if windows.len() < 3 {
            return Err(format!(
                "only {passed} tasks passed, which is less than two windows of {window}"
            )
            .into());
        }
        let spans: Vec<_> = windows
            .windows(2)
            .map(|pair| Span::between(&pair[0], &pair[1]))
            .collect();
        let (fresh, last) = (&spans[0], &spans[spans.len() - 1]);
        let slowest = spans
            .iter()
            .map(|span| span.per_second)
            .fold(f64::MAX, f64::min);
        let times = Times::of(std::mem::take(&mut self.commit_times));
        let disk = bytes_below(&self.options.dir)?;
        Ok(json!({
            "scenario": scenario.name(),
            "layout": self.layout.name(),
            "tasks": passed,
            "backlog": backlog,
            "per_second": per_second,
            "fresh_per_second": fresh.per_second,
            "last_per_second": last.per_second,
            "slowest_window_per_second": slowest,
            "last_of_fresh_percent": 100.0 * last.per_second / fresh.per_second,
            "fresh_cpu_us_per_task": fresh.cpu_us_per_task,
            "last_cpu_us_per_task": last.cpu_us_per_task,
            "fresh_written_bytes_per_task": fresh.written_per_task,
            "last_written_bytes_per_task": last.written_per_task,
            "raw_sync_p50_ms": raw.p50,
            "raw_sync_worst_ms": raw.worst,
            "commits": times.count,
            "commit_p50_ms": times.p50,
            "commit_p999_ms": times.p999,
            "commit_worst_ms": times.worst,
            "commits_over_200_ms": times.over_200,
            "fill_commit_worst_ms": fill.worst,
            "disk_mib": disk / MIB,
            "rss_peak_mib": rss_peak_mib()?,
            "journals": self.database.journal_count(),
        }))
    }

    fn submit(&mut self) -> Vec<Task> {
        (0..self.options.batch)
            .map(|_| {
                self.submitted += 1;
                let mut key = [0; 16];
                // As a UUIDv7: what rises comes first, the rest is random. The first byte of a random key is random too.
                let head = if self.layout == Layout::RandomKey {
                    self.random.next()
                } else {
                    self.submitted
                };
                key[..8].copy_from_slice(&head.to_be_bytes());
                key[8..].copy_from_slice(&self.random.next().to_be_bytes());
                Task { key }
            })
            .collect()
    }

    fn waiting_push(&mut self, batch: &[Task]) {
        if self.layout == Layout::RandomKey {
            self.waiting.extend(batch);
        }
    }

    /// The tasks to claim next: those just submitted, which the writer still holds, or with a backlog the oldest that
    /// wait, which it must read.
    fn next_to_claim(&mut self, backlog: u64, submitted: &[Task]) -> Outcome<Vec<Task>> {
        if backlog == 0 {
            self.waiting.clear();
            return Ok(submitted.to_vec());
        }
        let snapshot = self.database.snapshot();
        let limit = submitted.len();
        let ordered = match self.layout {
            Layout::RandomKey => {
                let tasks: Vec<_> = self.waiting.drain(..limit).collect();
                for task in &tasks {
                    snapshot
                        .get(&self.rows, task.key)?
                        .ok_or("a waiting task is gone")?;
                }
                return Ok(tasks);
            }
            Layout::RowPerState => &self.ready,
            Layout::RisingKey
            | Layout::SharedCommit
            | Layout::SplitState
            | Layout::LoggedClaims => &self.rows,
        };
        let mut tasks = Vec::with_capacity(limit);
        for guard in snapshot.range(ordered, self.cursor.clone()..).take(limit) {
            let key = guard.key()?;
            if self.layout == Layout::RowPerState {
                snapshot
                    .get(&self.rows, &key)?
                    .ok_or("a ready task is gone")?;
            }
            tasks.push(Task {
                key: key.as_ref().try_into()?,
            });
        }
        if let Some(last) = tasks.last() {
            self.cursor = [&last.key[..], &[0]].concat();
        }
        Ok(tasks)
    }

    fn writes(&mut self) -> fjall::OwnedWriteBatch {
        self.commit_seq += 1;
        let mut writes = self.database.batch();
        // Every commit of the store carries its sequence.
        writes.insert(
            &self.commits,
            "tq.commit",
            [&[0; 41][..], &self.commit_seq.to_be_bytes()].concat(),
        );
        writes
    }

    fn row(&mut self) -> Slice {
        // Half of a row is ids, times and tokens, which do not compress.
        let mut row = [b'.'; ROW_BYTES];
        self.random.fill(&mut row[..ROW_BYTES / 2]);
        Slice::new(&row)
    }

    /// What a settled task has beside what was asked for.
    fn state(&mut self) -> Slice {
        let mut state = [b'.'; STATE_BYTES];
        self.random.fill(&mut state[..STATE_BYTES / 2]);
        Slice::new(&state)
    }

    fn payload(&mut self) -> Slice {
        let mut payload = [b'.'; PAYLOAD_BYTES];
        self.random.fill(&mut payload[..PAYLOAD_BYTES / 2]);
        Slice::new(&payload)
    }

    fn put_submitted(&mut self, writes: &mut fjall::OwnedWriteBatch, tasks: &[Task]) {
        for task in tasks {
            let row = self.row();
            let payload = self.payload();
            match self.layout {
                Layout::SplitState | Layout::LoggedClaims => {
                    writes.insert(&self.rows, UserKey::from(task.key), both(&row, &payload));
                }
                Layout::RowPerState => {
                    writes.insert(&self.rows, UserKey::from(task.key), row);
                    writes.insert(&self.payloads, payload_key(task, 0), payload);
                    writes.insert(&self.ready, UserKey::from(task.key), "");
                }
                Layout::RandomKey | Layout::RisingKey | Layout::SharedCommit => {
                    writes.insert(&self.rows, UserKey::from(task.key), row);
                    writes.insert(&self.payloads, payload_key(task, 0), payload);
                }
            }
        }
    }

    fn put_claimed(&mut self, writes: &mut fjall::OwnedWriteBatch, tasks: &[Task]) {
        if self.layout == Layout::LoggedClaims {
            let log: Vec<u8> = tasks
                .iter()
                .flat_map(|task| [task.key; 2])
                .flatten()
                .collect();
            if !log.is_empty() {
                let at = UserKey::from(self.commit_seq.to_be_bytes());
                writes.insert(&self.leases, at, log);
            }
            return;
        }
        for task in tasks {
            match self.layout {
                Layout::SplitState | Layout::LoggedClaims => {
                    let state = self.state();
                    writes.insert(&self.done, UserKey::from(task.key), &state[..CLAIM_BYTES]);
                }
                Layout::RowPerState => {
                    writes.remove(&self.ready, UserKey::from(task.key));
                    writes.insert(&self.leases, UserKey::from(task.key), [b'l'; CLAIM_BYTES]);
                }
                Layout::RandomKey | Layout::RisingKey | Layout::SharedCommit => {
                    let row = self.row();
                    writes.insert(&self.rows, UserKey::from(task.key), row);
                }
            }
        }
    }

    fn put_settled(&mut self, writes: &mut fjall::OwnedWriteBatch, tasks: &[Task]) {
        for task in tasks {
            let result = self.payload();
            match self.layout {
                Layout::SplitState | Layout::LoggedClaims => {
                    let state = self.state();
                    writes.insert(&self.done, UserKey::from(task.key), both(&state, &result));
                    continue;
                }
                Layout::RowPerState => {
                    let row = self.row();
                    writes.remove(&self.leases, UserKey::from(task.key));
                    writes.remove(&self.rows, UserKey::from(task.key));
                    writes.insert(&self.done, UserKey::from(task.key), row);
                }
                Layout::RandomKey | Layout::RisingKey | Layout::SharedCommit => {
                    let row = self.row();
                    writes.insert(&self.rows, UserKey::from(task.key), row);
                }
            }
            writes.insert(&self.payloads, payload_key(task, 1), result);
        }
    }

    fn commit(&mut self, writes: fjall::OwnedWriteBatch, mode: PersistMode) -> Outcome<()> {
        let start = Instant::now();
        writes.durability(Some(mode)).commit()?;
        self.commit_times.push(start.elapsed());
        Ok(())
    }
}

fn both(row: &[u8], payload: &[u8]) -> Slice {
    Slice::from([row, payload].concat())
}

fn payload_key(task: &Task, part: u8) -> UserKey {
    UserKey::from([&task.key[..], &[part]].concat())
}

fn rate(tasks: u64, time: Duration) -> f64 {
    tasks as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// The state of the run when a window of it ended.
struct Window {
    passed: u64,
    at: Instant,
    cpu: Duration,
    written: u64,
}

impl Window {
    fn now(passed: u64) -> Outcome<Self> {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let io = fs::read_to_string("/proc/self/io")?;
        let line = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes:"))
            .ok_or("the system does not say write_bytes")?;
        Ok(Self {
            passed,
            at: Instant::now(),
            cpu: Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?),
            written: line.trim().parse()?,
        })
    }
}

/// What happened from one window to the next. Rates depend on what else the machine does; what a task costs does not.
struct Span {
    per_second: f64,
    cpu_us_per_task: f64,
    written_per_task: f64,
}

impl Span {
    fn between(from: &Window, to: &Window) -> Self {
        let tasks = (to.passed - from.passed) as f64;
        Self {
            per_second: rate(to.passed - from.passed, to.at - from.at),
            cpu_us_per_task: (to.cpu - from.cpu).as_secs_f64() * 1e6 / tasks,
            written_per_task: (to.written - from.written) as f64 / tasks,
        }
    }
}

/// How long the disk takes for what a commit does at the least: appending 128 KiB to a file and syncing it, for two
/// seconds. Its worst shows how much of a slow commit is the machine's.
fn raw_syncs(dir: &Path) -> Outcome<Times> {
    let path = dir.join("raw");
    let mut file = fs::File::create(&path)?;
    let block = vec![b'r'; 128 * 1024];
    let mut times = Vec::new();
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let start = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    fs::remove_file(&path)?;
    Ok(Times::of(times))
}

/// How long commits took, in milliseconds.
struct Times {
    count: usize,
    p50: f64,
    p999: f64,
    worst: f64,
    over_200: usize,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let index = (times.len() as f64 * share) as usize;
            times
                .get(index.min(times.len().saturating_sub(1)))
                .map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Self {
            count: times.len(),
            p50: at(0.5),
            p999: at(0.999),
            worst: at(1.0),
            over_200: times.iter().filter(|time| time.as_millis() > 200).count(),
        }
    }
}

fn rss_peak_mib() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("the system does not say VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
}

/// What the files below a directory occupy, not their length: journals are created long and empty.
fn bytes_below(dir: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // A compaction may remove a file while it is looked at.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        bytes += if metadata.is_dir() {
            bytes_below(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

/// Xorshift: fast, and the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}
