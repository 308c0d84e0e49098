//! `/v1`: what gRPC has, over HTTP with JSON.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tower_service::Service as _;
use tq_tests::{Dev, Guarded, eventually, guest};

/// Speaks HTTP/1.1, as anybody does.
#[derive(Clone)]
struct Http {
    url: String,
    key: Option<String>,
    agent: ureq::Agent,
}

struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: ureq::Body,
}

impl Answer {
    fn text(mut self) -> String {
        self.body.read_to_string().expect("it is text")
    }

    #[track_caller]
    fn json(self, status: u16) -> Value {
        let got = self.status;
        let text = self.text();
        assert_eq!(got, status, "{text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// A refusal, which is one whoever made it.
    #[track_caller]
    fn problem(self, status: u16) -> Value {
        let media_type = self.headers.get("content-type").cloned();
        let problem = self.json(status);
        assert_eq!(media_type.expect("it has one"), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert!(
            problem["detail"].is_string() && problem["code"].is_string(),
            "{problem}"
        );
        problem
    }
}

impl Http {
    fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        Self {
            url: url.to_owned(),
            key: None,
            agent: config.build().into(),
        }
    }

    fn with_key(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let (agent, body) = (self.agent.clone(), body.to_vec());
        let sent = tokio::task::spawn_blocking(move || match body.is_empty() {
            true => agent.run(request.body(())?),
            false => agent.run(request.body(body)?),
        });
        let answer = sent.await.expect("no panic").expect("the broker answers");
        let (parts, body) = answer.into_parts();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(method, path, &headers, body.to_string().as_bytes())
            .await
    }

    async fn deploy(&self, file: &Path, name: &str) -> Answer {
        let component = std::fs::read(file).expect("the component is built");
        let digest = STANDARD.encode(digest(&SHA256, &component));
        let digest = format!("sha-256=:{digest}:");
        let headers = [
            ("content-type", "application/wasm"),
            ("content-digest", &*digest),
        ];
        let path =
            format!("/v1/modules/{name}?settings=%7B%22retry%22:%7B%22max_attempts%22:2%7D%7D");
        self.send("PUT", &path, &headers, &component).await
    }
}

/// The events of a stream until its end, each with its name, its id and its data.
async fn events(answer: Answer) -> Vec<(String, String, Value)> {
    let read = tokio::task::spawn_blocking(move || {
        let mut events = vec![];
        let (mut name, mut id) = (String::new(), String::new());
        for line in BufReader::new(answer.body.into_reader()).lines() {
            let line = line.expect("it is text");
            if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut name);
            } else if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(text) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(text).expect("it is JSON");
                events.push((std::mem::take(&mut name), std::mem::take(&mut id), data));
            }
        }
        events
    });
    read.await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn module_is_deployed_and_tasks_are_run_watched_and_read() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(folder.path(), 2).await;
    let http = Http::new(dev.url());
    let deployed = http
        .deploy(&guest::example("faults"), "faults")
        .await
        .json(200);
    assert_eq!(deployed["module"]["version"], 1, "{deployed}");
    let again = http
        .deploy(&guest::example("faults"), "faults")
        .await
        .json(200);
    assert_eq!(again["unchanged"], true);

    let tasks = json!({"tasks": [
        {"function": "faults/echo", "payload": "as it is"},
        {"function": "faults/echo", "payload": {"json": {"to": [1, "a"]}}, "content_type": "application/json"},
        {"function": "faults/echo", "payload": {"base64": "/wA="}},
    ]});
    let submitted = http.json("POST", "/v1/tasks", &tasks).await.json(200);
    let ids: Vec<&str> = submitted["tasks"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|task| task["id"].as_str())
        .collect();
    let [text, structured, bytes] = ids[..] else {
        panic!("{submitted}");
    };
    let watch =
        format!("/v1/tasks/events?ids={text}&ids={structured}&ids={bytes}&include_result=true");
    let told = events(http.get(&watch).await).await;
    let (last, told) = told.split_last().expect("it has an end");
    assert_eq!(last.0, "end");
    let ended: usize = told
        .iter()
        .filter_map(|(_, _, data)| Some(data["ended"].as_array()?.len()))
        .sum();
    assert_eq!(ended, 3, "{told:?}");
    for (id, result) in [
        (text, json!("as it is")),
        (structured, json!("{\"to\":[1,\"a\"]}")),
        (bytes, json!({"base64": "/wA="})),
    ] {
        let task = http
            .get(&format!("/v1/tasks/{id}?include_result=true"))
            .await
            .json(200);
        assert_eq!(
            (&task["result"], &task["state"]),
            (&result, &json!("succeeded")),
            "{task}"
        );
    }

    // A watch goes on behind the last event that was seen: without one that there was, and with all after it.
    let all = http.get("/v1/tasks/events?after_seq=0").await;
    let seen = seen(all, 3).await;
    let next = json!({"tasks": [{"function": "faults/echo", "payload": "next"}]});
    let next = http.json("POST", "/v1/tasks", &next).await.json(200);
    let next = next["tasks"][0]["id"]
        .as_str()
        .expect("it has an id")
        .to_owned();
    let headers = [("last-event-id", &*seen)];
    let resumed = http
        .send("GET", "/v1/tasks/events?after_seq=0", &headers, b"")
        .await;
    let resumed = ended_after(resumed, &next).await;
    assert_eq!(resumed, [next], "what was seen is not told again");

    let log = http.get(&format!("/v1/tasks/{text}/log")).await;
    assert_eq!(log.status, 200);
    let page = http.get("/v1/tasks?limit=2").await.json(200);
    assert_eq!(page["tasks"].as_array().map(Vec::len), Some(2));
    let cursor = page["next"].as_str().expect("there is more").to_owned();
    let page = http
        .get(&format!("/v1/tasks?limit=2&cursor={cursor}"))
        .await
        .json(200);
    assert_eq!(page["tasks"].as_array().map(Vec::len), Some(2));
    dev.process.stop().await;
}

