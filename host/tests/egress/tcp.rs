//! Connections as they come over the seam, to servers on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tq_core::limits::{TCP_OPEN_MAX, TCP_PART_BYTES};
use tq_core::{Epoch, TaskId};
use tq_host::egress::Egress as _;
use tq_host::egress::tcp::{Code, Connection, Dial, Failure, Part, Scope};

use crate::{Names, PATIENCE, Sending};

/// Data on loopback takes less.
const STILL: Duration = Duration::from_millis(300);

/// What connects for an attempt with these grants.
fn dial(sending: &Sending, grants: &[&str]) -> Arc<dyn Dial> {
    sending.sender.dial(Scope {
        epoch: Epoch(1),
        namespace: "default".to_owned(),
        task_id: TaskId([7; 16]),
        grants: Arc::new(grants.iter().map(|text| text.parse().unwrap()).collect()),
    })
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap()
}

async fn listen(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A connection that was granted, and the other end of it.
async fn connected() -> (Sending, Connection, TcpStream) {
    let (listener, address) = listen("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let dial = dial(&sending, &[&address.to_string()]);
    let connection = within(dial.connect(address)).await.unwrap();
    let (stream, _) = within(listener.accept()).await.unwrap();
    (sending, connection, stream)
}

/// Sends one part when there is room for it.
async fn send(connection: &Connection, data: &[u8]) -> Result<(), Failure> {
    within(connection.window.ready()).await?;
    assert!(connection.window.take());
    connection.outgoing.send(Bytes::copy_from_slice(data));
    Ok(())
}

#[track_caller]
fn refused<T>(result: Result<T, Failure>, expected: &str) {
    let failure = result.map(drop).unwrap_err();
    assert!(failure.is_refusal(), "{failure}");
    assert_eq!(failure.code(), Code::Denied);
    assert!(failure.to_string().starts_with(expected), "{failure}");
}

#[tokio::test]
async fn data_goes_both_ways_with_half_a_farewell() {
    let (sending, mut connection, mut stream) = connected().await;
    let sent: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
    let other = async {
        let mut heard = Vec::new();
        within(stream.read_to_end(&mut heard)).await.unwrap();
        within(stream.write_all(&heard)).await.unwrap();
        drop(stream);
    };
    let own = async {
        for chunk in sent.chunks(TCP_PART_BYTES) {
            send(&connection, chunk).await.unwrap();
        }
        within(connection.window.flushed()).await.unwrap();
        let Connection {
            outgoing, incoming, ..
        } = &mut connection;
        // Nothing more goes, and all of it comes back.
        *outgoing = Box::new(Nowhere);
        let mut came = BytesMut::new();
        loop {
            match within(incoming.recv()).await.unwrap() {
                Part::Data(data) => {
                    assert!(!data.is_empty() && data.len() <= TCP_PART_BYTES);
                    came.extend_from_slice(&data);
                }
                Part::End => break came,
                Part::Failed(failure) => panic!("{failure}"),
            }
        }
    };
    let ((), came) = tokio::join!(other, own);
    assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
    sending.check_counted(&["connected"]);
    drop(connection);
    sending.drained().await;
}

/// Where nothing goes.
struct Nowhere;

impl tq_host::egress::tcp::Outgoing for Nowhere {
    fn send(&self, _data: Bytes) {}
}

#[tokio::test]
async fn neither_side_holds_more_than_a_few_parts() {
    let (sending, mut connection, mut stream) = connected().await;
    // The other end takes nothing: the kernel holds some of it, and then there is no more room.
    let part = vec![0x5a; TCP_PART_BYTES];
    let mut parts = 0;
    while timeout(STILL, connection.window.ready()).await.is_ok() {
        send(&connection, &part).await.unwrap();
        parts += 1;
    }
    assert!(parts < 1_000, "{parts}");
    // Neither does a guest that takes nothing make its host read on.
    let mut written = 0;
    while let Ok(len) = timeout(STILL, stream.write(&part)).await {
        written += len.unwrap();
    }
    assert!(written < 1_000 * TCP_PART_BYTES, "{written}");
    let first = within(connection.incoming.recv()).await;
    assert!(matches!(first, Some(Part::Data(_))), "{first:?}");
    // What cannot be sent does not keep the socket for long.
    drop(connection);
    sending.drained().await;
}

#[tokio::test]
async fn only_what_was_granted_is_reached() {
    let (listener, address) = listen("127.0.0.1:0").await;
    let sending = Sending::with(
        &["127.0.0.0/8"],
        Names::new("db.test", &[&["127.0.0.1"]]),
        Vec::new(),
    );
    let not_granted = "its module is not granted that address and port";
    let named = dial(&sending, &[&format!("DB.test:{}", address.port())]);
    // The name has to be looked up, by this attempt.
    refused(within(named.connect(address)).await, not_granted);
    let found = within(named.resolve("db.TEST".to_owned())).await.unwrap();
    assert_eq!(found, [address.ip()]);
    within(named.connect(address)).await.unwrap();
    within(listener.accept()).await.unwrap();
    let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), address.port());
    within(named.connect(mapped)).await.unwrap();
    within(listener.accept()).await.unwrap();
    let other_port = SocketAddr::new(address.ip(), address.port() ^ 1);
    refused(within(named.connect(other_port)).await, not_granted);
    let other_address = SocketAddr::new("127.0.0.3".parse().unwrap(), address.port());
    refused(within(named.connect(other_address)).await, not_granted);
    let other_attempt = dial(&sending, &[&format!("db.test:{}", address.port())]);
    refused(within(other_attempt.connect(address)).await, not_granted);

    let unknown = within(named.resolve("other.test".to_owned())).await;
    refused(unknown, "its module is not granted that host");
    let number = within(named.resolve("127.1".to_owned())).await;
    assert_eq!(number.unwrap_err().code(), Code::Invalid);
    // An address is no secret; what is done with it is judged when it is dialled.
    let literal = within(named.resolve("127.0.0.3".to_owned())).await;
    assert_eq!(literal.unwrap(), [other_address.ip()]);
    refused(within(named.connect(other_address)).await, not_granted);
    sending.end().await;
}

