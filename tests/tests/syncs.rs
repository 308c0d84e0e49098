//! Acknowledged means on disk, which `kill -9` cannot show: between a request and its answer lies a sync of the journal.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tq_client::NewTask;
use tq_tests::{Broker, eventually, guest, requirement, trace};

const TASKS: usize = 20;

/// Where in the trace each thing happened: lines of finished syncs of a journal, and of system calls that carried a text.
struct Trace {
    lines: Vec<String>,
    syncs: Vec<usize>,
}

impl Trace {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("strace has written its file");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // A call that another thread's interrupts is on two lines, and ends at the second.
        let mut unfinished: HashMap<&str, bool> = HashMap::new();
        let mut syncs = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let Some((thread, call)) = line.split_once(' ') else {
                continue;
            };
            let call = call.trim_start();
            let is_journal = call.starts_with("fdatasync(") || call.starts_with("fsync(");
            let is_journal = is_journal && call.contains(".jnl>");
            let is_done = call.trim_end().ends_with("= 0");
            if call.contains("<unfinished ...>") {
                unfinished.insert(thread, is_journal);
            } else if call.starts_with("<... ") {
                if unfinished.remove(thread).unwrap_or(false) && is_done {
                    syncs.push(at);
                }
            } else if is_journal && is_done {
                syncs.push(at);
            }
        }
        Self { lines, syncs }
    }

    /// The first line in which `text` was read or written.
    fn first(&self, text: &str) -> Option<usize> {
        self.lines.iter().position(|line| line.contains(text))
    }

    fn has_sync_between(&self, from: usize, to: usize) -> bool {
        self.syncs.iter().any(|at| (from..to).contains(at))
    }
}

#[test]
fn trace_tells_syncs_of_the_journal_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let text = "1 read(5<socket>, \"key-1\", 9) = 9\n\
                2 fdatasync(9</d/mark>) = 0\n\
                3 fdatasync(7</d/0.jnl> <unfinished ...>\n\
                1 read(5<socket>, \"other\", 9) = 9\n\
                3 <... fdatasync resumed>) = 0\n\
                1 write(5<socket>, \"id-1\", 9) = 9\n\
                1 read(5<socket>, \"key-2\", 9) = 9\n\
                3 fdatasync(7</d/0.jnl>) = -1 EIO (Input/output error)\n\
                1 write(5<socket>, \"id-2\", 9) = 9\n";
    std::fs::write(&path, text).unwrap();
    let trace = Trace::read(&path);
    assert_eq!(trace.syncs, [4]);
    let between = |from: &str, to: &str| {
        trace.has_sync_between(trace.first(from).unwrap(), trace.first(to).unwrap())
    };
    assert!(between("key-1", "id-1"));
    assert!(!between("key-2", "id-2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sync_lies_between_each_submit_and_its_acknowledgement() {
    if !requirement::has_program("strace") {
        return requirement::skip(
            "syncs",
            "strace is not installed; fix: apt-get install strace",
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(&folder.path().join("broker")).await;
    broker
        .tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    let client = broker.client().await;
    let file: PathBuf = folder.path().join("trace");
    let Some(mut strace) = trace::attach(broker.process.pid(), &file).await else {
        return requirement::skip(
            "syncs",
            "strace may not attach to another process; fix: run as root, or set kernel.yama.ptrace_scope to 0",
        );
    };
    let mut acknowledged = Vec::new();
    for n in 0..TASKS {
        let key = format!("synced-{n:04}-key");
        let task = NewTask {
            function: "faults/echo".into(),
            payload: "x".into(),
            idempotency_key: key.clone(),
            ..NewTask::default()
        };
        let submitted = client.submit(vec![task]).await.unwrap();
        acknowledged.push((key, submitted[0].id.clone()));
    }
    let (_, last) = &acknowledged[TASKS - 1];
    eventually("the trace has the last acknowledgement", async || {
        Trace::read(&file).first(last).map(drop)
    })
    .await;
    trace::detach(&mut strace).await;
    let trace = Trace::read(&file);
    for (key, id) in acknowledged {
        let (from, to) = (
            trace.first(&key).expect("the request is in the trace"),
            trace.first(&id).expect("its answer is in the trace"),
        );
        assert!(from < to, "task {id} was answered before it was asked for");
        assert!(
            trace.has_sync_between(from, to),
            "no sync of a journal lies between the submit of {id} and its answer:\n{}",
            trace.lines[from..=to].join("\n")
        );
    }
    broker.process.stop().await;
}
