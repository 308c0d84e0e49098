//! Functions that connect, as honest clients do and as others do.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};

use tq_sdk::{Error, Result};

/// What is written or read at once.
const CHUNK_BYTES: usize = 100_000;

fn connect(to: &str) -> Result<TcpStream> {
    TcpStream::connect(to).map_err(|error| Error::fatal(format!("connect: {:?}", error.kind())))
}

fn count(text: &str) -> Result<usize> {
    let count = text.parse();
    count.map_err(|_| Error::invalid_input(format!("`{text}` is not a number")))
}

/// Connects to `HOST:PORT`, and returns whom it reached.
#[tq_sdk::task]
fn tcp_connect(to: &str) -> Result<String> {
    Ok(connect(to)?.peer_addr()?.to_string())
}

/// Looks a host up, and returns its addresses.
#[tq_sdk::task]
fn tcp_resolve(name: &str) -> Result<String> {
    let found = (name, 1).to_socket_addrs();
    let found = found.map_err(|error| Error::fatal(format!("resolve: {:?}", error.kind())))?;
    let found: Vec<String> = found.map(|address| address.ip().to_string()).collect();
    Ok(found.join(" "))
}

/// Sends as many bytes as `HOST:PORT BYTES` says, says that it is done, and returns how many of them came back as they were sent.
#[tq_sdk::task]
fn tcp_echo(payload: &str) -> Result<String> {
    let (to, bytes) = payload.split_once(' ').unwrap_or((payload, "0"));
    let sent: Vec<u8> = (0..count(bytes)?).map(|at| (at % 251) as u8).collect();
    let mut stream = connect(to)?;
    for chunk in sent.chunks(CHUNK_BYTES) {
        stream.write_all(chunk)?;
    }
    stream.flush()?;
    stream.shutdown(Shutdown::Write)?;
    let mut came = Vec::new();
    stream.read_to_end(&mut came)?;
    let same = came.iter().zip(&sent).take_while(|(a, b)| a == b).count();
    Ok(format!("{same} of {}", came.len()))
}

/// Sends its own words and ends at once, without a farewell.
#[tq_sdk::task]
fn tcp_last_words(to: &str) -> Result<()> {
    Ok(connect(to)?.write_all(b"last words")?)
}

/// Opens as many connections as it can, up to 100, and returns how many those were and what kept it from more; then it closes one
/// and opens one.
#[tq_sdk::task]
fn tcp_hoard(to: &str) -> Result<String> {
    let mut held = Vec::new();
    let kept = loop {
        match TcpStream::connect(to) {
            Ok(stream) if held.len() < 100 => held.push(stream),
            Ok(_) => break "nothing".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    let count = held.len();
    held.pop();
    held.push(connect(to)?);
    Ok(format!("{count} {kept}"))
}

/// Connects, and reads until the other end closes.
#[tq_sdk::task]
fn tcp_read(to: &str) -> Result<String> {
    let mut stream = connect(to)?;
    let mut read = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(read.to_string()),
            Ok(len) => read += len,
            Err(error) => return Err(Error::fatal(format!("{read} bytes, then {error}"))),
        }
    }
}

/// Connects, and writes without end.
#[tq_sdk::task]
fn tcp_write(to: &str) -> Result<String> {
    let mut stream = connect(to)?;
    let chunk = vec![0x5a; CHUNK_BYTES];
    let mut written = 0;
    loop {
        match stream.write(&chunk) {
            Ok(len) => written += len,
            Err(error) => return Err(Error::fatal(format!("{written} bytes, then {error}"))),
        }
    }
}

/// Opens connections and closes none, again and again.
#[tq_sdk::task]
fn tcp_leave(to: &str) -> Result<()> {
    for _ in 0..10 {
        std::mem::forget(connect(to)?);
    }
    Ok(())
}

/// Tries to connect 1,000 times, and returns how often that was not permitted.
#[tq_sdk::task]
fn tcp_knock(to: &str) -> String {
    let refused = (0..1_000)
        .filter_map(|_| TcpStream::connect(to).err())
        .filter(|error| error.kind() == ErrorKind::PermissionDenied);
    refused.count().to_string()
}

/// Tries to be reached from outside, and to send datagrams; returns what it could, and why it could not.
#[tq_sdk::task]
fn tcp_serve() -> String {
    let told = |what: &str, error: Option<std::io::Error>| {
        let why = error.map(|error| format!("{:?}", error.kind()));
        format!("{what}: {}", why.as_deref().unwrap_or("it could"))
    };
    [
        told("listen", TcpListener::bind("127.0.0.1:0").err()),
        told("listen on any", TcpListener::bind("0.0.0.0:8080").err()),
        told("listen on v6", TcpListener::bind("[::1]:0").err()),
        told("udp", UdpSocket::bind("0.0.0.0:0").err()),
    ]
    .join(", ")
}
