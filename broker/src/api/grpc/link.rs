use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_core::Stream;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tq_core::limits::{Limits, RESULT_BYTES_MAX};
use tq_core::outcome::Outcome;
use tq_core::task::Failure;
use tq_core::{Digest, Epoch};
use tq_proto::v1;
use tq_proto::v1::host_link_server::HostLink;

use super::blocking::{blocking, write_chunk};
use super::keyvalue::keyvalue_for;
use super::secrets::secret_for;
use super::{Context, convert};
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::blobs::{Blobs, Hold};
use crate::dispatch::SessionId;
use crate::dispatch::message::{AttemptOutcome, Data, FromHost, ToHost};
use crate::ledger::{Command, Handle, LogChunk};

/// Messages that may wait for a host to read them. One that leaves more lying is not keeping up.
const OUTBOUND_MAX: usize = 1_024;

/// One piece of a log: at its end, an attempt sends all that was kept of it.
const LOG_PIECE_BYTES_MAX: u64 = Limits::MAX.log_bytes;

pub(super) struct Link(pub(super) Context);

/// Where the ledger sends messages to a host. They are made ready for the wire behind it.
struct Outbound {
    sender: mpsc::Sender<ToHost>,
    has_refused: AtomicBool,
}

impl crate::dispatch::hosts::Link for Outbound {
    fn send(&self, message: ToHost) -> bool {
        let is_sent = self.is_open() && self.sender.try_send(message).is_ok();
        if !is_sent {
            self.has_refused.store(true, Ordering::Relaxed);
        }
        is_sent
    }

    fn is_open(&self) -> bool {
        !self.has_refused.load(Ordering::Relaxed)
    }
}

/// Tells the ledger that the session is over, however it ends.
struct Ends {
    ledger: Handle,
    session: SessionId,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.ledger.disconnected(self.session);
    }
}

/// Takes holds on the blobs that a message names. What names one that is not there is changed or left out.
async fn hold_blobs(blobs: &Blobs, mut message: FromHost) -> Result<(FromHost, Vec<Hold>), Status> {
    let mut holds = Vec::new();
    match &mut message {
        FromHost::Outcomes(outcomes) => holds = hold_results(blobs, outcomes).await,
        FromHost::Checkpoint {
            state: Data::Blob { digest, .. },
            ..
        } => match hold(blobs, *digest).await? {
            Some(hold) => holds.push(hold),
            // The one before it stays, and the host is heard of all the same.
            None => message = FromHost::Heartbeat,
        },
        FromHost::Checkpoint {
            state: Data::Inline(_),
            ..
        }
        | FromHost::Credits(_)
        | FromHost::Progress(_)
        | FromHost::Ready { .. }
        | FromHost::PrepareFailed { .. }
        | FromHost::Heartbeat
        | FromHost::Draining => {}
    }
    Ok((message, holds))
}

/// Takes holds on the results that are blobs. An attempt whose result is not there is lost: the host came back so late that
/// nobody could know of it any more. One that cannot be looked for is left out: its host says it again when it connects.
async fn hold_results(blobs: &Blobs, outcomes: &mut Vec<AttemptOutcome>) -> Vec<Hold> {
    let mut holds = Vec::new();
    for mut ended in std::mem::take(outcomes) {
        let Some(Data::Blob { digest, .. }) = ended.result else {
            outcomes.push(ended);
            continue;
        };
        match hold(blobs, digest).await {
            Ok(Some(hold)) => holds.push(hold),
            Err(error) => {
                tracing::warn!(%digest, %error, "failed to look for a result");
                continue;
            }
            Ok(None) => {
                ended.outcome = Outcome::HostError;
                ended.result = None;
                ended.failure = Some(Failure {
                    message: format!("the result {digest} is not on the broker's disk any more"),
                    ..Failure::default()
                });
            }
        }
        outcomes.push(ended);
    }
    holds
}