#[tokio::test]
async fn inside_is_not_reached_by_address_or_by_name() {
    let (_listener, address) = listen("127.0.0.1:0").await;
    let names = Names::new("inside.test", &[&["1.1.1.1", "127.0.0.1"]]);
    let sending = Sending::with(&[], names, Vec::new());
    let forbidden = "its host has the address 127.0.0.1, which may not be reached: it is loopback";
    let grants = [address.to_string(), "inside.test:80".to_owned()];
    let dial = dial(&sending, &grants.each_ref().map(String::as_str));
    refused(within(dial.connect(address)).await, forbidden);
    // One bad address is enough, and then the good one is none either.
    let found = within(dial.resolve("inside.test".to_owned())).await;
    refused(found, forbidden);
    let outside = within(dial.connect("1.1.1.1:80".parse().unwrap())).await;
    refused(outside, "its module is not granted");
    sending.check_counted(&["address_forbidden", "address_forbidden", "not_granted"]);
    sending.end().await;
}

#[tokio::test]
async fn name_that_leads_elsewhere_the_second_time_leads_nowhere() {
    // Two addresses of loopback, of which one is opened: it stands for the internet.
    let (outside, address) = listen("127.0.0.2:0").await;
    let (inside, inner) = listen(&format!("127.0.0.1:{}", address.port())).await;
    let names = Names::new("rebind.test", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let sending = Sending::with(&["127.0.0.2/32"], names, Vec::new());
    let dial = dial(&sending, &[&format!("rebind.test:{}", address.port())]);
    let found = within(dial.resolve("rebind.test".to_owned())).await;
    assert_eq!(found.unwrap(), [address.ip()]);
    let again = within(dial.resolve("rebind.test".to_owned())).await;
    refused(again, "its host has the address 127.0.0.1");
    refused(
        within(dial.connect(inner)).await,
        "its module is not granted",
    );
    // What was checked is what is dialled.
    within(dial.connect(address)).await.unwrap();
    within(outside.accept()).await.unwrap();
    assert!(timeout(Duration::ZERO, inside.accept()).await.is_err());
    sending.end().await;
}

#[tokio::test]
async fn connections_of_an_attempt_are_bounded_and_make_room() {
    let (listener, address) = listen("127.0.0.1:0").await;
    let sending = Sending::to(&["127.0.0.1/32"]);
    let dial = dial(&sending, &[&address.to_string()]);
    let mut held = Vec::new();
    for _ in 0..TCP_OPEN_MAX {
        held.push(within(dial.connect(address)).await.unwrap());
    }
    let failure = within(dial.connect(address)).await.unwrap_err();
    assert_eq!((failure.code(), failure.is_refusal()), (Code::Limit, true));
    // One that waits gets the place of one that goes.
    let waiting = dial.connect(address);
    held.pop();
    held.push(within(waiting).await.unwrap());
    drop(listener);
    drop(held);
    sending.drained().await;
}

#[tokio::test]
async fn what_goes_wrong_has_its_name() {
    let (listener, address) = listen("127.0.0.1:0").await;
    drop(listener);
    let sending = Sending::with(&["127.0.0.1/32"], Arc::new(Names::default()), Vec::new());
    let grants = [address.to_string(), "nowhere.test:80".to_owned()];
    let dial = dial(&sending, &grants.each_ref().map(String::as_str));
    let failure = within(dial.connect(address)).await.unwrap_err();
    assert_eq!(
        (failure.code(), failure.is_refusal()),
        (Code::Refused, false)
    );
    let failure = within(dial.resolve("nowhere.test".to_owned())).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.to_string(), "its host was not found: no such name");
    assert_eq!(failure.code(), Code::Unresolved);
    sending.check_counted(&["connect_failed", "unresolved"]);
    sending.end().await;

    // The other end throws the connection away: whoever reads and whoever writes is told.
    let (sending, mut connection, stream) = connected().await;
    send(&connection, b"unread").await.unwrap();
    within(connection.window.flushed()).await.unwrap();
    within(stream.readable()).await.unwrap();
    drop(stream);
    let Some(Part::Failed(failure)) = within(connection.incoming.recv()).await else {
        panic!("it goes on");
    };
    assert_eq!(failure.code(), Code::Reset);
    assert_eq!(within(connection.window.ready()).await, Err(failure));
    drop(connection);
    sending.drained().await;
}

#[tokio::test]
async fn what_was_sent_before_the_end_arrives() {
    let (sending, connection, mut stream) = connected().await;
    send(&connection, b"last words").await.unwrap();
    drop(connection);
    let mut heard = Vec::new();
    within(stream.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last words");
    sending.drained().await;
}

#[tokio::test]
async fn connections_end_with_their_host() {
    let (sending, mut connection, mut stream) = connected().await;
    sending.end().await;
    assert_eq!(within(connection.incoming.recv()).await, None);
    assert_eq!(
        within(connection.window.ready()).await,
        Err(Failure::Stopped)
    );
    assert_eq!(within(stream.read(&mut [0])).await.unwrap(), 0);
}
