//! The wire: gRPC over loopback between a client and a server that do nothing, with the messages of tq.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use tq_proto::v1::host_link_client::HostLinkClient;
use tq_proto::v1::host_link_server::{HostLink, HostLinkServer};
use tq_proto::v1::host_service_client::HostServiceClient;
use tq_proto::v1::host_service_server::{HostService, HostServiceServer};
use tq_proto::v1::{
    Assignment, Assignments, AttemptOutcome, BlobChunk, BrokerMessage, Data, DrainHostRequest,
    FetchBlobRequest, GetHostRequest, GetSecretRequest, GetSecretResponse, Host, HostMessage,
    KeyValueRequest, KeyValueResponse, ListHostsRequest, ListHostsResponse, Outcomes,
    PauseHostRequest, PutBlobRequest, PutBlobResponse, PutLogsRequest, PutLogsResponse,
    RemoveHostRequest, RemoveHostResponse, ResumeHostRequest, broker_message, data, host_message,
};

use super::{ROUNDS, ROW_BYTES, SPAN, best_of};
use crate::commands::bench::plan::Plan;
use crate::commands::bench::report::Figure;
use crate::commands::bench::sample::{Samples, Stopwatch};
use crate::commands::bench::{STALL, within};

/// What one message carries: so many tasks.
const BATCH: usize = 100;
/// Messages that are under way in each direction.
const AHEAD: usize = 8;
/// As tq's own connections have it.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// What was measured.
pub(super) struct Rpc {
    pub(super) streamed: Figure,
    pub(super) round_trip_p50: Figure,
    pub(super) round_trip_p99: Figure,
}

pub(super) async fn measure(plan: &Plan) -> anyhow::Result<Rpc> {
    let incoming =
        TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.with_nodelay(Some(true));
    let address = incoming.local_addr()?;
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(HostLinkServer::new(Idle))
        .add_service(HostServiceServer::new(Idle));
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = JoinSet::new();
    serving.spawn(server.serve_with_incoming_shutdown(incoming, async {
        stopped.await.ok();
    }));
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect()
        .await?;
    let span = plan.span(SPAN);
    let mut streams = Vec::new();
    let mut trips = Vec::new();
    let mut all = Samples::default();
    for _ in 0..ROUNDS {
        let (messages, elapsed) = streamed(channel.clone(), span).await?;
        streams.push(Figure::rate("rpc.streamed_per_second", messages, elapsed));
        let mut samples = round_trips(channel.clone(), span).await?;
        all.extend(samples.clone());
        trips.push(Figure::time("rpc.round_trip_p50", samples.p50()));
    }
    drop(channel);
    drop(stop);
    // Its connection is gone by now, so that nothing is lost with it.
    serving.abort_all();
    Ok(Rpc {
        streamed: best_of(streams)?,
        round_trip_p50: best_of(trips)?,
        round_trip_p99: Figure::time("rpc.round_trip_p99", all.p99()),
    })
}

/// Tasks that went over and came back, in batches, on one stream.
async fn streamed(channel: Channel, span: Duration) -> anyhow::Result<(u64, Duration)> {
    let outcome = AttemptOutcome {
        result: Some(row()),
        ..AttemptOutcome::default()
    };
    let message = HostMessage {
        kind: Some(host_message::Kind::Outcomes(Outcomes {
            outcomes: vec![outcome; BATCH],
        })),
    };
    let (send, mut queue) = mpsc::channel(AHEAD);
    let outgoing = stream::poll_fn(move |context| queue.poll_recv(context));
    let mut answers = HostLinkClient::new(channel)
        .session(outgoing)
        .await?
        .into_inner();
    for _ in 0..AHEAD {
        send.send(message.clone()).await?;
    }
    let start = Stopwatch::start();
    let mut messages = 0;
    while start.elapsed() < span {
        let answer = within("an answer on a stream", STALL, async {
            Ok(answers.message().await?)
        });
        let answer = answer.await?.and_then(|answer| answer.kind);
        if let Some(broker_message::Kind::Assignments(Assignments { assignments, .. })) = answer {
            messages += assignments.len() as u64;
        }
        send.send(message.clone()).await?;
    }
    Ok((messages, start.elapsed()))
}

