//! From what the wire says to what the runner takes.

use std::sync::Arc;

use bytes::Bytes;
use tq_core::grant::HttpGrantError;
use tq_core::id::{Digest, Epoch};
use tq_core::limits::{CHECKPOINT_BYTES_MAX, LimitOverrides, Limits, PAYLOAD_BYTES_MAX};
use tq_core::time::Timestamp;
use tq_core::{Grants, each_limit};
use tq_proto::v1::data::Kind as DataKind;
use tq_proto::v1::{self, Assignment, Data};

use crate::agent::bulk::Bulk;
use crate::component::{Cache, Ready};
use crate::runner::Attempt;

/// An assignment that cannot be run here.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct NotRunnable {
    pub(crate) message: String,
    /// The host does not hold the module that the broker believed it to hold.
    pub(crate) lacks: Option<Digest>,
}

impl From<String> for NotRunnable {
    fn from(message: String) -> Self {
        Self {
            message,
            lacks: None,
        }
    }
}

/// Gathers all that an assignment refers to. Does not wait where all is at hand.
pub(crate) async fn resolve(
    assignment: Assignment,
    cache: &Cache,
    bulk: &Bulk,
) -> Result<Box<Attempt>, NotRunnable> {
    let digest = digest(&assignment.digest)?;
    let Some(component) = cache.load(digest).await else {
        return Err(NotRunnable {
            message: format!("this host holds module `{digest}` no longer"),
            lacks: Some(digest),
        });
    };
    let payload = match assignment.payload.clone() {
        Some(payload) => fetch("payload", payload, PAYLOAD_BYTES_MAX, bulk).await?,
        None => Bytes::new(),
    };
    let checkpoint = match assignment.checkpoint.clone() {
        Some(checkpoint) => {
            Some(fetch("checkpoint", checkpoint, CHECKPOINT_BYTES_MAX, bulk).await?)
        }
        None => None,
    };
    Ok(Box::new(attempt(
        assignment, component, payload, checkpoint,
    )?))
}

/// Reads a digest.
pub(crate) fn digest(bytes: &[u8]) -> Result<Digest, String> {
    let bytes = <[u8; 32]>::try_from(bytes);
    bytes
        .map(Digest)
        .map_err(|_| "a digest has not 32 bytes".to_owned())
}

async fn fetch(what: &str, data: Data, bytes_max: usize, bulk: &Bulk) -> Result<Bytes, String> {
    let check = |bytes: u64| {
        let is_over = bytes > bytes_max as u64;
        (!is_over)
            .then_some(())
            .ok_or_else(|| format!("{what} has {bytes} bytes, over the limit of {bytes_max} bytes"))
    };
    match data.kind {
        None => Ok(Bytes::new()),
        Some(DataKind::Inline(bytes)) => {
            check(bytes.len() as u64)?;
            Ok(bytes)
        }
        Some(DataKind::Blob(blob)) => {
            check(blob.size_bytes)?;
            // Its future is large, and most assignments have no use for it.
            let fetching = Box::pin(bulk.fetch(digest(&blob.digest)?, blob.size_bytes));
            fetching
                .await
                .map_err(|error| format!("failed to fetch the {what}: {error}"))
        }
    }
}

fn grants(granted: v1::Grants) -> Result<Grants, String> {
    let v1::Grants {
        env,
        deterministic,
        http,
    } = granted;
    let http = http.unwrap_or_default().destinations;
    let http = http.iter().map(|text| text.parse());
    Ok(Grants {
        env: env.unwrap_or_default().variables.into_iter().collect(),
        is_deterministic: deterministic.unwrap_or_default(),
        http: http
            .collect::<Result<_, HttpGrantError>>()
            .map_err(|error| error.to_string())?,
    })
}

fn attempt(
    assignment: Assignment,
    component: Arc<Ready>,
    payload: Bytes,
    checkpoint: Option<Bytes>,
) -> Result<Attempt, String> {
    let Assignment {
        task_id,
        namespace,
        epoch,
        token: _,
        digest: _,
        function,
        payload: _,
        content_type,
        arguments,
        limits,
        deadline_ms,
        traceparent,
        attempt,
        max_attempts,
        checkpoint: _,
        alone,
        grants,
    } = assignment;
    let named = limits.ok_or("the assignment has no limits")?;
    macro_rules! limits {
        ($($field:ident)+) => {
            LimitOverrides { $($field: (named.$field > 0).then_some(named.$field),)+ }
        };
    }
    let limits = each_limit!(limits).over(&Limits::DEFAULT);
    limits.check().map_err(|error| error.to_string())?;
    Ok(Attempt {
        epoch: Epoch(epoch),
        task_id: task_id
            .parse()
            .map_err(|error: tq_core::id::ParseError| error.to_string())?,
        namespace,
        component,
        function,
        payload,
        content_type,
        arguments,
        limits,
        deadline: (deadline_ms != 0).then_some(Timestamp(deadline_ms)),
        traceparent: (!traceparent.is_empty()).then_some(traceparent),
        attempt,
        max_attempts,
        checkpoint,
        is_alone: alone,
        grants: self::grants(grants.unwrap_or_default())?,
    })
}
