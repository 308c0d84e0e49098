//! What the attempts of a task wrote, one after the other, and what is missing of it.

use bytes::Bytes;
use tokio::time::Instant;
use tonic::Status;
use tq_core::Epoch;
use tq_core::limits::LOG_LATE;
use tq_core::outcome::{Class, Outcome};
use tq_core::task::{Attempt, Task};
use tq_proto::v1;

use crate::api::grpc::reads::Reads;
use crate::api::status::{ApiError, invalid};
use crate::store::{Direction, Space};
use crate::tables::{Namespace, key};

/// Pieces of a log that are read at once.
const LOG_PAGE: usize = 64;

/// How far a log was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Of which attempt; 0 before the first one.
    epoch: Epoch,
    /// The number of the last piece; 0 if there was none, and [`Place::END`] if there is nothing more to come.
    piece: u32,
    /// How many bytes there were of it, those included that are missing.
    end: u64,
}

impl Place {
    const END: u32 = u32::MAX;
    /// Before all of the log.
    pub(super) const BEGINNING: Self = Self {
        epoch: Epoch(0),
        piece: 0,
        end: 0,
    };

    /// The place that a cursor stands for; the beginning for an empty one.
    pub(super) fn from_cursor(cursor: &[u8]) -> Result<Self, Status> {
        if cursor.is_empty() {
            return Ok(Self::BEGINNING);
        }
        let place = cursor.split_first_chunk().and_then(|(epoch, rest)| {
            let (piece, end) = rest.split_first_chunk()?;
            Some(Self {
                epoch: Epoch(u64::from_be_bytes(*epoch)),
                piece: u32::from_be_bytes(*piece),
                end: u64::from_be_bytes(end.try_into().ok()?),
            })
        });
        place.ok_or_else(|| {
            let len = cursor.len();
            invalid(format_args!(
                "log_cursor of {len} bytes is not one; send the cursor of a chunk, or none"
            ))
        })
    }

    fn cursor(self) -> Bytes {
        let Self { epoch, piece, end } = self;
        [
            &epoch.0.to_be_bytes()[..],
            &piece.to_be_bytes(),
            &end.to_be_bytes(),
        ]
        .concat()
        .into()
    }
}

/// Reads a task's log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    place: Place,
    /// Until when more of the attempt at this place is waited for, if that ended and more of it was written than there is.
    patience: Option<Instant>,
}

/// What there is to read.
pub(super) enum Read {
    /// Pieces, and maybe more behind them.
    Pieces(Vec<v1::LogChunk>),
    /// Nothing now. More may come of an attempt that runs or of one to come; or of one that ended, until then.
    Nothing(Option<Instant>),
}

impl Log {
    pub(super) fn from(place: Place) -> Self {
        Self {
            place,
            patience: None,
        }
    }

    /// Reads on. `task` was read before. This may block on the disk.
    pub(super) fn read(&mut self, reads: &Reads, task: &Task) -> Result<Read, ApiError> {
        let Some(namespace) = reads.namespace else {
            return Ok(Read::Nothing(None));
        };
        loop {
            if self.place.piece < Place::END {
                let chunks = self.pieces(reads, namespace, task)?;
                if !chunks.is_empty() {
                    return Ok(Read::Pieces(chunks));
                }
                let ended = task
                    .attempts
                    .iter()
                    .find(|attempt| attempt.epoch == self.place.epoch);
                if let Some(attempt) = ended {
                    let lacking = attempt.usage.log_bytes.saturating_sub(self.place.end);
                    if lacking > 0 {
                        let until = *self
                            .patience
                            .get_or_insert_with(|| Instant::now() + LOG_LATE);
                        if Instant::now() < until {
                            return Ok(Read::Nothing(Some(until)));
                        }
                    }
                    self.place.piece = Place::END;
                    if let Some(notice) = end_notice(attempt, self.place.end, lacking) {
                        return Ok(Read::Pieces(vec![self.notice(task, notice)]));
                    }
                } else if task
                    .lease()
                    .is_some_and(|lease| lease.epoch == self.place.epoch)
                {
                    return Ok(Read::Nothing(None));
                }
            }
            match next_epoch(reads, namespace, task, self.place.epoch)? {
                Some(epoch) => {
                    *self = Self::from(Place {
                        epoch,
                        piece: 0,
                        end: 0,
                    });
                }
                None => return Ok(Read::Nothing(None)),
            }
        }
    }

