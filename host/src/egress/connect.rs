//! Connections: TCP, TLS and HTTP/1.1 over them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tq_core::grant::{Destination, Host, Scheme};
use tq_core::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};

use super::Failure;

/// Makes connections.
pub(super) struct Connector {
    /// Certificates that are trusted beside the system's.
    tls_roots: Vec<Bytes>,
    /// Read when the first request needs it, which on most hosts is never.
    tls: OnceCell<Arc<ClientConfig>>,
    handle: Handle,
    tasks: TaskTracker,
    stopped: CancellationToken,
}

/// A connection with no request on it, or one.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Ends the task that reads and writes, whatever it is in the middle of.
    _driver: DropGuard,
}

/// What a connection did not send.
pub(super) enum Unsent {
    /// Nothing of it: it can be sent on another one.
    Whole(http::Request<Full<Bytes>>),
    /// Perhaps something.
    Failed(Failure),
}

impl Connector {
    pub(super) fn new(
        tls_roots: Vec<Bytes>,
        handle: Handle,
        tasks: TaskTracker,
        stopped: CancellationToken,
    ) -> Self {
        Self {
            tls_roots,
            tls: OnceCell::new(),
            handle,
            tasks,
            stopped,
        }
    }

    /// Connects to exactly this address. Who answers there has to prove, over TLS, to be the destination's host.
    pub(super) async fn connect(
        &self,
        destination: &Destination,
        address: SocketAddr,
    ) -> Result<Connection, Failure> {
        let failed = |error: std::io::Error| Failure::Connect {
            address,
            message: error.to_string(),
        };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        match destination.scheme {
            Scheme::Http => self.shake_hands(stream).await,
            Scheme::Https => {
                let config = self.tls.get_or_try_init(|| config(&self.tls_roots)).await?;
                let name = match &destination.host {
                    Host::Name(name) => ServerName::try_from(name.clone())
                        .map_err(|error| Failure::Tls(error.to_string()))?,
                    Host::Address(address) => ServerName::from(*address),
                };
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name, stream).await.map_err(refused)?;
                self.shake_hands(stream).await
            }
        }
    }

    async fn shake_hands<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: T,
    ) -> Result<Connection, Failure> {
        let shaken = http1::Builder::new()
            .max_headers(HTTP_HEADERS_MAX)
            .max_buf_size(HTTP_HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = shaken.map_err(protocol)?;
        let stop = self.stopped.child_token();
        let driver = stop.clone().run_until_cancelled_owned(async move {
            // Whoever waits for a response is told of it there.
            connection.await.ok();
        });
        self.tasks.spawn_on(driver, &self.handle);
        Ok(Connection {
            sender,
            _driver: stop.drop_guard(),
        })
    }
}

/// What TLS needs. The provider is named here and not set for the whole process, and sessions are not resumed: a ticket that
/// one namespace got must not be shown for another.
async fn config(further: &[Bytes]) -> Result<Arc<ClientConfig>, Failure> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let loaded = loaded.map_err(|_| Failure::Stopped)?;
    let mut roots = RootCertStore::empty();
    let further = further
        .iter()
        .map(|root| CertificateDer::from(root.to_vec()));
    roots.add_parsable_certificates(loaded.certs.into_iter().chain(further));
    if roots.is_empty() {
        let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        let message = format!(
            "this host has no root certificates; install them, such as the package `ca-certificates` {}",
            errors.join("; ")
        );
        return Err(Failure::Tls(message.trim_end().to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn refused(error: std::io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => Failure::Certificate(why.to_string()),
        _ => Failure::Tls(error.to_string()),
    }
}

/// What went wrong while messages were exchanged.
pub(super) fn protocol(error: hyper::Error) -> Failure {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return Failure::CutOff;
    }
    match std::error::Error::source(&error).and_then(|source| source.downcast_ref()) {
        Some::<&std::io::Error>(_) => Failure::CutOff,
        None => Failure::Protocol(error.to_string()),
    }
}

impl Connection {
    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(
        &mut self,
        message: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, Unsent> {
        let sent = self.sender.try_send_request(message).await;
        sent.map_err(|mut error| match error.take_message() {
            Some(message) => Unsent::Whole(message),
            None => Unsent::Failed(protocol(error.into_error())),
        })
    }

    /// Waits until the connection could take another request. Returns whether it ever will.
    pub(super) async fn is_ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    pub(super) fn is_open(&self) -> bool {
        self.sender.is_ready()
    }
}
