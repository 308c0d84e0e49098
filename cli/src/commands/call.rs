//! From a call on the command line to a task on the wire.

use std::collections::BTreeMap;

use tq_client::{Concurrency, LimitOverrides, NewTask, RetryOverrides};

use crate::args::{CallArgs, LimitArgs, PlacementArgs, RetryArgs};
use crate::exit::Failure;
use crate::labels::LabelList;
use crate::limits;
use crate::payload::Payload;
use crate::traceparent;
use crate::units::now_ms;

/// Makes the task that was asked for, to start at once.
pub(crate) fn task(args: CallArgs) -> anyhow::Result<NewTask> {
    let CallArgs {
        function,
        payload,
        content_type,
        priority,
        deadline,
        idempotency_key,
        idempotency_window,
        unique_key,
        result_ttl,
        limits: lowered,
        retry: policy,
        placement,
        label,
        arguments,
    } = args;
    let PlacementArgs {
        queue,
        require,
        prefer,
        concurrency_key,
        concurrency,
    } = placement;
    let Payload {
        bytes,
        content_type,
    } = Payload::read(payload.as_deref(), content_type)?;
    Ok(NewTask {
        function,
        payload: bytes,
        content_type,
        arguments,
        priority: priority.map(u32::from),
        run_at_ms: None,
        delay_ms: None,
        deadline_ms: deadline.map(|deadline| deadline.at_ms(now_ms())),
        idempotency_key: idempotency_key.unwrap_or_default(),
        idempotency_window_ms: idempotency_window.map(|span| span.0),
        unique_key: unique_key.unwrap_or_default(),
        limits: Some(limits(lowered)?),
        retry: Some(retry(policy)),
        traceparent: traceparent::current()?,
        queue: queue.unwrap_or_default(),
        required_labels: labels(LabelList::gather(&require)?),
        preferred_labels: labels(LabelList::gather(&prefer)?),
        concurrency: concurrency_key.map(|key| Concurrency {
            key,
            limit: concurrency.unwrap_or(1),
        }),
        result_ttl_ms: result_ttl.map(|span| span.0),
        labels: labels(LabelList::gather(&label)?),
    })
}

/// Labels, for the wire.
pub(crate) fn labels(labels: Option<LabelList>) -> BTreeMap<String, String> {
    let labels = labels.unwrap_or_default().0.into_iter();
    labels
        .map(|(label, value)| (label.into(), value.into()))
        .collect()
}

/// What was named, for the wire.
///
/// # Errors
/// If a limit is given twice.
pub(crate) fn limits(args: LimitArgs) -> Result<LimitOverrides, Failure> {
    let LimitArgs {
        fuel,
        memory,
        timeout,
        limit,
    } = args;
    let mut named = LimitOverrides {
        fuel: fuel.map(|count| count.0),
        memory_bytes: memory.map(|size| size.0),
        timeout_ms: timeout.map(|span| span.0),
        ..LimitOverrides::default()
    };
    limits::gather(&limit, &mut named).map_err(Failure::usage)?;
    Ok(named)
}

/// What was named, for the wire.
pub(crate) fn retry(args: RetryArgs) -> RetryOverrides {
    let RetryArgs {
        max_attempts,
        backoff,
        backoff_cap,
    } = args;
    RetryOverrides {
        max_attempts,
        backoff_ms: backoff.map(|span| span.0),
        cap_ms: backoff_cap.map(|span| span.0),
    }
}