/// The id of the event by which so many tasks have ended.
async fn seen(answer: Answer, tasks: usize) -> String {
    let read = tokio::task::spawn_blocking(move || {
        let (mut id, mut ended, mut has_all) = (String::new(), 0, false);
        for line in BufReader::new(answer.body.into_reader()).lines() {
            let line = line.expect("it is text");
            if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(text) = line.strip_prefix("data: ") {
                let data: Value = serde_json::from_str(text).expect("it is JSON");
                ended += data["ended"].as_array().map_or(0, Vec::len);
                has_all = ended >= tasks;
            } else if line.is_empty() && has_all {
                return id;
            }
        }
        panic!("only {ended} have ended");
    });
    read.await.expect("no panic")
}

/// The tasks that end in a stream, until one has that is waited for.
async fn ended_after(answer: Answer, last: &str) -> Vec<String> {
    let last = last.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        for line in BufReader::new(answer.body.into_reader()).lines() {
            let line = line.expect("it is text");
            let Some(data) = line.strip_prefix("data: ") else {
                continue;
            };
            let data: Value = serde_json::from_str(data).expect("it is JSON");
            let ended = data["ended"].as_array().cloned().unwrap_or_default();
            all.extend(
                ended
                    .iter()
                    .filter_map(|task| task["id"].as_str().map(str::to_owned)),
            );
            if all.contains(&last) {
                return all;
            }
        }
        all
    });
    read.await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_a_problem_that_says_where() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(folder.path(), 1).await;
    let http = Http::new(dev.url());
    for (method, path, headers, body, status, expected) in [
        ("GET", "/v1/tasks/none", &[][..], &b""[..], 400, "`none`"),
        (
            "GET",
            "/v1/tasks/0190c7e2-d3a4-7000-8000-000000000000",
            &[],
            b"",
            404,
            "no task",
        ),
        (
            "GET",
            "/v1/tasks/events?ids=0190c7e2-d3a4-7000-8000-000000000000",
            &[],
            b"",
            404,
            "no task",
        ),
        (
            "PUT",
            "/v1/modules/m?settings={}&settings={}",
            &[],
            b"x",
            400,
            "`settings` is given twice",
        ),
        ("POST", "/v1/openapi.json", &[], b"", 405, "no such method"),
        ("GET", "/v1/tasks/%ff", &[], b"", 400, "no UTF-8"),
        ("GET", "/v1/tasks?limit=x", &[], b"", 400, "`limit` is x"),
        (
            "GET",
            "/v1/tasks?nothing=1",
            &[],
            b"",
            400,
            "`nothing` is not known here",
        ),
        ("GET", "/v1/tasks?cursor=%ff", &[], b"", 400, "no UTF-8"),
        ("POST", "/v1/tasks", &[], b"{", 400, "the body is no JSON"),
        ("POST", "/v1/tasks", &[], b"[]", 400, "`the body` is a list"),
        (
            "POST",
            "/v1/tasks",
            &[],
            b"{\"namespace\": \"a\"}",
            400,
            "`namespace` belongs into the address",
        ),
        (
            "POST",
            "/v1/tasks?tasks=1",
            &[],
            b"{}",
            400,
            "`tasks` belongs into the body",
        ),
        (
            "POST",
            "/v1/tasks",
            &[("content-type", "text/plain")],
            b"{}",
            415,
            "application/json",
        ),
        (
            "POST",
            "/v1/tasks",
            &[],
            b"{\"tasks\": [{\"function\": \"none\"}]}",
            404,
            "none",
        ),
        ("PUT", "/v1/modules/m", &[], b"x", 400, "content-digest"),
        ("DELETE", "/v1/tasks", &[], b"", 405, "no such method"),
        ("GET", "/v1/nothing", &[], b"", 404, "no such path"),
    ] {
        let answer = http.send(method, path, headers, body).await;
        let problem = answer.problem(status);
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(expected), "{method} {path}: {problem}");
    }
    // Refused before it comes.
    let address = dev.url().trim_start_matches("http://").to_owned();
    let large = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("the broker serves");
        let head = "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 99999999\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("the broker reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is text");
        answer
    });
    let large = large.await.expect("no panic");
    assert!(
        large.starts_with("HTTP/1.1 413 ") && large.contains("over the limit of 20971520"),
        "{large}"
    );
    let none = http
        .get("/v1/tasks/0190c7e2-d3a4-7000-8000-000000000000")
        .await
        .problem(404);
    assert_eq!(none["code"], "not_found");
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_have_tags_and_the_document_describes_every_answer() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(folder.path(), 1).await;
    let http = Http::new(dev.url());
    let limit = json!({"concurrency": 4});
    let queue = http.json("PUT", "/v1/queues/bulk", &limit).await.json(200);
    assert_eq!(queue["concurrency"], 4);
    let first = http.get("/v1/queues/bulk").await;
    let tag = first.headers["etag"]
        .to_str()
        .expect("it is text")
        .to_owned();
    let known = http
        .send("GET", "/v1/queues/bulk", &[("if-none-match", &*tag)], b"")
        .await;
    assert_eq!((known.status, known.text().as_str()), (304, ""));
    let limit = json!({"concurrency": 5});
    http.json("PUT", "/v1/queues/bulk", &limit).await.json(200);
    let other = http
        .send("GET", "/v1/queues/bulk", &[("if-none-match", &*tag)], b"")
        .await;
    assert_eq!(other.json(200)["concurrency"], 5);

    let head = http.send("HEAD", "/v1/queues/bulk", &[], b"").await;
    let tag = http.get("/v1/queues/bulk").await.headers["etag"].clone();
    assert_eq!((head.status, &head.headers["etag"]), (200, &tag));

    let document = http.get("/v1/openapi.json").await.json(200);
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/v1/tasks"]["post"].is_object());
    let page = http.get("/v1").await;
    assert!(
        page.headers["content-type"]
            .to_str()
            .is_ok_and(|media| media.starts_with("text/html"))
    );
    assert!(page.text().contains("tq API"));
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_let_in_here_too_and_what_is_done_is_in_the_audit_log() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let http = Http::new(guarded.broker.url());
    let unknown = json!({"tasks": "whatever"});
    http.json("POST", "/v1/tasks", &unknown).await.problem(401);
    let refused = http.get("/v1/tasks").await;
    assert_eq!(refused.headers["www-authenticate"], "Bearer");
    refused.problem(401);
    let viewer = http.with_key(&guarded.key("viewer", &["acme"]).await);
    let who = viewer.get("/v1/whoami").await.json(200);
    assert_eq!(
        (&who["role"], &who["namespaces"]),
        (&json!("viewer"), &json!(["acme"]))
    );
    viewer.get("/v1/tasks").await.json(200);
    viewer.get("/v1/tasks?namespace=other").await.problem(403);
    viewer.get("/v1/hosts").await.problem(403);
    let secret = json!({"value": "a secret value"});
    viewer
        .json("PUT", "/v1/secrets/api", &secret)
        .await
        .problem(403);
    let deployer = http.with_key(&guarded.key("deployer", &["acme"]).await);
    deployer
        .json("PUT", "/v1/secrets/api", &secret)
        .await
        .json(200);
    let admin = http.with_key(&guarded.admin_key);
    let log = admin
        .get("/v1/audit?namespace=acme&call=SetSecret")
        .await
        .json(200);
    let records = log["records"].as_array().expect("a list");
    assert!(
        records.iter().any(|record| record["outcome"] == "ok"),
        "{log}"
    );
    assert!(!log.to_string().contains("a secret value"));
    guarded.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_are_cut_end_and_are_kept_to_go_on_with() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(folder.path(), 1).await;
    let http = Http::new(dev.url());
    let component = std::fs::read(guest::example("faults")).expect("it is built");
    let whole = digest(&SHA256, &component);
    let encoded = STANDARD.encode(whole);
    let channel = Endpoint::from_shared(dev.url().to_owned()).expect("it is an address");
    let channel = channel.connect().await.expect("the broker serves");
    // More than there are processors: one that does not end would take one for itself.
    let cuts = 2 * std::thread::available_parallelism().map_or(2, usize::from);
    for _ in 0..cuts {
        let (sender, frames) = tokio::sync::mpsc::channel(1);
        let body = StreamBody::new(ReceiverStream::new(frames).map(Ok::<_, Infallible>));
        let request = ureq::http::Request::put(format!("{}/v1/modules/cut", dev.url()))
            .header("content-length", component.len())
            .header("content-digest", format!("sha-256=:{encoded}:"))
            .body(tonic::body::Body::new(body))
            .expect("it is a request");
        let mut channel = channel.clone();
        let mut call = JoinSet::new();
        call.spawn(async move {
            std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
            channel.call(request).await
        });
        for chunk in component[..component.len() / 2].chunks(64 << 10) {
            let frame = Frame::data(Bytes::copy_from_slice(chunk));
            sender.send(frame).await.expect("the broker reads");
        }
        call.shutdown().await;
        let escaped = encoded
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        let path = format!(
            "/v1/uploads?digest={escaped}&size_bytes={}",
            component.len()
        );
        eventually("what has come is kept", async || {
            let kept = http.get(&path).await.json(200);
            (kept["received_bytes"].as_u64() > Some(0)).then_some(())
        })
        .await;
    }
    let deployed = http.deploy(&guest::example("faults"), "whole").await;
    deployed.json(200);
    dev.process.stop().await;
}
