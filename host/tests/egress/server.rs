//! A server that answers by the path that is asked for, in good ways and bad.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The beginning of what would become a lot.
pub(crate) const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xed\xc1\x01\x0d\0\0\0\xc2\xa0";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    open_at_most: AtomicUsize,
    paths: Mutex<Vec<String>>,
    names: Mutex<Vec<Option<String>>>,
}

impl Server {
    pub(crate) async fn start(listen: &str) -> Self {
        Self::listen(listen, None).await
    }

    pub(crate) async fn start_tls(certificate: CertificateDer<'static>, key: Vec<u8>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.into()))
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::listen("127.0.0.1:0", Some(acceptor)).await
    }

    async fn listen(listen: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move { serve(stream, tls, &seen).await });
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn open_at_most(&self) -> usize {
        self.seen.open_at_most.load(Ordering::SeqCst)
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.seen.paths.lock().unwrap().clone()
    }

    /// The names that clients asked for over TLS.
    pub(crate) fn names(&self) -> Vec<Option<String>> {
        self.seen.names.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, seen: &Seen) {
    seen.connections.fetch_add(1, Ordering::SeqCst);
    let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
    seen.open_at_most.fetch_max(open, Ordering::SeqCst);
    match tls {
        None => drop(answer(stream, seen).await),
        // One that does not trust the certificate goes away.
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                let name = stream.get_ref().1.server_name().map(str::to_owned);
                seen.names.lock().unwrap().push(name);
                drop(answer(stream, seen).await);
            }
        }
    }
    seen.open.fetch_sub(1, Ordering::SeqCst);
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Seen,
) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
            // The first byte of TLS, where nobody speaks it.
            if read.first() == Some(&0x16) {
                return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let len = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |len| len.parse().unwrap());
        while read.len() < end + len {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        let request: Vec<u8> = read.drain(..end + len).collect();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        seen.paths.lock().unwrap().push(path.clone());
        let ok = |headers: &str, body: &[u8]| {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n",
                body.len()
            );
            [head.as_bytes(), body].concat()
        };
        let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n";
        let sent = match path.split('?').next().unwrap_or_default() {
            "/redirect" => {
                b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/secret\r\ncontent-length: 0\r\n\r\n".to_vec()
            }
            "/gzip" => ok("content-encoding: gzip\r\n", GZIP),
            "/close" => {
                // It does not say so.
                stream.write_all(&ok("", b"bye")).await?;
                return stream.shutdown().await;
            }
            "/never" => std::future::pending().await,
            "/slow" => {
                stream.write_all(begun).await?;
                std::future::pending().await
            }
            "/endless" => {
                stream.write_all(begun).await?;
                let chunk = [&b"1000\r\n"[..], &[0x5a; 0x1000], b"\r\n"].concat();
                loop {
                    stream.write_all(&chunk).await?;
                }
            }
            "/cut" => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
                    .await?;
                return stream.shutdown().await;
            }
            "/early" => [b"HTTP/1.1 100 Continue\r\n\r\n", &ok("", b"a")[..]].concat(),
            "/junk" => b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(),
            "/upgrade" => b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".to_vec(),
            "/headers" => ok(&"x: y\r\n".repeat(1_000), b""),
            "/long-header" => ok(&format!("x: {}\r\n", "y".repeat(1 << 20)), b""),
            "/two-lengths" => ok("content-length: 7\r\n", b"a"),
            _ => ok("", &request),
        };
        stream.write_all(&sent).await?;
    }
}
