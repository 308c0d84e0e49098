//! What a running attempt tells the agent before its end.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::SendError;

use tq_core::Epoch;
use tq_core::limits::{FLUSH_INTERVAL, LOG_CHUNK_BYTES};

use super::Event;
use super::checkpoint::packed;
use crate::clock;
use crate::sandbox::Log;

/// Collects an attempt's log, progress and checkpoints, and passes on what is newest at most every
/// [`FLUSH_INTERVAL`], so that neither a chatty guest nor a slow agent makes it grow.
pub(crate) struct Outbox {
    epoch: Epoch,
    events: Sender<Event>,
    pending: Mutex<Pending>,
}

struct Pending {
    log: Log,
    progress: Option<(f64, String)>,
    checkpoint: Option<Bytes>,
    flush_at: Instant,
}

impl Outbox {
    pub(super) fn new(
        epoch: Epoch,
        log_bytes_max: u64,
        events: Sender<Event>,
        now: Instant,
    ) -> Self {
        Self {
            epoch,
            events,
            pending: Mutex::new(Pending {
                log: Log::new(log_bytes_max),
                progress: None,
                checkpoint: None,
                // Short attempts are quicker with all of it at their end.
                flush_at: now + FLUSH_INTERVAL,
            }),
        }
    }

    pub(crate) fn log(&self, bytes: &[u8]) {
        self.change(|pending| {
            // One write is bounded, so that the pending part is too.
            pending.log.write(bytes);
        });
    }

    pub(crate) fn progress(&self, fraction: f64, note: String) {
        self.change(|pending| pending.progress = Some((fraction, note)));
    }

    pub(crate) fn checkpoint(&self, state: Bytes) {
        self.change(|pending| pending.checkpoint = Some(state));
    }

    /// Passes on what is due. Never waits: what the agent cannot take now stays for the next time.
    pub(crate) fn flush(&self) {
        self.change(|_| {});
    }

    /// When there will be something to pass on, if there is.
    pub(super) fn next_flush(&self) -> Option<Instant> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let is_empty = !pending.log.has_pending()
            && pending.progress.is_none()
            && pending.checkpoint.is_none();
        (!is_empty).then_some(pending.flush_at)
    }

    /// The last bytes of the log.
    pub(super) fn recent_log(&self) -> String {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .log
            .recent()
    }

    /// Passes on what is left, waiting for the agent to take it. Not for asynchronous callers.
    ///
    /// # Errors
    /// If the agent is gone.
    pub(super) fn finish(&self, has_succeeded: bool) -> Result<(), SendError<Event>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.epoch;
        if let Some(text) = pending.log.take_rest() {
            self.events.blocking_send(Event::Log { epoch, text })?;
        }
        // Nothing comes after a success that would begin with a state.
        if let Some(state) = pending.checkpoint.take()
            && !has_succeeded
        {
            let state = packed(state);
            self.events
                .blocking_send(Event::Checkpoint { epoch, state })?;
        }
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Pending)) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut pending);
        let now = clock::now();
        if now < pending.flush_at {
            return;
        }
        pending.flush_at = now + FLUSH_INTERVAL;
        let epoch = self.epoch;
        let send = |event: &mut dyn FnMut() -> Option<Event>| {
            if let Ok(permit) = self.events.try_reserve()
                && let Some(event) = event()
            {
                permit.send(event);
            }
        };
        if pending.checkpoint.is_some() {
            send(&mut || {
                let state = packed(pending.checkpoint.take()?);
                Some(Event::Checkpoint { epoch, state })
            });
        }
        if pending.progress.is_some() {
            send(&mut || {
                let (fraction, note) = pending.progress.take()?;
                Some(Event::Progress {
                    epoch,
                    fraction,
                    note,
                })
            });
        }
        if pending.log.has_pending() {
            send(&mut || {
                let text = pending.log.take_lines()?;
                Some(Event::Log { epoch, text })
            });
        }
    }
}

const _: () = assert!(LOG_CHUNK_BYTES as u64 <= tq_core::Limits::MIN.log_bytes / 2);
