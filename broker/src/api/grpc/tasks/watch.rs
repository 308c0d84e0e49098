//! Telling the ends of tasks to those who watch: of some tasks, or all of a namespace.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tq_core::TaskId;
use tq_proto::v1;

use super::Outgoing;
use crate::api::grpc::Context;
use crate::api::grpc::blocking::blocking;
use crate::api::grpc::reads::{Reads, Shows, no_task};
use crate::api::status::ApiError;
use crate::ledger::{Ended, Handle, lock};
use crate::store::{Direction, Pair, Space};
use crate::tables::{key, row};

/// Tasks of one response of a watch.
const WATCH_BATCH: usize = 256;
/// Results of one response of a watch, in bytes: a further one waits for the next response.
const WATCH_BATCH_BYTES: usize = 1 << 20;
/// Commits of which a watch reads the ends at once.
const SETTLED_PAGE: usize = 64;

/// The ends of some tasks, or of all of a namespace from a sequence on if none are named.
pub(super) fn ends(
    context: Context,
    namespace: String,
    ids: Vec<TaskId>,
    after_seq: Option<u64>,
    shows: Shows,
) -> Outgoing<v1::WatchTasksResponse> {
    let (sender, receiver) = mpsc::channel(2);
    let out = Out {
        sender,
        ledger: context.ledger.clone(),
        shows,
    };
    let stop = context.stop.clone();
    let work: Pin<Box<dyn Future<Output = Result<(), Status>> + Send>> = if ids.is_empty() {
        Box::pin(watch_all(context, namespace, after_seq, out))
    } else {
        Box::pin(watch_ids(context, namespace, ids, out))
    };
    let work = futures_util::stream::once(async move {
        tokio::select! {
            () = stop.cancelled() => Some(Err(Status::unavailable("the broker is stopping"))),
            ended = work => ended.err().map(Err),
        }
    });
    // The watch works as long as its stream is polled, and ends with it.
    let work = futures_util::StreamExt::filter_map(work, std::future::ready);
    Box::pin(futures_util::stream::select(
        ReceiverStream::new(receiver),
        work,
    ))
}

