//! Following one task: what becomes of it, how far it is, and what it writes.

use std::sync::Arc;

use tonic::Status;
use tq_core::TaskId;
use tq_core::task::Task;
use tq_proto::v1;

use super::Outgoing;
use super::logs::{Log, Place, Read};
use crate::api::grpc::Context;
use crate::api::grpc::blocking::blocking;
use crate::api::grpc::reads::{Reads, Shows, no_task};
use crate::api::status::ApiError;
use crate::ledger::Following;

/// Follows a task until it has ended, and its log from a place on if one is given. Its end comes after its log.
pub(super) fn updates(
    context: Context,
    namespace: String,
    id: TaskId,
    log: Option<Place>,
) -> Outgoing<v1::FollowTaskResponse> {
    let follow = Follow::new(context, namespace, id, log, Until::TaskEnded);
    let updates = futures_util::stream::try_unfold(follow, async |mut follow| {
        let update = follow.next().await?;
        Ok(update.map(|update| (update, follow)))
    });
    Box::pin(updates)
}

/// What there is of a task's log now.
pub(super) fn log(context: Context, namespace: String, id: TaskId) -> Outgoing<v1::LogChunk> {
    let log = Some(Place::BEGINNING);
    let follow = Follow::new(context, namespace, id, log, Until::LogRead);
    let chunks = futures_util::stream::try_unfold(follow, async |mut follow| {
        let update = follow.next().await?;
        let chunks =
            update.map(|update| futures_util::stream::iter(update.log.into_iter().map(Ok)));
        Ok::<_, Status>(chunks.map(|chunks| (chunks, follow)))
    });
    Box::pin(futures_util::TryStreamExt::try_flatten(chunks))
}

/// How long a task is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Until it has ended, and its log is complete if that is followed.
    TaskEnded,
    /// Until there is no more of its log for now, but for what is known to be on its way.
    LogRead,
}

struct Follow {
    context: Context,
    namespace: String,
    id: TaskId,
    reads: Arc<Reads>,
    /// Taken before the first look, so that no change falls between two.
    following: Following,
    log: Option<Log>,
    until: Until,
    /// The task and its progress as they were told last.
    told: Option<v1::Task>,
    progress: Option<v1::Progress>,
}

/// A task as it is read at once.
struct Look {
    task: Task,
    shown: v1::Task,
    progress: Option<v1::Progress>,
    log: Option<(Log, Read)>,
}

impl Follow {
    fn new(
        context: Context,
        namespace: String,
        id: TaskId,
        log: Option<Place>,
        until: Until,
    ) -> Self {
        Self {
            following: Following::new(context.ledger.shared(), id),
            reads: Arc::new(Reads::new(&context, &namespace)),
            context,
            namespace,
            id,
            log: log.map(Log::from),
            until,
            told: None,
            progress: None,
        }
    }

    /// Waits for the next update. None after the last one.
    async fn next(&mut self) -> Result<Option<v1::FollowTaskResponse>, Status> {
        loop {
            let (reads, id, log) = (Arc::clone(&self.reads), self.id, self.log);
            let look = blocking(move || reads.look(id, log)).await?;
            self.context
                .ledger
                .on_disk()
                .await
                .map_err(ApiError::from)?;
            let Some(look) = look else {
                return Err(no_task(self.namespace.clone(), id));
            };
            let (chunks, wait_until, has_more) = match look.log {
                Some((log, read)) => {
                    self.log = Some(log);
                    match read {
                        Read::Pieces(chunks) => (chunks, None, true),
                        Read::Nothing(until) => (Vec::new(), until, until.is_some()),
                    }
                }
                None => (Vec::new(), None, false),
            };
            let has_ended = look.task.state.is_terminal();
            let mut update = v1::FollowTaskResponse {
                task: None,
                progress: None,
                log: chunks,
            };
            if !(has_ended && has_more) && self.told.as_ref() != Some(&look.shown) {
                self.told = Some(look.shown.clone());
                update.task = Some(look.shown);
            }
            if self.progress != look.progress {
                self.progress.clone_from(&look.progress);
                update.progress = look.progress;
            }
            if update != v1::FollowTaskResponse::default() {
                return Ok(Some(update));
            }
            let is_over = match self.until {
                Until::TaskEnded => has_ended,
                Until::LogRead => true,
            };
            if is_over && !has_more {
                return Ok(None);
            }
            self.wait(wait_until).await?;
        }
    }

    /// Waits until something may have changed, or it is this time.
    async fn wait(&mut self, until: Option<tokio::time::Instant>) -> Result<(), Status> {
        let at = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.following.changed() => Ok(()),
            () = at => Ok(()),
            () = self.context.stop.cancelled() => Err(Status::unavailable("the broker is stopping")),
        }
    }
}

impl Reads {
    /// Looks at a task and reads on in its log. None if there is no such task.
    fn look(&self, id: TaskId, log: Option<Log>) -> Result<Option<Look>, ApiError> {
        let (Some(found), Some(namespace)) = (self.find(id)?, self.namespace) else {
            return Ok(None);
        };
        let shows = Shows {
            view: v1::TaskView::Unspecified,
            include_result: false,
        };
        let gone = found.beside.result_gone;
        let shown = self.shown(namespace, &found.task, found.result, gone, shows)?;
        let progress = self.progress(id);
        let log = match log {
            Some(mut log) => {
                let read = log.read(self, &found.task)?;
                Some((log, read))
            }
            None => None,
        };
        Ok(Some(Look {
            task: found.task,
            shown,
            progress,
            log,
        }))
    }
}
