//! Standard input and output of a guest, bounded on our side.
//!
//! The streams are our own: those of the engine either end the guest when they are full, or let it queue empty writes
//! without bound (GHSA-5m8g-xhq4-4h93).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

use tq_core::limits::{ERROR_MESSAGE_BYTES_MAX, LOG_CHUNK_BYTES};

use crate::runner::Outbox;

/// The most that a guest may write in one call.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The log of an attempt: the beginning, the end, and how much was left out between them.
#[derive(Debug)]
pub(crate) struct Log {
    /// The first half of a log is passed on as it is written, the second one is the end of what was written, whenever
    /// that comes.
    half_bytes: usize,
    head_bytes: usize,
    /// The part of the head that was not passed on yet.
    pending: Vec<u8>,
    tail: VecDeque<u8>,
    cut: u64,
    /// The last bytes, for the message of a failure, whether passed on or not.
    recent: VecDeque<u8>,
}

impl Log {
    /// A log of which at most `bytes_max` are kept.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            half_bytes: usize::try_from(bytes_max / 2).unwrap_or(usize::MAX),
            head_bytes: 0,
            pending: Vec::new(),
            tail: VecDeque::new(),
            cut: 0,
            recent: VecDeque::new(),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.half_bytes - self.head_bytes));
        self.head_bytes += head.len();
        self.pending.extend_from_slice(head);
        self.cut += keep_end(&mut self.tail, rest, self.half_bytes);
        keep_end(&mut self.recent, bytes, ERROR_MESSAGE_BYTES_MAX);
    }

    /// Whether there is something that could be passed on.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whole lines that can be passed on now; a line that is long already is not waited for.
    pub(crate) fn take_lines(&mut self) -> Option<Bytes> {
        let end = if self.pending.len() >= LOG_CHUNK_BYTES {
            self.pending.len()
        } else {
            self.pending.iter().rposition(|byte| *byte == b'\n')? + 1
        };
        let rest = self.pending.split_off(end);
        let lines = std::mem::replace(&mut self.pending, rest);
        (!lines.is_empty()).then(|| Bytes::from(lines))
    }

    /// Everything that was not passed on: the rest of the beginning, a notice of what was cut, the end.
    pub(crate) fn take_rest(&mut self) -> Option<Bytes> {
        let mut rest = std::mem::take(&mut self.pending);
        if self.cut > 0 {
            let notice = format!("\n[tq: {} bytes of this log were cut here]\n", self.cut);
            rest.extend_from_slice(notice.as_bytes());
            self.cut = 0;
        }
        rest.extend(self.tail.drain(..));
        (!rest.is_empty()).then(|| Bytes::from(rest))
    }

    /// The last bytes written, at most [`ERROR_MESSAGE_BYTES_MAX`].
    pub(crate) fn recent(&mut self) -> String {
        String::from_utf8_lossy(self.recent.make_contiguous()).into_owned()
    }
}

/// Appends to what keeps only its last `max` bytes. Returns how many went.
fn keep_end(kept: &mut VecDeque<u8>, bytes: &[u8], max: usize) -> u64 {
    let (skipped, bytes) = bytes.split_at(bytes.len().saturating_sub(max));
    let over = (kept.len() + bytes.len()).saturating_sub(max);
    kept.drain(..over);
    kept.extend(bytes);
    (skipped.len() + over) as u64
}

/// The result is larger than so many bytes.
#[derive(Debug, thiserror::Error)]
#[error("the result is over the limit of {0} bytes")]
pub(crate) struct OutputLimit(pub(crate) u64);

/// Standard output of a program: its result, never cut. Writing beyond the limit ends the attempt.
#[derive(Clone)]
pub(crate) struct ResultStream {
    written: Arc<Mutex<BytesMut>>,
    bytes_max: u64,
}

impl ResultStream {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            written: Arc::default(),
            bytes_max,
        }
    }

    /// What was written so far.
    pub(crate) fn take(&self) -> Bytes {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *written).freeze()
    }
}

#[async_trait]
impl OutputStream for ResultStream {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if (written.len() + bytes.len()) as u64 > self.bytes_max {
            return Err(StreamError::Trap(OutputLimit(self.bytes_max).into()));
        }
        written.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES_MAX)
    }
}

/// Standard error, and a handler's standard output: the log. Writing always goes well.
#[derive(Clone)]
pub(crate) struct LogStream(pub(crate) Arc<Outbox>);

#[async_trait]
impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.0.log(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES_MAX)
    }
}

macro_rules! always_ready_output {
    ($($stream:ty)*) => {$(
        #[async_trait]
        impl Pollable for $stream {
            async fn ready(&mut self) {}
        }

        impl IsTerminal for $stream {
            fn is_terminal(&self) -> bool {
                false
            }
        }

        impl StdoutStream for $stream {
            fn p2_stream(&self) -> Box<dyn OutputStream> {
                Box::new(self.clone())
            }

            fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
                // Only WASI 0.1 and 0.3 ask for it, and neither is linked.
                Box::new(tokio::io::sink())
            }
        }
    )*};
}

always_ready_output!(ResultStream LogStream);

#[cfg(test)]
mod tests {
    use super::*;

    const LOG_BYTES_MAX: usize = 64 << 10;

    #[test]
    fn log_keeps_its_beginning_and_its_end() {
        let mut log = Log::new(LOG_BYTES_MAX as u64);
        let line = [b"0123456789abcde".as_slice(), b"\n"].concat();
        let lines = 3 * LOG_BYTES_MAX / line.len();
        log.write(b"first\n");
        for _ in 0..lines {
            log.write(&line);
        }
        log.write(b"last\n");
        let text = String::from_utf8(log.take_rest().unwrap().to_vec()).unwrap();
        assert!(text.starts_with("first\n0123"));
        assert!(text.ends_with("abcde\nlast\n"));
        let cut = lines * line.len() + 6 + 5 - LOG_BYTES_MAX;
        assert!(text.contains(&format!("\n[tq: {cut} bytes of this log were cut here]\n")));
        assert!(text.len() < LOG_BYTES_MAX + 100);
        assert!(log.recent().ends_with("last\n"));
        assert_eq!(log.recent().len(), ERROR_MESSAGE_BYTES_MAX);
    }

    #[test]
    fn lines_are_passed_on_whole() {
        let mut log = Log::new(LOG_BYTES_MAX as u64);
        log.write(b"one\ntw");
        assert_eq!(log.take_lines().as_deref(), Some(b"one\n".as_slice()));
        assert_eq!(log.take_lines(), None);
        log.write(b"o\n");
        assert_eq!(log.take_lines().as_deref(), Some(b"two\n".as_slice()));
        log.write(&vec![b'x'; LOG_CHUNK_BYTES]);
        assert_eq!(
            log.take_lines().map(|line| line.len()),
            Some(LOG_CHUNK_BYTES)
        );
        assert_eq!(log.take_rest(), None);
    }

    #[test]
    fn one_huge_write_is_bounded() {
        let mut log = Log::new(LOG_BYTES_MAX as u64);
        log.write(&vec![b'a'; 10 * LOG_BYTES_MAX]);
        let rest = log.take_rest().unwrap();
        assert!(rest.len() < LOG_BYTES_MAX + 100);
    }
}
