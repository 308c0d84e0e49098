//! Requests as they come over the seam, to servers on loopback.

#![expect(clippy::unwrap_used, reason = "what a test relies on fails the test")]

mod server;
mod tcp;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tq_core::grant::Scheme;
use tq_core::{Epoch, TaskId};
use tq_host::egress::{
    Config, Egress as _, Failure, Part, Request, Resolve, Response, Scope, Sender, System,
    Timeouts, Wait,
};

use server::Server;

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers by name, one answer after the other; the last one stays.
#[derive(Default)]
struct Names(Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>);

impl Names {
    fn new(name: &str, answers: &[&[&str]]) -> Arc<Self> {
        let answers = answers.iter().map(|answer| {
            let addresses = answer.iter().map(|text| text.parse().unwrap());
            addresses.collect()
        });
        let names = HashMap::from([(name.to_owned(), answers.collect())]);
        Arc::new(Self(Mutex::new(names)))
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut names = self.0.lock().unwrap();
        let found = names.get_mut(host).and_then(|answers| match answers.len() {
            1 => answers.front().cloned(),
            _ => answers.pop_front(),
        });
        let found = found.ok_or_else(|| io::Error::other("no such name"));
        Box::pin(std::future::ready(found))
    }
}

/// A sender, what it counted, and what it left running.
struct Sending {
    sender: Sender,
    counted: Arc<Mutex<Vec<&'static str>>>,
    tasks: TaskTracker,
    stopped: CancellationToken,
}

impl Sending {
    /// One that may reach these networks.
    fn to(networks: &[&str]) -> Self {
        Self::with(networks, Arc::new(Names::default()), Vec::new())
    }

    fn with(networks: &[&str], resolve: Arc<dyn Resolve>, tls_roots: Vec<Bytes>) -> Self {
        let config = Config {
            allowed_networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
            tls_roots,
            resolve,
        };
        let (tasks, stopped) = (TaskTracker::new(), CancellationToken::new());
        let counted = Arc::<Mutex<Vec<_>>>::default();
        let count = Arc::clone(&counted);
        let sender = Sender::new(
            config,
            Handle::current(),
            tasks.clone(),
            stopped.clone(),
            move |_, outcome| count.lock().unwrap().push(outcome),
        );
        Self {
            sender,
            counted,
            tasks,
            stopped,
        }
    }

    async fn send(&self, scope: &Scope, request: Request) -> Result<Response, Failure> {
        let sent = self.sender.send(scope.clone(), request);
        tokio::time::timeout(PATIENCE, sent).await.unwrap()
    }

    /// Sends a GET with a grant for exactly that, and reads the whole response.
    async fn get(&self, url: &str) -> Result<Answer, Failure> {
        let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        whole(self.send(&scope(&[&origin]), get(url)).await?).await
    }

    #[track_caller]
    fn check_counted(&self, expected: &[&str]) {
        assert_eq!(*self.counted.lock().unwrap(), expected);
    }

    /// Ends it, and waits until none of its tasks runs.
    async fn end(self) {
        self.stopped.cancel();
        self.drained().await;
    }

    /// Waits until nothing is left running.
    async fn drained(&self) {
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait())
            .await
            .unwrap();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

async fn whole(response: Response) -> Result<Answer, Failure> {
    let Response {
        status,
        headers,
        body: mut parts,
        flow: _,
    } = response;
    let mut body = BytesMut::new();
    loop {
        let part = tokio::time::timeout(PATIENCE, parts.recv()).await.unwrap();
        match part.expect("a body has an end") {
            Part::Data(data) => body.extend_from_slice(&data),
            Part::End => break,
            Part::Failed(failure) => return Err(failure),
        }
    }
    let headers = headers.into_iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(&value).into_owned();
        (name, value)
    });
    Ok(Answer {
        status,
        headers: headers.collect(),
        body: body.freeze(),
    })
}

fn scope(grants: &[&str]) -> Scope {
    Scope {
        epoch: Epoch(1),
        namespace: "default".to_owned(),
        task_id: TaskId([7; 16]),
        grants: Arc::new(grants.iter().map(|text| text.parse().unwrap()).collect()),
        timeouts: Timeouts {
            connect: None,
            first_byte: None,
            between_bytes: None,
            total: PATIENCE,
        },
        response_bytes: 64 << 20,
    }
}

