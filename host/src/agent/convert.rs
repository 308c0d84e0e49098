//! From what the wire says to what the runner takes.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use tq_core::id::{Digest, Epoch};
use tq_core::limits::{
    CHECKPOINT_BYTES_MAX, CHECKPOINT_FRAME_BYTES, LimitOverrides, Limits, PAYLOAD_BYTES_MAX,
};
use tq_core::time::Timestamp;
use tq_core::{Grants, each_limit};
use tq_proto::v1::data::Kind as DataKind;
use tq_proto::v1::{self, Assignment, Data};

use crate::agent::bulk::Bulk;
use crate::component::{Cache, Load, Ready};
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

/// An assignment with all that it refers to at hand: its payload and its checkpoint are inline.
pub(crate) struct Resolved<R> {
    pub(crate) assignment: Assignment,
    pub(crate) component: Arc<R>,
}

/// Gathers all that an assignment refers to. Does not wait where all is at hand.
pub(crate) async fn resolve<L: Load>(
    mut assignment: Assignment,
    cache: &Cache<L>,
    bulk: &Bulk,
) -> Result<Box<Resolved<L::Loaded>>, NotRunnable> {
    let digest = digest(&assignment.digest)?;
    let Some(component) = cache.load(digest).await else {
        return Err(NotRunnable {
            message: format!("this host holds module `{digest}` no longer"),
            lacks: Some(digest),
        });
    };
    fetch("payload", &mut assignment.payload, PAYLOAD_BYTES_MAX, bulk).await?;
    let checkpoint = &mut assignment.checkpoint;
    let checkpoint_bytes_max = CHECKPOINT_BYTES_MAX + CHECKPOINT_FRAME_BYTES;
    fetch("checkpoint", checkpoint, checkpoint_bytes_max, bulk).await?;
    Ok(Box::new(Resolved {
        assignment,
        component,
    }))
}

/// Reads a digest.
pub(crate) fn digest(bytes: &[u8]) -> Result<Digest, String> {
    let bytes = <[u8; 32]>::try_from(bytes);
    bytes
        .map(Digest)
        .map_err(|_| "a digest has not 32 bytes".to_owned())
}

/// Puts the bytes in the place of what refers to them.
async fn fetch(
    what: &str,
    data: &mut Option<Data>,
    bytes_max: usize,
    bulk: &Bulk,
) -> Result<(), String> {
    let check = |bytes: u64| {
        let is_over = bytes > bytes_max as u64;
        (!is_over)
            .then_some(())
            .ok_or_else(|| format!("{what} has {bytes} bytes, over the limit of {bytes_max} bytes"))
    };
    let Some(kind) = data.as_mut().and_then(|data| data.kind.as_mut()) else {
        return Ok(());
    };
    match kind {
        DataKind::Inline(bytes) => check(bytes.len() as u64),
        DataKind::Blob(blob) => {
            check(blob.size_bytes)?;
            // Its future is large, and most assignments have no use for it.
            let fetching = Box::pin(bulk.fetch(digest(&blob.digest)?, blob.size_bytes));
            let bytes = fetching
                .await
                .map_err(|error| format!("failed to fetch the {what}: {error}"))?;
            *kind = DataKind::Inline(bytes);
            Ok(())
        }
    }
}

fn inline(data: Data) -> Result<Bytes, String> {
    match data.kind {
        None => Ok(Bytes::new()),
        Some(DataKind::Inline(bytes)) => Ok(bytes),
        Some(DataKind::Blob(_)) => Err("an assignment was not resolved".to_owned()),
    }
}

/// Lets no limit of an assignment be above what this host permits. Limits that cannot be read stay, to be refused.
pub(crate) fn lower(assignment: &mut Assignment, ceilings: &LimitOverrides) {
    if *ceilings == LimitOverrides::default() {
        return;
    }
    let Ok(limits) = limits(assignment.limits.as_ref()) else {
        return;
    };
    let limits = limits.min(&ceilings.over(&Limits::MAX));
    macro_rules! name {
        ($($field:ident)+) => { v1::Limits { $($field: limits.$field,)+ } };
    }
    assignment.limits = Some(each_limit!(name));
}

