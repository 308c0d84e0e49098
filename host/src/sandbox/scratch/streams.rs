//! Files as `wasi:io` streams. They are always ready: nothing is waited for.

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError};

use tq_core::limits::SCRATCH_READ_BYTES_MAX;

use super::Handle;
use super::fault::Fault;

/// Reads a file from a position to its end.
pub(super) struct Reader {
    pub(super) file: Handle,
    pub(super) position: u64,
}

/// Writes to a file, from a position on or always at its end.
pub(super) struct Writer {
    pub(super) file: Handle,
    pub(super) position: Option<u64>,
    pub(super) is_closed: bool,
}

fn failed(fault: Fault) -> StreamError {
    StreamError::LastOperationFailed(fault.into())
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, len: usize) -> Result<Bytes, StreamError> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let tree = self.file.scratch.tree();
        let bytes = tree.read(self.file.node, self.position, len as u64);
        drop(tree);
        let bytes = bytes.map_err(failed)?;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        self.position += bytes.len() as u64;
        Ok(bytes.into())
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        if self.is_closed {
            return Err(StreamError::Closed);
        }
        let now = self.file.scratch.now();
        let mut tree = self.file.scratch.tree();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match tree.write(self.file.node, self.position, rest, now) {
                Ok(written) => {
                    rest = &rest[written..];
                    if let Some(position) = &mut self.position {
                        *position += written as u64;
                    }
                }
                // As of any stream: its first failure is its last word.
                Err(fault) => {
                    self.is_closed = true;
                    return Err(failed(fault));
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.check_write().map(drop)
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        match self.is_closed {
            true => Err(StreamError::Closed),
            false => Ok(SCRATCH_READ_BYTES_MAX),
        }
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}
