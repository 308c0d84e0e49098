//! JSON for programs. What is here is an interface: fields are added, never renamed or removed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use tq_client::{
    Attempt, Entry, Function, Host, HostState, Limits, Module, RetryPolicy, TaskState,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Bytes<'a>>,
    result_bytes: u64,
    result: Option<Bytes<'a>>,
    result_ttl_ms: Option<u64>,
    /// When the result was removed because its time was over.
    result_expired_ms: Option<u64>,
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
    result_ttl_ms: Option<u64>,
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
            result_ttl_ms,
        } = function;
        Self {
            name,
            doc,
            input: named(input),
            output: named(output),
            limits: limits.as_ref().map(AttemptLimits::from),
            retry: retry.as_ref().map(Retry::from),
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

#[derive(Debug, Serialize)]
struct HostInfo<'a> {
    name: &'a str,
    state: &'static str,
    slots: u32,
    running: u32,
    modules_ready: u32,
    version: &'a str,
    connected_ms: u64,
}

impl<'a> HostList<'a> {
    /// In the order given.
    pub(crate) fn new(hosts: &'a [Host]) -> Self {
        let info = |host: &'a Host| HostInfo {
            name: &host.name,
            state: host_state(host.state()),
            slots: host.slots,
            running: host.running,
            modules_ready: host.modules_ready,
            version: &host.version,
            connected_ms: host.connected_ms,
        };
        Self {
            hosts: hosts.iter().map(info).collect(),
        }
    }
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
