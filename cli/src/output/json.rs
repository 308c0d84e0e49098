//! JSON for programs. What is here is an interface: fields are added, never renamed or removed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use tq_client::{
    Attempt, CrashCard, DeadLetter, Entry, Function, Host, HostState, Limits, Module,
    NamespaceSettings, Queue, QueueOrder, RetryPolicy, SignatureSummary, TaskState, Tripped,
};

use crate::output;

/// Prints a value, indented, with a line feed behind it.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(output::data(&text)?)
}

/// A task.
#[derive(Debug, Serialize)]
pub(crate) struct Task<'a> {
    id: &'a str,
    namespace: &'a str,
    function: &'a str,
    module_version: u32,
    digest: &'a str,
    state: &'static str,
    outcome: Option<&'a str>,
    priority: u32,
    queue: &'a str,
    required_labels: BTreeMap<&'a str, &'a str>,
    preferred_labels: BTreeMap<&'a str, &'a str>,
    concurrency: Option<Concurrency<'a>>,
    round: u32,
    attempts: Vec<TaskAttempt<'a>>,
    losses: u32,
    stop: Option<&'a str>,
    submitted_ms: u64,
    run_at_ms: Option<u64>,
    deadline_ms: Option<u64>,
    ended_ms: Option<u64>,
    limits: Option<AttemptLimits>,
    retry: Option<Retry>,
    progress: Option<Progress<'a>>,
    content_type: &'a str,
    arguments: &'a [String],
    idempotency_key: Option<&'a str>,
    traceparent: Option<&'a str>,
    payload_bytes: u64,
    redriven_from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Bytes<'a>>,
    result_bytes: u64,
    result: Option<Bytes<'a>>,
    result_ttl_ms: Option<u64>,
    /// When the result was removed because its time was over.
    result_expired_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Concurrency<'a> {
    key: &'a str,
    limit: u32,
}

#[derive(Debug, Serialize)]
struct TaskAttempt<'a> {
    number: u32,
    round: u32,
    host: &'a str,
    outcome: Option<&'a str>,
    usage: Option<Usage>,
    failure: Option<Failure<'a>>,
    started_ms: u64,
    ended_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Usage {
    fuel: u64,
    memory_bytes_peak: u64,
    wall_ns: u64,
    cpu_ns: u64,
}

#[derive(Debug, Serialize)]
struct Failure<'a> {
    message: &'a str,
    backtrace: &'a str,
}

#[derive(Debug, Serialize)]
struct Progress<'a> {
    fraction: f64,
    note: &'a str,
}

#[derive(Debug, Serialize)]
struct AttemptLimits {
    fuel: u64,
    memory_bytes: u64,
    timeout_ms: u64,
}

#[derive(Debug, Serialize)]
struct Retry {
    max_attempts: u32,
    backoff_ms: u64,
    cap_ms: u64,
}

/// Bytes: a string if they are UTF-8, else `{"base64": …}`.
#[derive(Debug)]
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Encoded {
            base64: String,
        }
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Encoded {
                base64: STANDARD.encode(self.0),
            }
            .serialize(serializer),
        }
    }
}

impl<'a> From<&'a tq_client::Task> for Task<'a> {
    fn from(task: &'a tq_client::Task) -> Self {
        // Destructured whole, so that a field that is added to the wire is thought about here.
        let tq_client::Task {
            id,
            namespace,
            function,
            module_version,
            digest,
            state: _,
            outcome,
            priority,
            attempts,
            submitted_ms,
            run_at_ms,
            deadline_ms,
            ended_ms,
            result,
            payload,
            content_type,
            arguments,
            limits,
            retry,
            idempotency_key,
            traceparent,
            progress,
            round,
            stop,
            losses,
            result_bytes,
            payload_bytes,
            queue,
            required_labels,
            preferred_labels,
            concurrency,
            redriven_from,
            result_expired_ms,
            result_ttl_ms,
        } = task;
        Self {
            id,
            namespace,
            function,
            module_version: *module_version,
            digest,
            state: state(task.state()),
            outcome: named(outcome),
            priority: *priority,
            queue,
            required_labels: labels(required_labels),
            preferred_labels: labels(preferred_labels),
            concurrency: concurrency.as_ref().map(|it| Concurrency {
                key: &it.key,
                limit: it.limit,
            }),
            round: *round,
            attempts: attempts.iter().map(TaskAttempt::from).collect(),
            losses: *losses,
            stop: named(stop),
            submitted_ms: *submitted_ms,
            run_at_ms: known(*run_at_ms),
            deadline_ms: known(*deadline_ms),
            ended_ms: known(*ended_ms),
            limits: limits.as_ref().map(AttemptLimits::from),
            retry: retry.as_ref().map(Retry::from),
            progress: progress.as_ref().map(|progress| Progress {
                fraction: progress.fraction,
                note: &progress.note,
            }),
            content_type,
            arguments,
            idempotency_key: named(idempotency_key),
            traceparent: named(traceparent),
            payload_bytes: *payload_bytes,
            redriven_from: named(redriven_from),
            payload: payload.as_ref().map(|bytes| Bytes(bytes)),
            result_bytes: *result_bytes,
            result: result.as_ref().map(|bytes| Bytes(bytes)),
            result_ttl_ms: *result_ttl_ms,
            result_expired_ms: known(*result_expired_ms),
        }
    }
}

