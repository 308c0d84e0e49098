//! What may block on the disk, on threads for that.

use bytes::Bytes;
use tonic::Status;
use tq_core::limits::CHUNK_BYTES;

use super::request::over;
use crate::api::status::ApiError;
use crate::blobs::Upload;

/// Runs what may block on the disk on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, Status> {
    Ok(tokio::task::spawn_blocking(work)
        .await
        .map_err(ApiError::from)??)
}

/// Adds a chunk of a stream to an upload, on a thread for that.
pub(super) async fn write_chunk(mut upload: Upload, chunk: Bytes) -> Result<Upload, Status> {
    over("chunk", chunk.len(), CHUNK_BYTES)?;
    blocking(move || {
        upload.write(&chunk)?;
        Ok(upload)
    })
    .await
}
