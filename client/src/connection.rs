//! The connection to a broker.

use std::sync::Arc;
use std::time::Duration;

use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tq_core::limits::MESSAGE_BYTES_MAX;
use tq_proto::Bearer;
use tq_proto::v1::access_service_client::AccessServiceClient;
use tq_proto::v1::dead_letter_service_client::DeadLetterServiceClient;
use tq_proto::v1::host_service_client::HostServiceClient;
use tq_proto::v1::key_value_service_client::KeyValueServiceClient;
use tq_proto::v1::module_service_client::ModuleServiceClient;
use tq_proto::v1::namespace_service_client::NamespaceServiceClient;
use tq_proto::v1::queue_service_client::QueueServiceClient;
use tq_proto::v1::resilience_service_client::ResilienceServiceClient;
use tq_proto::v1::retention_service_client::RetentionServiceClient;
use tq_proto::v1::secret_service_client::SecretServiceClient;
use tq_proto::v1::task_service_client::TaskServiceClient;
use tq_proto::v1::webhook_service_client::WebhookServiceClient;
use tq_tls::{CERTIFICATE_REFUSED, ClientFiles, Dialer};

use crate::error::{Error, innermost};

/// A broker that does not take a connection within this time counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an open connection is tried, so that a watch notices a broker that went away without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the answer to such a try may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Flow control: one stream may have a result at its limit under way, and the connection several.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// What is said of a connection that the other end has closed. A port that takes TLS alone says so before it does, which may come too late
/// to be read.
const CLOSED: [&str; 2] = ["connection closed", "connection was not ready"];
const CLOSED_PLAIN: &str = "is it still there? If it takes TLS alone, write `https://…`";

/// A connection to one broker, for one namespace. Cheap to clone; the clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) url: Arc<str>,
    pub(crate) namespace: Arc<str>,
    channel: Channel,
    bearer: Bearer,
    shows_certificate: bool,
}

/// What calls go over.
pub(crate) type Wire = InterceptedService<Channel, Bearer>;

/// A broker, and how it is connected to.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its address, such as `http://127.0.0.1:7171` or `https://tq.example.com:7171`; without a scheme it is `http`.
    pub url: String,
    /// What TLS needs beside what the machine has. They are for `https` alone.
    pub tls: ClientFiles,
}

impl From<&str> for Remote {
    fn from(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            tls: ClientFiles::default(),
        }
    }
}

