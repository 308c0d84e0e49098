//! Guests send requests to what their module was granted, and nowhere else: through the binary, to a server on loopback.

use serde_json::{Value, json};
use tempfile::TempDir;
use tq_tests::{Dev, HttpServer, Ran, eventually, failure, guest, within};

/// A node whose tasks may reach this machine, with the examples deployed that send requests.
struct Node {
    dev: Dev,
    server: HttpServer,
    folder: TempDir,
}

impl Node {
    /// Starts one that runs guests there: `none` is in its own process.
    async fn start(isolation: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let flags = ["--allow-network", "127.0.0.1/32", "--isolation", isolation];
        let dev = Dev::start_with(&folder.path().join("data"), 2, &flags).await;
        let server = HttpServer::start().await;
        Self {
            dev,
            server,
            folder,
        }
    }

    /// Deploys an example with these destinations.
    async fn deploy(&self, name: &str, http: &[&str], flags: &[&str]) -> Ran {
        let manifest = format!("[capabilities]\nhttp = {}\n", json!(http));
        let place = guest::placed(self.folder.path(), name, &manifest);
        let words = ["deploy", &place].into_iter().chain(flags.iter().copied());
        self.dev.tq().run(words).await
    }

    /// Runs a call to its end, and returns its record.
    async fn call(&self, function: &str, payload: &str, limits: &[&str]) -> Value {
        let mut words = vec!["run", "--output", "json", function, payload];
        for limit in limits {
            words.extend(["--limit", limit]);
        }
        self.dev.tq().run(words).await.json()
    }

    /// Sends one request.
    async fn fetch(&self, request: Value) -> Value {
        self.call("fetch", &request.to_string(), &[]).await
    }

    async fn log(&self, task: &Value) -> String {
        let id = task["id"].as_str().expect("a task has an id");
        self.dev.tq().run(["task", "logs", id]).await.text()
    }

