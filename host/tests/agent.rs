//! The host's agent against a broker that each test plays by hand, over real sockets.

#![expect(clippy::unwrap_used, reason = "what a test relies on fails the test")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tq_core::TaskId;
use tq_core::limits::Limits;
use tq_host::component::Compiler;
use tq_host::{Config, Error, Host};
use tq_proto::v1::broker_message::Kind as FromBroker;
use tq_proto::v1::data::Kind as DataKind;
use tq_proto::v1::host_link_server::{HostLink, HostLinkServer};
use tq_proto::v1::host_message::Kind as ToBroker;
use tq_proto::v1::put_blob_request::Part;
use tq_proto::v1::{self, BlobChunk, BrokerMessage, HostMessage};

/// More than anything here takes, compiling included.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the broker's store is.
const SEQ: u64 = 7;
const EMPTY: &str = r#"(component
    (core module $m (func (export "run") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $exports (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $exports)))"#;
const LOOP: &str = r#"(component
    (core module $m (func (export "run") (result i32) (loop br 0) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $exports (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $exports)))"#;
/// Writes 80 KiB to standard output, 4 KiB at a time.
const WRITER: &str = r#"(component
    (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
    (alias export $errors "error" (type $error))
    (import "wasi:io/streams@0.2.0" (instance $streams
        (export "output-stream" (type $stream (sub resource)))
        (alias outer 1 $error (type $outer-error))
        (export "error" (type $e (eq $outer-error)))
        (type $variant (variant (case "last-operation-failed" (own $e)) (case "closed")))
        (export "stream-error" (type $stream-error (eq $variant)))
        (export "[method]output-stream.blocking-write-and-flush"
            (func (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
    (alias export $streams "output-stream" (type $output-stream))
    (import "wasi:cli/stdout@0.2.0" (instance $stdio
        (alias outer 1 $output-stream (type $outer-stream))
        (export "output-stream" (type $s (eq $outer-stream)))
        (export "get-stdout" (func (result (own $s))))))
    (core module $memory-module (memory (export "memory") 2))
    (core instance $memory-instance (instantiate $memory-module))
    (alias core export $memory-instance "memory" (core memory $memory))
    (core func $get (canon lower (func $stdio "get-stdout")))
    (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
        (memory $memory)))
    (core module $main
        (import "host" "memory" (memory 2))
        (import "host" "get" (func $get (result i32)))
        (import "host" "write" (func $write (param i32 i32 i32 i32)))
        (func (export "run") (result i32)
            (local $stream i32) (local $written i32)
            (local.set $stream (call $get))
            (loop $again
                (call $write (local.get $stream) (i32.const 1024) (i32.const 4096) (i32.const 0))
                (local.set $written (i32.add (local.get $written) (i32.const 4096)))
                (br_if $again (i32.lt_u (local.get $written) (i32.const 81920))))
            i32.const 0))
    (core instance $i (instantiate $main (with "host" (instance
        (export "memory" (memory $memory))
        (export "get" (func $get))
        (export "write" (func $write))))))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $exports (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $exports)))"#;

/// One session, as the broker has it.
struct Session {
    inbound: Streaming<HostMessage>,
    outbound: mpsc::Sender<Result<BrokerMessage, Status>>,
}

impl Session {
    async fn send(&self, kind: FromBroker) {
        let message = BrokerMessage { kind: Some(kind) };
        self.outbound.send(Ok(message)).await.unwrap();
    }

    async fn next(&mut self) -> ToBroker {
        let message = timeout(PATIENCE, self.inbound.message())
            .await
            .expect("the host says something");
        message.unwrap().expect("the session goes on").kind.unwrap()
    }

    async fn hello(&mut self) -> v1::Hello {
        match self.next().await {
            ToBroker::Hello(hello) => hello,
            other => panic!("the first message is {other:?}"),
        }
    }

    async fn welcome(&self, fenced: &[u64]) {
        self.send(FromBroker::Welcome(v1::Welcome {
            store: Bytes::from_static(b"0123456789abcdef"),
            generation: 1,
            lease_ms: 10_000,
            heartbeat_ms: 2_000,
            fenced: fenced.to_vec(),
            seq: SEQ,
        }))
        .await;
    }

    async fn assign(&self, assignments: Vec<v1::Assignment>) {
        self.send(FromBroker::Assignments(v1::Assignments {
            assignments,
            seq: SEQ,
        }))
        .await;
    }

    async fn ack(&self, epochs: &[u64]) {
        let acks = epochs
            .iter()
            .map(|&epoch| v1::Ack {
                epoch,
                fenced: false,
            })
            .collect();
        self.send(FromBroker::Acks(v1::Acks { acks, seq: SEQ }))
            .await;
    }

    /// Has the module prepared, and waits for the first credits.
    async fn prepare(&mut self, module: &Module) {
        self.send(FromBroker::Prepare(v1::Prepare {
            digest: module.digest.clone(),
            size_bytes: module.bytes.len() as u64,
        }))
        .await;
        let (mut is_ready, mut has_credits) = (false, false);
        while !is_ready || !has_credits {
            match self.next().await {
                ToBroker::Ready(ready) => is_ready = ready.digests.contains(&module.digest),
                ToBroker::Credits(_) => has_credits = true,
                ToBroker::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next outcomes.
    async fn outcomes(&mut self) -> Vec<v1::AttemptOutcome> {
        loop {
            match self.next().await {
                ToBroker::Outcomes(outcomes) => return outcomes.outcomes,
                ToBroker::Credits(_) | ToBroker::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the host ends the session; it has no outcome to tell.
    async fn end(mut self) {
        while let Some(message) = timeout(PATIENCE, self.inbound.message())
            .await
            .unwrap()
            .unwrap()
        {
            let kind = message.kind.unwrap();
            assert!(!matches!(kind, ToBroker::Outcomes(_)), "{kind:?}");
        }
    }
}

#[derive(Clone)]
struct Link {
    sessions: mpsc::Sender<Session>,
    logs: mpsc::Sender<v1::PutLogsRequest>,
    blobs: Arc<Mutex<HashMap<Bytes, Bytes>>>,
}

#[tonic::async_trait]
impl HostLink for Link {
    type SessionStream = ReceiverStream<Result<BrokerMessage, Status>>;
    type FetchBlobStream = ReceiverStream<Result<BlobChunk, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<HostMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outbound, messages) = mpsc::channel(64);
        let inbound = request.into_inner();
        let session = Session { inbound, outbound };
        self.sessions
            .send(session)
            .await
            .map_err(|_| Status::unavailable("the test takes no session"))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn fetch_blob(
        &self,
        request: Request<v1::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        let digest = request.into_inner().digest;
        let blob = self.blobs.lock().unwrap().get(&digest).cloned();
        let blob = blob.ok_or_else(|| Status::not_found("there is no such blob"))?;
        let (sender, receiver) = mpsc::channel(2);
        // Two chunks, so that they have to be put together. The channel takes both at once.
        let half = blob.len() / 2;
        for data in [blob.slice(..half), blob.slice(half..)] {
            sender.try_send(Ok(BlobChunk { data })).unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<v1::PutBlobRequest>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        let mut parts = request.into_inner();
        let mut header = None;
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await? {
            match part.part.unwrap() {
                Part::Header(blob) => header = Some(blob),
                Part::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            }
        }
        let header = header.unwrap();
        assert_eq!(
            (header.size_bytes, &header.digest[..]),
            (bytes.len() as u64, &Sha256::digest(&bytes)[..])
        );
        self.blobs
            .lock()
            .unwrap()
            .insert(header.digest, bytes.into());
        Ok(Response::new(v1::PutBlobResponse {}))
    }

    async fn put_logs(
        &self,
        request: Request<Streaming<v1::PutLogsRequest>>,
    ) -> Result<Response<v1::PutLogsResponse>, Status> {
        let mut logs = request.into_inner();
        while let Some(log) = logs.next().await {
            self.logs
                .send(log?)
                .await
                .map_err(|_| Status::unavailable("the test takes no logs"))?;
        }
        Ok(Response::new(v1::PutLogsResponse {}))
    }

    async fn get_secret(
        &self,
        _request: Request<v1::GetSecretRequest>,
    ) -> Result<Response<v1::GetSecretResponse>, Status> {
        Err(Status::unimplemented("there are none here"))
    }

    async fn key_value(
        &self,
        _request: Request<v1::KeyValueRequest>,
    ) -> Result<Response<v1::KeyValueResponse>, Status> {
        Err(Status::unimplemented("there are none here"))
    }
}

/// The broker, and the directory of the hosts that speak to it.
struct Broker {
    address: SocketAddr,
    sessions: mpsc::Receiver<Session>,
    logs: mpsc::Receiver<v1::PutLogsRequest>,
    blobs: Arc<Mutex<HashMap<Bytes, Bytes>>>,
    directory: tempfile::TempDir,
    // Ends with it.
    _serving: JoinSet<()>,
}

struct Module {
    digest: Bytes,
    bytes: Bytes,
}

impl Broker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sessions, sessions_taken) = mpsc::channel(1);
        let (logs, logs_taken) = mpsc::channel(1024);
        let blobs = Arc::<Mutex<HashMap<_, _>>>::default();
        let link = Link {
            sessions,
            logs,
            blobs: Arc::clone(&blobs),
        };
        let server = Server::builder().add_service(HostLinkServer::new(link));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            server
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
                .await
                .unwrap()
        });
        Self {
            address,
            sessions: sessions_taken,
            logs: logs_taken,
            blobs,
            directory: tempfile::tempdir().unwrap(),
            _serving: serving,
        }
    }

    fn config(&self) -> Config {
        let mut config = Config::new(
            format!("http://{}", self.address),
            "h1",
            2,
            self.directory.path().join("host"),
        );
        config.compiler = Compiler {
            program: env!("CARGO_BIN_EXE_tq-host-compile").into(),
            arguments: Vec::new(),
            ..Compiler::default()
        };
        config.drain_timeout = PATIENCE;
        config
    }

    fn module(&self, wat: &str) -> Module {
        let bytes = Bytes::from(wat::parse_str(wat).unwrap());
        let digest = Bytes::copy_from_slice(&Sha256::digest(&bytes));
        self.blobs
            .lock()
            .unwrap()
            .insert(digest.clone(), bytes.clone());
        Module { digest, bytes }
    }

    async fn session(&mut self) -> Session {
        timeout(PATIENCE, self.sessions.recv())
            .await
            .expect("the host connects")
            .unwrap()
    }

    /// A host that holds `module`, and its session.
    async fn host(&mut self, module: &Module) -> (Host, Session) {
        let host = Host::start(self.config()).await.unwrap();
        let mut session = self.session().await;
        session.hello().await;
        session.welcome(&[]).await;
        timeout(PATIENCE, host.ready()).await.unwrap();
        session.prepare(module).await;
        (host, session)
    }

    fn spooled(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("host/outcomes"))
            .unwrap()
            .count()
    }
}

fn assignment(module: &Module, epoch: u64) -> v1::Assignment {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&epoch.to_be_bytes());
    v1::Assignment {
        task_id: TaskId(id).to_string(),
        namespace: "default".to_owned(),
        epoch,
        token: Bytes::from_static(b"token"),
        digest: module.digest.clone(),
        function: "main".to_owned(),
        limits: Some(v1::Limits {
            fuel: Limits::MAX.fuel,
            memory_bytes: Limits::DEFAULT.memory_bytes,
            timeout_ms: 60_000,
            ..v1::Limits::default()
        }),
        attempt: 1,
        max_attempts: 3,
        ..v1::Assignment::default()
    }
}

fn names(outcomes: &[v1::AttemptOutcome]) -> Vec<(u64, &str)> {
    outcomes
        .iter()
        .map(|outcome| (outcome.epoch, outcome.outcome.as_str()))
        .collect()
}

/// Shuts a host down that has nothing left to tell.
async fn leave(host: Host, session: Session) {
    let both = async { tokio::join!(host.shutdown(), session.end()) };
    timeout(PATIENCE, both).await.unwrap();
}

fn metric(host: &Host, name: &str) -> String {
    let text = host.metrics();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("`{name}` is not in\n{text}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_arrives_once_though_the_connection_drops() {
    const TASKS: u64 = 100;
    let mut broker = Broker::start().await;
    let module = broker.module(EMPTY);
    let host = Host::start(broker.config()).await.unwrap();
    let mut next = 1;
    let mut open = BTreeSet::new();
    let mut settled = BTreeMap::new();
    for is_cut in [true, false] {
        let mut session = broker.session().await;
        let hello = session.hello().await;
        assert_eq!(
            (hello.name.as_str(), hello.slots, hello.incarnation.len()),
            ("h1", 2, 16)
        );
        let told = hello.held.iter().map(|held| held.epoch);
        let told: BTreeSet<u64> = told
            .chain(hello.outcomes.iter().map(|outcome| outcome.epoch))
            .collect();
        assert_eq!(told, open, "the hello names every open attempt");
        assert_eq!(hello.ready.len(), usize::from(!is_cut));
        session.welcome(&[]).await;
        if is_cut {
            assert_eq!(hello.seen_seq, 0);
            session
                .send(FromBroker::Prepare(v1::Prepare {
                    digest: module.digest.clone(),
                    size_bytes: module.bytes.len() as u64,
                }))
                .await;
        } else {
            assert_eq!(hello.seen_seq, SEQ);
        }
        let (mut granted, mut sent) = (0, 0);
        let mut is_ready = !is_cut;
        let mut arrived = hello.outcomes;
        loop {
            let acks: Vec<u64> = arrived.iter().map(|outcome| outcome.epoch).collect();
            for outcome in arrived.drain(..) {
                assert_eq!(outcome.outcome, "succeeded", "{:?}", outcome.failure);
                assert!(
                    open.remove(&outcome.epoch),
                    "{} is told twice",
                    outcome.epoch
                );
                assert_eq!(settled.insert(outcome.epoch, outcome.token), None);
            }
            session.ack(&acks).await;
            if settled.len() as u64 == TASKS {
                break;
            }
            if is_ready && next <= TASKS {
                let last = TASKS.min(next + granted - sent - 1);
                let assignments: Vec<_> = (next..=last)
                    .map(|epoch| assignment(&module, epoch))
                    .collect();
                open.extend(next..=last);
                sent += assignments.len() as u64;
                next = last + 1;
                session.assign(assignments).await;
            }
            match session.next().await {
                ToBroker::Credits(credits) => granted = credits.granted,
                // Cut with outcomes on the way that were not acknowledged.
                ToBroker::Outcomes(_) if is_cut && settled.len() as u64 >= TASKS / 2 => break,
                ToBroker::Outcomes(outcomes) => arrived = outcomes.outcomes,
                ToBroker::Ready(_) => is_ready = true,
                ToBroker::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if !is_cut {
            assert!(open.is_empty());
            leave(host, session).await;
            break;
        }
    }
    assert_eq!(settled.len() as u64, TASKS);
    assert_eq!(broker.spooled(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_survive_a_restart_of_the_host_without_a_broker() {
    let mut broker = Broker::start().await;
    let module = broker.module(EMPTY);
    let (host, session) = broker.host(&module).await;
    session.assign(vec![assignment(&module, 1)]).await;
    // The broker goes before it could acknowledge anything.
    let mut session = session;
    assert_eq!(names(&session.outcomes().await), [(1, "succeeded")]);
    broker.sessions.close();
    drop(session);
    timeout(PATIENCE, host.shutdown()).await.unwrap();
    assert_eq!(broker.spooled(), 1);

    let directory = std::mem::replace(&mut broker.directory, tempfile::tempdir().unwrap());
    let mut broker = Broker::start().await;
    broker.directory = directory;
    let host = Host::start(broker.config()).await.unwrap();
    let mut session = broker.session().await;
    let hello = session.hello().await;
    assert_eq!(names(&hello.outcomes), [(1, "succeeded")]);
    assert_eq!(
        (hello.seen_seq, &hello.ready[..]),
        (SEQ, std::slice::from_ref(&module.digest))
    );
    session.welcome(&[]).await;
    session.ack(&[1]).await;
    // The compiled form is still there, and is run without being prepared again.
    while !matches!(session.next().await, ToBroker::Credits(_)) {}
    session.assign(vec![assignment(&module, 2)]).await;
    assert_eq!(names(&session.outcomes().await), [(2, "succeeded")]);
    session.ack(&[2]).await;
    leave(host, session).await;
    assert_eq!(broker.spooled(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_and_results_go_by_blob() {
    let mut broker = Broker::start().await;
    let module = broker.module(WRITER);
    let (host, mut session) = broker.host(&module).await;
    let blob = |digest: Bytes, size_bytes| {
        Some(v1::Data {
            kind: Some(DataKind::Blob(v1::Blob { digest, size_bytes })),
        })
    };
    let size = module.bytes.len() as u64;
    // Any bytes do for a payload; the module's own are there.
    session
        .assign(vec![v1::Assignment {
            payload: blob(module.digest.clone(), size),
            ..assignment(&module, 1)
        }])
        .await;
    let outcomes = session.outcomes().await;
    assert_eq!(names(&outcomes), [(1, "succeeded")], "{outcomes:?}");
    let Some(DataKind::Blob(result)) = outcomes[0].result.clone().and_then(|data| data.kind) else {
        panic!("{outcomes:?}");
    };
    assert_eq!(result.size_bytes, 81_920);
    assert_eq!(
        broker
            .blobs
            .lock()
            .unwrap()
            .get(&result.digest)
            .map(Bytes::len),
        Some(81_920)
    );
    session
        .assign(vec![v1::Assignment {
            payload: blob(Bytes::from_static(&[7; 32]), 1),
            ..assignment(&module, 2)
        }])
        .await;
    let outcomes = session.outcomes().await;
    let message = &outcomes[0].failure.as_ref().unwrap().message;
    assert_eq!(names(&outcomes), [(2, "host_error")]);
    assert_eq!(
        message,
        "failed to fetch the payload: there is no such blob"
    );
    drop(host);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_go_beside_the_session() {
    let mut broker = Broker::start().await;
    let module = broker.module(&WRITER.replace("stdout", "stderr"));
    let (_host, mut session) = broker.host(&module).await;
    session.assign(vec![assignment(&module, 1)]).await;
    assert_eq!(names(&session.outcomes().await), [(1, "succeeded")]);
    let mut bytes = 0;
    while bytes < 81_920 {
        let log = timeout(PATIENCE, broker.logs.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (log.epoch, log.attempt, log.namespace.as_str()),
            (1, 1, "default")
        );
        assert_eq!(log.task_id, assignment(&module, 1).task_id);
        bytes += log.text.len();
    }
    assert_eq!(bytes, 81_920);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_and_fenced_attempts_end() {
    let mut broker = Broker::start().await;
    let module = broker.module(LOOP);
    let (host, mut session) = broker.host(&module).await;
    session
        .assign(vec![assignment(&module, 1), assignment(&module, 2)])
        .await;
    session
        .send(FromBroker::Stop(v1::Stop {
            epoch: 1,
            reason: v1::StopReason::Cancelled.into(),
        }))
        .await;
    assert_eq!(names(&session.outcomes().await), [(1, "cancelled")]);
    session.ack(&[1]).await;
    // The lease of the other one is lost while the connection is.
    drop(session);
    let mut session = broker.session().await;
    assert_eq!(session.hello().await.held.len(), 1);
    session.welcome(&[2]).await;
    // Its slot is free again, and nothing is told of it.
    session.prepare(&module).await;
    session
        .assign(vec![assignment(&module, 3), assignment(&module, 4)])
        .await;
    for epoch in [3, 4] {
        let reason = v1::StopReason::Deadline.into();
        session
            .send(FromBroker::Stop(v1::Stop { epoch, reason }))
            .await;
    }
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let outcomes = session.outcomes().await;
        assert!(
            outcomes
                .iter()
                .all(|outcome| outcome.outcome == "deadline_exceeded"),
            "{outcomes:?}"
        );
        ended.extend(outcomes.iter().map(|outcome| outcome.epoch));
    }
    ended.sort_unstable();
    assert_eq!(ended, [3, 4]);
    assert_eq!(metric(&host, "tq_session_up"), "1");
    assert_eq!(metric(&host, "tq_modules_ready"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_given_back_when_the_drain_times_out() {
    let mut broker = Broker::start().await;
    let module = broker.module(LOOP);
    let (first, mut session) = broker.host(&module).await;
    let drained = async {
        assert!(matches!(session.next().await, ToBroker::Draining(_)));
        session.end().await;
    };
    timeout(PATIENCE, async { tokio::join!(first.shutdown(), drained) })
        .await
        .unwrap();

    let mut config = broker.config();
    config.drain_timeout = Duration::from_millis(50);
    let host = Host::start(config).await.unwrap();
    let mut session = broker.session().await;
    session.hello().await;
    session.welcome(&[]).await;
    session.prepare(&module).await;
    session.assign(vec![assignment(&module, 1)]).await;
    // What is still on its way when a host drains is not its own to give back.
    let runs = async {
        while metric(&host, "tq_slots_busy") != "1" {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, runs).await.unwrap();
    let drained = async {
        let outcomes = loop {
            match session.next().await {
                ToBroker::Outcomes(outcomes) => break outcomes.outcomes,
                ToBroker::Draining(_) | ToBroker::Credits(_) | ToBroker::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(names(&outcomes), [(1, "host_drained")]);
        session.ack(&[1]).await;
        session.end().await;
    };
    timeout(PATIENCE, async { tokio::join!(host.shutdown(), drained) })
        .await
        .unwrap();
    assert_eq!(broker.spooled(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn component_that_is_none_fails_for_good_and_a_missing_one_does_not() {
    let mut broker = Broker::start().await;
    let module = broker.module(EMPTY);
    let (_host, mut session) = broker.host(&module).await;
    let bytes = Bytes::from_static(b"not wasm");
    let digest = Bytes::copy_from_slice(&Sha256::digest(&bytes));
    broker.blobs.lock().unwrap().insert(digest.clone(), bytes);
    for (digest, is_permanent) in [(digest, true), (Bytes::from_static(&[1; 32]), false)] {
        let size_bytes = 8;
        session
            .send(FromBroker::Prepare(v1::Prepare { digest, size_bytes }))
            .await;
        let failed = loop {
            match session.next().await {
                ToBroker::PrepareFailed(failed) => break failed,
                ToBroker::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(failed.permanent, is_permanent, "{}", failed.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_has_one_host() {
    let broker = Broker::start().await;
    let host = Host::start(broker.config()).await.unwrap();
    let error = Host::start(broker.config()).await.unwrap_err();
    assert!(
        matches!(&error, Error::InUse { path } if path.ends_with("host")),
        "{error}"
    );
    timeout(PATIENCE, host.shutdown()).await.unwrap();
    Host::start(broker.config()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served() {
    let broker = Broker::start().await;
    let mut config = broker.config();
    config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    let host = Host::start(config).await.unwrap();
    let address = host.metrics_address().unwrap();
    let text = tokio::task::spawn_blocking(move || get(address, "/metrics"))
        .await
        .unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("tq_build_info"),
        "{text}"
    );
    assert!(Path::new(&broker.directory.path().join("host/lock")).is_file());
}

/// A request as Prometheus makes it.
fn get(address: SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
