//! A server for guests and webhooks that send requests.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A server that tells what it was sent.
pub struct HttpServer {
    /// Where it is: a port of its own on loopback.
    pub address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    /// Head and body of each.
    requests: Mutex<Vec<(String, Vec<u8>)>>,
    /// What the next requests are answered, each one.
    statuses: Mutex<VecDeque<u16>>,
    /// Nothing is answered for now.
    is_held: watch::Sender<bool>,
    open: AtomicUsize,
    open_at_most: AtomicUsize,
    /// Requests that are being answered; connections may be kept after that.
    busy: AtomicUsize,
}

/// Counts a request, whichever way it ends.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn enter(busy: &'a AtomicUsize) -> Self {
        busy.fetch_add(1, Ordering::SeqCst);
        Self(busy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl HttpServer {
    /// Starts one.
    ///
    /// # Panics
    /// There is no port.
    pub async fn start() -> Self {
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
                connections.spawn(async move {
                    let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
                    seen.open_at_most.fetch_max(open, Ordering::SeqCst);
                    // Clients may go away whenever they like.
                    drop(answer(stream, &seen).await);
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

    /// The paths of all requests, in order of arrival.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.heads().iter().map(|head| path(head)).collect()
    }

    /// The heads of all requests, in order of arrival.
    ///
    /// # Panics
    /// A test has panicked.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        let requests = self.requests().into_iter();
        requests.map(|(head, _)| head).collect()
    }

    /// The heads and bodies of all requests, in order of arrival.
    ///
    /// # Panics
    /// A test has panicked.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, Vec<u8>)> {
        self.seen.requests.lock().expect("no test panicked").clone()
    }

    /// Answers the next requests with these, each one; those after them with 200.
    ///
    /// # Panics
    /// A test has panicked.
    pub fn answer_with(&self, statuses: impl IntoIterator<Item = u16>) {
        let mut next = self.seen.statuses.lock().expect("no test panicked");
        next.extend(statuses);
    }

    /// Answers nothing that comes from now on, or everything again.
    pub fn hold(&self, is_held: bool) {
        self.seen.is_held.send_replace(is_held);
    }

    /// How many requests are being answered.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.seen.busy.load(Ordering::SeqCst)
    }

    /// How many connections were open at once, at most.
    #[must_use]
    pub fn open_at_most(&self) -> usize {
        self.seen.open_at_most.load(Ordering::SeqCst)
    }
}

fn path(head: &str) -> String {
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

async fn answer(mut stream: TcpStream, seen: &Seen) -> io::Result<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let len = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        while read.len() < end + len {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        let _busy = Busy::enter(&seen.busy);
        let request: Vec<u8> = read.drain(..end + len).collect();
        let path = path(&head);
        let body = request[end..].to_vec();
        seen.requests
            .lock()
            .expect("no test panicked")
            .push((head, body));
        let mut is_held = seen.is_held.subscribe();
        if is_held.wait_for(|is_held| !is_held).await.is_err() {
            return Ok(());
        }
        let status = seen.statuses.lock().expect("no test panicked").pop_front();
        if let Some(status) = status {
            let head = format!("HTTP/1.1 {status} As Told\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            continue;
        }
        let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n";
        match path.as_str() {
            "/redirect" => {
                let to = "http://169.254.169.254/secret";
                let head =
                    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
            }
            "/slow" => {
                stream.write_all(begun).await?;
                // Until the client goes away.
                while stream.read_buf(&mut read).await? > 0 {}
                return Ok(());
            }
            "/endless" => {
                stream.write_all(begun).await?;
                let chunk = [&b"1000\r\n"[..], &[0x5a; 0x1000], b"\r\n"].concat();
                loop {
                    stream.write_all(&chunk).await?;
                }
            }
            _ => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                    request.len()
                );
                stream
                    .write_all(&[head.as_bytes(), &request].concat())
                    .await?;
            }
        }
    }
}