async fn hold(blobs: &Blobs, digest: Digest) -> Result<Option<Hold>, Status> {
    let blobs = blobs.clone();
    blocking(move || Ok(blobs.hold_lent(digest)?)).await
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl HostLink for Link {
    type SessionStream = Outgoing<v1::BrokerMessage>;
    type FetchBlobStream = Outgoing<v1::BlobChunk>;

    async fn session(
        &self,
        request: Request<Streaming<v1::HostMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = Caller::of(&request)?;
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|message| message.kind);
        let Some(v1::host_message::Kind::Hello(hello)) = first else {
            return Err(invalid(
                "the first message of a session has to be its hello",
            ));
        };
        let mut hello = Box::new(convert::hello_in(hello)?);
        caller.is_host(&hello.name)?;
        let blobs = self.0.blobs.clone();
        let holds = hold_results(&blobs, &mut hello.outcomes).await;
        let (sender, receiver) = mpsc::channel(OUTBOUND_MAX);
        let link = Arc::new(Outbound {
            sender,
            has_refused: AtomicBool::new(false),
        });
        let ledger = self.0.ledger.clone();
        let session = ledger
            .ask(|reply| Command::Hello { hello, link, reply }.holding(holds))
            .await
            .map_err(ApiError::from)?;
        let session = session.map_err(ApiError::from)?;
        let ends = Ends {
            ledger: ledger.clone(),
            session,
        };
        let stop = self.0.stop.clone();
        // The session lives as long as its outgoing stream is polled; what comes in is read beside it.
        let reads = async move {
            let ends = ends;
            loop {
                let message = tokio::select! {
                    () = stop.cancelled() => return,
                    message = incoming.message() => message,
                };
                let held = match message
                    .and_then(|message| message.map(convert::from_host_in).transpose())
                {
                    Ok(Some(message)) => hold_blobs(&blobs, message).await,
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                match held {
                    Ok((message, holds)) => {
                        let command = Command::FromHost(session, message).holding(holds);
                        if ends.ledger.send(command).await.is_err() {
                            return;
                        }
                    }
                    Err(status) => {
                        tracing::debug!(error = %status, "session of a host ended");
                        return;
                    }
                }
            }
        };
        let reads =
            futures_util::stream::once(reads).filter_map(|()| std::future::ready(Some(None)));
        let writes = ReceiverStream::new(receiver)
            .map(|message| Some(Ok(convert::to_host_out(message))))
            .chain(futures_util::stream::once(std::future::ready(None)));
        // Whichever of the two ends first ends the session.
        let both = futures_util::stream::select(reads, writes)
            .take_while(|item| std::future::ready(item.is_some()));
        Ok(Response::new(Box::pin(both.filter_map(std::future::ready))))
    }

    async fn fetch_blob(
        &self,
        request: Request<v1::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        let digest = convert::digest(&request.into_inner().digest)?;
        let blobs = self.0.blobs.clone();
        let opened = tokio::task::spawn_blocking(move || blobs.open_read(digest))
            .await
            .map_err(ApiError::from)?;
        let Some(reader) = opened.map_err(ApiError::from)? else {
            return Err(Status::not_found(format!("there is no blob {digest}")));
        };
        let chunks = futures_util::stream::try_unfold(reader, |mut reader| async move {
            let read = move || {
                reader
                    .next_chunk()
                    .map(|chunk| chunk.map(|data| (v1::BlobChunk { data }, reader)))
            };
            Ok(tokio::task::spawn_blocking(read)
                .await
                .map_err(ApiError::from)?
                .map_err(ApiError::from)?)
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<v1::PutBlobRequest>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        use v1::put_blob_request::Part;
        let mut incoming = request.into_inner();
        let Some(Part::Header(header)) = incoming.message().await?.and_then(|message| message.part)
        else {
            return Err(invalid("the first message of a blob has to be its header"));
        };
        if header.size_bytes > RESULT_BYTES_MAX as u64 {
            return Err(invalid(format_args!(
                "blob of {} bytes is over the limit of {RESULT_BYTES_MAX} bytes",
                header.size_bytes
            )));
        }
        let digest = convert::digest(&header.digest)?;
        let blobs = self.0.blobs.clone();
        let mut upload = blocking(move || Ok(blobs.begin(digest, header.size_bytes)?)).await?;
        while let Some(message) = incoming.message().await? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(invalid("a blob has one header"));
            };
            upload = write_chunk(upload, chunk).await?;
        }
        // It says so as soon as it can on the other connection, what the blob is of.
        blocking(move || Ok(upload.finish()?)).await?.lend();
        Ok(Response::new(v1::PutBlobResponse {}))
    }

    async fn put_logs(
        &self,
        request: Request<Streaming<v1::PutLogsRequest>>,
    ) -> Result<Response<v1::PutLogsResponse>, Status> {
        let mut incoming = request.into_inner();
        while let Some(chunk) = incoming.message().await? {
            if chunk.text.len() as u64 > LOG_PIECE_BYTES_MAX {
                return Err(invalid(format_args!(
                    "piece of {} bytes of a log is over the limit of {LOG_PIECE_BYTES_MAX} bytes",
                    chunk.text.len()
                )));
            }
            let chunk = LogChunk {
                namespace: chunk.namespace,
                id: convert::task_id(&chunk.task_id)?,
                epoch: Epoch(chunk.epoch),
                offset: chunk.offset,
                text: chunk.text,
            };
            self.0
                .ledger
                .send(Command::Log(chunk))
                .await
                .map_err(ApiError::from)?;
        }
        Ok(Response::new(v1::PutLogsResponse {}))
    }

    async fn get_secret(
        &self,
        request: Request<v1::GetSecretRequest>,
    ) -> Result<Response<v1::GetSecretResponse>, Status> {
        let value = secret_for(&self.0, request.into_inner()).await?;
        Ok(Response::new(v1::GetSecretResponse { value }))
    }

    async fn key_value(
        &self,
        request: Request<v1::KeyValueRequest>,
    ) -> Result<Response<v1::KeyValueResponse>, Status> {
        let answer = keyvalue_for(&self.0, request.into_inner()).await?;
        let answer = Some(answer);
        Ok(Response::new(v1::KeyValueResponse { answer }))
    }
}
