//! `tq:task/runtime`: the attempt's context, progress, checkpoints, log.

use bytes::Bytes;

use tq_core::Outcome;
use tq_core::limits::{LOG_LINE_BYTES_MAX, PROGRESS_NOTE_BYTES_MAX};

use super::bindings::tq::task::runtime;
use super::bindings::tq::task::types::{self, CheckpointError, Level};
use crate::sandbox::{Guest, Refused};

impl types::Host for Guest {}

impl runtime::Host for Guest {
    fn task_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.attempt.task_id.to_string())
    }

    fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.attempt.attempt)
    }

    fn max_attempts(&mut self) -> wasmtime::Result<u32> {
        Ok(self.attempt.max_attempts)
    }

    fn namespace(&mut self) -> wasmtime::Result<String> {
        Ok(self.attempt.namespace.clone())
    }

    fn content_type(&mut self) -> wasmtime::Result<String> {
        Ok(self.attempt.content_type.clone())
    }

    fn deadline_ms(&mut self) -> wasmtime::Result<Option<u64>> {
        Ok(self.attempt.deadline.map(|deadline| deadline.0))
    }

    fn traceparent(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.attempt.traceparent.clone())
    }

    fn progress(&mut self, fraction: f64, mut note: String) -> wasmtime::Result<()> {
        note.truncate(note.floor_char_boundary(PROGRESS_NOTE_BYTES_MAX));
        // Not a number counts as no progress; `clamp` would pass it on.
        let fraction = if fraction.is_nan() { 0.0 } else { fraction };
        self.outbox.progress(fraction.clamp(0.0, 1.0), note);
        Ok(())
    }

    fn checkpoint_save(&mut self, state: Vec<u8>) -> wasmtime::Result<Result<(), CheckpointError>> {
        let (len, limit) = (state.len(), self.attempt.limits.checkpoint_bytes);
        if len as u64 > limit {
            self.refused.get_or_insert_with(|| Refused {
                outcome: Outcome::CheckpointLimit,
                message: format!("a checkpoint of {len} bytes is over the limit of {limit} bytes"),
            });
            return Ok(Err(CheckpointError::TooLarge(limit)));
        }
        let state = Bytes::from(state);
        self.checkpoint = Some(state.clone());
        self.outbox.checkpoint(state);
        Ok(Ok(()))
    }

    fn checkpoint_load(&mut self) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.checkpoint.as_ref().map(|state| state.to_vec()))
    }

    fn is_cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.timing.is_stopping())
    }

    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        let kept = &message[..message.floor_char_boundary(LOG_LINE_BYTES_MAX)];
        let line = match message.len() - kept.len() {
            0 => format!("{level}: {kept}\n"),
            cut => format!("{level}: {kept} [tq: {cut} bytes of this line were cut]\n"),
        };
        self.outbox.log(line.as_bytes());
        Ok(())
    }
}