fn get(url: &str) -> Request {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Request {
        method: "GET".to_owned(),
        scheme: if scheme == "https" {
            Scheme::Https
        } else {
            Scheme::Http
        },
        authority: authority.to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
    }
}

#[tokio::test]
async fn request_arrives_as_it_was_sent() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let url = server.url("/echo?a=b");
    let answer = sending.get(&url).await.unwrap();
    assert_eq!(answer.status, 200);
    let expected = format!("GET /echo?a=b HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
    assert_eq!(answer.text(), expected);

    let mut post = get(&url);
    post.method = "POST".to_owned();
    post.headers = vec![("x-a".to_owned(), Bytes::from_static(b"1"))];
    post.body = Bytes::from(vec![b'z'; 300_000]);
    let response = sending.send(&scope(&[&server.url("")]), post).await;
    let answer = whole(response.unwrap()).await.unwrap();
    let (head, body) = answer.text().split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nx-a: 1\r\n"), "{head}");
    assert!(head.ends_with("\r\ncontent-length: 300000"), "{head}");
    assert_eq!(body.len(), 300_000);
    sending.check_counted(&["answered", "answered"]);
    sending.end().await;
}

#[tokio::test]
async fn only_opened_networks_and_the_internet_are_reached() {
    let server = Server::start("127.0.0.1:0").await;
    let closed = Sending::to(&[]);
    let refused = closed.get(&server.url("/echo")).await.unwrap_err();
    let expected = "its host has the address 127.0.0.1, which may not be reached: it is loopback";
    assert_eq!(refused.to_string(), expected);
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://0.0.0.0/",
    ] {
        let refused = closed.get(url).await.unwrap_err();
        assert!(
            matches!(refused, Failure::AddressForbidden { .. }),
            "{url}: {refused}"
        );
    }
    // A wide network opens much, and no metadata.
    let wide = Sending::to(&["0.0.0.0/0", "::/0"]);
    let refused = wide.get("http://169.254.169.254/").await.unwrap_err();
    assert!(refused.to_string().ends_with("it is a metadata service"));
    assert_eq!(server.connections(), 0);
    closed.end().await;
    wide.end().await;
}

#[tokio::test]
async fn name_that_leads_elsewhere_the_second_time_is_refused() {
    // Two addresses of loopback, of which one is opened: it stands for the internet.
    let outside = Server::start("127.0.0.2:0").await;
    let port = outside.address.port();
    let inside = Server::start(&format!("127.0.0.1:{port}")).await;
    let names = Names::new("rebind.test", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let sending = Sending::with(&["127.0.0.2/32"], names, Vec::new());
    let url = format!("http://rebind.test:{port}/echo");
    let answer = sending.get(&url).await.unwrap();
    assert!(answer.text().contains(&format!("host: rebind.test:{port}")));
    let refused = sending.get(&url).await.unwrap_err();
    assert!(matches!(refused, Failure::AddressForbidden { .. }));
    assert_eq!((outside.connections(), inside.connections()), (1, 0));
    sending.check_counted(&["answered", "address_forbidden"]);
    sending.end().await;
}

#[tokio::test]
async fn one_forbidden_address_among_others_is_enough() {
    let outside = Server::start("127.0.0.2:0").await;
    for answer in [
        ["127.0.0.2", "127.0.0.1"],
        ["127.0.0.2", "::1"],
        ["127.0.0.2", "::ffff:169.254.169.254"],
        ["10.0.0.1", "127.0.0.2"],
    ] {
        let names = Names::new("mixed.test", &[&answer]);
        let sending = Sending::with(&["127.0.0.2/32"], names, Vec::new());
        let url = format!("http://mixed.test:{}/", outside.address.port());
        let refused = sending.get(&url).await.unwrap_err();
        assert!(
            matches!(refused, Failure::AddressForbidden { .. }),
            "{answer:?}: {refused}"
        );
        sending.end().await;
    }
    assert_eq!(outside.connections(), 0);
}

#[tokio::test]
async fn names_that_are_not_found_and_ports_that_are_closed_are_failures() {
    let sending = Sending::to(&["127.0.0.1/32"]);
    let unresolved = sending.get("http://nowhere.test/").await.unwrap_err();
    assert_eq!(
        unresolved.to_string(),
        "its host was not found: no such name"
    );
    let closed = {
        let server = Server::start("127.0.0.1:0").await;
        server.url("/")
    };
    let failed = sending.get(&closed).await.unwrap_err();
    assert!(matches!(failed, Failure::Connect { .. }), "{failed}");
    assert!(!failed.is_refusal());
    sending.check_counted(&["unresolved", "connect_failed"]);
    sending.end().await;
}

#[tokio::test]
async fn resolver_of_the_system_finds_this_machine() {
    let system = System::new(Handle::current(), TaskTracker::new());
    let found = system.resolve("localhost").await.unwrap();
    assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    assert!(system.resolve("a.invalid").await.is_err());
}

#[tokio::test]
async fn redirects_are_the_guests_and_nothing_is_decompressed() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let answer = sending.get(&server.url("/redirect")).await.unwrap();
    assert_eq!(answer.status, 302);
    let location = answer.headers.iter().find(|(name, _)| name == "location");
    assert_eq!(location.unwrap().1, "http://169.254.169.254/secret");
    // What the server calls gzip is handed on byte for byte, whatever it would become.
    let bomb = sending.get(&server.url("/gzip")).await.unwrap();
    assert_eq!(bomb.body, server::GZIP);
    assert_eq!(server.paths(), ["/redirect", "/gzip"]);
    sending.end().await;
}