impl<'a> From<&'a Attempt> for TaskAttempt<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        let Attempt {
            number,
            host,
            outcome,
            usage,
            failure,
            started_ms,
            ended_ms,
            round,
        } = attempt;
        Self {
            number: *number,
            round: *round,
            host,
            outcome: named(outcome),
            usage: usage.as_ref().map(|usage| Usage {
                fuel: usage.fuel,
                memory_bytes_peak: usage.memory_bytes_peak,
                wall_ns: usage.wall_ns,
                cpu_ns: usage.cpu_ns,
            }),
            failure: failure.as_ref().map(|failure| Failure {
                message: &failure.message,
                backtrace: &failure.backtrace,
            }),
            started_ms: *started_ms,
            ended_ms: known(*ended_ms),
        }
    }
}

impl From<&Limits> for AttemptLimits {
    fn from(limits: &Limits) -> Self {
        let Limits {
            fuel,
            memory_bytes,
            timeout_ms,
        } = *limits;
        Self {
            fuel,
            memory_bytes,
            timeout_ms,
        }
    }
}

impl From<&RetryPolicy> for Retry {
    fn from(retry: &RetryPolicy) -> Self {
        let RetryPolicy {
            max_attempts,
            backoff_ms,
            cap_ms,
        } = *retry;
        Self {
            max_attempts,
            backoff_ms,
            cap_ms,
        }
    }
}

/// One page of tasks, and where the next begins.
#[derive(Debug, Serialize)]
pub(crate) struct TaskList<'a> {
    tasks: Vec<Task<'a>>,
    next: Option<&'a str>,
}

impl<'a> TaskList<'a> {
    /// `next` is empty when there is no further page.
    pub(crate) fn new(tasks: &'a [tq_client::Task], next: &'a str) -> Self {
        Self {
            tasks: tasks.iter().map(Task::from).collect(),
            next: named(next),
        }
    }
}

/// Dead letters, and where the next page begins.
#[derive(Debug, Serialize)]
pub(crate) struct DeadLetterList<'a> {
    dead_letters: Vec<DeadLetterInfo<'a>>,
    next: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct DeadLetterInfo<'a> {
    id: &'a str,
    function: &'a str,
    module_version: u32,
    outcome: Option<&'a str>,
    message: &'a str,
    signature: &'a str,
    died_ms: u64,
    failures: u32,
    losses: u32,
    round: u32,
}

impl<'a> DeadLetterList<'a> {
    /// `next` is empty when there is no further page.
    pub(crate) fn new(dead_letters: &'a [DeadLetter], next: &'a str) -> Self {
        Self {
            dead_letters: dead_letters.iter().map(DeadLetterInfo::from).collect(),
            next: named(next),
        }
    }
}

impl<'a> From<&'a DeadLetter> for DeadLetterInfo<'a> {
    fn from(dead: &'a DeadLetter) -> Self {
        let DeadLetter {
            id,
            function,
            module_version,
            outcome,
            message,
            signature,
            died_ms,
            failures,
            losses,
            round,
        } = dead;
        Self {
            id,
            function,
            module_version: *module_version,
            outcome: named(outcome),
            message,
            signature,
            died_ms: *died_ms,
            failures: *failures,
            losses: *losses,
            round: *round,
        }
    }
}

