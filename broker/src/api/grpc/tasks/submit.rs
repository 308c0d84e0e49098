//! What comes in: checked whole, and made what the ledger takes of it.

use std::collections::HashMap;
use std::time::Duration;

use tonic::Status;
use tq_core::label::Labels;
use tq_core::limits::{
    ARGUMENTS_BYTES_MAX, ARGUMENTS_MAX, CONTENT_TYPE_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX,
    IDEMPOTENCY_WINDOW, IDEMPOTENCY_WINDOW_MAX, IDEMPOTENCY_WINDOW_MIN, PAYLOAD_BYTES_MAX,
    SUBMIT_BATCH_MAX, SUBMIT_TASK_BYTES,
};
use tq_core::placement::Placement;
use tq_core::task::{DataRef, Spec};
use tq_core::{Limits, RetryPolicy, Tier, Timestamp};
use tq_proto::v1;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::Tasks;
use super::times::{not_too_far, run_at};
use crate::api::grpc::convert;
use crate::api::grpc::payloads::put_large;
use crate::api::grpc::request::over;
use crate::api::grpc::typed::Calls;
use crate::api::status::{ApiError, invalid};
use crate::blobs::Hold;
use crate::ledger::{Submission, Weight, read, wall};
use crate::modules::Entry;
use crate::modules::registry::{Function, Module};

impl Tasks {
    /// Checks the tasks of a request and makes what the ledger takes of them, with holds on what was put into files, and the span of
    /// the request.
    pub(super) async fn checked(
        &self,
        namespace: &str,
        tasks: Vec<v1::NewTask>,
    ) -> Result<(Vec<Submission>, Vec<Hold>, tracing::Span), Status> {
        if tasks.is_empty() || tasks.len() > SUBMIT_BATCH_MAX {
            return Err(invalid(format_args!(
                "request has {} tasks; it may have 1 to {SUBMIT_BATCH_MAX}",
                tasks.len()
            )));
        }
        let now = wall();
        let count = tasks.len();
        let span = tracing::debug_span!(
            "submit task",
            rpc.method = "Submit",
            tq.namespace = namespace,
            tq.task.count = count
        );
        // A span has one parent: of a batch, the first task's submitter is taken.
        let traceparent = link(&span, &tasks[0].traceparent);
        let mut submissions = Vec::with_capacity(count);
        let mut calls = Calls::default();
        let of_request = |index, status: Status| match count {
            1 => status,
            _ => in_batch(&status, index),
        };
        for (index, mut task) in tasks.into_iter().enumerate() {
            task.traceparent = traceparent.clone().unwrap_or(task.traceparent);
            let submission = self.submission(namespace, task, now, &mut calls);
            submissions.push(submission.map_err(|status| of_request(index, status))?);
        }
        let fits = calls.check().await;
        fits.map_err(|(index, status)| of_request(index, status))?;
        // Only when every task of the request is sound, so that a refused one leaves nothing behind.
        let holds = put_large(&self.0.blobs, &mut submissions).await?;
        Ok((submissions, holds, span))
    }

