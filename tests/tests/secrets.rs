//! Secrets reach those who were granted them, and are nowhere else: through the binary, in one process and in runner processes.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tq_tests::{Broker, Dev, Host, HttpServer, Tq, failure, guest, within};

const VALUE: &str = "sk_live_0123456789abcdef";

async fn deploy(tq: &Tq, folder: &Path, name: &str, capabilities: &str) -> String {
    let manifest = format!("[capabilities]\n{capabilities}");
    let place = guest::placed(folder, name, &manifest);
    tq.run(["deploy", &place]).await.text()
}

async fn set(tq: &Tq, name: &str, value: &str) -> Value {
    let words = ["secret", "set", name, "--output", "json"];
    let set = tq.run_with_input(words, value.as_bytes()).await;
    set.json()
}

async fn call(tq: &Tq, function: &str, payload: &str) -> Value {
    let words = ["run", "--output", "json", function, payload];
    tq.run(words).await.json()
}

/// Whether the bytes stand in any file of a folder.
fn is_on_disk(folder: &Path, bytes: &[u8]) -> bool {
    let entries = std::fs::read_dir(folder).expect("the folder can be read");
    entries.into_iter().any(|entry| {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            return is_on_disk(&path, bytes);
        }
        // Files may go while they are looked at.
        let content = std::fs::read(&path).unwrap_or_default();
        content.windows(bytes.len()).any(|part| part == bytes)
    })
}

struct Node {
    dev: Dev,
    tq: Tq,
    folder: TempDir,
}

impl Node {
    async fn start(isolation: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let flags = ["--allow-network", "127.0.0.1/32", "--isolation", isolation];
        let dev = Dev::start_with(&folder.path().join("data"), 2, &flags).await;
        let tq = dev.tq();
        Self { dev, tq, folder }
    }

    async fn deploy(&self, name: &str, capabilities: &str) -> String {
        deploy(&self.tq, self.folder.path(), name, capabilities).await
    }

    async fn log(&self, task: &Value) -> String {
        let id = task["id"].as_str().expect("a task has an id");
        self.tq.run(["task", "logs", id]).await.text()
    }

    /// Stops it. What was kept secret is in nothing that it wrote.
    async fn end(self) {
        let Self { dev, tq: _, folder } = self;
        let log = dev.process.log();
        assert!(!log.contains("panicked at"), "{log}");
        assert!(!log.contains(VALUE), "{log}");
        within("it stops", dev.process.stop()).await;
        assert!(!is_on_disk(&folder.path().join("data"), VALUE.as_bytes()));
    }
}

async fn a_guest_reads_what_it_was_granted_and_cannot_tell_it(isolation: &str) {
    let node = Node::start(isolation).await;
    let deployed = node
        .deploy("faults", "secrets = [\"stripe-key\", \"absent\"]\n")
        .await;
    assert!(
        deployed.contains("secret absent, secret stripe-key"),
        "{deployed}"
    );
    // The line feed is that of `echo`.
    let shown = set(&node.tq, "stripe-key", &format!("{VALUE}\n")).await;
    assert_eq!(shown["secrets"][0]["name"], "stripe-key");
    assert_eq!(shown["secrets"][0]["version"], 1);

    let told = call(&node.tq, "faults/tell_secret", "stripe-key").await;
    assert_eq!(told["result"], format!("{} bytes: [redacted]", VALUE.len()));
    let log = node.log(&told).await;
    assert!(
        log.contains("printed: [redacted]\n") && log.contains("logged: [redacted]\n"),
        "{log}"
    );
    let failed = call(&node.tq, "faults/fail_with_secret", "stripe-key").await;
    assert_eq!(failure(&failed), "died of [redacted]", "{failed}");
    let panicked = call(&node.tq, "faults/panic_with_secret", "stripe-key").await;
    assert_eq!(panicked["outcome"], "trap", "{panicked}");
    assert!(!panicked.to_string().contains(VALUE), "{panicked}");

    let refused = call(&node.tq, "faults/tell_secret", "other").await;
    let expected = "secret `other` is not granted to the function; `[capabilities] secrets` in tq.toml grants it";
    assert_eq!(failure(&refused), expected);
    let log = node.log(&refused).await;
    assert!(
        log.contains(&format!("tq: a secret was refused: {expected}\n")),
        "{log}"
    );
    let missing = call(&node.tq, "faults/tell_secret", "absent").await;
    assert_eq!(
        failure(&missing),
        "namespace `default` has no secret `absent`"
    );

    // Attempts get what it is when they ask.
    let shown = set(&node.tq, "stripe-key", "another one").await;
    assert_eq!(shown["secrets"][0]["version"], 2);
    let told = call(&node.tq, "faults/tell_secret", "stripe-key").await;
    assert_eq!(told["result"], "11 bytes: [redacted]");
    let deleted = node.tq.run(["secret", "delete", "stripe-key"]).await;
    assert!(deleted.text().contains("stripe-key"));
    let missing = call(&node.tq, "faults/tell_secret", "stripe-key").await;
    assert!(failure(&missing).contains("has no secret"), "{missing}");
    node.end().await;
}

