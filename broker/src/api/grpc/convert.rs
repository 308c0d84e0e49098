//! Between the wire and the domain, by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::Status;

use tq_core::label::{self, Labels};
use tq_core::limits::{self, CONCURRENCY_KEY_BYTES_MAX, CONCURRENCY_MAX, LimitOverrides};
use tq_core::outcome::Usage;
use tq_core::placement::{Concurrency, PlacementError, is_default_queue};
use tq_core::queue::{Order, Settings};
use tq_core::retention;
use tq_core::retry::RetryOverrides;
use tq_core::task::{Attempt, Failure, Spec, State, Stop, Task};
use tq_core::{
    Digest, Epoch, Grants, Limits, Outcome, Priority, RetryPolicy, TaskId, Timestamp, each_limit,
};
use tq_proto::v1;

use super::typed;
use crate::api::status::invalid;
use crate::dispatch::message::{
    Assignment, AttemptOutcome, AttemptRef, Data, FromHost, Hello, ToHost, Token,
};
use crate::dispatch::queues::Closed;
use crate::ledger::QueueView;
use crate::modules::Entry;
use crate::modules::placement::{ConcurrencyRule, FunctionPlacement};
use crate::modules::registry::{Function, Module, Retyped};
use crate::store::StoreId;
use crate::tables::row::Counters;

pub(super) fn task_id(text: &str) -> Result<TaskId, Status> {
    text.parse().map_err(invalid)
}

/// Where a listing goes on; none for its beginning.
pub(super) fn cursor(text: &str) -> Result<Option<TaskId>, Status> {
    (!text.is_empty()).then(|| task_id(text)).transpose()
}

pub(super) fn digest(bytes: &[u8]) -> Result<Digest, Status> {
    bytes.try_into().map(Digest).map_err(|_| {
        invalid(format_args!(
            "digest has {} bytes; SHA-256 has 32",
            bytes.len()
        ))
    })
}