    /// Checks one task of a request and makes what the ledger takes of it.
    fn submission(
        &self,
        namespace: &str,
        task: v1::NewTask,
        now: Timestamp,
        calls: &mut Calls,
    ) -> Result<Submission, Status> {
        let registry = read(&self.0.ledger.shared().registry);
        let (module, function) = registry
            .function(namespace, &task.function)
            .map_err(ApiError::from)?;
        over("payload", task.payload.len(), PAYLOAD_BYTES_MAX)?;
        over(
            "idempotency key",
            task.idempotency_key.len(),
            IDEMPOTENCY_KEY_BYTES_MAX,
        )?;
        over(
            "unique key",
            task.unique_key.len(),
            IDEMPOTENCY_KEY_BYTES_MAX,
        )?;
        if !task.idempotency_key.is_empty() && !task.unique_key.is_empty() {
            return Err(invalid(
                "idempotency key and unique key are both given; a task may have one of them",
            ));
        }
        let key_window = key_window(&task)?;
        over(
            "content type",
            task.content_type.len(),
            CONTENT_TYPE_BYTES_MAX,
        )?;
        over(
            "arguments",
            task.arguments
                .iter()
                .map(|argument| argument.len() + 1)
                .sum(),
            ARGUMENTS_BYTES_MAX,
        )?;
        if task.arguments.len() > ARGUMENTS_MAX {
            return Err(invalid(format_args!(
                "there are {} arguments, over the limit of {ARGUMENTS_MAX}",
                task.arguments.len()
            )));
        }
        if task.traceparent.len() > 256 || !task.traceparent.is_ascii() {
            return Err(invalid("traceparent is not a W3C trace context"));
        }
        if !task.arguments.is_empty() && module.entry != Entry::Program {
            return Err(invalid(format_args!(
                "`{}` takes a payload, not arguments: it is no plain program",
                task.function
            )));
        }
        calls.add(module, function, &task.payload);
        let priority = task.priority.map(convert::priority).transpose()?;
        let priority = priority.unwrap_or_default();
        let placement = placement(module, function, &task)?;
        let run_at = run_at(task.run_at_ms, task.delay_ms, now)?;
        let deadline = task.deadline_ms.map(Timestamp);
        not_too_far("deadline", deadline, now)?;
        if let (Some(run_at), Some(deadline)) = (run_at, deadline)
            && deadline <= run_at
        {
            return Err(invalid("the deadline is before the task may start"));
        }
        // Nothing else compares requests.
        let request = match task.idempotency_key.is_empty() {
            true => [0; 32],
            false => hash(&task),
        };
        let settings = self.0.ledger.shared().settings(namespace);
        let ceilings = settings.ceilings.over(&Limits::MAX);
        let spec = Spec {
            namespace: namespace.to_owned(),
            module: module.name.clone(),
            version: module.version,
            digest: module.digest,
            function: function.name.clone(),
            payload: DataRef::Row {
                len: task.payload.len() as u64,
            },
            content_type: task.content_type,
            arguments: task.arguments,
            limits: convert::lower(&function.limits, task.limits.as_ref())?.min(&ceilings),
            retry: convert::retry(task.retry.as_ref())?
                .or(function.retry)
                .or(settings.retry)
                .over(RetryPolicy::DEFAULT),
            priority,
            placement,
            run_at,
            deadline,
            result_ttl: convert::result_ttl(task.result_ttl_ms)?.or(function.result_ttl),
            idempotency_key: task.idempotency_key,
            unique_key: task.unique_key,
            traceparent: task.traceparent,
            submitted_at: now,
            labels: convert::labels(&Labels::new(), &task.labels)?,
            redriven_from: None,
        };
        Ok(Submission {
            spec,
            payload: (!task.payload.is_empty()).then_some(task.payload),
            request,
            key_window,
        })
    }
}

/// What of a request counts for whether it is let in.
pub(super) fn weight(tasks: &[v1::NewTask]) -> Weight {
    let tier = |task: &v1::NewTask| {
        let given = task.priority.map(convert::priority);
        // One that is none is refused when the task is read.
        given.and_then(Result::ok).unwrap_or_default().tier()
    };
    let bytes = |task: &v1::NewTask| {
        let arguments = task.arguments.iter().map(String::len).sum::<usize>();
        (task.payload.len() + arguments) as u64 + SUBMIT_TASK_BYTES
    };
    Weight {
        tier: tasks.iter().map(tier).min().unwrap_or(Tier::High),
        tasks: tasks.len() as u64,
        bytes: tasks.iter().map(bytes).sum(),
    }
}

/// How long a task's idempotency key is remembered.
fn key_window(task: &v1::NewTask) -> Result<Duration, Status> {
    let Some(ms) = task.idempotency_window_ms else {
        return Ok(IDEMPOTENCY_WINDOW);
    };
    if task.idempotency_key.is_empty() {
        return Err(invalid(
            "idempotency_window_ms is given without an idempotency key",
        ));
    }
    let window = Duration::from_millis(ms);
    if !(IDEMPOTENCY_WINDOW_MIN..=IDEMPOTENCY_WINDOW_MAX).contains(&window) {
        return Err(invalid(format_args!(
            "idempotency window of {ms} ms is out of its range, which is 1 s to {} days",
            IDEMPOTENCY_WINDOW_MAX.as_secs() / (24 * 3600)
        )));
    }
    Ok(window)
}

/// The same error, saying which task of the request has it.
fn in_batch(status: &Status, index: usize) -> Status {
    Status::new(
        status.code(),
        format!("task {index} of the request: {}", status.message()),
    )
}

/// Makes a span the child of its request's sender, and returns what makes others its children. None if traces are
/// switched off.
fn link(span: &tracing::Span, traceparent: &str) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let mut carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    opentelemetry::global::get_text_map_propagator(|propagator| {
        if let Err(error) = span.set_parent(propagator.extract(&carrier)) {
            tracing::debug!(%error, "submit is not linked to the trace of its client");
        }
        carrier.clear();
        propagator.inject_context(&span.context(), &mut carrier);
    });
    carrier.remove("traceparent")
}

