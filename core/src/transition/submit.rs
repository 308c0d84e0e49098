use std::sync::Arc;

use super::{Effect, Rejected, Transition, runnable};
use crate::task::{Spec, State, Task};
use crate::{TaskId, Timestamp};

/// Makes a task of what was asked for. `pending` is the number of tasks that it waits for.
///
/// # Errors
/// [`Rejected::DeadlinePassed`] if it could never run.
pub fn submit(
    id: TaskId,
    spec: Arc<Spec>,
    pending: u32,
    now: Timestamp,
) -> Result<Transition, Rejected> {
    if let Some(deadline) = spec.deadline.filter(|deadline| *deadline <= now) {
        return Err(Rejected::DeadlinePassed {
            deadline: deadline.0,
            now: now.0,
        });
    }
    let state = if pending > 0 {
        State::Blocked { pending }
    } else {
        runnable(spec.run_at, now)
    };
    let effect = match &state {
        State::Ready { .. } => Effect::Enqueue,
        State::Scheduled { run_at } => Effect::SetTimer(*run_at),
        State::Blocked { .. }
        | State::Running { .. }
        | State::Succeeded { .. }
        | State::Dead { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => Effect::None,
    };
    let next = Task {
        id,
        spec,
        state,
        round: 1,
        failures: 0,
        losses: 0,
        strikes: None,
        started: 0,
        attempts: Vec::new(),
        last_epoch: None,
        settled: None,
        result: None,
    };
    Ok(Transition { next, effect })
}