/// The ways in which tasks died.
#[derive(Debug, Serialize)]
pub(crate) struct SignatureList<'a> {
    signatures: Vec<SignatureInfo<'a>>,
    /// Further ones that are not listed.
    more: usize,
}

#[derive(Debug, Serialize)]
struct SignatureInfo<'a> {
    signature: &'a str,
    count: u64,
    at_least: bool,
    first_ms: u64,
    last_ms: u64,
    example: Option<DeadLetterInfo<'a>>,
}

impl<'a> SignatureList<'a> {
    /// In the order given; `more` were left out.
    pub(crate) fn new(signatures: &'a [SignatureSummary], more: usize) -> Self {
        let info = |summary: &'a SignatureSummary| {
            let SignatureSummary {
                signature,
                count,
                at_least,
                example,
                first_ms,
                last_ms,
            } = summary;
            SignatureInfo {
                signature,
                count: *count,
                at_least: *at_least,
                first_ms: *first_ms,
                last_ms: *last_ms,
                example: example.as_ref().map(DeadLetterInfo::from),
            }
        };
        Self {
            signatures: signatures.iter().map(info).collect(),
            more,
        }
    }
}

/// Why a task died.
#[derive(Debug, Serialize)]
pub(crate) struct Card<'a> {
    task: Option<Task<'a>>,
    signature: &'a str,
    tripped: Vec<TrippedInfo<'a>>,
    failure: Option<Failure<'a>>,
    log_tail: Bytes<'a>,
    log_is_cut: bool,
    others: u64,
    others_at_least: bool,
    redrive_version: u32,
    redrive_command: &'a str,
}

#[derive(Debug, Serialize)]
struct TrippedInfo<'a> {
    limit: &'a str,
    used: Option<u64>,
    cap: u64,
    unit: Option<&'a str>,
}

impl<'a> From<&'a CrashCard> for Card<'a> {
    fn from(card: &'a CrashCard) -> Self {
        let CrashCard {
            task,
            signature,
            tripped,
            failure,
            log_tail,
            log_is_cut,
            others,
            others_at_least,
            redrive_version,
            redrive_command,
        } = card;
        let tripped = tripped.iter().map(|tripped| {
            let Tripped {
                limit,
                used,
                cap,
                unit,
            } = tripped;
            TrippedInfo {
                limit,
                used: *used,
                cap: *cap,
                unit: named(unit),
            }
        });
        Self {
            task: task.as_ref().map(Task::from),
            signature,
            tripped: tripped.collect(),
            failure: failure.as_ref().map(|failure| Failure {
                message: &failure.message,
                backtrace: &failure.backtrace,
            }),
            log_tail: Bytes(log_tail),
            log_is_cut: *log_is_cut,
            others: *others,
            others_at_least: *others_at_least,
            redrive_version: *redrive_version,
            redrive_command,
        }
    }
}

/// How many dead letters were removed.
#[derive(Debug, Serialize)]
pub(crate) struct Discarded {
    /// They only would be.
    pub(crate) dry_run: bool,
    pub(crate) discarded: u64,
    /// Those that were not dead any more.
    pub(crate) skipped: u64,
}

/// What a redrive of dead letters did, or would do.
#[derive(Debug, Serialize)]
pub(crate) struct Redriven {
    /// Nothing was changed.
    pub(crate) dry_run: bool,
    /// Those that were redriven, or would be.
    pub(crate) ids: Vec<String>,
    /// Those that were not dead any more when their turn came.
    pub(crate) skipped: u64,
}

/// The settings of a namespace.
#[derive(Debug, Serialize)]
pub(crate) struct NamespaceInfo<'a> {
    name: &'a str,
    /// What was set.
    retry: RetrySet,
    /// What holds.
    retry_default: Option<Retry>,
}

#[derive(Debug, Serialize)]
struct RetrySet {
    max_attempts: Option<u32>,
    backoff_ms: Option<u64>,
    cap_ms: Option<u64>,
}

