//! Connections that somebody else makes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::files::{self, KeyPair};
use crate::reload::Reloading;
use crate::{Error, Identity, certificate};

/// How long a handshake may take, from the connection on. One over a satellite takes two seconds.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long somebody whose handshake failed is listened to, so that the reason reaches them: a connection that is closed with
/// something unread loses what was sent last.
const LINGER: Duration = Duration::from_secs(1);

/// First byte of a connection that begins with a handshake of TLS (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// What is said to those who speak HTTP without TLS.
pub(crate) const TLS_ALONE: &str = "this port takes TLS alone; use https://";
/// Code of HTTP/2 for a connection that is not as safe as it has to be (RFC 9113, section 7).
const INADEQUATE_SECURITY: u32 = 0xc;

/// The files of who accepts connections. All are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Its own certificate and key.
    pub own: KeyPair,
    /// Authorities of the certificates that clients may show. A client need not show one; a certificate of another authority is
    /// refused. `None` asks for none.
    pub client_ca: Option<PathBuf>,
}

/// What is spoken over TLS, which the handshake settles (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2, and HTTP/1.1 for who does not speak it.
    Http1And2,
}

impl Protocols {
    /// Their names, the preferred one first.
    fn names(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http1And2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// Accepts connections by TLS 1.2 or 1.3. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<Reloading<ServerConfig>>,
}

/// A connection whose handshake is done.
pub struct Accepted {
    /// What is read and written in clear, and travels sealed.
    pub stream: TlsStream<TcpStream>,
    /// Whom the certificate names that the other end has shown, and that was verified. `None` if it has shown none, or one
    /// that names nobody.
    pub certificate: Option<Identity>,
}

/// Why a connection was not accepted. The other end has been told, if it can be.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The handshake took too long.
    #[error("the handshake was not done within {HANDSHAKE_TIME:?}")]
    Slow,
    /// What came is no TLS.
    #[error("the other end does not speak TLS")]
    NoTls,
    /// The handshake failed, or the connection broke during it.
    #[error(transparent)]
    Handshake(io::Error),
}

impl Acceptor {
    /// Reads the files. They are read again when they have changed.
    ///
    /// # Errors
    /// [`Error`] says which of the files cannot be used, and why.
    pub async fn load(files: ServerFiles, protocols: Protocols) -> Result<Self, Error> {
        let mut watched = vec![files.own.certificate.clone(), files.own.key.clone()];
        watched.extend(files.client_ca.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            Reloading::new(watched, move || server_config(&files, protocols))
        });
        Ok(Self {
            config: Arc::new(loaded.await.map_err(|_| Error::Stopped)??),
        })
    }

    /// Shakes hands, within [`HANDSHAKE_TIME`].
    ///
    /// # Errors
    /// [`AcceptError`] if the other end does not, or shows a certificate that cannot be trusted.
    ///
    /// # Cancel safety
    /// Dropped before it returns, it closes the connection.
    pub async fn accept(&self, stream: TcpStream) -> Result<Accepted, AcceptError> {
        let shaking = timeout(HANDSHAKE_TIME, self.shake_hands(stream)).await;
        let stream = shaking.unwrap_or(Err(AcceptError::Slow))?;
        let (_, connection) = stream.get_ref();
        let shown = connection.peer_certificates();
        let certificate = shown.and_then(|chain| certificate::identity(chain.first()?));
        Ok(Accepted {
            stream,
            certificate,
        })
    }

    async fn shake_hands(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, AcceptError> {
        let mut first = [0];
        let len = stream.peek(&mut first).await;
        match len.map_err(AcceptError::Handshake)? {
            0 => return Err(AcceptError::Handshake(io::ErrorKind::UnexpectedEof.into())),
            _ if first == [HANDSHAKE_RECORD] => {}
            _ => {
                explain(stream).await.map_err(AcceptError::Handshake)?;
                return Err(AcceptError::NoTls);
            }
        }
        let acceptor = TlsAcceptor::from(self.config.current().await);
        match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => Ok(stream),
            Err((error, stream)) => {
                linger(stream).await;
                Err(AcceptError::Handshake(error))
            }
        }
    }
}