impl Client {
    /// Connects to the broker at `url`, such as `http://127.0.0.1:7171` or `https://tq.example.com:7171`; without a scheme it is `http`.
    /// By TLS, the broker's certificate has to be of an authority that this machine trusts. The namespace is the one that the credential
    /// is for if that is one, and `default` otherwise.
    ///
    /// # Errors
    /// [`Error::Address`] if `url` cannot be a broker's, [`Error::Unreachable`] if nothing answers there within 5 s, or what does cannot
    /// be trusted.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_to(url.into()).await
    }

    /// Connects to a broker.
    ///
    /// # Errors
    /// Those of [`Client::connect`], and [`Error::Tls`] if the files for TLS cannot be used.
    pub async fn connect_to(remote: Remote) -> Result<Self, Error> {
        let Remote { url, tls } = remote;
        let shows_certificate = tls.own.is_some();
        let dialer = Dialer::new(endpoint(&url)?, tls).await?;
        let channel = dialer.connect().await;
        let channel = channel.map_err(|error| Error::unreachable(&url, &error))?;
        Ok(Self {
            url: url.into(),
            namespace: "".into(),
            channel,
            bearer: Bearer::default(),
            shows_certificate,
        })
    }

    /// The same connection, with a credential that says who calls. It goes along with every call.
    ///
    /// # Errors
    /// [`Error::InTheClear`] if it would go over a network without TLS, and [may not](Bearer::in_the_clear).
    pub fn with_credential(self, bearer: Bearer) -> Result<Self, Error> {
        bearer.check(endpoint(&self.url)?.uri())?;
        Ok(Self { bearer, ..self })
    }

    /// The same connection, for another namespace.
    #[must_use]
    pub fn with_namespace(self, namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            ..self
        }
    }

    /// The broker's address, as it was given.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The namespace that calls are made in; empty leaves it to the credential.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn wire(&self) -> Wire {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    pub(crate) fn access_service(&self) -> AccessServiceClient<Wire> {
        AccessServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn tasks(&self) -> TaskServiceClient<Wire> {
        TaskServiceClient::new(self.wire())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn dead_letters(&self) -> DeadLetterServiceClient<Wire> {
        DeadLetterServiceClient::new(self.wire())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn namespace_service(&self) -> NamespaceServiceClient<Wire> {
        NamespaceServiceClient::new(self.wire())
    }

    pub(crate) fn module_service(&self) -> ModuleServiceClient<Wire> {
        ModuleServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn retention_service(&self) -> RetentionServiceClient<Wire> {
        RetentionServiceClient::new(self.wire())
    }

    pub(crate) fn keyvalue_service(&self) -> KeyValueServiceClient<Wire> {
        KeyValueServiceClient::new(self.wire())
    }

    pub(crate) fn secret_service(&self) -> SecretServiceClient<Wire> {
        SecretServiceClient::new(self.wire())
    }

    pub(crate) fn webhook_service(&self) -> WebhookServiceClient<Wire> {
        WebhookServiceClient::new(self.wire())
    }

    pub(crate) fn host_service(&self) -> HostServiceClient<Wire> {
        HostServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn queue_service(&self) -> QueueServiceClient<Wire> {
        QueueServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn resilience_service(&self) -> ResilienceServiceClient<Wire> {
        ResilienceServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn refusal(&self, status: &tonic::Status) -> Error {
        let mut error = Error::from_status(&self.url, status);
        if let Error::Unreachable { hint, reason, .. } = &mut error {
            if self.shows_certificate {
                hint.get_or_insert(CERTIFICATE_REFUSED);
            } else if !self.url.starts_with("https://") && CLOSED.contains(&reason.as_str()) {
                hint.get_or_insert(CLOSED_PLAIN);
            }
        }
        error
    }

    pub(crate) fn lacking(&self, lacking: &'static str) -> Error {
        Error::Protocol {
            url: self.url.to_string(),
            lacking,
        }
    }
}

fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let refuse = |reason: String| Error::Address {
        url: url.to_owned(),
        reason,
    };
    let full = match url.split_once("://") {
        Some(("http" | "https", _)) => url.to_owned(),
        Some((scheme, _)) => {
            return Err(refuse(format!(
                "its scheme is `{scheme}`, and brokers speak `http` and `https`"
            )));
        }
        None => format!("http://{url}"),
    };
    let endpoint = Endpoint::from_shared(full).map_err(|error| refuse(innermost(&error)))?;
    if endpoint.uri().port_u16().is_none() {
        return Err(refuse("it names no port".to_owned()));
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<&str, &str>) {
        let got = endpoint(url)
            .map(|endpoint| endpoint.uri().to_string())
            .map_err(|error| error.to_string());
        assert_eq!(
            got.as_ref().map(String::as_str).map_err(String::as_str),
            expected
        );
    }

    #[test]
    fn addresses_need_a_port_and_no_scheme() {
        check("http://127.0.0.1:7171", Ok("http://127.0.0.1:7171/"));
        check("localhost:7171", Ok("http://localhost:7171/"));
        check("https://localhost:7171", Ok("https://localhost:7171/"));
        check(
            "ftp://localhost:7171",
            Err(
                "broker address `ftp://localhost:7171` is not valid: its scheme is `ftp`, and brokers speak `http` and `https`",
            ),
        );
        check(
            "http://localhost",
            Err("broker address `http://localhost` is not valid: it names no port"),
        );
        check(
            "http://a b:1",
            Err("broker address `http://a b:1` is not valid: invalid uri character"),
        );
    }

    #[tokio::test]
    async fn nobody_at_the_address_is_unreachable() {
        // The port is taken by a socket that does not listen, so that nobody else can answer there.
        let socket = tokio::net::TcpSocket::new_v4().expect("sockets can be made");
        socket
            .bind(([127, 0, 0, 1], 0).into())
            .expect("loopback can be bound");
        let address = socket.local_addr().expect("a bound socket has an address");
        let refused = Client::connect(&format!("http://{address}")).await;
        assert!(
            matches!(refused, Err(Error::Unreachable { .. })),
            "{refused:?}"
        );
    }
}