impl<'a> From<&'a NamespaceSettings> for NamespaceInfo<'a> {
    fn from(settings: &'a NamespaceSettings) -> Self {
        let NamespaceSettings {
            name,
            retry,
            retry_default,
        } = settings;
        let tq_client::RetryOverrides {
            max_attempts,
            backoff_ms,
            cap_ms,
        } = retry.unwrap_or_default();
        Self {
            name,
            retry: RetrySet {
                max_attempts,
                backoff_ms,
                cap_ms,
            },
            retry_default: retry_default.as_ref().map(Retry::from),
        }
    }
}

/// The ids that a submit made.
#[derive(Debug, Serialize)]
pub(crate) struct Submitted {
    /// Its id.
    pub(crate) id: String,
    /// It was there already, under its idempotency key.
    pub(crate) existed: bool,
}

/// A module.
#[derive(Debug, Serialize)]
pub(crate) struct ModuleInfo<'a> {
    namespace: &'a str,
    name: &'a str,
    version: u32,
    current: bool,
    versions: &'a [u32],
    digest: &'a str,
    size_bytes: u64,
    entry: &'static str,
    functions: Vec<FunctionInfo<'a>>,
    uploaded_ms: u64,
    ready_on: &'a [String],
    compile_error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct FunctionInfo<'a> {
    name: &'a str,
    doc: &'a str,
    input: Option<&'a str>,
    output: Option<&'a str>,
    limits: Option<AttemptLimits>,
    retry: Option<Retry>,
    placement: Option<FunctionPlacement<'a>>,
    result_ttl_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct FunctionPlacement<'a> {
    queue: Option<&'a str>,
    required_labels: BTreeMap<&'a str, &'a str>,
    preferred_labels: BTreeMap<&'a str, &'a str>,
    concurrency: Option<u32>,
    concurrency_key: Option<&'a str>,
}

impl<'a> From<&'a Module> for ModuleInfo<'a> {
    fn from(module: &'a Module) -> Self {
        let Module {
            namespace,
            name,
            version,
            digest,
            size_bytes,
            entry: _,
            functions,
            uploaded_ms,
            current,
            versions,
            ready_on,
            compile_error,
        } = module;
        Self {
            namespace,
            name,
            version: *version,
            current: *current,
            versions,
            digest,
            size_bytes: *size_bytes,
            entry: entry(module.entry()),
            functions: functions.iter().map(FunctionInfo::from).collect(),
            uploaded_ms: *uploaded_ms,
            ready_on,
            compile_error: named(compile_error),
        }
    }
}

impl<'a> From<&'a Function> for FunctionInfo<'a> {
    fn from(function: &'a Function) -> Self {
        let Function {
            name,
            doc,
            input,
            output,
            limits,
            retry,
            placement,
            result_ttl_ms,
        } = function;
        Self {
            name,
            doc,
            input: named(input),
            output: named(output),
            limits: limits.as_ref().map(AttemptLimits::from),
            retry: retry.as_ref().map(Retry::from),
            placement: placement.as_ref().map(|placement| FunctionPlacement {
                queue: named(&placement.queue),
                required_labels: labels(&placement.required_labels),
                preferred_labels: labels(&placement.preferred_labels),
                concurrency: placement.concurrency.as_ref().map(|rule| rule.limit),
                concurrency_key: placement
                    .concurrency
                    .as_ref()
                    .and_then(|rule| named(&rule.payload_pointer)),
            }),
            result_ttl_ms: *result_ttl_ms,
        }
    }
}

/// All modules.
#[derive(Debug, Serialize)]
pub(crate) struct ModuleList<'a> {
    modules: Vec<ModuleInfo<'a>>,
}

impl<'a> ModuleList<'a> {
    /// In the order given.
    pub(crate) fn new(modules: &'a [Module]) -> Self {
        Self {
            modules: modules.iter().map(ModuleInfo::from).collect(),
        }
    }
}

/// What a deploy did.
#[derive(Debug, Serialize)]
pub(crate) struct Deployed<'a> {
    /// The module as it is now.
    pub(crate) module: ModuleInfo<'a>,
    /// It was this already.
    pub(crate) unchanged: bool,
    /// What it may ask for and was not granted.
    pub(crate) not_granted: &'a [String],
}

/// All hosts.
#[derive(Debug, Serialize)]
pub(crate) struct HostList<'a> {
    hosts: Vec<HostInfo<'a>>,
}