async fn a_header_gets_what_the_guest_never_sees(isolation: &str) {
    let node = Node::start(isolation).await;
    let (server, other) = (HttpServer::start().await, HttpServer::start().await);
    let url = |server: &HttpServer, path: &str| format!("http://{}{path}", server.address);
    set(&node.tq, "key", VALUE).await;
    let grant = format!("key for POST {}", url(&server, ""));
    let origins = [url(&server, ""), url(&other, "")];
    let capabilities = format!("http = {}\nsecrets = {}\n", json!(origins), json!([grant]));
    node.deploy("fetch", &capabilities).await;
    node.deploy("faults", &capabilities).await;
    let fetch = async |server: &HttpServer, path: &str, method: &str, header: &str| {
        let request = json!({
            "url": url(server, path),
            "method": method,
            "headers": {"authorization": header},
            "body": "{{secret:key}}",
        });
        call(&node.tq, "fetch", &request.to_string()).await
    };

    let sent = fetch(&server, "/a", "POST", "Bearer {{secret:key}}").await;
    assert_eq!(sent["outcome"], "succeeded", "{sent}");
    let heads = server.heads();
    let expected = format!("\r\nauthorization: Bearer {VALUE}\r\n");
    assert!(heads[0].contains(&expected), "{heads:?}");
    // The server echoes what it got, and the guest returns it. What stands in the body is text like any other.
    let result = sent["result"].as_str().expect("it is text");
    assert!(result.contains("Bearer [redacted]"), "{result}");
    assert!(result.contains("{{secret:key}}"), "{result}");

    // Neither with another method, nor to another server, nor by another name.
    for (server, method, header) in [
        (&server, "PUT", "{{secret:key}}"),
        (&other, "POST", "{{secret:key}}"),
        (&server, "POST", "{{secret:other}}"),
    ] {
        let refused = fetch(server, "/b", method, header).await;
        assert!(failure(&refused).contains("HttpRequestDenied"), "{refused}");
        let log = node.log(&refused).await;
        assert!(
            log.contains("was refused: its header `authorization` names a secret: secret `"),
            "{log}"
        );
    }
    assert_eq!(server.paths(), ["/a"]);
    assert_eq!(other.paths(), [""; 0]);

    let read = call(&node.tq, "faults/tell_secret", "key").await;
    let told = "the guest may not read it: it is granted as `key for POST http://";
    assert!(failure(&read).starts_with(told), "{read}");
    node.end().await;
}

tq_tests::everywhere! {
    a_guest_reads_what_it_was_granted_and_cannot_tell_it
    a_header_gets_what_the_guest_never_sees
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_outlives_the_broker_and_needs_its_key() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut broker = Broker::start(&folder.path().join("broker")).await;
    let tq = broker.tq();
    set(&tq, "key", VALUE).await;
    let refused = tq
        .run_with_input(["secret", "set", "short"], b"1234567")
        .await;
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    let expected = "secret `short` has 7 bytes; it needs 8 or more, since a shorter one could not be kept out of logs";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    let long = vec![b'x'; 8 * 1024 + 1];
    let refused = tq.run_with_input(["secret", "set", "long"], &long).await;
    let expected = "over the limit of 8192 bytes";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);

    broker.kill9_and_restart().await;
    let host = Host::start(&broker, &folder.path().join("host"), "h1", 1).await;
    deploy(&tq, folder.path(), "faults", "secrets = [\"key\"]\n").await;
    let told = call(&tq, "faults/tell_secret", "key").await;
    assert_eq!(told["result"], format!("{} bytes: [redacted]", VALUE.len()));
    let list = tq.run(["secret", "list"]).await.text();
    assert!(list.contains("key") && !list.contains(VALUE), "{list}");
    assert!(!is_on_disk(folder.path(), VALUE.as_bytes()));

    // Another namespace has none of it.
    let words = ["secret", "list", "--namespace", "other", "--output", "json"];
    assert_eq!(tq.run(words).await.json(), json!({"secrets": []}));

    let key = broker.data_dir().join("secrets.key");
    std::fs::write(&key, "ab".repeat(32)).expect("the disk takes it");
    broker.kill9_and_restart().await;
    let failed = call(&tq, "faults/tell_secret", "key").await;
    let expected = "secret `key` was sealed with the key ";
    assert!(failure(&failed).starts_with(expected), "{failed}");
    within("it stops", host.process.stop()).await;
    within("it stops", broker.process.stop()).await;
}
