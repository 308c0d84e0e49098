//! Functions share buckets of keys and values, as far as they were granted them, and what was acknowledged outlives everybody: through
//! the binary, in one process and in runner processes.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tq_tests::{
    Broker, Dev, Host, Ran, Tq, eventually, failure, free_port, guest, metrics, within,
};

async fn deploy(tq: &Tq, folder: &Path, buckets: &[&str]) -> String {
    let manifest = format!("[capabilities]\nkeyvalue = {}\n", json!(buckets));
    let place = guest::placed(folder, "faults", &manifest);
    tq.run(["deploy", &place]).await.text()
}

async fn call(tq: &Tq, function: &str, payload: &str) -> Value {
    let function = format!("faults/{function}");
    let words = ["run", "--output", "json", &function, payload];
    tq.run(words).await.json()
}

async fn set(tq: &Tq, bucket: &str, key: &str, value: &str) -> Value {
    let pair = json!({"bucket": bucket, "key": key, "value": value});
    call(tq, "set_key", &pair.to_string()).await
}

async fn get(tq: &Tq, bucket: &str, key: &str) -> Value {
    let pair = json!({"bucket": bucket, "key": key});
    call(tq, "get_key", &pair.to_string()).await
}

#[track_caller]
fn done(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}: {}", ran.line, ran.stderr);
}

fn result(task: &Value) -> &str {
    let result = task["result"].as_str();
    result.unwrap_or_else(|| panic!("it has a result: {task}"))
}

struct Node {
    dev: Dev,
    tq: Tq,
    folder: TempDir,
}

impl Node {
    async fn start(isolation: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let flags = ["--isolation", isolation];
        let dev = Dev::start_with(&folder.path().join("data"), 4, &flags).await;
        let tq = dev.tq();
        Self { dev, tq, folder }
    }

    async fn deploy(&self, buckets: &[&str]) -> String {
        deploy(&self.tq, self.folder.path(), buckets).await
    }

    async fn end(self) {
        let log = self.dev.process.log();
        assert!(!log.contains("panicked at"), "{log}");
        assert!(!log.contains("is a bug"), "{log}");
        within("it stops", self.dev.process.stop()).await;
    }
}

async fn a_function_uses_what_it_was_granted(isolation: &str) {
    let node = Node::start(isolation).await;
    let deployed = node.deploy(&["cache", "counters"]).await;
    let newly = "keyvalue cache, keyvalue counters";
    assert!(deployed.contains(newly), "{deployed}");
    let mut lines = deployed.lines();
    let lacks = lines.find(|line| line.starts_with("may ask for, and is not granted: "));
    let lacks = lacks.expect("it may ask for more");
    assert!(lacks.contains("wasi:http/types"), "{lacks}");
    assert!(!lacks.contains("wasi:keyvalue"), "{lacks}");

    let told = call(&node.tq, "exercise_bucket", "cache").await;
    let expected = [
        "[Some([115, 109, 97, 108, 108]), Some([]), None]",
        "(true, false)",
        r#"["a", "b", "c"]"#,
        r#"["b", "c"]"#,
        "-2",
        r#"Err("1 cannot be added to key `a`: its value is no whole number in decimal digits, or the sum has more than 64 bits")"#,
        "None Keys { keys: [], next: None }",
    ];
    assert_eq!(result(&told), expected.join("\n"));

    let refused = set(&node.tq, "other", "k", "v").await;
    let denied = "the bucket is not granted to the function";
    assert_eq!(failure(&refused), denied, "{refused}");
    let id = refused["id"].as_str().expect("a task has an id");
    let log = node.tq.run(["task", "logs", id]).await.text();
    let expected = "tq: a bucket was refused: bucket `other` is not granted to the function; `[capabilities] keyvalue` in tq.toml grants it\n";
    assert!(log.contains(expected), "{log}");

    // What one task wrote, the next one reads, and the operator; and the other way round.
    set(&node.tq, "cache", "user/7", "Ada").await;
    assert_eq!(result(&get(&node.tq, "cache", "user/7").await), "Ada");
    let shown = node.tq.run(["kv", "get", "cache", "user/7"]).await;
    assert_eq!(shown.stdout, b"Ada");
    let words = ["kv", "set", "cache", "user/7", "Grace"];
    done(&node.tq.run(words).await);
    assert_eq!(result(&get(&node.tq, "cache", "user/7").await), "Grace");

    // Another namespace has none of it.
    let words = ["kv", "list", "--namespace", "other", "--output", "json"];
    let listed = node.tq.run(words).await.json();
    assert_eq!(listed["buckets"], json!([]));

    let told = call(&node.tq, "ask_too_much", "cache").await;
    let key = "key of 513 bytes is over the limit of 512 bytes";
    let huge = "of 8388608 bytes in one call are over the limit of 1048576 bytes";
    let expected = [
        key.to_owned(),
        key.to_owned(),
        "keys and values of 8388609 bytes in one call are over the limit of 1048576 bytes"
            .to_owned(),
        "value of key `k` of 65537 bytes is over the limit of 65536 bytes".to_owned(),
        "1001 keys in one call are over the limit of 1000 keys".to_owned(),
        "keys and values of 1114136 bytes in one call are over the limit of 1048576 bytes"
            .to_owned(),
        format!("keys and values {huge}"),
        "there cannot be a bucket of that name".to_owned(),
    ];
    assert_eq!(result(&told), expected.join("\n"));
    node.end().await;
}