/// One host.
#[derive(Debug, Serialize)]
pub(crate) struct HostInfo<'a> {
    name: &'a str,
    state: &'static str,
    connected: bool,
    slots: u32,
    running: u32,
    modules_ready: u32,
    labels: &'a BTreeMap<String, String>,
    memory_bytes: Option<u64>,
    reserved_bytes: u64,
    reason: Option<&'a str>,
    until_ms: Option<u64>,
    version: &'a str,
    connected_ms: u64,
}

impl<'a> From<&'a Host> for HostInfo<'a> {
    fn from(host: &'a Host) -> Self {
        Self {
            name: &host.name,
            state: host_state(host.state()),
            connected: host.connected,
            slots: host.slots,
            running: host.running,
            modules_ready: host.modules_ready,
            labels: &host.labels,
            memory_bytes: host.memory_bytes,
            reserved_bytes: host.reserved_bytes,
            reason: named(&host.reason),
            until_ms: known(host.until_ms),
            version: &host.version,
            connected_ms: host.connected_ms,
        }
    }
}

impl<'a> HostList<'a> {
    /// In the order given.
    pub(crate) fn new(hosts: &'a [Host]) -> Self {
        Self {
            hosts: hosts.iter().map(HostInfo::from).collect(),
        }
    }
}

/// All queues.
#[derive(Debug, Serialize)]
pub(crate) struct QueueList<'a> {
    queues: Vec<QueueInfo<'a>>,
}

/// A queue.
#[derive(Debug, Serialize)]
pub(crate) struct QueueInfo<'a> {
    name: &'a str,
    namespace: &'a str,
    order: &'static str,
    concurrency: Option<u32>,
    rate: Option<RateInfo>,
    paused: bool,
    closed: Option<&'a str>,
    blocked: u64,
    scheduled: u64,
    ready: u64,
    running: u64,
    succeeded: u64,
    dead: u64,
    cancelled: u64,
    expired: u64,
    oldest_ready_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct RateInfo {
    tasks: u32,
    per_ms: u64,
    burst: u32,
}

impl<'a> QueueList<'a> {
    /// In the order given.
    pub(crate) fn new(queues: &'a [Queue]) -> Self {
        Self {
            queues: queues.iter().map(QueueInfo::from).collect(),
        }
    }
}

impl<'a> From<&'a Queue> for QueueInfo<'a> {
    fn from(queue: &'a Queue) -> Self {
        let Queue {
            namespace,
            name,
            order: _,
            concurrency,
            rate,
            paused,
            blocked,
            scheduled,
            ready,
            running,
            succeeded,
            dead,
            cancelled,
            expired,
            oldest_ready_ms,
            closed,
        } = queue;
        Self {
            name,
            namespace,
            order: order(queue.order()),
            concurrency: (*concurrency > 0).then_some(*concurrency),
            rate: rate.as_ref().map(|rate| RateInfo {
                tasks: rate.tasks,
                per_ms: rate.per_ms,
                burst: rate.burst,
            }),
            paused: *paused,
            closed: named(closed),
            blocked: *blocked,
            scheduled: *scheduled,
            ready: *ready,
            running: *running,
            succeeded: *succeeded,
            dead: *dead,
            cancelled: *cancelled,
            expired: *expired,
            oldest_ready_ms: known(*oldest_ready_ms),
        }
    }
}

/// An order's name.
pub(crate) fn order(order: QueueOrder) -> &'static str {
    match order {
        QueueOrder::Unspecified => "unknown",
        QueueOrder::Priority => "priority",
        QueueOrder::Fifo => "fifo",
    }
}

fn labels(labels: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let pairs = labels.iter();
    pairs
        .map(|(label, value)| (label.as_str(), value.as_str()))
        .collect()
}

/// What became of a host that was removed.
#[derive(Debug, Serialize)]
pub(crate) struct HostRemoved<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Attempts that were taken from it.
    pub(crate) taken_back: u32,
}

/// A state's name.
pub(crate) fn state(state: TaskState) -> &'static str {
    match state {
        TaskState::Unspecified => "unknown",
        TaskState::Blocked => "blocked",
        TaskState::Scheduled => "scheduled",
        TaskState::Ready => "ready",
        TaskState::Running => "running",
        TaskState::Succeeded => "succeeded",
        TaskState::Dead => "dead",
        TaskState::Cancelled => "cancelled",
        TaskState::Expired => "expired",
    }
}

