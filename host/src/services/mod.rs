//! What guests ask their broker for while they run.
//!
//! [`Services`] is the seam, as [`Egress`](crate::egress::Egress) is that of requests: guests may run in a process that has no
//! network, and then ask over a pipe. [`Holders`] is its end beside the broker. It knows by itself what an attempt was
//! granted, whatever comes through the seam.

mod headers;
mod holders;
mod redaction;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tq_core::Epoch;
use tq_core::grant::{BucketName, SecretName};
use tq_proto::v1::KeyValueCall;
use tq_proto::v1::key_value_answer::Came;

pub(crate) use headers::WithSecrets;
pub(crate) use holders::Holders;

/// Asks the broker on behalf of an attempt.
pub trait Services: Send + Sync {
    /// The value of a secret that the attempt may read.
    ///
    /// # Errors
    /// [`Refusal`] says why there is none.
    ///
    /// # Cancel safety
    /// The future can be dropped at any time.
    fn secret(&self, epoch: Epoch, name: SecretName) -> BoxFuture<'static, Result<Bytes, Refusal>>;

    /// Reads or changes a bucket that the attempt was granted.
    ///
    /// # Errors
    /// [`Refusal`] says why nothing came of it; if it is [`Refusal::Unavailable`], a change may have been made all the same.
    ///
    /// # Cancel safety
    /// The future can be dropped at any time. What it was to change may be changed then.
    fn keyvalue(
        &self,
        epoch: Epoch,
        call: KeyValueCall,
    ) -> BoxFuture<'static, Result<Came, Refusal>>;
}

/// Why an attempt does not get what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was not granted that. The text says what would have to be.
    #[error("{0}")]
    NotGranted(String),
    /// It is not there.
    #[error("{0}")]
    Missing(String),
    /// It was granted that, but what it asks cannot be done.
    #[error("{0}")]
    Invalid(String),
    /// It may be there, and cannot be had now.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    pub(crate) fn bucket_not_granted(bucket: &BucketName) -> Self {
        Self::NotGranted(format!(
            "bucket `{bucket}` is not granted to the function; `[capabilities] keyvalue` in tq.toml grants it"
        ))
    }

    pub(crate) fn not_granted(name: &SecretName) -> Self {
        Self::NotGranted(format!(
            "secret `{name}` is not granted to the function; `[capabilities] secrets` in tq.toml grants it"
        ))
    }
}
