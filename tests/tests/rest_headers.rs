//! `/v1` and what stands around a request: web pages, ids, compressed bodies.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tq_tests::{Broker, Dev, Guarded, eventually, guest};
use ureq::http::HeaderMap;

/// What a request came to: status, headers and text.
type Answer = (u16, HeaderMap, String);

/// Speaks HTTP/1.1, as anybody does.
async fn send(
    url: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{url}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body).expect("it is a request");
    let sent = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true);
        let agent: ureq::Agent = config.build().into();
        let (parts, mut body) = agent.run(request).expect("the broker answers").into_parts();
        let mut text = String::new();
        let read = body.as_reader().read_to_string(&mut text);
        read.expect("it is text");
        (parts.status.as_u16(), parts.headers, text)
    });
    sent.await.expect("no panic")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

#[track_caller]
fn json(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.0, status, "{}", answer.2);
    serde_json::from_str(&answer.2).unwrap_or_else(|error| panic!("{error}: {}", answer.2))
}

/// Asks as a page of an origin does, before and after it was told that it may.
async fn ask(url: &str, origin: &str) -> (Answer, Answer) {
    let preflight = [
        ("origin", origin),
        ("access-control-request-method", "PUT"),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ];
    let asked = send(url, "OPTIONS", "/v1/queues/bulk", &preflight, Vec::new()).await;
    let done = send(url, "GET", "/v1/queues", &[("origin", origin)], Vec::new()).await;
    (asked, done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_pages_that_were_named_may_read() {
    const APP: &str = "https://app.example";
    let folder = tempfile::tempdir().expect("a folder can be made");
    let allowed = |answer: &Answer| {
        let allowed = answer.1.get("access-control-allow-origin")?;
        Some(allowed.to_str().expect("it is text").to_owned())
    };

    let closed = Broker::start(&folder.path().join("closed")).await;
    let (asked, done) = ask(closed.url(), APP).await;
    assert_eq!((asked.0, allowed(&asked)), (405, None));
    assert_eq!((done.0, allowed(&done)), (403, None));
    closed.process.stop().await;

    let flags = [
        "--cors-origin",
        APP,
        "--cors-origin",
        "http://localhost:3000",
    ];
    let named = Broker::start_with(&folder.path().join("named"), &flags).await;
    let (asked, done) = ask(named.url(), APP).await;
    assert_eq!((asked.0, allowed(&asked).as_deref()), (200, Some(APP)));
    let says = |answer: &Answer, header: &str, value: &str| {
        let said = answer.1[header].to_str().expect("it is text").to_owned();
        assert!(
            said.to_ascii_lowercase().contains(value),
            "{header}: {said}"
        );
    };
    says(&asked, "access-control-allow-methods", "put");
    says(&asked, "access-control-allow-headers", "authorization");
    says(&asked, "access-control-allow-headers", "content-digest");
    assert_eq!(
        (done.0, allowed(&done).as_deref()),
        (200, Some(APP)),
        "{}",
        done.2
    );
    for header in ["etag", "retry-after", "x-request-id"] {
        says(&done, "access-control-expose-headers", header);
    }
    for other in [
        "https://evil.example",
        "https://app.example.evil.example",
        "null",
    ] {
        let (asked, done) = ask(named.url(), other).await;
        assert_eq!(allowed(&asked), None, "{other}");
        assert_eq!((done.0, allowed(&done)), (403, None), "{other}");
    }
    for answer in [&asked, &done] {
        assert!(!answer.1.contains_key("access-control-allow-credentials"));
    }
    named.process.stop().await;

    // Of a broker that knows its callers, everybody's pages may ask with a key.
    let guarded = Guarded::start_with(&folder.path().join("any"), &["--cors-origin", "*"]).await;
    let url = guarded.broker.url();
    let (_, refused) = ask(url, APP).await;
    assert_eq!((refused.0, allowed(&refused).as_deref()), (401, Some("*")));
    let key = format!("Bearer {}", guarded.admin_key);
    let headers = [("origin", APP), ("authorization", &*key)];
    let done = send(url, "GET", "/v1/queues", &headers, Vec::new()).await;
    assert_eq!((done.0, allowed(&done).as_deref()), (200, Some("*")));
    guarded.broker.process.stop().await;

    // One that does not lets in who is named, and all is not a name.
    let open = Broker::start_with(&folder.path().join("open"), &["--cors-origin", "*"]).await;
    let (_, done) = ask(open.url(), APP).await;
    assert_eq!(done.0, 403, "{}", done.2);
    open.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_problems_and_the_log_have_the_id_of_the_request() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let url = guarded.broker.url();
    let key = format!("Bearer {}", guarded.admin_key);
    let id = |answer: &Answer| {
        let id = answer.1["x-request-id"].to_str().expect("it is text");
        id.to_owned()
    };

    let headers = [
        ("authorization", &*key),
        ("x-request-id", "of-the-caller/1"),
    ];
    let done = send(url, "GET", "/v1/queues", &headers, Vec::new()).await;
    assert_eq!((done.0, &*id(&done)), (200, "of-the-caller/1"));
    let missing = send(url, "GET", "/v1/queues/none", &headers, Vec::new()).await;
    assert_eq!(json(&missing, 404)["request_id"], "of-the-caller/1");

    let made = send(url, "GET", "/v1/nothing", &[], Vec::new()).await;
    assert_eq!(json(&made, 404)["request_id"], *id(&made));
    let again = send(url, "POST", "/v1/queues", &[], Vec::new()).await;
    assert_eq!(json(&again, 405)["request_id"], *id(&again));
    assert_ne!(id(&made), id(&again));
    let strange = [("x-request-id", "a\" b")];
    let strange = send(url, "GET", "/v1/nothing", &strange, Vec::new()).await;
    assert_eq!(id(&strange).len(), id(&made).len());

    let wrong = [
        ("authorization", "Bearer nothing"),
        ("x-request-id", "look-for-me"),
    ];
    let refused = send(url, "GET", "/v1/queues", &wrong, Vec::new()).await;
    assert_eq!(json(&refused, 401)["request_id"], "look-for-me");
    eventually("the log names the request", async || {
        let log = guarded.broker.process.log();
        let mut lines = log.lines();
        lines
            .any(|line| line.contains("credential refused") && line.contains("look-for-me"))
            .then_some(())
    })
    .await;
    guarded.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_may_come_compressed() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(&folder.path().join("data"), 1).await;
    let component = std::fs::read(guest::example("faults")).expect("it is built");
    let digest = STANDARD.encode(digest(&SHA256, &component));
    let settings = json!({"size_bytes": component.len(), "digest": {"base64": digest}});
    let settings = settings.to_string();
    let settings = settings.replace('+', "%2B").replace('"', "%22");
    let settings = settings.replace('{', "%7B").replace('}', "%7D");
    let path = format!("/v1/modules/faults?settings={settings}");
    let upload = [
        ("content-type", "application/wasm"),
        ("content-encoding", "gzip"),
    ];
    let packed = gzip(&component);
    assert!(packed.len() < component.len());
    let unsaid = gzip(b"small");
    let unsaid = send(dev.url(), "PUT", "/v1/modules/faults", &upload, unsaid).await;
    let unsaid = json(&unsaid, 400);
    let hint = unsaid["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("size_bytes"), "{unsaid}");
    let deployed = send(dev.url(), "PUT", &path, &upload, packed).await;
    assert_eq!(json(&deployed, 200)["module"]["version"], 1);

    // Small enough to have been sent before it is refused.
    let bomb = gzip(&vec![0; 1 << 20]);
    let held = dev.process.resident_bytes();
    let bombed = path.replace("faults", "bomb");
    let refused = send(dev.url(), "PUT", &bombed, &upload, bomb).await;
    let refused = json(&refused, 413);
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(&component.len().to_string()), "{refused}");

    let tasks = json!({"tasks": [{"function": "faults/echo", "payload": "packed"}]});
    let body = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let tasks = gzip(tasks.to_string().as_bytes());
    let submitted = send(dev.url(), "POST", "/v1/tasks", &body, tasks.clone()).await;
    assert!(json(&submitted, 200)["tasks"][0]["id"].is_string());
    let bomb = gzip(&vec![b' '; 10 << 20]).repeat(100);
    let refused = send(dev.url(), "POST", "/v1/tasks", &body, bomb).await;
    let refused = json(&refused, 413);
    assert_eq!(
        refused["detail"],
        "the body, expanded, is over the limit of 20971520 bytes"
    );
    let grown = dev.process.resident_bytes().saturating_sub(held);
    assert!(grown < 150 << 20, "{grown} bytes more are held");

    let cut = send(dev.url(), "POST", "/v1/tasks", &body, tasks[..20].to_vec()).await;
    let cut = json(&cut, 400);
    assert!(
        cut["detail"]
            .as_str()
            .unwrap_or_default()
            .contains("no gzip"),
        "{cut}"
    );
    let other = [("content-encoding", "br")];
    for (method, path) in [("POST", "/v1/tasks"), ("PUT", "/v1/modules/faults")] {
        let other = send(dev.url(), method, path, &other, tasks.clone()).await;
        assert_eq!(other.1["accept-encoding"], "gzip");
        json(&other, 415);
    }
    dev.process.stop().await;
}
