//! The bulk connection: blobs and logs, apart from the session, so that neither stalls the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tq_core::id::{Digest, Epoch};
use tq_core::limits::{CHUNK_BYTES, LEASE};
use tq_proto::v1::host_link_client::HostLinkClient;
use tq_proto::v1::put_blob_request::Part;
use tq_proto::v1::{Blob, FetchBlobRequest, PutBlobRequest, PutLogsRequest};

use crate::agent::backoff::Backoff;
use crate::agent::link::Wire;
use crate::metrics::Metrics;

/// Blobs on their way at once, in each direction.
const TRANSFERS_MAX: usize = 4;
/// How long a blob is asked for before its attempt is given back: a broker restarts within it.
const FETCH_PATIENCE: Duration = Duration::from_secs(30);
/// Logs that wait for the connection. What is more is dropped, and counted.
const LOG_QUEUE_BYTES: usize = 4 << 20;
/// The same, in messages.
const LOG_QUEUE_MAX: usize = 1_024;

/// A blob was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0}")]
    Size(SizeError),
    #[error("what came is not what its digest names")]
    Digest,
    #[error("nothing came for {LEASE:?}")]
    Stalled,
    #[error("{}", .0.message())]
    Status(Box<Status>),
}

#[derive(Debug, thiserror::Error)]
#[error("it has {found} bytes, and should have {expected} bytes")]
pub(crate) struct SizeError {
    expected: u64,
    found: u64,
}

impl FetchError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Size(_) | Self::Digest | Self::Stalled => true,
            Self::Status(status) => status.code() != Code::NotFound,
        }
    }
}

/// Moves blobs.
#[derive(Clone, Debug)]
pub(crate) struct Bulk {
    client: HostLinkClient<Wire>,
    fetching: Arc<Semaphore>,
    putting: Arc<Semaphore>,
    seed: u64,
}

impl Bulk {
    pub(crate) fn new(client: HostLinkClient<Wire>, seed: u64) -> Self {
        Self {
            client,
            fetching: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            putting: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            seed,
        }
    }