async fn nothing_is_lost_when_many_count(isolation: &str) {
    let node = Node::start(isolation).await;
    node.deploy(&["counters"]).await;
    let counting = (0..4).map(|_| call(&node.tq, "count_up", "counters"));
    for counted in futures_util::future::join_all(counting).await {
        assert_eq!(counted["outcome"], "succeeded", "{counted}");
    }
    for key in ["added", "swapped"] {
        let shown = node.tq.run(["kv", "get", "counters", key]).await;
        assert_eq!(shown.stdout, b"400", "{key}");
    }
    node.end().await;
}

async fn a_namespace_has_room_for_so_much(isolation: &str) {
    let node = Node::start(isolation).await;
    node.deploy(&["cache"]).await;
    let told = call(&node.tq, "fill_bucket", "cache").await;
    // 64 MiB hold 1,022 values of 64 KiB with what holding them takes, and each call brings 15.
    let each = 65_536 + 8 + 5 + 64;
    let expected = format!(
        "1020 the buckets of the namespace would have {} bytes, over the limit of 67108864 bytes; delete what is not needed",
        1_035 * each
    );
    assert_eq!(result(&told), expected);
    let listed = node.tq.run(["kv", "list", "--output", "json"]).await.json();
    let expected = json!([{"name": "cache", "keys": 1020, "bytes": 1020 * each}]);
    assert_eq!(listed["buckets"], expected);
    let page = call(&node.tq, "list_keys", "cache").await;
    let page: Value = serde_json::from_str(result(&page)).expect("it is JSON");
    assert_eq!(page["keys"].as_array().map(Vec::len), Some(1_000));
    let next = page["next"].as_str().expect("there are more");
    let words = ["kv", "list", "cache", "--after", next, "--output", "json"];
    let rest = node.tq.run(words).await.json();
    assert_eq!(rest["keys"].as_array().map(Vec::len), Some(20));
    assert_eq!(rest["next"], Value::Null);
    let deleted = node
        .tq
        .run(["kv", "delete", "cache", "--output", "json"])
        .await;
    assert_eq!(deleted.json()["keys"], 1_020);
    assert_eq!(
        set(&node.tq, "cache", "k", "v").await["outcome"],
        "succeeded"
    );
    node.end().await;
}

tq_tests::everywhere! {
    a_function_uses_what_it_was_granted
    nothing_is_lost_when_many_count
    a_namespace_has_room_for_so_much
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_the_broker() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut broker = Broker::start(&folder.path().join("broker")).await;
    let tq = broker.tq();
    let host = Host::start(&broker, &folder.path().join("host"), "h1", 1).await;
    deploy(&tq, folder.path(), &["cache"]).await;
    for round in 0..3 {
        let value = format!("value {round}");
        assert_eq!(set(&tq, "cache", "k", &value).await["outcome"], "succeeded");
        let by_operator = ["kv", "set", "cache", "o"];
        done(&tq.run_with_input(by_operator, value.as_bytes()).await);
        broker.kill9_and_restart().await;
        assert_eq!(
            tq.run(["kv", "get", "cache", "o"]).await.stdout,
            value.as_bytes()
        );
        assert_eq!(result(&get(&tq, "cache", "k").await), value);
    }
    let listed = tq.run(["kv", "list", "cache"]).await.text();
    assert!(
        listed.starts_with("KEY  SIZE  UPDATED\nk    7 B   "),
        "{listed}"
    );
    within("it stops", host.process.stop()).await;
    within("it stops", broker.process.stop()).await;
}

