//! What holds for every transition, whatever made it. The ledger checks each one before it is committed.

use crate::limits::{ATTEMPTS_KEPT, LOSSES_MAX, STRIKES_MAX};
use crate::task::{State, Task};

/// A transition that must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {task}: {rule} ({before} -> {after})")]
pub struct Violation {
    task: crate::TaskId,
    rule: &'static str,
    before: &'static str,
    after: &'static str,
}

/// Checks a transition; `before` is none for a submit.
///
/// # Errors
/// [`Violation`] names the first rule that is broken.
pub fn check(before: Option<&Task>, after: &Task) -> Result<(), Violation> {
    let broken = RULES.iter().find(|(_, holds)| !holds(before, after));
    broken.map_or(Ok(()), |(rule, _)| {
        Err(Violation {
            task: after.id,
            rule,
            before: before.map_or("none", |task| task.state.name()),
            after: after.state.name(),
        })
    })
}

type Rule = fn(Option<&Task>, &Task) -> bool;

/// Numbered as in `docs/architecture.md`.
const RULES: &[(&str, Rule)] = &[
    (
        "INV-3: an end is final within its round",
        |before, after| {
            before.is_none_or(|before| {
                !before.state.is_terminal() || after.round > before.round || after == before
            })
        },
    ),
    (
        "INV-4: an end is settled only by the lease it had, and only along the edges of the state machine",
        |before, after| {
            before.map_or(
                matches!(
                    after.state,
                    State::Blocked { .. } | State::Scheduled { .. } | State::Ready { .. }
                ),
                |before| is_edge(&before.state, &after.state),
            )
        },
    ),
    (
        "INV-5: epochs rise, and a new lease has a new one",
        |before, after| {
            let rises = before.is_none_or(|before| after.last_epoch >= before.last_epoch);
            let fresh = match (before.and_then(Task::lease), after.lease()) {
                (Some(held), Some(lease)) => held.epoch == lease.epoch,
                (None, Some(lease)) => {
                    after.last_epoch == Some(lease.epoch)
                        && before.and_then(|task| task.last_epoch) < after.last_epoch
                }
                (Some(_) | None, None) => true,
            };
            rises && fresh
        },
    ),
    (
        "INV-7: attempts, losses and strikes stay within their bounds",
        |_, after| {
            after.failures <= after.spec.retry.max_attempts
                && after.losses <= LOSSES_MAX
                && after.strikes.is_none_or(|strikes| strikes <= STRIKES_MAX)
                && after.attempts.len() <= ATTEMPTS_KEPT
        },
    ),
    (
        "INV-10: nothing starts before its time",
        |before, after| match (before.map(|task| &task.state), &after.state) {
            (Some(State::Scheduled { run_at }), State::Ready { since }) => since >= run_at,
            (_, _) => true,
        },
    ),
    (
        "INV-17: a result stands exactly where there is success",
        |_, after| matches!(after.state, State::Succeeded { .. }) == after.result.is_some(),
    ),
];

fn is_edge(before: &State, after: &State) -> bool {
    match before {
        State::Blocked { .. } => match after {
            State::Blocked { .. }
            | State::Scheduled { .. }
            | State::Ready { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => true,
            State::Running { .. } | State::Succeeded { .. } | State::Dead { .. } => false,
        },
        State::Scheduled { .. } => match after {
            State::Scheduled { .. }
            | State::Ready { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => true,
            State::Blocked { .. }
            | State::Running { .. }
            | State::Succeeded { .. }
            | State::Dead { .. } => false,
        },
        State::Ready { .. } => match after {
            // Put off by someone.
            State::Scheduled { .. }
            | State::Ready { .. }
            | State::Running { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => true,
            State::Blocked { .. } | State::Succeeded { .. } | State::Dead { .. } => false,
        },
        State::Running { stop, .. } => match after {
            State::Running { .. } | State::Succeeded { .. } => true,
            State::Ready { .. } | State::Scheduled { .. } | State::Dead { .. } => stop.is_none(),
            State::Cancelled { .. } | State::Expired { .. } => stop.is_some(),
            State::Blocked { .. } => false,
        },
        State::Succeeded { .. } => before == after,
        State::Dead { .. } | State::Cancelled { .. } | State::Expired { .. } => {
            before == after || matches!(after, State::Ready { .. })
        }
    }
}
