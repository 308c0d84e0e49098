//! A module whose bytes arrive.

use bytes::Bytes;
use tonic::Status;
use tq_core::Digest;
use tq_core::limits::CHUNK_BYTES;

use super::blocking::blocking;
use super::request::over;
use crate::api::status::ApiError;
use crate::blobs::{Blobs, Checked, Error, Upload};

/// An upload of a client. Dropped before its end, which is how a connection that is cut shows, what came is kept for the
/// next one.
pub(super) struct Arriving {
    blobs: Blobs,
    namespace: String,
    /// None once it has failed.
    upload: Option<Upload>,
}

impl Arriving {
    /// Begins one, or goes on with one that was cut after `offset` bytes.
    pub(super) async fn begin(
        blobs: Blobs,
        namespace: String,
        digest: Digest,
        size_bytes: u64,
        offset: u64,
    ) -> Result<Self, Status> {
        blocking(move || {
            let upload = match offset {
                // Before the first byte comes: it is refused while the disk is too full.
                0 => blobs.begin_new(digest, size_bytes)?,
                _ => blobs
                    .resume(&namespace, digest, size_bytes, offset)
                    .ok_or_else(|| aborted(offset))?,
            };
            Ok(Self {
                blobs,
                namespace,
                upload: Some(upload),
            })
        })
        .await
    }

    /// Writes the next bytes.
    pub(super) async fn write(mut self, chunk: Bytes) -> Result<Self, Status> {
        over("chunk", chunk.len(), CHUNK_BYTES)?;
        blocking(move || {
            self.step(|mut upload| upload.write(&chunk).map(|()| (Some(upload), ())))?;
            Ok(self)
        })
        .await
    }

    /// Compares what came with what was announced. If it is too little, it is kept: a client that gives up looks the same as one
    /// that has said all.
    pub(super) async fn check(mut self) -> Result<Checked, Status> {
        if let Some(upload) = &self.upload
            && upload.written() < upload.size()
        {
            let (expected, found) = (upload.size(), upload.written());
            return Err(ApiError::from(Error::Size { expected, found }).into());
        }
        blocking(move || Ok(self.step(|upload| upload.check().map(|checked| (None, checked)))?))
            .await
    }

    /// Does something with the upload, which is of no use to anybody if it fails.
    fn step<T>(
        &mut self,
        work: impl FnOnce(Upload) -> Result<(Option<Upload>, T), Error>,
    ) -> Result<T, Error> {
        let upload = self.upload.take();
        let upload = upload.expect("one that has failed is not asked again");
        let (upload, done) = work(upload)?;
        self.upload = upload;
        Ok(done)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.blobs.keep_cut(&self.namespace, upload);
        }
    }
}

fn aborted(offset: u64) -> Status {
    Status::aborted(format!(
        "there are no {offset} bytes of this upload any more: another one went on from there, or they were kept for long enough\nhint: ask with `GetUpload` how many there are, and go on there or begin again"
    ))
}
