//! What somebody can do with connections who has shown nothing yet: each attack ends within its limit, costs the broker a bounded
//! amount of memory, and keeps nobody else from being served. The numbers are those of `docs/security.md`.

use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tq_tests::{Authority, Broker, within};

/// From a connection to its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// For a connection of HTTP/2 to end after it was said that this is the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Without progress of a request, or of a response.
const STALL: Duration = Duration::from_secs(15);
/// What a loaded machine may add.
const SLACK: Duration = Duration::from_secs(10);
/// Streams of one connection.
const STREAMS_MAX: u32 = 256;

const MIB: u64 = 1 << 20;

/// Frames of HTTP/2, their flags and one setting (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A broker that is attacked.
struct Target {
    folder: TempDir,
    broker: Broker,
}

impl Target {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let broker = Broker::start(&folder.path().join("data")).await;
        Self { folder, broker }
    }

    async fn connect(&self) -> TcpStream {
        let (_, address) = self.broker.url().split_once("://").expect("it is a URL");
        let connected = TcpStream::connect(address).await;
        connected.expect("the broker takes connections")
    }

    /// A connection of HTTP/2 that has begun, with these settings of its own.
    async fn connect_http2(&self, settings: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        let begun = [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat();
        stream.write_all(&begun).await.expect("it is open");
        stream
    }

    /// Attacks it while somebody else is served, and measures what that costs it at most.
    async fn withstands(self, bytes_max: u64, attack: impl AsyncFnOnce(&Self)) {
        let client = self.broker.client().await;
        let served = async || client.modules().await.expect("others are served");
        served().await;
        let before = self.broker.process.resident_bytes();
        let mut peak = before;
        {
            let attack = attack(&self);
            tokio::pin!(attack);
            loop {
                tokio::select! {
                    () = &mut attack => break,
                    _ = within("somebody else is served", served()) => {
                        peak = peak.max(self.broker.process.resident_bytes());
                    }
                }
            }
        }
        served().await;
        let cost = peak.saturating_sub(before);
        assert!(
            cost <= bytes_max,
            "it cost {cost} bytes, over the bound of {bytes_max} bytes"
        );
        self.broker.process.stop().await;
        drop(self.folder);
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("it is short");
    let [_, len @ ..] = len.to_be_bytes();
    [&len[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that is spelled out (RFC 7541, section 6.2.2). Both parts are shorter than 127 bytes.
fn header(name: &str, value: &str) -> Vec<u8> {
    let len = |text: &str| u8::try_from(text.len()).expect("it is short");
    [
        &[0, len(name)],
        name.as_bytes(),
        &[len(value)],
        value.as_bytes(),
    ]
    .concat()
}

/// The headers of a request.
fn request(method: &str, path: &str) -> Vec<u8> {
    [
        header(":method", method),
        header(":scheme", "http"),
        header(":path", path),
        header(":authority", "localhost"),
        header("content-type", "application/grpc"),
        header("te", "trailers"),
    ]
    .concat()
}

/// The headers of a call whose message does not come with them.
fn submit() -> Vec<u8> {
    request("POST", "/tq.v1.TaskService/Submit")
}

/// The number of a client's stream.
fn stream_id(at: u32) -> u32 {
    2 * at + 1
}

/// Reads until the other end closes the connection, which has to be within `limit`, and returns what came. When the connection is reset,
/// which it is if something that was sent has not been read, that is its end too.
async fn closed(stream: &mut TcpStream, limit: Duration) -> Vec<u8> {
    let mut read = Vec::new();
    let begun = Instant::now();
    drop(within("the connection is closed", stream.read_to_end(&mut read)).await);
    let took = begun.elapsed();
    assert!(took <= limit + SLACK, "it took {took:?}, over {limit:?}");
    read
}

/// Sends `part` again and again until the other end closes the connection, which has to be before `bytes_max` are sent.
async fn flood(stream: &mut TcpStream, part: &[u8], bytes_max: u64) {
    let mut sent = 0;
    while within("a part is taken", stream.write_all(part))
        .await
        .is_ok()
    {
        sent += part.len() as u64;
        assert!(sent <= bytes_max, "{sent} bytes were taken");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_reset_at_once() {
    let attack = async |target: &Target| {
        let attacks = (0..8).map(|_| async {
            let mut stream = target.connect_http2(&[]).await;
            let requests: Vec<u8> = (0..10_000)
                .flat_map(|at| {
                    let id = stream_id(at);
                    let open = frame(HEADERS, END_HEADERS, id, &submit());
                    [open, frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
                })
                .collect();
            // It may be closed before all is sent.
            drop(within("it is closed", stream.write_all(&requests)).await);
            closed(&mut stream, Duration::ZERO).await;
        });
        join_all(attacks).await;
    };
    Target::start().await.withstands(64 * MIB, attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_do_not_end() {
    let attack = async |target: &Target| {
        let attacks = (0..8).map(|_| async {
            let mut stream = target.connect_http2(&[]).await;
            let begun = frame(HEADERS, 0, 1, &submit());
            stream.write_all(&begun).await.expect("it is open");
            let part: Vec<u8> = (0..100)
                .flat_map(|_| header("x-filler", &"a".repeat(100)))
                .collect();
            flood(&mut stream, &frame(CONTINUATION, 0, 1, &part), 16 * MIB).await;
        });
        join_all(attacks).await;
    };
    Target::start().await.withstands(64 * MIB, attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_with_nothing_in_it() {
    let attack = async |target: &Target| {
        let attacks = (0..8).map(|_| async {
            let mut stream = target.connect_http2(&[]).await;
            let begun = frame(HEADERS, END_HEADERS, 1, &submit());
            stream.write_all(&begun).await.expect("it is open");
            let part: Vec<u8> = (0..1_000).flat_map(|_| frame(DATA, 0, 1, &[])).collect();
            flood(&mut stream, &part, 16 * MIB).await;
        });
        join_all(attacks).await;
    };
    Target::start().await.withstands(64 * MIB, attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_on_which_nothing_comes() {
    let attack = async |target: &Target| {
        let attacks = (0..8).map(|_| async {
            let mut stream = target.connect_http2(&[]).await;
            // The one more is refused.
            let opened: Vec<u8> = (0..=STREAMS_MAX)
                .flat_map(|at| frame(HEADERS, END_HEADERS, stream_id(at), &submit()))
                .collect();
            stream.write_all(&opened).await.expect("it is open");
            let begun = Instant::now();
            let mut ended = 0;
            while ended <= STREAMS_MAX {
                let (kind, flags) = within("a frame", read_frame(&mut stream)).await;
                let is_end =
                    kind == RST_STREAM || matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
                ended += u32::from(is_end);
            }
            let took = begun.elapsed();
            assert!(took >= STALL && took <= STALL + SLACK, "{took:?}");
        });
        join_all(attacks).await;
    };
    Target::start().await.withstands(128 * MIB, attack).await;
}

/// Kind and flags of the next frame.
async fn read_frame(stream: &mut TcpStream) -> (u8, u8) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("it is open");
    let [a, b, c, kind, flags, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await.expect("it is open");
    (kind, flags)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_on_which_nothing_comes() {
    let attack = async |target: &Target| {
        let attacks = (0..200).map(|at| async move {
            // Every second one says that it speaks HTTP/2, and then no more.
            let mut stream = match at % 2 {
                0 => target.connect().await,
                _ => target.connect_http2(&[]).await,
            };
            closed(&mut stream, FIRST_REQUEST + FAREWELL).await;
        });
        join_all(attacks).await;
    };
    Target::start().await.withstands(64 * MIB, attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_that_are_not_read() {
    let attack = async |target: &Target| {
        // By HTTP/2 everything may be asked for, and nothing be sent.
        let by_http2 = (0..4).map(|_| async {
            let [a, b] = INITIAL_WINDOW_SIZE.to_be_bytes();
            let mut stream = target.connect_http2(&[a, b, 0, 0, 0, 0]).await;
            let flags = END_HEADERS | END_STREAM;
            let requests: Vec<u8> = (0..STREAMS_MAX)
                .flat_map(|at| frame(HEADERS, flags, stream_id(at), &request("GET", "/metrics")))
                .collect();
            stream.write_all(&requests).await.expect("it is open");
            closed(&mut stream, STALL).await;
        });
        // By HTTP/1.1 the socket fills, and then nothing more of what is asked for is taken.
        let by_http1 = (0..4).map(|_| async {
            let mut stream = target.connect().await;
            let requests = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1_000);
            flood(&mut stream, &requests, 512 * MIB).await;
        });
        tokio::join!(join_all(by_http2), join_all(by_http1));
    };
    Target::start().await.withstands(128 * MIB, attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_come_byte_by_byte() {
    let attack = async |target: &Target| {
        let http1 = [b"GET /metrics HTTP/1.1\r\nx-filler: ", &[b'a'; 1_000][..]].concat();
        let http2 = PREFACE.repeat(10);
        let attacks = [http1, http2].into_iter().flat_map(|bytes| {
            (0..20).map(move |_| {
                let bytes = bytes.clone();
                async move {
                    let stream = target.connect().await;
                    let (mut reads, mut writes) = stream.into_split();
                    let begun = Instant::now();
                    let trickle = async {
                        let mut pace = tokio::time::interval(Duration::from_secs(1));
                        for byte in bytes {
                            pace.tick().await;
                            // Once it is closed, reading says so.
                            drop(writes.write_all(&[byte]).await);
                        }
                    };
                    let mut read = Vec::new();
                    tokio::select! {
                        _ = reads.read_to_end(&mut read) => {}
                        () = trickle => panic!("all of it was taken"),
                    }
                    let took = begun.elapsed();
                    assert!(took <= FIRST_REQUEST + SLACK, "{took:?}");
                }
            })
        });
        join_all(attacks).await;
    };
    Target::start().await.withstands(64 * MIB, attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_do_not_end() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let authority = Authority::new(&folder.path().join("authority"));
    let own = authority.for_node(folder.path(), "broker");
    let text = |path: &std::path::Path| path.display().to_string();
    let (certificate, key) = (text(&own.certificate), text(&own.key));
    let flags = ["--tls-cert", &certificate, "--tls-key", &key];
    let broker = Broker::start_with(&folder.path().join("data"), &flags).await;
    let target = Target { folder, broker };
    let before = target.broker.process.resident_bytes();
    let attacks = (0..100).map(|at| {
        let target = &target;
        async move {
            let mut stream = target.connect().await;
            // Nothing at all, or the head of a record of 512 bytes.
            let begun: &[u8] = if at % 2 == 0 {
                &[]
            } else {
                &[22, 3, 1, 2, 0, 1]
            };
            stream.write_all(begun).await.expect("it is open");
            closed(&mut stream, FIRST_REQUEST).await;
        }
    });
    let others = async {
        let tq = target.broker.tq();
        let tq = tq.with_env("TQ_TLS_CA", authority.certificate());
        tq.run(["module", "list"]).await.ok();
        Instant::now()
    };
    let ended = async {
        join_all(attacks).await;
        Instant::now()
    };
    let (served_at, ended_at) = tokio::join!(others, ended);
    assert!(served_at < ended_at, "nobody else was served meanwhile");
    let after = target.broker.process.resident_bytes();
    assert!(after <= before + 64 * MIB, "from {before} to {after} bytes");
    target.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_are_too_large() {
    let attack = async |target: &Target| {
        // One that is long, and many that are short.
        let long = format!("x-filler: {}\r\n", "a".repeat(64 << 10));
        let many = "x-filler: a\r\n".repeat(500);
        for headers in [long, many] {
            let mut stream = target.connect().await;
            let request = format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
            drop(stream.write_all(request.as_bytes()).await);
            let read = closed(&mut stream, Duration::ZERO).await;
            // The answer is lost if the connection was reset after it.
            let answer = String::from_utf8_lossy(&read);
            let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 431 ");
            assert!(is_refused, "{answer}");
        }
        let mut stream = target.connect_http2(&[]).await;
        let filler = header("x-filler", &"a".repeat(100));
        let part = [submit(), filler.repeat(100)].concat();
        let opened = [
            frame(HEADERS, END_STREAM, 1, &part),
            frame(CONTINUATION, END_HEADERS, 1, &filler.repeat(100)),
        ];
        let opened = opened.concat();
        stream.write_all(&opened).await.expect("it is open");
        loop {
            let (kind, flags) = within("a frame", read_frame(&mut stream)).await;
            if kind == RST_STREAM || kind == HEADERS && flags & END_STREAM != 0 {
                break;
            }
        }
    };
    Target::start().await.withstands(64 * MIB, attack).await;
}
