//! Payloads that are too large for a row.

use bytes::Bytes;
use tonic::Status;
use tq_core::limits::INLINE_BYTES_MAX;
use tq_core::task::DataRef;

use super::blocking::blocking;
use crate::blobs::{Blobs, Hold};
use crate::ledger::Submission;

/// Puts payloads that are too large for a row into files; all of them, or none if the disk is too full. Returns holds on
/// the files.
pub(super) async fn put_large(
    blobs: &Blobs,
    submissions: &mut [Submission],
) -> Result<Vec<Hold>, Status> {
    let is_large = |payload: &mut Bytes| payload.len() > INLINE_BYTES_MAX;
    let (data, payloads): (Vec<_>, Vec<_>) = submissions
        .iter_mut()
        .filter_map(|submission| {
            let payload = submission.payload.take_if(is_large)?;
            Some((&mut submission.spec.payload, payload))
        })
        .unzip();
    if payloads.is_empty() {
        return Ok(Vec::new());
    }
    let blobs = blobs.clone();
    let holds = blocking(move || Ok(blobs.put_new(&payloads)?)).await?;
    for (data, hold) in data.into_iter().zip(&holds) {
        let (digest, len) = (hold.digest(), data.len());
        *data = DataRef::Blob { digest, len };
    }
    Ok(holds)
}
