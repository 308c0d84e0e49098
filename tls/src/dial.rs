//! Connections that we make.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::Error;
use crate::accept::TLS_ALONE;
use crate::files::{self, KeyPair};
use crate::reload::Reloading;

const HTTP2: &[u8] = b"h2";

/// The files of who connects. All are PEM. None at all is the usual case: the authorities of this machine are trusted, and no certificate
/// is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities that the other end's certificate may be of, instead of those that this machine trusts.
    pub ca: Option<PathBuf>,
    /// The certificate to show if it is asked for, and its key.
    pub own: Option<KeyPair>,
}

/// How one end is connected to, by TLS if its address says `https`. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    endpoint: Endpoint,
    tls: Option<Connector>,
}

impl Dialer {
    /// Reads the files, if the address of `endpoint` needs them. They are read again when they have changed.
    ///
    /// # Errors
    /// [`Error`] says which of the files cannot be used, and why; [`Error::NoEffect`] if there are files, and the address is `http`.
    pub async fn new(endpoint: Endpoint, files: ClientFiles) -> Result<Self, Error> {
        if endpoint.uri().scheme_str() != Some("https") {
            if files != ClientFiles::default() {
                let url = endpoint.uri().to_string();
                return Err(Error::NoEffect { url });
            }
            return Ok(Self {
                endpoint,
                tls: None,
            });
        }
        let mut watched: Vec<_> = files.ca.iter().cloned().collect();
        if let Some(own) = &files.own {
            watched.extend([own.certificate.clone(), own.key.clone()]);
        }
        let loaded = tokio::task::spawn_blocking(move || {
            Reloading::new(watched, move || client_config(&files))
        });
        let config = loaded.await.map_err(|_| Error::Stopped)??;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Ok(Self {
            endpoint,
            tls: Some(Connector {
                tcp,
                config: Arc::new(config),
            }),
        })
    }

    /// The address.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        self.endpoint.uri()
    }

    /// Connects.
    ///
    /// # Errors
    /// What kept it from that; [`reason`] finds out.
    pub async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        // Boxed, because callers would carry the larger of the two.
        match &self.tls {
            None => Box::pin(self.endpoint.connect()).await,
            Some(connector) => {
                let connector = connector.clone();
                Box::pin(self.endpoint.connect_with_connector(connector)).await
            }
        }
    }

    /// A channel that connects when it is first used.
    #[must_use]
    pub fn connect_lazy(&self) -> Channel {
        match &self.tls {
            None => self.endpoint.connect_lazy(),
            Some(connector) => {
                let connector = connector.clone();
                self.endpoint.connect_with_connector_lazy(connector)
            }
        }
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dialer").field(self.uri()).finish()
    }
}

/// Connects to a socket, and shakes hands on it.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    config: Arc<Reloading<ClientConfig>>,
}

/// Why there is no connection although somebody is there.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("its certificate is of an authority that is not trusted here")]
    Untrusted,
    #[error("its certificate is not for `{host}`")]
    OtherName { host: String },
    #[error("its certificate is not valid: {0}")]
    Certificate(CertificateError),
    #[error("it does not speak TLS")]
    NoTls,
    #[error("it does not speak HTTP/2 over TLS")]
    NoHttp2,
    #[error("`{host}` is neither a name nor an address")]
    Host { host: String },
    #[error("the handshake of TLS failed: {0}")]
    Other(io::Error),
}

impl HandshakeError {
    fn of(error: io::Error, host: String) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(rustls::Error::InvalidCertificate(why)) => match why {
                // The second is that of an authority which has the name of one that is trusted.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Untrusted,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::OtherName { host },
                why => Self::Certificate(why.clone()),
            },
            Some(rustls::Error::InvalidMessage(_)) => Self::NoTls,
            _ => Self::Other(error),
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Untrusted => Some(
                "name the certificate of its authority with --tls-ca FILE, TQ_TLS_CA or `[client] tls_ca`",
            ),
            Self::OtherName { .. } => {
                Some("use a name that its certificate has, or give it a certificate for this one")
            }
            Self::Certificate(_) => Some("give it a new certificate; look at the clocks too"),
            Self::NoTls => Some("if it serves plain text, write `http://…`"),
            Self::NoHttp2 => Some("is there a proxy before it? It has to pass on HTTP/2"),
            Self::Host { .. } | Self::Other(_) => None,
        }
    }
}

/// What to do if a connection, on which a certificate was shown, is closed without an answer. By TLS 1.3 a client believes that the
/// handshake is done before the other end has looked at its certificate, and what that says of it may be lost with the connection.
pub const CERTIFICATE_REFUSED: &str = "is the certificate of --tls-cert refused? It has to be of an authority that the broker knows by --tls-client-ca, and valid today";

/// Why a connection, or a call on one, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The innermost cause, which says most, such as `Connection refused`.
    pub text: String,
    /// What can be done about it, if it is about TLS and that is known.
    pub hint: Option<&'static str>,
}

/// Finds out why a connection, or a call on one, failed.
#[must_use]
pub fn reason(error: &(dyn StdError + 'static)) -> Reason {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    if let Some(error) = innermost.downcast_ref::<HandshakeError>() {
        let hint = error.hint();
        return Reason { text, hint };
    }
    // What comes after the handshake comes through layers that keep only the words.
    if text.contains(TLS_ALONE) {
        return Reason {
            text: "it takes TLS alone".to_owned(),
            hint: Some("write `https://…`"),
        };
    }
    let hint = text
        .contains("received fatal alert")
        .then_some(CERTIFICATE_REFUSED);
    Reason { text, hint }
}

type BoxError = Box<dyn StdError + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default();
        // An address of IPv6 stands in brackets in a URL, and without them in a certificate.
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let connecting = self.tcp.call(uri);
        let config = Arc::clone(&self.config);
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|_| HandshakeError::Host { host: host.clone() })?;
            let connector = TlsConnector::from(config.current().await);
            let connected = connector.connect(name, stream).await;
            let connected = connected.map_err(|error| HandshakeError::of(error, host))?;
            let (_, session) = connected.get_ref();
            if session.alpn_protocol() != Some(HTTP2) {
                return Err(HandshakeError::NoHttp2.into());
            }
            Ok(TokioIo::new(connected))
        })
    }
}

pub(crate) fn client_config(files: &ClientFiles) -> Result<ClientConfig, Error> {
    let roots = match &files.ca {
        Some(path) => files::authorities(path)?,
        None => files::authorities_of_the_system()?,
    };
    let builder = ClientConfig::builder_with_provider(files::provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::NoRoots)?
        .with_root_certificates(roots);
    let mut config = match &files.own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = own.read()?;
            let paired = builder.with_client_auth_cert(chain, key);
            paired.map_err(|error| own.unusable(&error))?
        }
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}