fn server_config(files: &ServerFiles, protocols: Protocols) -> Result<ServerConfig, Error> {
    let (chain, key) = files.own.read()?;
    let provider = files::provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| files.own.unusable(&error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(files::authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| Error::Unusable {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| files.own.unusable(&error))?;
    config.alpn_protocols = protocols.names();
    if files.client_ca.is_some() {
        // A session that is resumed is one whose certificate is not looked at again: it may have expired, or its authority be gone.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// Says to somebody who speaks HTTP that TLS is spoken here, in whichever HTTP they speak.
async fn explain(mut stream: TcpStream) -> io::Result<()> {
    let mut begun = [0; 3];
    stream.read_exact(&mut begun).await?;
    let answer = if begun == *b"PRI" {
        goaway()
    } else {
        let len = TLS_ALONE.len() + 1;
        format!("HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{TLS_ALONE}\n").into_bytes()
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    linger(stream).await;
    Ok(())
}

/// Settings, which come first, and the frame that ends a connection of HTTP/2 (RFC 9113, sections 6.5 and 6.8).
fn goaway() -> Vec<u8> {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let len = u8::try_from(8 + TLS_ALONE.len()).unwrap_or(u8::MAX);
    let head = [0, 0, len, 7, 0, 0, 0, 0, 0];
    [
        SETTINGS,
        &head,
        &[0; 4],
        &INADEQUATE_SECURITY.to_be_bytes(),
        TLS_ALONE.as_bytes(),
    ]
    .concat()
}

/// Reads what the other end still sends, for a moment.
async fn linger(mut stream: impl AsyncRead + Unpin) {
    let mut thrown_away = [0; 1_024];
    let reading = async { while matches!(stream.read(&mut thrown_away).await, Ok(1..)) {} };
    // Whoever goes on after that does not want to know.
    drop(timeout(LINGER, reading).await);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rcgen::{CertificateParams, CertifiedIssuer, SanType};
    use rustls::pki_types::ServerName;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, HandshakeKind};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::dial::{ClientFiles, client_config};

    type Authority = CertifiedIssuer<'static, rcgen::KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        CertifiedIssuer::self_signed(params, key).unwrap()
    }

    /// A certificate of `authority` for a name, as files.
    fn issue(folder: &Path, authority: &Authority, file: &str, name: SanType) -> KeyPair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        let pair = KeyPair {
            certificate: folder.join(format!("{file}.pem")),
            key: folder.join(format!("{file}.key")),
        };
        fs::write(&pair.certificate, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// What becomes of a connection of a client with these files, on both ends.
    async fn shake(
        acceptor: &Acceptor,
        client: ClientFiles,
    ) -> (Result<Accepted, AcceptError>, io::Result<Vec<u8>>) {
        let config = Arc::new(client_config(&client).unwrap());
        shake_as(acceptor, config).await
    }

    async fn shake_as(
        acceptor: &Acceptor,
        config: Arc<ClientConfig>,
    ) -> (Result<Accepted, AcceptError>, io::Result<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut accepted = acceptor.accept(stream).await?;
            accepted.stream.write_all(b"welcome").await.unwrap();
            accepted.stream.shutdown().await.unwrap();
            Ok(accepted)
        };
        let client = async {
            let stream = TcpStream::connect(address).await?;
            let connector = TlsConnector::from(config);
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, stream).await?;
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await?;
            Ok(read)
        };
        tokio::join!(server, client)
    }

    #[tokio::test]
    async fn clients_are_known_by_certificates_of_the_authority_that_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (own, others) = (authority(), authority());
        let ca = folder.join("ca.pem");
        fs::write(&ca, own.pem()).unwrap();
        let localhost = SanType::DnsName("localhost".try_into().unwrap());
        let files = ServerFiles {
            own: issue(folder, &own, "server", localhost),
            client_ca: Some(ca.clone()),
        };
        let acceptor = Acceptor::load(files, Protocols::Http1And2).await.unwrap();
        let host = || SanType::URI("tq://host/worker-1".try_into().unwrap());
        let with = |own| ClientFiles {
            ca: Some(ca.clone()),
            own,
        };

        let (accepted, read) = shake(&acceptor, with(None)).await;
        assert_eq!(accepted.unwrap().certificate, None);
        assert_eq!(read.unwrap(), b"welcome");

        let known = issue(folder, &own, "known", host());
        let (accepted, read) = shake(&acceptor, with(Some(known))).await;
        let named = accepted.unwrap().certificate;
        assert_eq!(&*named.unwrap().uri, "tq://host/worker-1");
        assert_eq!(read.unwrap(), b"welcome");

        let foreign = issue(folder, &others, "foreign", host());
        let (accepted, read) = shake(&acceptor, with(Some(foreign))).await;
        assert!(matches!(accepted, Err(AcceptError::Handshake(_))));
        let told = read.unwrap_err().to_string();
        assert!(told.contains("received fatal alert"), "{told}");
    }

    #[tokio::test]
    async fn certificates_of_clients_are_looked_at_at_every_handshake() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let own = authority();
        let ca = folder.join("ca.pem");
        fs::write(&ca, own.pem()).unwrap();
        let localhost = SanType::DnsName("localhost".try_into().unwrap());
        let server = issue(folder, &own, "server", localhost);
        for (client_ca, again) in [
            (None, HandshakeKind::Resumed),
            (Some(ca.clone()), HandshakeKind::Full),
        ] {
            let files = ServerFiles {
                own: server.clone(),
                client_ca,
            };
            let acceptor = Acceptor::load(files, Protocols::Http1And2).await.unwrap();
            for version in [&TLS12, &TLS13] {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(own.der().clone()).unwrap();
                let config = ClientConfig::builder_with_provider(files::provider())
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                let config = Arc::new(config);
                for expected in [HandshakeKind::Full, again] {
                    let (accepted, read) = shake_as(&acceptor, Arc::clone(&config)).await;
                    assert_eq!(read.unwrap(), b"welcome");
                    let accepted = accepted.unwrap();
                    let (_, connection) = accepted.stream.get_ref();
                    assert_eq!(connection.handshake_kind(), Some(expected), "{version:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let own = authority();
        let name = |text: &str| SanType::DnsName(text.try_into().unwrap());
        let good = issue(folder, &own, "good", name("a"));
        let other = issue(folder, &own, "other", name("b"));
        let check = async |certificate: &Path, key: &Path, expected: &str| {
            let own = KeyPair {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            };
            let files = ServerFiles {
                own,
                client_ca: None,
            };
            let loaded = Acceptor::load(files, Protocols::Http1).await;
            let error = loaded.map(|_| ()).unwrap_err().to_string();
            let shown = error.replace(&format!("{}/", folder.display()), "");
            assert_eq!(shown, expected);
        };
        check(
            &good.certificate,
            &other.key,
            "key `other.key` does not match certificate `good.pem`; give the key that the certificate was made with",
        )
        .await;
        check(
            &good.key,
            &good.key,
            "`good.key` has no certificate; it needs a section `-----BEGIN CERTIFICATE-----`",
        )
        .await;
        check(
            &good.certificate,
            &good.certificate,
            "`good.pem` has no private key; it needs a section such as `-----BEGIN PRIVATE KEY-----`",
        )
        .await;
        let missing = folder.join("missing");
        check(&missing, &good.key, "failed to read the file `missing`").await;
        let large = folder.join("large");
        fs::write(&large, vec![b'a'; 1 + crate::PEM_BYTES_MAX as usize]).unwrap();
        check(
            &large,
            &good.key,
            "`large` is over the limit of 1048576 bytes for certificates and keys",
        )
        .await;
    }
}
