use std::sync::Arc;

use super::{Rejected, Transition, runnable};
use crate::label::Labels;
use crate::task::{Spec, State, Task};
use crate::{Priority, Timestamp};

/// What of a task is to be another. What is none stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// How urgent it is.
    pub priority: Option<Priority>,
    /// Not before this time.
    pub run_at: Option<Timestamp>,
    /// When it expires; the inner none takes its deadline away.
    pub deadline: Option<Option<Timestamp>>,
    /// Labels that its host has to have.
    pub required: Option<Labels>,
    /// Labels of hosts that are taken first.
    pub preferred: Option<Labels>,
}

impl Amendment {
    fn of(&self, spec: &Spec) -> Spec {
        let Self {
            priority,
            run_at,
            deadline,
            required,
            preferred,
        } = self;
        let mut spec = spec.clone();
        spec.priority = priority.unwrap_or(spec.priority);
        spec.run_at = run_at.or(spec.run_at);
        spec.deadline = deadline.unwrap_or(spec.deadline);
        if let Some(required) = required {
            spec.placement.required = required.clone();
        }
        if let Some(preferred) = preferred {
            spec.placement.preferred = preferred.clone();
        }
        spec
    }
}

/// Changes what was asked for of a task that has not ended. What concerns its next start counts from its next attempt if
/// it runs.
///
/// # Errors
/// [`Rejected::Ended`] if it ended, [`Rejected::DeadlinePassed`] for a deadline that has passed, and
/// [`Rejected::WrongState`] for a time to start at if it runs.
pub fn amend(task: &Task, amendment: &Amendment, now: Timestamp) -> Result<Transition, Rejected> {
    if let Some(deadline) = amendment.deadline.flatten().filter(|at| *at <= now) {
        return Err(Rejected::DeadlinePassed {
            deadline: deadline.0,
            now: now.0,
        });
    }
    let amended = Task {
        spec: Arc::new(amendment.of(&task.spec)),
        ..task.clone()
    };
    match (&task.state, amendment.run_at) {
        // It is woken then, so that nothing starts before a time that was once set for it.
        (State::Scheduled { .. }, Some(run_at)) => Ok(Transition::to(
            &amended,
            State::Scheduled {
                run_at: run_at.max(now),
            },
        )),
        (State::Ready { since }, run_at) => Ok(match runnable(run_at, now) {
            State::Scheduled { run_at } => Transition::to(&amended, State::Scheduled { run_at }),
            State::Blocked { .. }
            | State::Ready { .. }
            | State::Running { .. }
            | State::Succeeded { .. }
            | State::Dead { .. }
            | State::Cancelled { .. }
            | State::Expired { .. } => Transition::to(&amended, State::Ready { since: *since }),
        }),
        (State::Running { .. }, Some(_)) => Err(Rejected::WrongState {
            state: task.state.name(),
            expected: "waiting, as a new time to start at needs it to be",
        }),
        (State::Scheduled { .. }, None) | (State::Blocked { .. } | State::Running { .. }, _) => {
            Ok(Transition::unchanged(&amended))
        }
        (
            State::Succeeded { .. }
            | State::Dead { .. }
            | State::Cancelled { .. }
            | State::Expired { .. },
            _,
        ) => Err(Rejected::Ended {
            state: task.state.name(),
        }),
    }
}