    /// Sends a request that is not answered, and returns what the guest was told and the log says.
    async fn refused(&self, url: &str) -> (String, String) {
        let task = self.fetch(json!({ "url": url })).await;
        assert_eq!(task["state"], "dead", "{url}: {task}");
        (failure(&task).to_owned(), self.log(&task).await)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    /// Waits until no request is open.
    async fn is_quiet(&self) {
        let look = async || (self.server.busy() == 0).then_some(());
        eventually("no request is open", look).await;
    }

    async fn end(self) {
        let log = self.dev.process.log();
        assert!(!log.contains("panicked at"), "{log}");
        within("it stops", self.dev.process.stop()).await;
    }
}

/// The response that a task returned.
fn response(task: &Value) -> Value {
    let text = result(task).as_str().expect("it is text");
    serde_json::from_str(text).expect("it is JSON")
}

/// The result of a task that has one.
fn result(task: &Value) -> &Value {
    assert_eq!(task["outcome"], "succeeded", "{task}");
    &task["result"]
}

async fn what_is_granted_is_sent_and_what_is_not_is_explained(isolation: &str) {
    let node = Node::start(isolation).await;
    let origin = node.url("");
    let deployed = node.deploy("fetch", &[], &[]).await.text();
    assert!(!deployed.contains("newly granted"), "{deployed}");
    let (told, log) = node.refused(&node.url("/a")).await;
    assert!(told.contains("HttpRequestDenied"), "{told}");
    let expected = format!(
        "tq: request to {origin} was refused: its module is not granted that destination; `[capabilities] http` in tq.toml grants it\n"
    );
    assert!(log.contains(&expected), "{log}");

    let grant = format!("GET,POST {origin}");
    let denied = node
        .deploy("fetch", &[&grant], &["--deny-new-capabilities"])
        .await;
    let expected = format!("the current version of module `fetch` is not granted: http {grant}");
    assert!(denied.stderr.contains(&expected), "{}", denied.stderr);
    let deployed = node.deploy("fetch", &[&grant], &[]).await.text();
    let expected = format!("newly granted: http {grant}\n");
    assert!(deployed.contains(&expected), "{deployed}");
    let narrower = format!("GET {origin}");
    let deployed = node
        .deploy("fetch", &[&narrower, &grant], &["--deny-new-capabilities"])
        .await;
    assert!(!deployed.text().contains("newly granted"));

    let answered = node.fetch(json!({ "url": node.url("/a?b=c") })).await;
    let answer = response(&answered);
    assert_eq!(answer["status"], 200);
    let expected = format!(
        "GET /a?b=c HTTP/1.1\r\nhost: {}\r\n\r\n",
        node.server.address
    );
    assert_eq!(answer["body"], expected);
    let post = json!({
        "url": node.url("/b"),
        "method": "POST",
        "headers": { "x-a": "1" },
        "body": "z".repeat(100_000),
    });
    let answered = node.fetch(post).await;
    let answer = response(&answered);
    let body = answer["body"].as_str().expect("it is text");
    assert!(body.contains("\r\nx-a: 1\r\n"), "{body}");
    assert!(body.ends_with(&format!("\r\n\r\n{}", "z".repeat(100_000))));
    let put = node
        .fetch(json!({ "url": node.url("/c"), "method": "PUT" }))
        .await;
    assert!(failure(&put).contains("HttpRequestDenied"), "{put}");

    // Whoever redirects does not decide where requests go.
    let redirected = node.fetch(json!({ "url": node.url("/redirect") })).await;
    assert_eq!(response(&redirected)["status"], 302);
    assert_eq!(node.server.paths(), ["/a?b=c", "/b", "/redirect"]);
    let log = node.dev.process.log();
    assert!(log.contains("refused a request of a guest"), "{log}");
    node.end().await;
}

async fn inside_is_not_reached_however_it_is_spelled(isolation: &str) {
    let node = Node::start(isolation).await;
    let inside = [
        "http://169.254.169.254",
        "http://[fd00:ec2::254]",
        "http://10.0.0.1",
        "http://127.0.0.2",
        "http://[::1]",
    ];
    node.deploy("fetch", &inside, &[]).await.ok();
    for url in inside {
        let (told, log) = node.refused(url).await;
        assert!(told.contains("DestinationIpProhibited"), "{url}: {told}");
        let expected = format!("tq: request to {url} was refused: its host has the address ");
        assert!(log.contains(&expected), "{url}: {log}");
    }
    let port = node.server.address.port();
    for authority in [
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "0251.0376.0251.0376",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "user@127.0.0.1",
        "169.254.169.254@127.0.0.1",
    ] {
        let url = format!("http://{authority}:{port}/");
        let task = node.fetch(json!({ "url": url })).await;
        assert_eq!(task["state"], "dead", "{url}: {task}");
    }
    let nobody = node.fetch(json!({ "url": "http:///a" })).await;
    assert_eq!(nobody["state"], "dead", "{nobody}");
    assert_eq!(node.server.paths(), [""; 0]);
    node.end().await;
}

async fn requests_have_limits_with_names(isolation: &str) {
    let node = Node::start(isolation).await;
    node.deploy("faults", &[&node.url("")], &[]).await.ok();
    let to = node.server.address.to_string();
    for (function, path, limit, outcome, said) in [
        (
            "requests_until_refused",
            "/",
            "http_requests=5",
            "http_request_limit",
            "it has sent 5 requests, which is the limit `http_requests`",
        ),
        (
            "endless_download",
            "/endless",
            "http_bytes=1MiB",
            "http_byte_limit",
            "requests and responses have more than 1048576 bytes",
        ),
        (
            "endless_download",
            "/slow",
            "http_time=300ms",
            "http_time_limit",
            "a request took longer than 300 ms",
        ),
        // Not a limit of requests, but it ends them too.
        (
            "endless_download",
            "/slow",
            "timeout=300ms",
            "timeout",
            "the time limit of 300ms is over",
        ),
    ] {
        let function = format!("faults/{function}");
        let ended = node.call(&function, &format!("{to}{path}"), &[limit]).await;
        assert_eq!(ended["outcome"], outcome, "{ended}");
        assert!(failure(&ended).contains(said), "{ended}");
    }
    node.is_quiet().await;
    node.end().await;
}

async fn what_no_honest_client_does_is_an_error_and_no_harm(isolation: &str) {
    let node = Node::start(isolation).await;
    node.deploy("faults", &[&node.url("")], &[]).await.ok();
    let to = node.server.address.to_string();
    let run = async |function: &str, payload: &str| {
        node.call(&format!("faults/{function}"), payload, &[]).await
    };
    let flood = run("request_flood", &to).await;
    assert_eq!(result(&flood), "100 9900");
    let open = node.server.open_at_most();
    assert!(open <= 16 + 1, "{open} connections at once");

    let upload = run("endless_upload", &to).await;
    assert!(failure(&upload).contains("HttpRequestBodySize"), "{upload}");
    let many = run("header_flood", "").await;
    assert_eq!(many["outcome"], "host_limit", "{many}");
    let huge = run("huge_request", &to).await;
    let huge = result(&huge).as_str().expect("it is text");
    assert!(huge.contains("HttpRequestUriTooLong"), "{huge}");
    assert!(huge.contains("HttpRequestHeaderSectionSize"), "{huge}");
    let zero = run("zero_timeout", &to).await;
    assert!(failure(&zero).contains("Timeout"), "{zero}");
    let set = run("headers_of_others", "").await;
    assert_eq!(result(&set), "", "these headers can be set");
    for _ in 0..5 {
        let left = run("requests_left", &format!("{to}/slow")).await;
        assert_eq!(left["outcome"], "succeeded", "{left}");
    }
    // Nothing goes on for a guest that is gone.
    node.is_quiet().await;
    node.end().await;
}

tq_tests::everywhere! { what_is_granted_is_sent_and_what_is_not_is_explained inside_is_not_reached_however_it_is_spelled requests_have_limits_with_names what_no_honest_client_does_is_an_error_and_no_harm }