/// A call that was under way when the broker was killed was done once or not at all, and those before it were done once.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_counts_on_over_a_killed_broker() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut broker = Broker::start(&folder.path().join("broker")).await;
    let tq = broker.tq();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let flags = ["--metrics-listen", &listen];
    let host = Host::start_with(&broker, &folder.path().join("host"), "h1", 1, &flags).await;
    deploy(&tq, folder.path(), &["counters"]).await;
    for _ in 0..3 {
        let words = ["submit", "faults/count_until_stopped", "counters"];
        let submitted = tq.run(words).await.text();
        let id = submitted.trim().to_owned();
        let counts = async || {
            let shown = tq.run(["kv", "get", "counters", "count"]).await;
            let count = String::from_utf8(shown.stdout).expect("it is text");
            count.parse::<u64>().ok()
        };
        eventually("it counts", counts).await;
        broker.kill9_and_restart().await;
        done(&tq.run(["kv", "set", "counters", "stop", ""]).await);
        let words = ["task", "wait", &id, "--output", "json"];
        let ended = tq.run(words).await;
        let result = tq
            .run(["task", "show", &id, "--output", "json"])
            .await
            .json();
        let result = result["result"]
            .as_str()
            .unwrap_or_else(|| panic!("it came to an end: {result} {}", ended.stderr));
        let counted = counts().await.expect("it is there");
        let (told, error) = match result.split_once(' ') {
            None => (result, None),
            Some((told, error)) => (told, Some(error)),
        };
        let told: u64 = told.parse().expect("it is a number");
        match error {
            None => assert_eq!(counted, told),
            Some(error) => {
                assert!((told..=told + 1).contains(&counted), "{counted}: {result}");
                assert!(
                    error.ends_with("; it may have been done all the same"),
                    "{error}"
                );
            }
        }
        done(&tq.run(["kv", "delete", "counters"]).await);
    }
    assert_eq!(set(&tq, "other", "k", "v").await["outcome"], "fatal_error");
    let refused = "tq_keyvalue_calls_total{outcome=\"not_granted\"}";
    let refused = metrics::sample(&format!("http://{listen}"), refused).await;
    assert!((refused - 1.0).abs() < f64::EPSILON, "{refused}");
    within("it stops", host.process.stop()).await;
    within("it stops", broker.process.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_are_told_what_is_not_there_or_too_much() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = Broker::start(folder.path()).await;
    let tq = broker.tq();
    let missing = tq.run(["kv", "get", "cache", "k"]).await;
    assert_eq!(missing.code, Some(3), "{}", missing.stderr);
    let expected = "bucket `cache` of namespace `default` has no key `k`\nhint: `tq kv list cache` shows those that there are\n";
    assert!(missing.stderr.contains(expected), "{}", missing.stderr);
    let large = vec![b'x'; 64 * 1024 + 1];
    let refused = tq.run_with_input(["kv", "set", "cache", "k"], &large).await;
    let expected = "value of key `k` of 65537 bytes is over the limit of 65536 bytes";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    let refused = tq.run(["kv", "set", "no name", "k", "v"]).await;
    assert!(refused.stderr.contains("bucket name"), "{}", refused.stderr);
    // Bytes are kept as they are, and shown as JSON shows them elsewhere.
    let bytes = [0xff, 0, b'\n'];
    let words = ["kv", "set", "cache", "k", "-"];
    done(&tq.run_with_input(words, &bytes).await);
    assert_eq!(tq.run(["kv", "get", "cache", "k"]).await.stdout, bytes);
    let words = ["kv", "get", "cache", "k", "--output", "json"];
    assert_eq!(
        tq.run(words).await.json()["value"],
        json!({"base64": "/wAK"})
    );
    let deleted = tq.run(["kv", "delete", "cache", "k"]).await.text();
    assert_eq!(deleted, "key `k` of bucket `cache` is deleted\n");
    let listed = tq.run(["kv", "list"]).await.text();
    assert_eq!(listed, "BUCKET  KEYS  SIZE\n(all)   0     0 B of 64 MiB\n");
    within("it stops", broker.process.stop()).await;
}