#[tokio::test]
async fn connection_is_kept_for_the_same_namespace_only() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let url = server.url("/echo");
    let ask = async |namespace: &str| {
        let mut scope = scope(&[&server.url("")]);
        scope.namespace = namespace.to_owned();
        whole(sending.send(&scope, get(&url)).await.unwrap())
            .await
            .unwrap();
        server.connections()
    };
    ask("a").await;
    // It is kept a moment after the response has ended.
    let mut connections = server.connections();
    for _ in 0..100 {
        let before = connections;
        connections = ask("a").await;
        if connections == before {
            break;
        }
    }
    assert!(connections < 100, "none was kept");
    assert_eq!(ask("b").await, connections + 1, "it is another's");
    sending.end().await;
}

#[tokio::test]
async fn connection_that_was_closed_meanwhile_is_replaced() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    for _ in 0..20 {
        let answer = sending.get(&server.url("/close")).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    sending.end().await;
}

#[tokio::test]
async fn response_that_does_not_end_ends_with_its_time() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let mut scope = scope(&[&server.url("")]);
    scope.timeouts.total = Duration::from_millis(200);
    for (path, is_begun) in [("/never", false), ("/slow", true)] {
        let response = sending.send(&scope, get(&server.url(path))).await;
        assert_eq!(response.is_ok(), is_begun, "{path}");
        let failed = match response {
            Ok(response) => whole(response).await.unwrap_err(),
            Err(failed) => failed,
        };
        assert_eq!(failed, Failure::Timeout(Wait::Total), "{path}");
    }
    // The guest's own bounds are narrower.
    scope.timeouts.total = PATIENCE;
    scope.timeouts.first_byte = Some(Duration::ZERO);
    let failed = sending.send(&scope, get(&server.url("/never"))).await;
    assert_eq!(failed.unwrap_err(), Failure::Timeout(Wait::FirstByte));
    scope.timeouts.first_byte = None;
    scope.timeouts.between_bytes = Some(Duration::from_millis(50));
    let response = sending.send(&scope, get(&server.url("/slow"))).await;
    let failed = whole(response.unwrap()).await.unwrap_err();
    assert_eq!(failed, Failure::Timeout(Wait::BetweenBytes));
    sending.end().await;
}

#[tokio::test]
async fn guest_that_reads_nothing_holds_a_bounded_part_and_learns_that_the_rest_is_missing() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let mut scope = scope(&[&server.url("")]);
    scope.timeouts.total = Duration::from_millis(300);
    let response = sending.send(&scope, get(&server.url("/endless"))).await;
    let mut response = response.unwrap();
    // Its time ends while nobody reads.
    sending.drained().await;
    let mut held = 0;
    let end = loop {
        match response.body.recv().await.unwrap() {
            Part::Data(data) => held += data.len(),
            end => break end,
        }
    };
    assert_eq!(end, Part::Failed(Failure::Timeout(Wait::Total)));
    assert!(held <= 1 << 20, "{held} bytes");
    sending.end().await;
}