fn fixed<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], Status> {
    bytes.try_into().map_err(|_| {
        invalid(format_args!(
            "{what} has {} bytes; it has to have {N}",
            bytes.len()
        ))
    })
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn bytes(slice: &[u8]) -> Bytes {
    Bytes::copy_from_slice(slice)
}

/// Limits of a function under what was named for one call: only downwards.
pub(super) fn lower(limits: &Limits, named: Option<&v1::LimitOverrides>) -> Result<Limits, Status> {
    let overridden = overridden(limits, named);
    if let Some((limit, unit, value, most)) = overridden.above(limits) {
        return Err(invalid(format_args!(
            "{limit} is {value}{unit}, over the function's limit of {most}{unit}\nhint: a call may only lower limits; deploy the function with a higher one"
        )));
    }
    overridden.check().map_err(invalid)?;
    Ok(overridden)
}

/// Limits with what was named in place of what is inherited.
pub(super) fn overridden(inherited: &Limits, named: Option<&v1::LimitOverrides>) -> Limits {
    limit_overrides(named).over(inherited)
}

/// Which limits were named.
pub(super) fn limit_overrides(named: Option<&v1::LimitOverrides>) -> LimitOverrides {
    let named = named.copied().unwrap_or_default();
    macro_rules! limits {
        ($($field:ident)+) => { LimitOverrides { $($field: named.$field,)+ } };
    }
    each_limit!(limits)
}

pub(super) fn limit_overrides_out(limits: &LimitOverrides) -> v1::LimitOverrides {
    macro_rules! out {
        ($($field:ident)+) => { v1::LimitOverrides { $($field: limits.$field,)+ } };
    }
    each_limit!(out)
}

/// What of a retry policy was named.
pub(super) fn retry(named: Option<&v1::RetryOverrides>) -> Result<RetryOverrides, Status> {
    let v1::RetryOverrides {
        max_attempts,
        backoff_ms,
        cap_ms,
    } = named.copied().unwrap_or_default();
    let retry = RetryOverrides {
        max_attempts,
        backoff: backoff_ms.map(Duration::from_millis),
        cap: cap_ms.map(Duration::from_millis),
    };
    retry.check().map_err(invalid)?;
    Ok(retry)
}

/// A priority as it came.
pub(super) fn priority(priority: u32) -> Result<Priority, Status> {
    let range = || invalid(format_args!("priority is {priority}; it may be 0 to 255"));
    Ok(Priority(u8::try_from(priority).map_err(|_| range())?))
}

/// The name of a queue as it came; the default one's is empty in the domain.
pub(super) fn queue(name: &str) -> Result<String, Status> {
    if is_default_queue(name) {
        return Ok(String::new());
    }
    tq_core::name::check("queue name", name).map_err(invalid)?;
    Ok(name.to_owned())
}

/// Labels as they came, beside those that are inherited. Whoever names one again means another value.
pub(super) fn labels(
    inherited: &Labels,
    named: &BTreeMap<String, String>,
) -> Result<Labels, Status> {
    let is_own = |label: &str| named.contains_key(label);
    let inherited = inherited
        .iter()
        .filter(|(label, _)| !is_own(label))
        .map(|(label, value)| (label.to_string(), value.to_string()));
    let named = named
        .iter()
        .map(|(label, value)| (label.clone(), value.clone()));
    label::gather(inherited.chain(named)).map_err(invalid)
}

fn labels_out(labels: &Labels) -> BTreeMap<String, String> {
    let pairs = labels.iter();
    pairs
        .map(|(label, value)| (label.to_string(), value.to_string()))
        .collect()
}

/// A concurrency key as it came. A limit that is not named is 1.
pub(super) fn concurrency(named: &v1::Concurrency) -> Result<Concurrency, Status> {
    Concurrency::new(named.key.clone(), named.limit.max(1)).map_err(invalid)
}

/// Where the tasks of a function may run, as it came.
pub(super) fn function_placement(
    inherited: &FunctionPlacement,
    named: Option<&v1::PlacementSettings>,
) -> Result<FunctionPlacement, Status> {
    let Some(v1::PlacementSettings {
        queue: name,
        required_labels,
        preferred_labels,
        concurrency,
    }) = named
    else {
        return Ok(inherited.clone());
    };
    let rule = |rule: &v1::ConcurrencyRule| {
        let pointer = &rule.payload_pointer;
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(invalid(format_args!(
                "concurrency key `{pointer}` is no pointer into the payload; it begins with `/`, such as `/customer/id`"
            )));
        }
        if pointer.len() > CONCURRENCY_KEY_BYTES_MAX {
            return Err(invalid(PlacementError::Key(pointer.len())));
        }
        if !(1..=CONCURRENCY_MAX).contains(&rule.limit) {
            return Err(invalid(PlacementError::Limit(rule.limit)));
        }
        Ok(ConcurrencyRule {
            payload_pointer: pointer.clone(),
            limit: rule.limit,
        })
    };
    Ok(FunctionPlacement {
        queue: match name.is_empty() {
            true => inherited.queue.clone(),
            false => queue(name)?,
        },
        required: labels(&inherited.required, required_labels)?,
        preferred: labels(&inherited.preferred, preferred_labels)?,
        concurrency: match concurrency {
            None => inherited.concurrency.clone(),
            Some(named) => Some(rule(named)?),
        },
    })
}

fn function_placement_out(placement: &FunctionPlacement) -> v1::PlacementSettings {
    let FunctionPlacement {
        queue,
        required,
        preferred,
        concurrency,
    } = placement;
    v1::PlacementSettings {
        queue: queue.clone(),
        required_labels: labels_out(required),
        preferred_labels: labels_out(preferred),
        concurrency: concurrency.as_ref().map(|rule| v1::ConcurrencyRule {
            payload_pointer: rule.payload_pointer.clone(),
            limit: rule.limit,
        }),
    }
}