/// A host's state's name.
pub(crate) fn host_state(state: HostState) -> &'static str {
    match state {
        HostState::Unspecified => "unknown",
        HostState::Connected => "connected",
        HostState::Silent => "silent",
        HostState::Draining => "draining",
        HostState::Paused => "paused",
        HostState::Drained => "drained",
        HostState::Quarantined => "quarantined",
    }
}

/// How a module is entered.
pub(crate) fn entry(entry: Entry) -> &'static str {
    match entry {
        Entry::Unspecified => "unknown",
        Entry::Handler => "handler",
        Entry::Program => "program",
    }
}

/// On the wire, nothing is the empty string.
fn named(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// On the wire, no time is 0.
fn known(ms: u64) -> Option<u64> {
    (ms != 0).then_some(ms)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task() -> tq_client::Task {
        tq_client::Task {
            id: "01980c5e".into(),
            namespace: "default".into(),
            function: "greet/greet".into(),
            module_version: 2,
            digest: "sha256:ab".into(),
            state: TaskState::Succeeded.into(),
            outcome: "succeeded".into(),
            priority: 127,
            queue: "default".into(),
            required_labels: BTreeMap::from([("gpu".into(), "a100".into())]),
            concurrency: Some(tq_client::Concurrency {
                key: "k".into(),
                limit: 2,
            }),
            attempts: vec![Attempt {
                number: 1,
                host: "a".into(),
                outcome: "succeeded".into(),
                usage: Some(tq_client::Usage {
                    fuel: 1,
                    memory_bytes_peak: 2,
                    wall_ns: 3,
                    cpu_ns: 4,
                }),
                failure: None,
                started_ms: 10,
                ended_ms: 11,
                round: 1,
            }],
            submitted_ms: 9,
            ended_ms: 11,
            result: Some("Hello".into()),
            round: 1,
            result_bytes: 5,
            ..tq_client::Task::default()
        }
    }

    #[test]
    fn task_has_the_fields_that_scripts_rely_on() {
        let task = task();
        let value = serde_json::to_value(Task::from(&task)).expect("it can be encoded");
        let expected = json!({
            "id": "01980c5e",
            "namespace": "default",
            "function": "greet/greet",
            "module_version": 2,
            "digest": "sha256:ab",
            "state": "succeeded",
            "outcome": "succeeded",
            "priority": 127,
            "queue": "default",
            "required_labels": {"gpu": "a100"},
            "preferred_labels": {},
            "concurrency": {"key": "k", "limit": 2},
            "round": 1,
            "attempts": [{
                "number": 1,
                "round": 1,
                "host": "a",
                "outcome": "succeeded",
                "usage": {"fuel": 1, "memory_bytes_peak": 2, "wall_ns": 3, "cpu_ns": 4},
                "failure": null,
                "started_ms": 10,
                "ended_ms": 11,
            }],
            "losses": 0,
            "stop": null,
            "submitted_ms": 9,
            "run_at_ms": null,
            "deadline_ms": null,
            "ended_ms": 11,
            "limits": null,
            "retry": null,
            "progress": null,
            "content_type": "",
            "arguments": [],
            "idempotency_key": null,
            "traceparent": null,
            "payload_bytes": 0,
            "redriven_from": null,
            "result_bytes": 5,
            "result": "Hello",
            "result_ttl_ms": null,
            "result_expired_ms": null,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn result_that_is_no_text_is_base64() {
        let task = tq_client::Task {
            result: Some(vec![0xff, 0x00].into()),
            ..task()
        };
        let value = serde_json::to_value(Task::from(&task)).expect("it can be encoded");
        assert_eq!(value["result"], json!({"base64": "/wA="}));
    }

    #[test]
    fn list_says_where_it_goes_on() {
        let tasks = [task()];
        let value = serde_json::to_value(TaskList::new(&tasks, "c")).expect("it can be encoded");
        assert_eq!(
            (&value["next"], &value["tasks"][0]["id"]),
            (&json!("c"), &json!("01980c5e"))
        );
        let value = serde_json::to_value(TaskList::new(&[], "")).expect("it can be encoded");
        assert_eq!(value, json!({"tasks": [], "next": null}));
    }
}