/// Tells the ends of some tasks, and ends with the last of them.
async fn watch_ids(
    context: Context,
    namespace: String,
    ids: Vec<TaskId>,
    out: Out,
) -> Result<(), Status> {
    let watch = context.ledger.watch(namespace.clone(), ids.clone());
    let (mut watching, unknown) = watch.await.map_err(ApiError::from)?;
    let settled = context.ledger.shared().settled.subscribe();
    let seq = || *settled.borrow();
    let reads = Arc::new(Reads::new(&context, &namespace));
    // Registered first and read afterwards, so that no end falls between the two.
    let ended = match unknown.is_empty() {
        // Whoever waits for what it has just submitted needs no look at the disk.
        true => Vec::new(),
        false => {
            let of_tasks = Arc::clone(&reads);
            let found = blocking(move || of_tasks.ended_of(unknown)).await?;
            context.ledger.on_disk().await.map_err(ApiError::from)?;
            found.map_err(|id| no_task(namespace, id))?
        }
    };
    let mut open: HashSet<TaskId> = ids.into_iter().collect();
    for id in &ended {
        open.remove(id);
    }
    let ended = ended.into_iter().map(End::OnDisk).collect();
    if !out.send(&reads, ended, seq(), seq()).await? {
        return Ok(());
    }
    while !open.is_empty() {
        let mut told = Vec::new();
        let received = tokio::select! {
            () = out.sender.closed() => return Ok(()),
            received = watching.ended.recv_many(&mut told, WATCH_BATCH) => received,
        };
        if received == 0 {
            return Err(Status::unavailable("the broker is stopping"));
        }
        told.retain(|ended| open.remove(&ended.task.id));
        let told = told.into_iter().map(End::InMemory).collect();
        if !out.send(&reads, told, seq(), seq()).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Tells all ends of a namespace, from a sequence on. One that falls behind what is in memory reads the rows that the
/// ledger writes of each commit's ends, so that a slow listener costs nothing.
async fn watch_all(
    context: Context,
    namespace: String,
    after_seq: Option<u64>,
    out: Out,
) -> Result<(), Status> {
    let mut settled = context.ledger.shared().settled.subscribe();
    let mut seq = after_seq.unwrap_or_else(|| *settled.borrow());
    let first = v1::WatchTasksResponse {
        ended: Vec::new(),
        seq,
    };
    if out.sender.send(Ok(first)).await.is_err() {
        return Ok(());
    }
    loop {
        let reads = Arc::new(Reads::new(&context, &namespace));
        settled.mark_unchanged();
        match reads.ends_after(seq).await? {
            (ends, last) if last > seq => {
                if !out.send(&reads, ends, seq, last).await? {
                    return Ok(());
                }
                seq = last;
            }
            _ => {
                let changed = tokio::select! {
                    () = out.sender.closed() => return Ok(()),
                    changed = settled.changed() => changed,
                };
                if changed.is_err() {
                    return Err(Status::unavailable("the broker is stopping"));
                }
            }
        }
    }
}

/// Where a watch sends what ended.
struct Out {
    sender: mpsc::Sender<Result<v1::WatchTasksResponse, Status>>,
    ledger: Handle,
    shows: Shows,
}

impl Out {
    /// Sends ends in responses of a bounded size; only the last one has the new sequence. `false` if nobody listens.
    async fn send(
        &self,
        reads: &Arc<Reads>,
        mut ends: Vec<End>,
        before: u64,
        after: u64,
    ) -> Result<bool, Status> {
        loop {
            let (of_ends, shows) = (Arc::clone(reads), self.shows);
            let may_block = |end: &End| end.may_block(shows.include_result);
            let (ended, left) = if ends.iter().any(may_block) {
                let ended = blocking(move || of_ends.ended(ends, shows)).await?;
                // What is read is what has become of the tasks since, too.
                self.ledger.on_disk().await.map_err(ApiError::from)?;
                ended
            } else {
                of_ends.ended(ends, shows)?
            };
            let seq = if left.is_empty() { after } else { before };
            if !ended.is_empty()
                && self
                    .sender
                    .send(Ok(v1::WatchTasksResponse { ended, seq }))
                    .await
                    .is_err()
            {
                return Ok(false);
            }
            if left.is_empty() {
                return Ok(true);
            }
            ends = left;
        }
    }
}

/// A task that has ended.
enum End {
    /// It has to be read.
    OnDisk(TaskId),
    /// The ledger had it in memory when it ended.
    InMemory(Arc<Ended>),
}

impl End {
    /// Whether showing it may block on the disk.
    fn may_block(&self, include_result: bool) -> bool {
        match self {
            Self::OnDisk(_) => true,
            Self::InMemory(ended) => include_result && !ended.task.result.is_none_or(row::in_row),
        }
    }
}

impl Reads {
    /// Those of some tasks that have ended, or one that is not there.
    fn ended_of(&self, ids: Vec<TaskId>) -> Result<Result<Vec<TaskId>, TaskId>, ApiError> {
        let mut ended = Vec::new();
        for id in ids {
            match self.find(id)? {
                None => return Ok(Err(id)),
                Some(found) if found.task.state.is_terminal() => ended.push(id),
                Some(_) => {}
            }
        }
        Ok(Ok(ended))
    }

    /// Ends as they are shown, up to a bound in bytes; and those that are left.
    fn ended(&self, ends: Vec<End>, shows: Shows) -> Result<(Vec<v1::Task>, Vec<End>), ApiError> {
        let mut shown = Vec::with_capacity(ends.len().min(WATCH_BATCH));
        let mut bytes = 0;
        let mut ends = ends.into_iter();
        while bytes < WATCH_BATCH_BYTES
            && shown.len() < WATCH_BATCH
            && let Some(end) = ends.next()
        {
            let task = match end {
                End::OnDisk(id) => match (self.find(id)?, self.namespace) {
                    (Some(found), Some(namespace)) if found.task.state.is_terminal() => {
                        let gone = found.beside.result_gone;
                        Some(self.shown(namespace, &found.task, found.result, gone, shows)?)
                    }
                    (Some(_) | None, _) => None,
                },
                End::InMemory(ended) => {
                    let Ended {
                        namespace,
                        task,
                        result,
                    } = &*ended;
                    Some(self.shown(*namespace, task, result.clone(), None, shows)?)
                }
            };
            bytes += task
                .as_ref()
                .and_then(|task| task.result.as_ref())
                .map_or(0, Bytes::len);
            shown.extend(task);
        }
        Ok((shown, ends.collect()))
    }

    /// The tasks of the namespace that ended in the next commits after `seq`, and the last of those commits, which is
    /// `seq` if there are none.
    async fn ends_after(self: &Arc<Self>, seq: u64) -> Result<(Vec<End>, u64), Status> {
        let recent = lock(&self.shared.recent).after(seq);
        let Some((ended, last)) = recent else {
            let of_commits = Arc::clone(self);
            return blocking(move || of_commits.ends_on_disk(seq)).await;
        };
        let ours = ended
            .into_iter()
            .filter(|ended| Some(ended.namespace) == self.namespace);
        Ok((ours.map(End::InMemory).collect(), last))
    }

    /// The same from the rows that the ledger writes of each commit's ends.
    fn ends_on_disk(&self, seq: u64) -> Result<(Vec<End>, u64), ApiError> {
        let from = key::settled(seq + 1);
        let pairs = self.store.scan(
            Space::Index,
            &key::settled_all(),
            &from.bytes,
            Direction::Ascending,
            SETTLED_PAGE,
        )?;
        // Looked at after the rows, so that what went while they were read is noticed.
        let forgotten = self.shared.forgotten.load(Ordering::Acquire);
        if seq < forgotten {
            return Err(Status::out_of_range(format!(
                "ends after sequence {seq} were removed, up to {forgotten}: their retention is over\nhint: list tasks to see \
                 what is there, and watch on from {forgotten}, or without a sequence from now on"
            ))
            .into());
        }
        // Commits that are not on disk yet can be read, and must not be told.
        let on_disk = *self.shared.settled.borrow();
        let seq_of = |pair: &Pair| key::settled_of(&pair.key).filter(|seq| *seq <= on_disk);
        let pairs: Vec<_> = pairs
            .into_iter()
            .take_while(|pair| seq_of(pair).is_some())
            .collect();
        let last = pairs.last().and_then(seq_of);
        let ended = pairs
            .iter()
            .flat_map(|pair| row::decode_settled(&pair.value));
        let ours = ended.filter(|(namespace, _)| Some(*namespace) == self.namespace);
        let ends = ours.map(|(_, id)| End::OnDisk(id)).collect();
        Ok((ends, last.unwrap_or(seq)))
    }
}
