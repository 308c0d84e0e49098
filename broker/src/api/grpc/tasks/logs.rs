//! What the attempts of a task wrote, read piece by piece while it is listened to.

use std::sync::Arc;

use tonic::Status;
use tq_core::task::Task;
use tq_proto::v1;

use super::Outgoing;
use crate::api::grpc::blocking::blocking;
use crate::api::grpc::reads::Reads;
use crate::api::status::ApiError;
use crate::store::{Direction, Space};
use crate::tables::key;

/// Pieces of a log that are read at once.
const LOG_PAGE: usize = 64;

/// All pieces of a task's log.
pub(super) fn pieces(reads: Arc<Reads>, task: Task) -> Outgoing<v1::LogChunk> {
    let chunks = futures_util::stream::try_unfold(Some(Vec::new()), move |from| {
        let (reads, task) = (Arc::clone(&reads), task.clone());
        async move {
            let Some(from) = from else {
                return Ok::<_, Status>(None);
            };
            let (chunks, next) = blocking(move || reads.logs(&task, &from)).await?;
            Ok(Some((
                futures_util::stream::iter(chunks.into_iter().map(Ok)),
                next,
            )))
        }
    });
    Box::pin(futures_util::TryStreamExt::try_flatten(chunks))
}

impl Reads {
    /// Pieces of a task's log from a key on, and where to go on.
    fn logs(
        &self,
        task: &Task,
        from: &[u8],
    ) -> Result<(Vec<v1::LogChunk>, Option<Vec<u8>>), ApiError> {
        let Some(namespace) = self.namespace else {
            return Ok((Vec::new(), None));
        };
        let pairs = self.store.scan(
            Space::Payloads,
            &key::logs(namespace, task.id),
            from,
            Direction::Ascending,
            LOG_PAGE,
        )?;
        let next = pairs
            .last()
            .filter(|_| pairs.len() == LOG_PAGE)
            .map(|last| [&last.key[..], &[0]].concat());
        let chunks = pairs.into_iter().map(|pair| {
            let epoch = key::log_epoch_of(&pair.key);
            let attempt = task
                .attempts
                .iter()
                .find(|attempt| Some(attempt.epoch) == epoch)
                .map(|attempt| attempt.number);
            v1::LogChunk {
                attempt: attempt.unwrap_or(task.started),
                text: pair.value,
            }
        });
        Ok((chunks.collect(), next))
    }
}
