//! A directory of its own for each attempt that was granted one: through the binary, in one process and in runner processes.

use serde_json::Value;
use tempfile::TempDir;
use tq_tests::{Dev, failure, guest, within};

struct Node {
    dev: Dev,
    folder: TempDir,
}

impl Node {
    /// Starts one that runs guests there: `none` is in its own process.
    async fn start(isolation: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let flags = ["--isolation", isolation];
        let dev = Dev::start_with(&folder.path().join("data"), 2, &flags).await;
        Self { dev, folder }
    }

    /// Deploys `faults` with this in its manifest.
    async fn deploy(&self, manifest: &str) -> String {
        let place = guest::placed(self.folder.path(), "faults", manifest);
        self.dev.tq().run(["deploy", &place]).await.text()
    }

    /// Runs a call to its end, and returns its record.
    async fn call(&self, function: &str, limits: &[&str]) -> Value {
        let function = format!("faults/{function}");
        let mut words = vec!["run", "--output", "json", &function];
        for limit in limits {
            words.extend(["--limit", limit]);
        }
        self.dev.tq().run(words).await.json()
    }

    async fn end(self) {
        let log = self.dev.process.log();
        assert!(!log.contains("panicked at"), "{log}");
        within("it stops", self.dev.process.stop()).await;
    }
}

fn result(task: &Value) -> &str {
    assert_eq!(task["outcome"], "succeeded", "{task}");
    task["result"].as_str().expect("it is text")
}

async fn an_attempt_has_its_own_files_if_it_was_granted_any(isolation: &str) {
    let node = Node::start(isolation).await;
    node.deploy("").await;
    assert_eq!(result(&node.call("has_files", &[]).await), "no");
    let deployed = node.deploy("[capabilities]\nscratch = true\n").await;
    assert!(deployed.contains("newly granted: scratch"), "{deployed}");
    // Each of them fails if something was left by the one before.
    for _ in 0..3 {
        let used = node.call("use_files", &[]).await;
        let expected = "b,three.txt,two.txt 8 \"one\\n2wo\" Some(NotFound)";
        assert_eq!(result(&used), expected);
    }
    node.end().await;
}

async fn nobody_leaves_the_directory(isolation: &str) {
    let node = Node::start(isolation).await;
    node.deploy("[capabilities]\nscratch = true\n").await;
    assert_eq!(result(&node.call("escape_files", &[]).await), "");
    node.end().await;
}

async fn what_it_holds_is_limited_by_name(isolation: &str) {
    let node = Node::start(isolation).await;
    node.deploy("[capabilities]\nscratch = true\n[limits]\nscratch = \"1MiB\"\n")
        .await;
    let full = node.call("fill_files", &[]).await;
    assert_eq!(full["outcome"], "scratch_limit", "{full}");
    let said = "`/scratch` is limited to 1048576 bytes by `scratch`, and ";
    assert!(failure(&full).starts_with(said), "{full}");
    // The C library below the standard library makes `EIO` of every failure of a stream.
    assert!(
        failure(&full).contains("ended with: 1030000 bytes, then "),
        "{full}"
    );
    // Lowered for one call, and never raised.
    let lowered = node.call("many_files", &["scratch=64KiB"]).await;
    let lowered = result(&lowered).to_owned();
    let (made, kind) = lowered.split_once(" files, then ").expect("it says so");
    assert_eq!(kind, "StorageFull");
    let made: u64 = made.parse().expect("it is a number");
    assert!((30..=64).contains(&made), "{made} files in 64 KiB");
    let deep = node.call("deep_files", &[]).await;
    assert!(result(&deep).contains(" levels, then "), "{deep}");
    let sparse = node.call("sparse_file", &[]).await;
    assert_eq!(result(&sparse), "1152921504606846976 [0, 0, 0]");
    node.end().await;
}

tq_tests::everywhere! {
    an_attempt_has_its_own_files_if_it_was_granted_any
    nobody_leaves_the_directory
    what_it_holds_is_limited_by_name
}
