//! Guests connect to what their module was granted, and nowhere else: through the binary, to servers on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tq_tests::{Dev, Ran, eventually, failure, guest, within};

/// What a server does with each connection.
#[derive(Clone, Copy)]
enum Habit {
    /// Reads to the end, and sends all of it back.
    Echo,
    /// Reads to the end.
    Listen,
    /// Reads nothing before it is told to.
    Deaf,
    /// Writes without end.
    Talk,
}

/// A server that knows what was done to it.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    at_all: AtomicUsize,
    heard: Mutex<Vec<u8>>,
    read: Notify,
}

impl Server {
    async fn start(habit: Habit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port can be had");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::<Seen>::default();
        let shared = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&shared);
                seen.open.fetch_add(1, Ordering::SeqCst);
                seen.at_all.fetch_add(1, Ordering::SeqCst);
                connections.spawn(async move {
                    // Clients may go away whenever they like.
                    drop(serve(stream, habit, &seen).await);
                    seen.open.fetch_sub(1, Ordering::SeqCst);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    fn at_all(&self) -> usize {
        self.seen.at_all.load(Ordering::SeqCst)
    }

    fn heard(&self) -> Vec<u8> {
        self.seen.heard.lock().expect("no test panicked").clone()
    }

    /// Waits until so many connections are open.
    async fn has_open(&self, count: usize) {
        let look = async || (self.seen.open.load(Ordering::SeqCst) == count).then_some(());
        eventually("so many connections are open", look).await;
    }
}

async fn serve(mut stream: TcpStream, habit: Habit, seen: &Seen) -> io::Result<()> {
    let mut heard = Vec::new();
    match habit {
        Habit::Echo => {
            stream.read_to_end(&mut heard).await?;
            stream.write_all(&heard).await
        }
        Habit::Listen => {
            stream.read_to_end(&mut heard).await?;
            *seen.heard.lock().expect("no test panicked") = heard;
            Ok(())
        }
        Habit::Deaf => {
            seen.read.notified().await;
            stream.read_to_end(&mut heard).await.map(drop)
        }
        Habit::Talk => loop {
            stream.write_all(&[0x5a; 50_000]).await?;
        },
    }
}

/// A node whose tasks may reach this machine, if they are granted it.
struct Node {
    dev: Dev,
    folder: TempDir,
}

impl Node {
    /// Starts one that runs guests there: `none` is in its own process.
    async fn start(isolation: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let flags = [
            "--allow-network",
            "127.0.0.1/32",
            // Some systems have another `localhost`, which nobody listens at here.
            "--allow-network",
            "::1/128",
            "--isolation",
            isolation,
        ];
        let dev = Dev::start_with(&folder.path().join("data"), 2, &flags).await;
        Self { dev, folder }
    }

    /// Deploys `faults` with these grants.
    async fn deploy(&self, tcp: &[&str], flags: &[&str]) -> Ran {
        let manifest = format!("[capabilities]\ntcp = {}\n", json!(tcp));
        let place = guest::placed(self.folder.path(), "faults", &manifest);
        let words = ["deploy", &place].into_iter().chain(flags.iter().copied());
        self.dev.tq().run(words).await
    }

    /// Runs a call to its end, and returns its record.
    async fn call(&self, function: &str, payload: &str, limits: &[&str]) -> Value {
        let function = format!("faults/{function}");
        let mut words = vec!["run", "--output", "json", &function, payload];
        for limit in limits {
            words.extend(["--limit", limit]);
        }
        self.dev.tq().run(words).await.json()
    }

    async fn log(&self, task: &Value) -> String {
        let id = task["id"].as_str().expect("a task has an id");
        self.dev.tq().run(["task", "logs", id]).await.text()
    }

    async fn end(self) {
        let log = self.dev.process.log();
        assert!(!log.contains("panicked at"), "{log}");
        within("it stops", self.dev.process.stop()).await;
    }
}

/// The result of a task that has one.
#[track_caller]
fn result(task: &Value) -> &str {
    assert_eq!(task["outcome"], "succeeded", "{task}");
    task["result"].as_str().expect("it is text")
}

async fn what_is_granted_is_reached_and_what_is_not_is_explained(isolation: &str) {
    let node = Node::start(isolation).await;
    let server = Server::start(Habit::Listen).await;
    let (address, port) = (server.address.to_string(), server.address.port());
    node.deploy(&[], &[]).await.ok();
    let refused = node.call("tcp_connect", &address, &[]).await;
    assert!(failure(&refused).contains("PermissionDenied"), "{refused}");
    let log = node.log(&refused).await;
    let expected = "tq: a TCP socket was refused: its module is granted no TCP connection; `[capabilities] tcp` in tq.toml grants some\n";
    assert!(log.contains(expected), "{log}");

    let named = format!("localhost:{port}");
    let denied = node.deploy(&[&named], &["--deny-new-capabilities"]).await;
    let expected = format!("the current version of module `faults` is not granted: tcp {named}");
    assert!(denied.stderr.contains(&expected), "{}", denied.stderr);
    let deployed = node.deploy(&[&named], &[]).await.text();
    let expected = format!("newly granted: tcp {named}\n");
    assert!(deployed.contains(&expected), "{deployed}");

    // What the name leads to is reached by the name, and not without it.
    let reached = node.call("tcp_connect", &named, &[]).await;
    assert_eq!(result(&reached), address);
    let refused = node.call("tcp_connect", &address, &[]).await;
    assert!(failure(&refused).contains("PermissionDenied"), "{refused}");
    let log = node.log(&refused).await;
    let expected = format!(
        "tq: connection to {address} was refused: its module is not granted that address and port, and no name that it is granted has led there; `[capabilities] tcp` in tq.toml grants them\n"
    );
    assert!(log.contains(&expected), "{log}");
    let other = Server::start(Habit::Listen).await;
    let other_port = format!("localhost:{}", other.address.port());
    let refused = node.call("tcp_connect", &other_port, &[]).await;
    assert!(failure(&refused).contains("PermissionDenied"), "{refused}");
    let unknown = node.call("tcp_resolve", "example.com", &[]).await;
    assert!(failure(&unknown).contains("PermissionDenied"), "{unknown}");
    let log = node.log(&unknown).await;
    let expected = "tq: looking up example.com was refused: its module is not granted that host; `[capabilities] tcp` in tq.toml grants it\n";
    assert!(log.contains(expected), "{log}");

    node.deploy(&[&address], &[]).await.ok();
    let reached = node.call("tcp_connect", &address, &[]).await;
    assert_eq!(result(&reached), address);
    assert_eq!((server.at_all(), other.at_all()), (2, 0));
    server.has_open(0).await;
    let log = node.dev.process.log();
    assert!(log.contains("refused a connection of a guest"), "{log}");
    node.end().await;
}

async fn inside_is_not_reached(isolation: &str) {
    let node = Node::start(isolation).await;
    let inside = [
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        "10.0.0.1:5432",
        "127.0.0.2:5432",
    ];
    node.deploy(&inside, &[]).await.ok();
    for to in inside {
        let refused = node.call("tcp_connect", to, &[]).await;
        assert!(failure(&refused).contains("PermissionDenied"), "{refused}");
        let log = node.log(&refused).await;
        let expected = format!("tq: connection to {to} was refused: its host has the address ");
        assert!(log.contains(&expected), "{to}: {log}");
    }
    // However they are written: texts that are no names are looked up by nobody.
    for name in ["127.1", "0x7f000001", "2130706433", "a b", ""] {
        let refused = node.call("tcp_resolve", name, &[]).await;
        assert_eq!(refused["state"], "dead", "{name}: {refused}");
    }
    node.end().await;
}

async fn data_goes_both_ways_and_no_faster_than_it_is_taken(isolation: &str) {
    let node = Node::start(isolation).await;
    let echo = Server::start(Habit::Echo).await;
    let listen = Server::start(Habit::Listen).await;
    let deaf = Server::start(Habit::Deaf).await;
    let talk = Server::start(Habit::Talk).await;
    let servers = [&echo, &listen, &deaf, &talk];
    let grants = servers.map(|server| server.address.to_string());
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    node.deploy(&grants, &[]).await.ok();

    // The server has all of it before it sends any back: nothing is lost at the turn, and the end of one direction is not
    // that of the other.
    let bytes = 20_000_001;
    let payload = format!("{} {bytes}", echo.address);
    let echoed = node.call("tcp_echo", &payload, &["memory=128MiB"]).await;
    assert_eq!(result(&echoed), format!("{bytes} of {bytes}"));

    let to = listen.address.to_string();
    let ended = node.call("tcp_last_words", &to, &[]).await;
    assert_eq!(ended["outcome"], "succeeded", "{ended}");
    listen.has_open(0).await;
    assert_eq!(listen.heard(), b"last words");

    // Who waits for the other end to take or to say something is stopped all the same, and its connection with it.
    for (function, server) in [
        ("tcp_write", &deaf),
        ("tcp_read", &listen),
        ("tcp_read", &talk),
    ] {
        let to = server.address.to_string();
        let ended = node.call(function, &to, &["timeout=300ms"]).await;
        assert_eq!(ended["outcome"], "timeout", "{ended}");
        server.seen.read.notify_one();
        server.has_open(0).await;
    }
    node.end().await;
}

async fn connections_are_few_and_end_with_their_attempt(isolation: &str) {
    let node = Node::start(isolation).await;
    let server = Server::start(Habit::Listen).await;
    let to = server.address.to_string();
    node.deploy(&[&to], &[]).await.ok();
    let hoard = node.call("tcp_hoard", &to, &[]).await;
    assert!(result(&hoard).starts_with("16 "), "{hoard}");
    let log = node.log(&hoard).await;
    let expected = format!(
        "tq: connection to {to} was refused: 16 of its connections are open, which is the limit\n"
    );
    assert!(log.contains(&expected), "{log}");
    server.has_open(0).await;
    for _ in 0..3 {
        let left = node.call("tcp_leave", &to, &[]).await;
        assert_eq!(left["outcome"], "succeeded", "{left}");
    }
    server.has_open(0).await;

    let words = ["submit", "faults/tcp_read", &to];
    let id = node.dev.tq().run(words).await.text().trim().to_owned();
    server.has_open(1).await;
    node.dev.tq().run(["task", "cancel", &id]).await.ok();
    server.has_open(0).await;
    node.end().await;
}

async fn what_no_honest_client_does_is_an_error_and_no_harm(isolation: &str) {
    let node = Node::start(isolation).await;
    // Nobody listens there any more.
    let gone = Server::start(Habit::Listen).await.address.to_string();
    node.deploy(&[&gone], &[]).await.ok();
    let refused = node.call("tcp_connect", &gone, &[]).await;
    assert!(failure(&refused).contains("ConnectionRefused"), "{refused}");
    let knocked = node.call("tcp_knock", "10.0.0.1:80", &[]).await;
    assert_eq!(result(&knocked), "1000");
    let log = node.log(&knocked).await;
    assert_eq!(log.lines().count(), 1, "{log}");
    let knocked = node
        .call("tcp_knock", "10.0.0.1:80", &["host_calls=100"])
        .await;
    assert_eq!(knocked["outcome"], "host_call_limit", "{knocked}");
    let served = node.call("tcp_serve", "", &[]).await;
    assert_eq!(
        result(&served),
        "listen: PermissionDenied, listen on any: PermissionDenied, listen on v6: PermissionDenied, udp: PermissionDenied"
    );
    node.end().await;
}

tq_tests::everywhere! {
    what_is_granted_is_reached_and_what_is_not_is_explained
    inside_is_not_reached
    data_goes_both_ways_and_no_faster_than_it_is_taken
    connections_are_few_and_end_with_their_attempt
    what_no_honest_client_does_is_an_error_and_no_harm
}