/// A queue as it is shown.
pub(super) fn queue_out(namespace: &str, queue: QueueView) -> v1::Queue {
    let QueueView {
        name,
        settings,
        counters,
        oldest,
        closed,
    } = queue;
    let Settings {
        order,
        concurrency,
        rate,
        is_paused,
    } = settings;
    let Counters {
        blocked,
        scheduled,
        ready,
        running,
        succeeded,
        dead,
        cancelled,
        expired,
        kept_bytes: _,
    } = counters;
    v1::Queue {
        namespace: namespace.to_owned(),
        name,
        order: match order {
            Order::Priority => v1::QueueOrder::Priority,
            Order::Fifo => v1::QueueOrder::Fifo,
        }
        .into(),
        concurrency: concurrency.unwrap_or(0),
        rate: rate.map(|rate| v1::Rate {
            tasks: rate.tasks,
            per_ms: millis(rate.per),
            burst: rate.burst,
        }),
        paused: is_paused,
        blocked,
        scheduled,
        ready,
        running,
        succeeded,
        dead,
        cancelled,
        expired,
        oldest_ready_ms: oldest.map_or(0, |at| at.0),
        closed: closed.map_or("", Closed::reason).to_owned(),
    }
}

/// How long a result is to be kept, if that was named.
pub(super) fn result_ttl(named: Option<u64>) -> Result<Option<Duration>, Status> {
    let ttl = named.map(Duration::from_millis);
    ttl.map_or(Ok(()), |ttl| retention::check_span("result_ttl", ttl))
        .map_err(invalid)?;
    Ok(ttl)
}

/// Limits without those that are the default.
fn limits_named(limits: &Limits) -> v1::Limits {
    let limits = limits.named();
    macro_rules! named {
        ($($field:ident)+) => { v1::Limits { $($field: limits.$field.unwrap_or(0),)+ } };
    }
    each_limit!(named)
}

fn limits_out(limits: &Limits) -> v1::Limits {
    macro_rules! out {
        ($($field:ident)+) => { v1::Limits { $($field: limits.$field,)+ } };
    }
    each_limit!(out)
}

/// What of a retry policy was named, as it is shown.
pub(super) fn overrides_out(retry: &RetryOverrides) -> v1::RetryOverrides {
    v1::RetryOverrides {
        max_attempts: retry.max_attempts,
        backoff_ms: retry.backoff.map(millis),
        cap_ms: retry.cap.map(millis),
    }
}

pub(super) fn retry_out(retry: &RetryPolicy) -> v1::RetryPolicy {
    v1::RetryPolicy {
        max_attempts: retry.max_attempts,
        backoff_ms: millis(retry.backoff),
        cap_ms: millis(retry.cap),
    }
}

fn usage_out(usage: Usage) -> v1::Usage {
    let Usage {
        fuel,
        memory_bytes_peak,
        wall_ns,
        cpu_ns,
        log_bytes,
    } = usage;
    v1::Usage {
        fuel,
        memory_bytes_peak,
        wall_ns,
        cpu_ns,
        log_bytes,
    }
}

fn usage_in(usage: Option<v1::Usage>) -> Usage {
    let v1::Usage {
        fuel,
        memory_bytes_peak,
        wall_ns,
        cpu_ns,
        log_bytes,
    } = usage.unwrap_or_default();
    Usage {
        fuel,
        memory_bytes_peak,
        wall_ns,
        cpu_ns,
        log_bytes,
    }
}

fn attempt_out(attempt: &Attempt) -> v1::Attempt {
    let failure = attempt.failure.as_ref();
    v1::Attempt {
        number: attempt.number,
        host: attempt.host.to_string(),
        outcome: attempt.outcome.name().to_owned(),
        usage: Some(usage_out(attempt.usage)),
        failure: failure.map(|failure| v1::Failure {
            message: failure.message.clone(),
            backtrace: failure.backtrace.clone(),
        }),
        started_ms: attempt.started_at.0,
        ended_ms: attempt.ended_at.0,
        round: attempt.round,
    }
}

/// The state that a request names; unspecified if it names none.
pub(super) fn state_in(state: i32) -> Result<v1::TaskState, Status> {
    v1::TaskState::try_from(state).map_err(|_| invalid(format_args!("state {state} is not one")))
}

/// Whether a task is in the state that a request names.
pub(super) fn is_in(wanted: v1::TaskState, state: &State) -> bool {
    wanted == v1::TaskState::Unspecified || wanted == state_out(state)
}

