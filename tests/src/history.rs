//! The checker of histories: what clients saw, against what the broker says in the end.

use std::collections::BTreeMap;

use tq_client::{Task, TaskState};

/// What was answered to a request to cancel a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It has ended as cancelled.
    Cancelled,
    /// It runs, and was told to stop: its success may still come first.
    Told,
    /// It had ended already.
    Ended,
    /// The connection was lost before the answer came.
    Unknown,
}

/// What clients saw of a run in which every task has an idempotency key of its own, and every submit was repeated until it
/// was acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The ids that were acknowledged, by key.
    pub acknowledged: BTreeMap<String, String>,
    /// The ends that a watch over all tasks returned, with their results, in order.
    pub ended: Vec<Task>,
    /// The answers to requests to cancel, by id.
    pub cancels: BTreeMap<String, CancelAnswer>,
}

/// Compares what clients saw with all tasks that the broker lists afterwards. `expected` gives the result of the task of a
/// key. Returns what is wrong, a line each, in no particular order; empty if every acknowledged task has ended, once.
#[must_use]
pub fn violations(seen: &Seen, listed: &[Task], expected: impl Fn(&str) -> Vec<u8>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut by_id: BTreeMap<&str, &Task> = BTreeMap::new();
    let mut by_key: BTreeMap<&str, &str> = BTreeMap::new();
    for task in listed {
        if by_id.insert(&task.id, task).is_some() {
            wrong.push(format!("listed twice: task {}", task.id));
        }
        if let Some(other) = by_key.insert(&task.idempotency_key, &task.id) {
            wrong.push(format!(
                "doubled: tasks {other} and {} have the key `{}`",
                task.id, task.idempotency_key
            ));
        }
        if seen.acknowledged.get(&task.idempotency_key) != Some(&task.id) {
            wrong.push(format!(
                "phantom: task {} with the key `{}` was acknowledged to nobody",
                task.id, task.idempotency_key
            ));
        }
        wrong.extend(
            wrong_end(task, seen.cancels.get(&task.id).copied())
                .map(|what| format!("task {}: {what}", task.id)),
        );
    }
    for (key, id) in &seen.acknowledged {
        if !by_id.contains_key(id.as_str()) {
            wrong.push(format!(
                "lost: task {id} with the key `{key}` was acknowledged"
            ));
        }
    }
    let mut ends: BTreeMap<&str, &Task> = BTreeMap::new();
    for end in &seen.ended {
        if ends.insert(&end.id, end).is_some() {
            wrong.push(format!("ended twice: task {}", end.id));
        }
        let Some(last) = by_id.get(end.id.as_str()) else {
            wrong.push(format!("phantom: task {} ended and is not there", end.id));
            continue;
        };
        if (end.state(), end.ended_ms, &end.attempts)
            != (last.state(), last.ended_ms, &last.attempts)
        {
            wrong.push(format!(
                "changed after its end: task {} was {} and is {}",
                end.id,
                end.state().as_str_name(),
                last.state().as_str_name()
            ));
        }
        if end.state() == TaskState::Succeeded
            && end.result.as_deref() != Some(expected(&end.idempotency_key).as_slice())
        {
            wrong.push(format!(
                "wrong result: task {} with the key `{}`",
                end.id, end.idempotency_key
            ));
        }
    }
    for id in by_id.keys() {
        if !ends.contains_key(id) {
            wrong.push(format!(
                "unseen: the watch did not return the end of task {id}"
            ));
        }
    }
    wrong
}

/// What is wrong with how a task ended, if anything is.
fn wrong_end(task: &Task, cancel: Option<CancelAnswer>) -> Option<String> {
    let state = task.state();
    let successes = task
        .attempts
        .iter()
        .filter(|attempt| attempt.outcome == "succeeded")
        .count();
    let last_succeeded = task
        .attempts
        .last()
        .is_some_and(|attempt| attempt.outcome == "succeeded");
    match (state, cancel) {
        (TaskState::Succeeded, Some(CancelAnswer::Cancelled)) => {
            Some("it was cancelled, and has succeeded".to_owned())
        }
        (TaskState::Succeeded, _) if successes == 1 && last_succeeded => None,
        (TaskState::Succeeded, _) => Some(format!(
            "it has succeeded, with {successes} attempts that did"
        )),
        (TaskState::Cancelled, None) => {
            Some("it is cancelled, and nobody asked for that".to_owned())
        }
        (TaskState::Cancelled, Some(CancelAnswer::Ended)) => {
            Some("it had ended when it was to be cancelled, and is cancelled".to_owned())
        }
        (TaskState::Cancelled, Some(_)) if successes == 0 => None,
        (TaskState::Cancelled, Some(_)) => {
            Some("it is cancelled, with an attempt that succeeded".to_owned())
        }
        (other, _) => Some(format!(
            "it is {} with the outcome `{}`",
            other.as_str_name(),
            task.outcome
        )),
    }
}