#[tokio::test]
async fn response_over_its_bytes_ends() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let mut scope = scope(&[&server.url("")]);
    scope.response_bytes = 1 << 20;
    let response = sending.send(&scope, get(&server.url("/endless"))).await;
    let failed = whole(response.unwrap()).await.unwrap_err();
    assert_eq!(failed, Failure::Bytes(1 << 20));
    sending.end().await;
}

#[tokio::test]
async fn what_is_no_response_is_an_error() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    for path in [
        "/junk",
        "/upgrade",
        "/headers",
        "/long-header",
        "/two-lengths",
    ] {
        let failed = sending.get(&server.url(path)).await.unwrap_err();
        assert_eq!(failed.name(), "protocol_error", "{path}: {failed}");
    }
    let cut = sending.get(&server.url("/cut")).await.unwrap_err();
    assert_eq!(cut, Failure::CutOff);
    let early = sending.get(&server.url("/early")).await.unwrap();
    assert_eq!(early.status, 200);
    sending.end().await;
}

#[tokio::test]
async fn request_that_is_given_up_leaves_nothing_running() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let scope = scope(&[&server.url("")]);
    // Before the head, and in the middle of the body.
    drop(
        sending
            .sender
            .send(scope.clone(), get(&server.url("/never"))),
    );
    let response = sending.send(&scope, get(&server.url("/endless"))).await;
    drop(response.unwrap());
    let mut response = sending
        .send(&scope, get(&server.url("/slow")))
        .await
        .unwrap();
    response.body.recv().await.unwrap();
    drop(response);
    sending.drained().await;
    sending.check_counted(&["abandoned"; 3]);
}

#[tokio::test]
async fn stopping_ends_what_is_open() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let scope = scope(&[&server.url("")]);
    let mut open = sending
        .send(&scope, get(&server.url("/slow")))
        .await
        .unwrap();
    let waiting = sending.sender.send(scope, get(&server.url("/never")));
    sending.stopped.cancel();
    assert_eq!(waiting.await.unwrap_err(), Failure::Stopped);
    while let Some(part) = open.body.recv().await {
        assert_ne!(part, Part::End);
    }
    sending.drained().await;
}

#[tokio::test]
async fn tls_proves_who_answers() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["secure.test".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let root = Bytes::copy_from_slice(cert.der());
    let server = Server::start_tls(cert.der().clone(), signing_key.serialize_der()).await;
    let port = server.address.port();
    let names = || Names::new("secure.test", &[&["127.0.0.1"]]);
    let trusting = Sending::with(&["127.0.0.1/32"], names(), vec![root.clone()]);
    for host in ["secure.test", "127.0.0.1"] {
        let answer = trusting.get(&format!("https://{host}:{port}/echo")).await;
        assert!(
            answer
                .unwrap()
                .text()
                .contains(&format!("host: {host}:{port}"))
        );
    }
    assert_eq!(server.names(), [Some("secure.test".to_owned()), None]);

    let wary = Sending::with(&["127.0.0.1/32"], names(), Vec::new());
    let url = format!("https://secure.test:{port}/echo");
    let refused = wary.get(&url).await.unwrap_err();
    assert_eq!(refused.name(), "tls_failed", "{refused}");

    let other = Names::new("other.test", &[&["127.0.0.1"]]);
    let trusting_other = Sending::with(&["127.0.0.1/32"], other, vec![root]);
    let url = format!("https://other.test:{port}/echo");
    let refused = trusting_other.get(&url).await.unwrap_err();
    assert!(matches!(refused, Failure::Certificate(_)), "{refused}");

    // One that speaks no TLS.
    let plain = Server::start("127.0.0.1:0").await;
    let url = plain.url("/echo").replace("http://", "https://");
    let refused = trusting_other.get(&url).await.unwrap_err();
    assert!(matches!(refused, Failure::Tls(_)), "{refused}");
    for sending in [trusting, wary, trusting_other] {
        sending.end().await;
    }
}

#[tokio::test]
async fn many_requests_at_once_are_all_answered() {
    let server = Server::start("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let scope = scope(&[&server.url("")]);
    let sent: Vec<_> = (0..1_000)
        .map(|_| {
            sending
                .sender
                .send(scope.clone(), get(&server.url("/echo")))
        })
        .collect();
    for response in sent {
        assert_eq!(whole(response.await.unwrap()).await.unwrap().status, 200);
    }
    assert!(
        server.open_at_most() <= 256 + 64,
        "{}",
        server.open_at_most()
    );
    sending.end().await;
}