    /// The next pieces of the attempt, with a notice before each in front of which something is missing.
    fn pieces(
        &mut self,
        reads: &Reads,
        namespace: Namespace,
        task: &Task,
    ) -> Result<Vec<v1::LogChunk>, ApiError> {
        let Place { epoch, piece, .. } = self.place;
        let pairs = reads.store.scan(
            Space::Payloads,
            &key::logs_of(namespace, task.id, epoch),
            &key::log(namespace, task.id, epoch, piece + 1).bytes,
            Direction::Ascending,
            LOG_PAGE,
        )?;
        let mut chunks = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let Some((_, number)) = key::log_piece_of(&pair.key) else {
                continue;
            };
            let offset = u64::from(number).saturating_sub(1);
            if offset > self.place.end {
                let text = missing(offset - self.place.end);
                // The piece behind it has not been read yet.
                self.place.end = offset;
                chunks.push(self.notice(task, text));
            }
            self.place.piece = number;
            self.place.end = offset + pair.value.len() as u64;
            chunks.push(self.chunk(task, pair.value, false));
        }
        if !chunks.is_empty() {
            self.patience = None;
        }
        Ok(chunks)
    }

    fn notice(&self, task: &Task, text: String) -> v1::LogChunk {
        self.chunk(task, text.into(), true)
    }

    fn chunk(&self, task: &Task, text: Bytes, is_notice: bool) -> v1::LogChunk {
        v1::LogChunk {
            attempt: number_of(task, self.place.epoch),
            text,
            is_notice,
            cursor: self.place.cursor(),
        }
    }
}

/// The first attempt after another one that has a log or may get one.
fn next_epoch(
    reads: &Reads,
    namespace: Namespace,
    task: &Task,
    after: Epoch,
) -> Result<Option<Epoch>, ApiError> {
    let behind = Epoch(after.0.saturating_add(1));
    let logged = reads.store.scan(
        Space::Payloads,
        &key::logs(namespace, task.id),
        &key::log(namespace, task.id, behind, 0).bytes,
        Direction::Ascending,
        1,
    )?;
    let logged = logged
        .first()
        .and_then(|pair| key::log_piece_of(&pair.key))
        .map(|(epoch, _)| epoch);
    let ended = task.attempts.iter().map(|attempt| attempt.epoch);
    let runs = task.lease().map(|lease| lease.epoch);
    Ok(ended
        .chain(runs)
        .chain(logged)
        .filter(|epoch| *epoch > after)
        .min())
}

/// The number of an attempt; of one of which nothing is kept, that of the first one that is, less one.
fn number_of(task: &Task, epoch: Epoch) -> u32 {
    let of = |attempt: &&Attempt| attempt.epoch == epoch;
    if let Some(attempt) = task.attempts.iter().find(of) {
        return attempt.number;
    }
    match task.attempts.first() {
        Some(first) if epoch < first.epoch => first.number.saturating_sub(1),
        Some(_) | None => task.started,
    }
}

/// What is to be said at the end of an attempt's log, of which so much was read and so much is known to be missing.
fn end_notice(attempt: &Attempt, read: u64, lacking: u64) -> Option<String> {
    if lacking > 0 {
        return Some(missing(lacking));
    }
    let may_lack_its_end = match attempt.outcome.class() {
        Class::Crash => true,
        // What a host hands back has not run, unless there is a log of it.
        Class::HostLost => attempt.outcome == Outcome::HostLost || read > 0,
        Class::Success | Class::Retryable | Class::Permanent | Class::Stopped => false,
    };
    may_lack_its_end.then(|| {
        format!(
            "[tq: attempt {} ended as {} on host {}: what it wrote last may be missing]\n",
            attempt.number, attempt.outcome, attempt.host
        )
    })
}

fn missing(bytes: u64) -> String {
    format!("[tq: {bytes} bytes of the log are missing here]\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_leads_back_to_its_place() {
        let place = Place {
            epoch: Epoch::new(3, 7),
            piece: 11,
            end: 42,
        };
        assert_eq!(Place::from_cursor(&place.cursor()).unwrap(), place);
        assert_eq!(Place::from_cursor(b"").unwrap(), Place::BEGINNING);
        let refused = Place::from_cursor(&[0; 19]).unwrap_err();
        assert_eq!(
            refused.message(),
            "log_cursor of 19 bytes is not one; send the cursor of a chunk, or none"
        );
    }
}
