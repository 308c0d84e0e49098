//! Tasks.

use std::collections::BTreeMap;

use serde::Serialize;
use tq_client::TaskState;

use super::attempt::{AttemptLimits, Retry, TaskAttempt};
use super::{Bytes, known, labels, named};

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
    labels: BTreeMap<&'a str, &'a str>,
    concurrency: Option<Concurrency<'a>>,
    round: u32,
    attempts: Vec<TaskAttempt<'a>>,
    losses: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    strikes: Option<u32>,
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
    unique_key: Option<&'a str>,
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
pub(crate) struct Progress<'a> {
    fraction: f64,
    note: &'a str,
}

impl<'a> From<&'a tq_client::Progress> for Progress<'a> {
    fn from(progress: &'a tq_client::Progress) -> Self {
        Self {
            fraction: progress.fraction,
            note: &progress.note,
        }
    }
}

/// A piece of a task's log.
#[derive(Debug, Serialize)]
pub(crate) struct LogChunk<'a> {
    attempt: u32,
    text: Bytes<'a>,
    /// It is not of the attempt: it says what is missing of its log here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    notice: bool,
}

impl<'a> From<&'a tq_client::LogChunk> for LogChunk<'a> {
    fn from(chunk: &'a tq_client::LogChunk) -> Self {
        Self {
            attempt: chunk.attempt,
            text: Bytes(&chunk.text),
            notice: chunk.is_notice,
        }
    }
}

/// What has come of a task that is watched.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskChange<'a> {
    Task(Box<Task<'a>>),
    Progress(Progress<'a>),
    Log(LogChunk<'a>),
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
            unique_key,
            traceparent,
            progress,
            round,
            stop,
            losses,
            strikes,
            result_bytes,
            payload_bytes,
            queue,
            required_labels,
            preferred_labels,
            labels: own_labels,
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
            labels: labels(own_labels),
            concurrency: concurrency.as_ref().map(|it| Concurrency {
                key: &it.key,
                limit: it.limit,
            }),
            round: *round,
            attempts: attempts.iter().map(TaskAttempt::from).collect(),
            losses: *losses,
            strikes: *strikes,
            stop: named(stop),
            submitted_ms: *submitted_ms,
            run_at_ms: known(*run_at_ms),
            deadline_ms: known(*deadline_ms),
            ended_ms: known(*ended_ms),
            limits: limits.as_ref().map(AttemptLimits::from),
            retry: retry.as_ref().map(Retry::from),
            progress: progress.as_ref().map(Progress::from),
            content_type,
            arguments,
            idempotency_key: named(idempotency_key),
            unique_key: named(unique_key),
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tq_client::Attempt;

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
                    log_bytes: 5,
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
            "labels": {},
            "concurrency": {"key": "k", "limit": 2},
            "round": 1,
            "attempts": [{
                "number": 1,
                "round": 1,
                "host": "a",
                "outcome": "succeeded",
                "usage": {"fuel": 1, "memory_bytes_peak": 2, "wall_ns": 3, "cpu_ns": 4, "log_bytes": 5},
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
            "unique_key": null,
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
