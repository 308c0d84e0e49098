//! The control connection: dialed, opened, carrying messages, and given up.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status as Refusal, Streaming};
use tq_core::limits::MESSAGE_BYTES_MAX;
use tq_proto::Bearer;
use tq_proto::v1::host_link_client::HostLinkClient;
use tq_proto::v1::{BrokerMessage, HostMessage};
use tq_tls::{ClientFiles, Dialer};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection with an open call is asked for a sign of life, and how long the answer may take. The control
/// connection has its own in the session.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Flow control of HTTP/2: a burst of assignments with payloads goes without a pause.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same, for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Messages to the broker that are composed and not yet on the connection. What is not composed grows no queue.
const OUTBOUND_MAX: usize = 16;
/// How long a host that leaves waits for the broker to close the session.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How far the connection has come.
pub(super) enum Link {
    Down {
        retry_at: Instant,
    },
    Dialing(BoxFuture<'static, Result<Channel, tonic::transport::Error>>),
    Opening {
        outbound: mpsc::Sender<HostMessage>,
        answer: BoxFuture<'static, Result<Streaming<BrokerMessage>, Refusal>>,
    },
    Open {
        outbound: mpsc::Sender<HostMessage>,
        inbound: Box<Streaming<BrokerMessage>>,
    },
    /// The broker refuses the host for good.
    Refused,
}

/// What happened to it.
pub(super) enum Step {
    Retry,
    Dialed(Result<Channel, tonic::transport::Error>),
    Answered(Result<Streaming<BrokerMessage>, Refusal>),
    Received(Result<Option<BrokerMessage>, Refusal>),
}

impl Link {
    /// Dials the broker, which ends in [`Step::Dialed`].
    pub(super) fn dial(dialer: Dialer) -> Self {
        Self::Dialing(async move { dialer.connect().await }.boxed())
    }

    /// Opens a session over `channel`, which ends in [`Step::Answered`].
    pub(super) fn open(channel: Channel, bearer: Bearer) -> Self {
        let (outbound, messages) = mpsc::channel(OUTBOUND_MAX);
        let mut client = client(channel, bearer);
        let answer = async move {
            let answer = client.session(ReceiverStream::new(messages)).await?;
            Ok(answer.into_inner())
        };
        Self::Opening {
            outbound,
            answer: answer.boxed(),
        }
    }

    /// Waits for the next thing to happen.
    ///
    /// # Cancel safety
    /// Safe: nothing that was received is lost.
    pub(super) async fn step(&mut self) -> Step {
        match self {
            Self::Down { retry_at } => {
                tokio::time::sleep_until(*retry_at).await;
                Step::Retry
            }
            Self::Dialing(dialing) => Step::Dialed(dialing.await),
            Self::Opening { answer, .. } => Step::Answered(answer.await),
            Self::Open { inbound, .. } => Step::Received(inbound.message().await),
            Self::Refused => std::future::pending().await,
        }
    }

    /// Where messages to the broker go, from the time on at which a session is being opened.
    pub(super) fn outbound(&self) -> Option<&mpsc::Sender<HostMessage>> {
        match self {
            Self::Opening { outbound, .. } | Self::Open { outbound, .. } => Some(outbound),
            Self::Down { .. } | Self::Dialing(_) | Self::Refused => None,
        }
    }

    /// Ends the session so that the broker has all that was said, and knows that the host left on purpose.
    pub(super) async fn hang_up(self) {
        if let Self::Open {
            outbound,
            mut inbound,
        } = self
        {
            drop(outbound);
            let closed = async { while let Ok(Some(_)) = inbound.message().await {} };
            if timeout(LAST_WORDS, closed).await.is_err() {
                tracing::debug!("the broker did not close the session");
            }
        }
    }
}

/// How the broker is connected to, by TLS if its address says so.
///
/// # Errors
/// [`tq_tls::Error`] says which file cannot be used.
pub(crate) async fn dialer(broker: Uri, files: ClientFiles) -> Result<Dialer, tq_tls::Error> {
    Dialer::new(endpoint(broker), files).await
}

/// What every connection to the broker has.
pub(crate) fn endpoint(broker: Uri) -> Endpoint {
    Endpoint::from(broker)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
}

/// What calls go over.
pub(crate) type Wire = InterceptedService<Channel, Bearer>;

/// A client that takes the largest messages of the protocol, and says who it is.
pub(crate) fn client(channel: Channel, bearer: Bearer) -> HostLinkClient<Wire> {
    HostLinkClient::new(InterceptedService::new(channel, bearer))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Waits until the connection takes a message.
pub(super) async fn writable(outbound: Option<mpsc::Sender<HostMessage>>) {
    match outbound {
        // A closed one is seen by its other half.
        Some(outbound) if outbound.reserve().await.is_ok() => {}
        Some(_) | None => std::future::pending().await,
    }
}

/// Why the broker is not reached, and what to do about it, if that is known.
pub(super) fn root(error: &tonic::transport::Error) -> String {
    let tq_tls::Reason { text, hint } = tq_tls::reason(error);
    match hint {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}