#[cfg(test)]
mod tests {
    use tq_client::Attempt;

    use super::*;

    fn ended(id: &str, state: TaskState, outcomes: &[&str]) -> Task {
        let attempts = outcomes.iter().map(|outcome| Attempt {
            outcome: (*outcome).to_owned(),
            ..Attempt::default()
        });
        Task {
            id: id.to_owned(),
            idempotency_key: format!("key of {id}"),
            state: state.into(),
            attempts: attempts.collect(),
            result: Some("result".into()),
            ..Task::default()
        }
    }

    fn succeeded(id: &str) -> Task {
        ended(id, TaskState::Succeeded, &["host_lost", "succeeded"])
    }

    fn seen(tasks: &[Task]) -> Seen {
        Seen {
            acknowledged: tasks
                .iter()
                .map(|task| (task.idempotency_key.clone(), task.id.clone()))
                .collect(),
            ended: tasks.to_vec(),
            cancels: BTreeMap::new(),
        }
    }

    #[track_caller]
    fn check(seen: &Seen, listed: &[Task], expected: &[&str]) {
        let found = violations(seen, listed, |_| b"result".to_vec());
        let kinds: Vec<&str> = found
            .iter()
            .map(|what| what.split(':').next().unwrap_or_default())
            .collect();
        assert_eq!(kinds, expected, "{found:?}");
    }

    #[test]
    fn history_in_which_all_is_well_has_no_violations() {
        let tasks = [succeeded("a"), succeeded("b")];
        check(&seen(&tasks), &tasks, &[]);
    }

    #[test]
    fn each_kind_of_violation_is_found() {
        let (a, b) = (succeeded("a"), succeeded("b"));
        check(
            &seen(&[a.clone(), b.clone()]),
            std::slice::from_ref(&a),
            &["lost", "phantom"],
        );
        check(
            &seen(std::slice::from_ref(&a)),
            &[a.clone(), b.clone()],
            &["phantom", "unseen"],
        );
        let twice = Seen {
            ended: vec![a.clone(), a.clone()],
            ..seen(std::slice::from_ref(&a))
        };
        check(&twice, std::slice::from_ref(&a), &["ended twice"]);
        let twin = Task {
            idempotency_key: a.idempotency_key.clone(),
            ..b.clone()
        };
        let with_twin = Seen {
            ended: vec![a.clone(), twin.clone()],
            ..seen(std::slice::from_ref(&a))
        };
        check(&with_twin, &[a.clone(), twin], &["doubled", "phantom"]);
        let other = Seen {
            ended: vec![Task {
                result: Some("other".into()),
                ..a.clone()
            }],
            ..seen(std::slice::from_ref(&a))
        };
        check(&other, std::slice::from_ref(&a), &["wrong result"]);
        let later = ended("a", TaskState::Succeeded, &["succeeded"]);
        check(
            &seen(std::slice::from_ref(&a)),
            &[later],
            &["changed after its end"],
        );
    }

    #[test]
    fn ends_have_to_fit_the_attempts_and_the_cancels() {
        #[track_caller]
        fn check_end(task: &Task, cancel: Option<CancelAnswer>, is_right: bool) {
            let wrong = wrong_end(task, cancel);
            assert_eq!(wrong.is_none(), is_right, "{wrong:?}");
        }
        let cancelled = ended("a", TaskState::Cancelled, &["cancelled"]);
        check_end(&succeeded("a"), Some(CancelAnswer::Told), true);
        check_end(&succeeded("a"), Some(CancelAnswer::Cancelled), false);
        check_end(&cancelled, Some(CancelAnswer::Told), true);
        check_end(&cancelled, Some(CancelAnswer::Unknown), true);
        check_end(&cancelled, Some(CancelAnswer::Ended), false);
        check_end(&cancelled, None, false);
        check_end(
            &ended("a", TaskState::Succeeded, &["succeeded", "succeeded"]),
            None,
            false,
        );
        check_end(
            &ended("a", TaskState::Cancelled, &["succeeded"]),
            Some(CancelAnswer::Told),
            false,
        );
        check_end(&ended("a", TaskState::Running, &[""]), None, false);
        check_end(&ended("a", TaskState::Dead, &["host_lost"]), None, false);
    }
}