/// Calls, one after the other.
async fn round_trips(channel: Channel, span: Duration) -> anyhow::Result<Samples> {
    let mut client = HostServiceClient::new(channel);
    let mut samples = Samples::default();
    let start = Stopwatch::start();
    while start.elapsed() < span {
        let trip = Stopwatch::start();
        within("an answer to a call", STALL, async {
            Ok(client.list_hosts(ListHostsRequest {}).await?)
        })
        .await?;
        samples.push(trip.elapsed());
    }
    Ok(samples)
}

fn row() -> Data {
    Data {
        kind: Some(data::Kind::Inline(vec![0x5a; ROW_BYTES].into())),
    }
}

/// A server that answers at once: an outcome with a task as large.
struct Idle;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl HostLink for Idle {
    type SessionStream = Answers<BrokerMessage>;
    type FetchBlobStream = Answers<BlobChunk>;

    async fn session(
        &self,
        request: Request<Streaming<HostMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let assignment = Assignment {
            payload: Some(row()),
            ..Assignment::default()
        };
        let answers = request.into_inner().map(move |message| {
            let count = match message?.kind {
                Some(host_message::Kind::Outcomes(Outcomes { outcomes })) => outcomes.len(),
                _ => 0,
            };
            Ok(BrokerMessage {
                kind: Some(broker_message::Kind::Assignments(Assignments {
                    assignments: vec![assignment.clone(); count],
                    seq: 0,
                })),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_blob(
        &self,
        _request: Request<FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        Err(Status::unimplemented("it only measures"))
    }

    async fn put_blob(
        &self,
        _request: Request<Streaming<PutBlobRequest>>,
    ) -> Result<Response<PutBlobResponse>, Status> {
        Err(Status::unimplemented("it only measures"))
    }

    async fn put_logs(
        &self,
        _request: Request<Streaming<PutLogsRequest>>,
    ) -> Result<Response<PutLogsResponse>, Status> {
        Err(Status::unimplemented("it only measures"))
    }

    async fn get_secret(
        &self,
        _request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        Err(Status::unimplemented("it only measures"))
    }

    async fn key_value(
        &self,
        _request: Request<KeyValueRequest>,
    ) -> Result<Response<KeyValueResponse>, Status> {
        Err(Status::unimplemented("it only measures"))
    }
}

#[tonic::async_trait]
impl HostService for Idle {
    async fn list_hosts(
        &self,
        _request: Request<ListHostsRequest>,
    ) -> Result<Response<ListHostsResponse>, Status> {
        Ok(Response::new(ListHostsResponse::default()))
    }

    async fn get_host(&self, _request: Request<GetHostRequest>) -> Result<Response<Host>, Status> {
        Err(Status::unimplemented("it only measures"))
    }

    async fn pause_host(
        &self,
        _request: Request<PauseHostRequest>,
    ) -> Result<Response<Host>, Status> {
        Err(Status::unimplemented("it only measures"))
    }

    async fn resume_host(
        &self,
        _request: Request<ResumeHostRequest>,
    ) -> Result<Response<Host>, Status> {
        Err(Status::unimplemented("it only measures"))
    }

    async fn drain_host(
        &self,
        _request: Request<DrainHostRequest>,
    ) -> Result<Response<Host>, Status> {
        Err(Status::unimplemented("it only measures"))
    }

    async fn remove_host(
        &self,
        _request: Request<RemoveHostRequest>,
    ) -> Result<Response<RemoveHostResponse>, Status> {
        Err(Status::unimplemented("it only measures"))
    }
}