    /// Fetches and verifies a blob of exactly `size_bytes`, trying again for 30 s unless the broker does not have it.
    pub(crate) async fn fetch(&self, digest: Digest, size_bytes: u64) -> Result<Bytes, FetchError> {
        let until = Instant::now() + FETCH_PATIENCE;
        let mut backoff = Backoff::new(self.seed);
        // The semaphore is never closed.
        let _turn = self.fetching.acquire().await;
        loop {
            match self.fetch_once(digest, size_bytes).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if !error.is_retryable() || Instant::now() >= until => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(%digest, %error, "blob was not fetched, trying again");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
    }

    async fn fetch_once(&self, digest: Digest, size_bytes: u64) -> Result<Bytes, FetchError> {
        let status = |status| FetchError::Status(Box::new(status));
        let request = FetchBlobRequest {
            digest: Bytes::copy_from_slice(&digest.0),
        };
        let mut client = self.client.clone();
        let response = timeout(LEASE, client.fetch_blob(request));
        let mut chunks = response
            .await
            .map_err(|_| FetchError::Stalled)?
            .map_err(status)?
            .into_inner();
        let mut blob = BytesMut::new();
        let wrong = |found| {
            FetchError::Size(SizeError {
                expected: size_bytes,
                found,
            })
        };
        while let Some(chunk) = timeout(LEASE, chunks.message())
            .await
            .map_err(|_| FetchError::Stalled)?
            .map_err(status)?
        {
            let found = (blob.len() + chunk.data.len()) as u64;
            if found > size_bytes {
                return Err(wrong(found));
            }
            blob.extend_from_slice(&chunk.data);
        }
        if (blob.len() as u64) < size_bytes {
            return Err(wrong(blob.len() as u64));
        }
        let blob = blob.freeze();
        if sha256(blob.clone()).await == Some(digest) {
            Ok(blob)
        } else {
            Err(FetchError::Digest)
        }
    }

    /// Puts bytes on the broker's disk, trying again until they are there.
    ///
    /// # Cancel safety
    /// Dropped, it leaves at most a blob that nothing refers to.
    pub(crate) async fn put(&self, bytes: Bytes) -> Blob {
        let mut backoff = Backoff::new(self.seed);
        let _turn = self.putting.acquire().await;
        loop {
            match self.put_once(&bytes).await {
                Ok(blob) => return blob,
                Err(error) => {
                    tracing::debug!(error = error.message(), "blob was not put, trying again");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
    }

    async fn put_once(&self, bytes: &Bytes) -> Result<Blob, Status> {
        let digest = sha256(bytes.clone())
            .await
            .ok_or_else(|| Status::aborted("hashing was cancelled"))?;
        let blob = Blob {
            digest: Bytes::copy_from_slice(&digest.0),
            size_bytes: bytes.len() as u64,
        };
        let (header, bytes) = (Part::Header(blob.clone()), bytes.clone());
        let chunks = (0..bytes.len()).step_by(CHUNK_BYTES);
        let chunks = chunks
            .map(move |from| Part::Chunk(bytes.slice(from..bytes.len().min(from + CHUNK_BYTES))));
        let parts = std::iter::once(header).chain(chunks);
        let requests = parts.map(|part| PutBlobRequest { part: Some(part) });
        self.client
            .clone()
            .put_blob(tokio_stream::iter(requests))
            .await?;
        Ok(blob)
    }
}

/// Hashes off the asynchronous threads; `None` if the process ends meanwhile.
async fn sha256(bytes: Bytes) -> Option<Digest> {
    let hash = tokio::task::spawn_blocking(move || Digest(Sha256::digest(&bytes).into()));
    hash.await.ok()
}

/// Takes the logs of attempts, and never waits.
#[derive(Debug)]
pub(crate) struct Logs {
    queue: mpsc::Sender<(PutLogsRequest, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    /// Bytes of the logs of attempts, whether queued or dropped: who reads them finds by these what is missing.
    written: HashMap<Epoch, u64>,
    metrics: Arc<Metrics>,
}

impl Logs {
    /// The queue, and the work that empties it.
    pub(crate) fn new(
        client: HostLinkClient<Wire>,
        seed: u64,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, queued) = mpsc::channel(LOG_QUEUE_MAX);
        let logs = Self {
            queue,
            room: Arc::new(Semaphore::new(LOG_QUEUE_BYTES)),
            written: HashMap::new(),
            metrics,
        };
        (logs, send_logs(client, queued, Backoff::new(seed)))
    }

    /// Queues the next part of an attempt's log, or counts it as dropped. `head` is a message without it.
    pub(crate) fn put(&mut self, head: PutLogsRequest, text: Bytes) {
        let len = text.len() as u64;
        let written = self.written.entry(Epoch(head.epoch)).or_default();
        let message = PutLogsRequest {
            text,
            offset: *written,
            ..head
        };
        *written += len;
        if !self.queue(message) {
            self.metrics.log_dropped_bytes.inc_by(len);
        }
    }

    /// The attempt's log is complete. Returns how many bytes it has.
    pub(crate) fn end(&mut self, epoch: Epoch) -> u64 {
        self.written.remove(&epoch).unwrap_or(0)
    }

    fn queue(&self, message: PutLogsRequest) -> bool {
        let bytes = u32::try_from(message.text.len()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            return false;
        };
        self.queue.try_send((message, room)).is_ok()
    }
}

/// Sends logs in one long call for each connection. There is no call while there are no logs.
async fn send_logs(
    client: HostLinkClient<Wire>,
    mut queued: mpsc::Receiver<(PutLogsRequest, OwnedSemaphorePermit)>,
    mut backoff: Backoff,
) {
    /// Messages that the call holds beside what the connection holds.
    const IN_CALL: usize = 16;
    let mut next = None;
    loop {
        if next.is_none() {
            next = queued.recv().await;
        }
        if next.is_none() {
            return;
        }
        let (sender, receiver) = mpsc::channel(IN_CALL);
        let mut client = client.clone();
        let call = client.put_logs(ReceiverStream::new(receiver));
        tokio::pin!(call);
        let mut has_ended = false;
        let answer = loop {
            tokio::select! {
                answer = &mut call => break answer,
                permit = sender.reserve(), if next.is_some() => match permit {
                    Ok(permit) => {
                        if let Some((message, _room)) = next.take() {
                            permit.send(message);
                        }
                        backoff.reset();
                    }
                    Err(_) => break call.await,
                },
                message = queued.recv(), if next.is_none() => {
                    next = message;
                    has_ended = next.is_none();
                }
            }
            if has_ended {
                drop(sender);
                break call.await;
            }
        };
        match answer {
            Ok(_) if has_ended => return,
            Ok(_) => {}
            Err(error) if has_ended => {
                tracing::debug!(error = error.message(), "the last logs were not taken");
                return;
            }
            Err(error) => {
                tracing::debug!(error = error.message(), "logs were not taken, trying again")
            }
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}