pub(super) fn state_out(state: &State) -> v1::TaskState {
    match state {
        State::Blocked { .. } => v1::TaskState::Blocked,
        State::Scheduled { .. } => v1::TaskState::Scheduled,
        State::Ready { .. } => v1::TaskState::Ready,
        State::Running { .. } => v1::TaskState::Running,
        State::Succeeded { .. } => v1::TaskState::Succeeded,
        State::Dead { .. } => v1::TaskState::Dead,
        State::Cancelled { .. } => v1::TaskState::Cancelled,
        State::Expired { .. } => v1::TaskState::Expired,
    }
}

/// A task as it is shown, without payload, result and progress.
pub(in crate::api) fn task_out(task: &Task) -> v1::Task {
    let spec = &task.spec;
    let mut attempts: Vec<v1::Attempt> = task.attempts.iter().map(attempt_out).collect();
    let (mut stop, mut run_at) = ("", 0);
    match &task.state {
        State::Running { lease, stop: told } => {
            attempts.push(v1::Attempt {
                number: task.started,
                host: lease.host.to_string(),
                started_ms: lease.started_at.0,
                round: task.round,
                ..v1::Attempt::default()
            });
            stop = match told {
                None => "",
                Some(Stop::Cancel) => "cancel",
                Some(Stop::Deadline) => "deadline",
            };
        }
        State::Scheduled { run_at: at } => run_at = at.0,
        State::Blocked { .. }
        | State::Ready { .. }
        | State::Succeeded { .. }
        | State::Dead { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => {}
    }
    v1::Task {
        id: task.id.to_string(),
        namespace: spec.namespace.clone(),
        function: format!("{}/{}", spec.module, spec.function),
        module_version: spec.version,
        digest: spec.digest.to_string(),
        state: state_out(&task.state).into(),
        outcome: task.outcome().map_or("", Outcome::name).to_owned(),
        priority: spec.priority.0.into(),
        attempts,
        submitted_ms: spec.submitted_at.0,
        run_at_ms: run_at,
        deadline_ms: spec.deadline.map_or(0, |at| at.0),
        ended_ms: task.state.ended_at().map_or(0, |at| at.0),
        result: None,
        payload: None,
        content_type: spec.content_type.clone(),
        arguments: spec.arguments.clone(),
        limits: Some(limits_out(&spec.limits)),
        retry: Some(retry_out(&spec.retry)),
        idempotency_key: spec.idempotency_key.clone(),
        unique_key: spec.unique_key.clone(),
        traceparent: spec.traceparent.clone(),
        queue: spec.placement.queue().to_owned(),
        required_labels: labels_out(&spec.placement.required),
        preferred_labels: labels_out(&spec.placement.preferred),
        concurrency: spec
            .placement
            .concurrency
            .as_ref()
            .map(|it| v1::Concurrency {
                key: it.key.clone(),
                limit: it.limit,
            }),
        progress: None,
        round: task.round,
        stop: stop.to_owned(),
        losses: task.losses,
        strikes: task.strikes,
        result_bytes: task.result.map_or(0, |data| data.len()),
        payload_bytes: spec.payload.len(),
        labels: labels_out(&spec.labels),
        redriven_from: spec
            .redriven_from
            .map(|id| id.to_string())
            .unwrap_or_default(),
        result_expired_ms: 0,
        result_ttl_ms: spec.result_ttl.map(millis),
    }
}

/// What names a task and how it ended, without its result.
pub(super) fn end_out(task: &Task) -> v1::Task {
    v1::Task {
        id: task.id.to_string(),
        state: state_out(&task.state).into(),
        outcome: task.outcome().map_or("", Outcome::name).to_owned(),
        ended_ms: task.state.ended_at().map_or(0, |at| at.0),
        result_bytes: task.result.map_or(0, |data| data.len()),
        ..v1::Task::default()
    }
}

fn function_out(function: &Function, inherited: RetryPolicy) -> v1::Function {
    let Function {
        name,
        doc,
        input,
        output,
        limits,
        retry,
        placement,
        grants,
        result_ttl,
        schemas: _,
        typed,
    } = function;
    v1::Function {
        name: name.clone(),
        doc: doc.clone(),
        input: input.clone(),
        output: output.clone(),
        limits: Some(limits_out(limits)),
        retry: Some(retry_out(&retry.over(inherited))),
        placement: Some(function_placement_out(placement)),
        grants: (!grants.is_empty()).then(|| grants_out(grants)),
        result_ttl_ms: result_ttl.map(millis),
        typed: typed.as_deref().map(typed::listed),
        // Too much for a list of modules.
        example: String::new(),
        input_schema: String::new(),
        output_schema: String::new(),
        error_schema: String::new(),
    }
}

/// What was granted, over what is inherited.
pub(super) fn grants(inherited: &Grants, named: Option<&v1::Grants>) -> Result<Grants, Status> {
    let Some(v1::Grants {
        env,
        deterministic,
        http,
        scratch,
        keyvalue,
        tcp,
        secrets,
    }) = named
    else {
        return Ok(inherited.clone());
    };
    let grants = Grants {
        env: match env {
            Some(v1::Environment { variables }) => variables.clone().into_iter().collect(),
            None => inherited.env.clone(),
        },
        is_deterministic: deterministic.unwrap_or(inherited.is_deterministic),
        http: grant_list(&inherited.http, http.as_ref())?,
        has_scratch: scratch.unwrap_or(inherited.has_scratch),
        keyvalue: grant_list(&inherited.keyvalue, keyvalue.as_ref())?,
        tcp: grant_list(&inherited.tcp, tcp.as_ref())?,
        secrets: grant_list(&inherited.secrets, secrets.as_ref())?,
    };
    grants.check().map_err(invalid)?;
    Ok(grants)
}

/// What a capability is granted for, or what is inherited.
fn grant_list<T>(
    inherited: &BTreeSet<T>,
    named: Option<&v1::GrantList>,
) -> Result<BTreeSet<T>, Status>
where
    T: Clone + Ord + FromStr<Err: Display>,
{
    match named {
        Some(v1::GrantList { grants }) => {
            let parsed = grants.iter().map(|text| text.parse().map_err(invalid));
            parsed.collect()
        }
        None => Ok(inherited.clone()),
    }
}

fn grants_out(grants: &Grants) -> v1::Grants {
    let Grants {
        env,
        is_deterministic,
        http,
        has_scratch,
        keyvalue,
        tcp,
        secrets,
    } = grants;
    v1::Grants {
        env: (!env.is_empty()).then(|| v1::Environment {
            variables: env.clone().into_iter().collect(),
        }),
        deterministic: is_deterministic.then_some(true),
        http: grant_list_out(http),
        scratch: has_scratch.then_some(true),
        keyvalue: grant_list_out(keyvalue),
        tcp: grant_list_out(tcp),
        secrets: grant_list_out(secrets),
    }
}

fn grant_list_out<T: Display>(grants: &BTreeSet<T>) -> Option<v1::GrantList> {
    (!grants.is_empty()).then(|| v1::GrantList {
        grants: grants.iter().map(T::to_string).collect(),
    })
}

pub(super) fn retyped(retyped: Retyped) -> v1::RetypedFunction {
    let Retyped {
        name,
        before,
        after,
    } = retyped;
    v1::RetypedFunction {
        name,
        before,
        after,
    }
}

/// A module as it is shown, without what hosts say of it. `inherited` is the retry policy of its namespace.
pub(super) fn module_out(
    namespace: &str,
    module: &Module,
    inherited: RetryPolicy,
    current: u32,
    versions: Vec<u32>,
) -> v1::Module {
    let entry = match module.entry {
        Entry::Handler => v1::Entry::Handler,
        Entry::Program => v1::Entry::Program,
        Entry::Typed => v1::Entry::Typed,
    };
    v1::Module {
        namespace: namespace.to_owned(),
        name: module.name.clone(),
        version: module.version,
        digest: module.digest.to_string(),
        size_bytes: module.size_bytes,
        entry: entry.into(),
        functions: module
            .functions
            .iter()
            .map(|function| function_out(function, inherited))
            .collect(),
        uploaded_ms: module.uploaded_at.0,
        current: module.version == current,
        versions,
        ready_on: Vec::new(),
        compile_error: String::new(),
        uncallable: module.uncallable.iter().map(typed::uncallable).collect(),
    }
}

fn data_in(data: v1::Data) -> Result<Data, Status> {
    match data.kind {
        None => Ok(Data::Inline(Bytes::new())),
        Some(v1::data::Kind::Inline(bytes)) => Ok(Data::Inline(bytes)),
        Some(v1::data::Kind::Blob(blob)) => Ok(Data::Blob {
            digest: digest(&blob.digest)?,
            len: blob.size_bytes,
        }),
    }
}

fn data_out(data: Data) -> v1::Data {
    let kind = match data {
        Data::Inline(bytes) => v1::data::Kind::Inline(bytes),
        Data::Blob { digest, len } => v1::data::Kind::Blob(v1::Blob {
            digest: bytes(&digest.0),
            size_bytes: len,
        }),
    };
    v1::Data { kind: Some(kind) }
}

fn attempt_in(namespace: String, id: &str, epoch: u64, token: &[u8]) -> Result<AttemptRef, Status> {
    Ok(AttemptRef {
        namespace,
        id: task_id(id)?,
        epoch: Epoch(epoch),
        token: Token(fixed("token", token)?),
    })
}

/// An attempt that a host holds.
pub(super) fn held_in(attempt: v1::HeldAttempt) -> Result<AttemptRef, Status> {
    let v1::HeldAttempt {
        task_id,
        namespace,
        epoch,
        token,
    } = attempt;
    attempt_in(namespace, &task_id, epoch, &token)
}

fn outcome_in(outcome: v1::AttemptOutcome) -> Result<AttemptOutcome, Status> {
    Ok(AttemptOutcome {
        attempt: attempt_in(
            outcome.namespace,
            &outcome.task_id,
            outcome.epoch,
            &outcome.token,
        )?,
        outcome: outcome.outcome.parse().map_err(invalid)?,
        result: outcome.result.map(data_in).transpose()?,
        failure: outcome
            .failure
            .map(|v1::Failure { message, backtrace }| Failure { message, backtrace }),
        retry_after: outcome.retry_after_ms.map(Duration::from_millis),
        usage: usage_in(outcome.usage),
    })
}

/// The first words of a host.
pub(super) fn hello_in(hello: v1::Hello) -> Result<Hello, Status> {
    let v1::Hello {
        name,
        incarnation,
        slots,
        ready,
        held,
        outcomes,
        seen_seq,
        seen_store,
        version,
        labels,
        memory_bytes,
    } = hello;
    tq_core::name::check("host name", &name).map_err(invalid)?;
    if slots == 0 || slots > tq_core::limits::SLOTS_MAX {
        return Err(invalid(format_args!(
            "slots is {slots}; it may be 1 to {}",
            tq_core::limits::SLOTS_MAX
        )));
    }
    let labels = label::gather(&labels).map_err(invalid)?;
    memory_bytes
        .map_or(Ok(()), limits::check_host_memory)
        .map_err(invalid)?;
    let seen = (!seen_store.is_empty())
        .then(|| fixed("seen_store", &seen_store).map(|store| (StoreId(store), seen_seq)));
    Ok(Hello {
        name,
        incarnation: fixed("incarnation", &incarnation)?,
        slots,
        ready: ready
            .iter()
            .map(|bytes| digest(bytes))
            .collect::<Result<_, _>>()?,
        held: held.into_iter().map(held_in).collect::<Result<_, _>>()?,
        outcomes: outcomes
            .into_iter()
            .map(outcome_in)
            .collect::<Result<_, _>>()?,
        labels,
        memory_bytes,
        seen: seen.transpose()?,
        version,
    })
}

/// What a host says after its hello.
pub(super) fn from_host_in(message: v1::HostMessage) -> Result<FromHost, Status> {
    use v1::host_message::Kind;
    let Some(kind) = message.kind else {
        return Err(invalid(
            "message of a host has no kind that this broker knows",
        ));
    };
    Ok(match kind {
        Kind::Hello(_) => return Err(invalid("a session has one hello, as its first message")),
        Kind::Credits(credits) => FromHost::Credits(credits.granted),
        Kind::Outcomes(outcomes) => FromHost::Outcomes(
            outcomes
                .outcomes
                .into_iter()
                .map(outcome_in)
                .collect::<Result<_, _>>()?,
        ),
        Kind::Progress(progress) => {
            let reports = progress.reports.into_iter().map(|report| {
                let mut note = report.note;
                note.truncate(note.floor_char_boundary(tq_core::limits::PROGRESS_NOTE_BYTES_MAX));
                Ok((
                    task_id(&report.task_id)?,
                    Epoch(report.epoch),
                    report.fraction,
                    note,
                ))
            });
            FromHost::Progress(reports.collect::<Result<_, Status>>()?)
        }
        Kind::Ready(ready) => FromHost::Ready {
            held: ready
                .digests
                .iter()
                .map(|bytes| digest(bytes))
                .collect::<Result<_, _>>()?,
            dropped: ready
                .dropped
                .iter()
                .map(|bytes| digest(bytes))
                .collect::<Result<_, _>>()?,
        },
        Kind::PrepareFailed(failed) => FromHost::PrepareFailed {
            digest: digest(&failed.digest)?,
            message: failed.message,
            permanent: failed.permanent,
        },
        Kind::Checkpoint(saved) => FromHost::Checkpoint {
            attempt: attempt_in(saved.namespace, &saved.task_id, saved.epoch, &saved.token)?,
            state: data_in(saved.state.unwrap_or_default())?,
        },
        Kind::Heartbeat(v1::Heartbeat {}) => FromHost::Heartbeat,
        Kind::Draining(v1::Draining {}) => FromHost::Draining,
    })
}

/// Assignments in their order. What one has in common with the one before it is left out.
fn assignments_out(assignments: Vec<Assignment>) -> Vec<v1::Assignment> {
    let mut before: Option<(Arc<Spec>, Option<Arc<Grants>>)> = None;
    let assignments = assignments.into_iter().map(|assignment| {
        let spec = Arc::clone(&assignment.spec);
        let is_alike = before.as_ref().is_some_and(|(before, grants)| {
            is_alike(before, &spec) && *grants == assignment.grants
        });
        before = Some((spec, assignment.grants.clone()));
        assignment_out(assignment, is_alike)
    });
    assignments.collect()
}

/// Whether all that assignments may have in common is the same in both.
fn is_alike(a: &Spec, b: &Spec) -> bool {
    a.digest == b.digest
        && a.function == b.function
        && a.namespace == b.namespace
        && a.content_type == b.content_type
        && a.limits == b.limits
        && a.retry.max_attempts == b.retry.max_attempts
}

fn assignment_out(assignment: Assignment, is_alike: bool) -> v1::Assignment {
    let Assignment {
        id,
        epoch,
        token,
        spec,
        number,
        payload,
        checkpoint,
        alone,
        grants,
    } = assignment;
    let own = v1::Assignment {
        task_id: id.to_string(),
        epoch: epoch.0,
        token: bytes(&token.0),
        payload: Some(data_out(payload)),
        arguments: spec.arguments.clone(),
        deadline_ms: spec.deadline.map_or(0, |Timestamp(at)| at),
        traceparent: spec.traceparent.clone(),
        attempt: number,
        checkpoint: checkpoint.map(data_out),
        alone,
        ..v1::Assignment::default()
    };
    if is_alike {
        return own;
    }
    v1::Assignment {
        namespace: spec.namespace.clone(),
        digest: bytes(&spec.digest.0),
        function: spec.function.clone(),
        content_type: spec.content_type.clone(),
        limits: Some(limits_named(&spec.limits)),
        max_attempts: spec.retry.max_attempts,
        grants: grants.as_deref().map(grants_out),
        ..own
    }
}

/// What the broker says to a host.
pub(super) fn to_host_out(message: ToHost) -> v1::BrokerMessage {
    use v1::broker_message::Kind;
    let kind = match message {
        ToHost::Welcome {
            store,
            generation,
            fenced,
            seq,
        } => Kind::Welcome(v1::Welcome {
            store: bytes(&store.0),
            generation,
            lease_ms: millis(tq_core::limits::LEASE),
            heartbeat_ms: millis(tq_core::limits::HEARTBEAT),
            fenced: fenced.into_iter().map(|epoch| epoch.0).collect(),
            seq,
        }),
        ToHost::Assignments { assignments, seq } => Kind::Assignments(v1::Assignments {
            assignments: assignments_out(assignments),
            seq,
        }),
        ToHost::Acks { acks, seq } => {
            let acks = acks.into_iter().map(|(epoch, fenced)| v1::Ack {
                epoch: epoch.0,
                fenced,
            });
            Kind::Acks(v1::Acks {
                acks: acks.collect(),
                seq,
            })
        }
        ToHost::Prepare { digest, size_bytes } => Kind::Prepare(v1::Prepare {
            digest: bytes(&digest.0),
            size_bytes,
        }),
        ToHost::Stop { epoch, stop } => {
            let reason = match stop {
                Some(Stop::Cancel) => v1::StopReason::Cancelled,
                Some(Stop::Deadline) => v1::StopReason::Deadline,
                None => v1::StopReason::Fenced,
            };
            Kind::Stop(v1::Stop {
                epoch: epoch.0,
                reason: reason.into(),
            })
        }
        ToHost::Heartbeat => Kind::Heartbeat(v1::Heartbeat {}),
        ToHost::HandBack => Kind::HandBack(v1::HandBack {}),
        ToHost::Removed => Kind::Removed(v1::Removed {}),
    };
    v1::BrokerMessage { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use tq_core::placement::Placement;
    use tq_core::task::DataRef;

    use super::*;

    fn assignment(function: &str, number: u32) -> Assignment {
        let spec = Spec {
            namespace: "n".to_owned(),
            module: "m".to_owned(),
            version: 1,
            digest: Digest([7; 32]),
            function: function.to_owned(),
            payload: DataRef::Row { len: 0 },
            content_type: "text/plain".to_owned(),
            arguments: Vec::new(),
            limits: Limits::DEFAULT,
            retry: RetryPolicy::DEFAULT,
            priority: Priority::DEFAULT,
            placement: Placement::default(),
            run_at: None,
            deadline: None,
            result_ttl: None,
            idempotency_key: String::new(),
            unique_key: String::new(),
            traceparent: format!("trace {number}"),
            submitted_at: Timestamp::EPOCH,
            labels: Labels::new(),
            redriven_from: None,
        };
        Assignment {
            id: TaskId([1; 16]),
            epoch: Epoch(number.into()),
            token: Token([2; 16]),
            spec: Arc::new(spec),
            number,
            payload: Data::Inline(Bytes::new()),
            checkpoint: None,
            alone: false,
            grants: None,
        }
    }

    #[test]
    fn assignments_leave_out_what_the_one_before_has_too() {
        let functions = ["f", "f", "g", "f"];
        let assignments = functions.iter().zip(1..);
        let sent = assignments_out(
            assignments
                .map(|(function, number)| assignment(function, number))
                .collect(),
        );
        let whole: Vec<_> = sent
            .iter()
            .map(|assignment| (assignment.function.as_str(), assignment.digest.len()))
            .collect();
        assert_eq!(whole, [("f", 32), ("", 0), ("g", 32), ("f", 32)]);
        for (assignment, number) in sent.iter().zip(1..) {
            let has_digest = !assignment.digest.is_empty();
            assert_eq!(assignment.limits.is_some(), has_digest);
            assert_eq!(assignment.namespace.is_empty(), !has_digest);
            // What is a task's own is always there.
            assert_eq!(assignment.attempt, number);
            assert_eq!(assignment.traceparent, format!("trace {number}"));
        }
    }
}