/// Where a task may run: as it says itself, and otherwise as its function says.
fn placement(
    module: &Module,
    function: &Function,
    task: &v1::NewTask,
) -> Result<Placement, Status> {
    let inherited = &function.placement;
    let mut placement = match &task.concurrency {
        Some(concurrency) => Placement {
            queue: inherited.queue.clone(),
            required: inherited.required.clone(),
            preferred: inherited.preferred.clone(),
            concurrency: Some(convert::concurrency(concurrency)?),
        },
        None => {
            let name = format!("{}/{}", module.name, function.name);
            inherited.of_call(&name, &task.payload).map_err(invalid)?
        }
    };
    if !task.queue.is_empty() {
        placement.queue = convert::queue(&task.queue)?;
    }
    if !task.required_labels.is_empty() {
        placement.required = convert::labels(&placement.required, &task.required_labels)?;
    }
    if !task.preferred_labels.is_empty() {
        placement.preferred = convert::labels(&placement.preferred, &task.preferred_labels)?;
    }
    Ok(placement)
}

/// The limits that could be named first.
const FIRST_LIMITS: [&str; 3] = ["fuel", "memory", "timeout"];

/// Those, as builds wrote them that knew no others.
fn first_limits(limits: Option<&v1::LimitOverrides>) -> String {
    limits.map_or_else(
        || "None".to_owned(),
        |limits| {
            format!(
                "Some(LimitOverrides {{ fuel: {:?}, memory_bytes: {:?}, timeout_ms: {:?} }})",
                limits.fuel, limits.memory_bytes, limits.timeout_ms
            )
        },
    )
}

/// Tells one request from another under the same idempotency key. What only says when or who does not count.
fn hash(task: &v1::NewTask) -> [u8; 32] {
    let v1::NewTask {
        function,
        payload,
        content_type,
        arguments,
        priority,
        run_at_ms,
        delay_ms,
        deadline_ms: _,
        idempotency_key: _,
        idempotency_window_ms: _,
        // It is not there together with an idempotency key.
        unique_key: _,
        limits,
        retry,
        traceparent: _,
        queue,
        required_labels,
        preferred_labels,
        concurrency,
        result_ttl_ms,
        labels,
    } = task;
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        let len = (bytes.len() as u64).to_be_bytes();
        hasher.update(&len).update(bytes);
    };
    field(function.as_bytes());
    field(payload);
    field(content_type.as_bytes());
    field(&(arguments.len() as u64).to_be_bytes());
    arguments
        .iter()
        .for_each(|argument| field(argument.as_bytes()));
    let first = first_limits(limits.as_ref());
    field(format!("{priority:?} {run_at_ms:?} {delay_ms:?} {first} {retry:?}").as_bytes());
    field(queue.as_bytes());
    for labels in [required_labels, preferred_labels] {
        let labels: std::collections::BTreeMap<_, _> = labels.iter().collect();
        field(format!("{labels:?}").as_bytes());
    }
    field(format!("{concurrency:?}").as_bytes());
    // Only if it is there, so that requests of earlier builds are still told to be the same.
    if let Some(ttl) = result_ttl_ms {
        hasher.update(&ttl.to_be_bytes());
    }
    if !labels.is_empty() {
        hasher.update(format!("{labels:?}").as_bytes());
    }
    let other = convert::limit_overrides(limits.as_ref());
    if other.names().any(|name| !FIRST_LIMITS.contains(&name)) {
        hasher.update(format!("{other:?}").as_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_builds_that_knew_fewer_limits_are_told_to_be_the_same() {
        let with = |limits| v1::NewTask {
            function: "f".to_owned(),
            limits: Some(limits),
            ..v1::NewTask::default()
        };
        let first = v1::LimitOverrides {
            fuel: Some(1),
            ..v1::LimitOverrides::default()
        };
        assert_eq!(
            first_limits(Some(&first)),
            "Some(LimitOverrides { fuel: Some(1), memory_bytes: None, timeout_ms: None })"
        );
        let handles = |handles| v1::LimitOverrides {
            handles,
            ..v1::LimitOverrides::default()
        };
        let hashes = [None, Some(20), Some(30)].map(|number| hash(&with(handles(number))));
        assert_ne!(hashes[0], hashes[1]);
        assert_ne!(hashes[1], hashes[2]);
    }
}