/// Reads the limits of an assignment.
///
/// # Errors
/// The text says which of them cannot be.
pub(crate) fn limits(named: Option<&v1::Limits>) -> Result<Limits, String> {
    let named = named.ok_or("the assignment has no limits")?;
    macro_rules! limits {
        ($($field:ident)+) => {
            LimitOverrides { $($field: (named.$field > 0).then_some(named.$field),)+ }
        };
    }
    let limits = each_limit!(limits).over(&Limits::DEFAULT);
    limits.check().map_err(|error| error.to_string())?;
    Ok(limits)
}

/// Reads what an assignment grants.
///
/// # Errors
/// The text says what of it cannot be.
pub(crate) fn grants(granted: Option<&v1::Grants>) -> Result<Grants, String> {
    let Some(v1::Grants {
        env,
        deterministic,
        http,
        scratch,
        keyvalue,
        tcp,
        secrets,
    }) = granted
    else {
        return Ok(Grants::default());
    };
    let env = env.iter().flat_map(|env| &env.variables);
    Ok(Grants {
        env: env
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        is_deterministic: deterministic.unwrap_or_default(),
        http: grant_list(http.as_ref())?,
        has_scratch: scratch.unwrap_or_default(),
        keyvalue: grant_list(keyvalue.as_ref())?,
        tcp: grant_list(tcp.as_ref())?,
        secrets: grant_list(secrets.as_ref())?,
    })
}

fn grant_list<T>(granted: Option<&v1::GrantList>) -> Result<BTreeSet<T>, String>
where
    T: Ord + FromStr<Err: Display>,
{
    let texts = granted.into_iter().flat_map(|list| &list.grants);
    let parsed = texts.map(|text| text.parse().map_err(|error: T::Err| error.to_string()));
    parsed.collect()
}

/// Reads an assignment that was resolved.
///
/// # Errors
/// The text says what in it cannot be.
pub(crate) fn attempt(resolved: Resolved<Ready>) -> Result<Attempt, String> {
    let Resolved {
        assignment,
        component,
    } = resolved;
    let Assignment {
        task_id,
        namespace,
        epoch,
        token: _,
        digest: _,
        function,
        payload,
        content_type,
        arguments,
        limits,
        deadline_ms,
        traceparent,
        attempt,
        max_attempts,
        checkpoint,
        alone,
        grants,
    } = assignment;
    let limits = self::limits(limits.as_ref())?;
    Ok(Attempt {
        epoch: Epoch(epoch),
        task_id: task_id
            .parse()
            .map_err(|error: tq_core::id::ParseError| error.to_string())?,
        namespace,
        component,
        function,
        payload: payload.map_or(Ok(Bytes::new()), inline)?,
        content_type,
        arguments,
        limits,
        deadline: (deadline_ms != 0).then_some(Timestamp(deadline_ms)),
        traceparent: (!traceparent.is_empty()).then_some(traceparent),
        attempt,
        max_attempts,
        checkpoint: checkpoint.map(inline).transpose()?,
        is_alone: alone,
        grants: self::grants(grants.as_ref())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_of_the_host_lower_what_is_above_them() {
        let ceilings = LimitOverrides {
            fuel: Some(1_000),
            timeout_ms: Some(60_000),
            ..LimitOverrides::default()
        };
        let mut assignment = Assignment {
            limits: Some(v1::Limits {
                memory_bytes: 1 << 20,
                ..v1::Limits::default()
            }),
            ..Assignment::default()
        };
        lower(&mut assignment, &ceilings);
        let lowered = limits(assignment.limits.as_ref()).unwrap();
        let expected = Limits {
            fuel: 1_000,
            memory_bytes: 1 << 20,
            ..Limits::DEFAULT
        };
        assert_eq!(lowered, expected);
    }
}
