//! Giving dead letters another round, many at once.

use tq_core::TaskId;
use tq_core::task::State;
use tq_core::transition;

use super::{Error, Ledger, Refused, Reply};

/// Dead letters to be redriven, in one commit.
pub struct RedriveDead {
    /// The namespace's name.
    pub namespace: String,
    /// The tasks, at most [`tq_core::limits::REDRIVE_BATCH_MAX`]. Those that are not dead when their turn comes are left as
    /// they are.
    pub ids: Vec<TaskId>,
    /// Under the version that they died with, and not the module's current one.
    pub same_version: bool,
    /// Those that have a new round from now on, in the order asked for.
    pub reply: Reply<Result<Vec<TaskId>, Refused>>,
}

impl Ledger {
    pub(super) fn redrive_dead(&mut self, redrive: RedriveDead) -> Result<(), Error> {
        let RedriveDead {
            namespace,
            ids,
            same_version,
            reply,
        } = redrive;
        let Some(number) = self.namespace(&namespace) else {
            self.answer(reply, Err(Refused::NoNamespace(namespace)));
            return Ok(());
        };
        // Each once, since what is read twice would be held twice.
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        self.load_all(number, &distinct)?;
        let mut redriven = Vec::with_capacity(ids.len());
        for id in ids {
            let dead = self.open.get(&id).filter(|open| {
                open.namespace == number
                    && matches!(open.task.state, State::Dead { .. })
                    && !self.step.removed.contains(&id)
            });
            let Some(task) = dead.map(|open| &open.task) else {
                continue;
            };
            let spec = match same_version {
                true => (*task.spec).clone(),
                false => self.shared.on_current_version(&task.spec),
            };
            match self.has_queue(&namespace, &spec) {
                Ok(()) => {}
                // Whoever names one is told; of many, those stay whose queue is gone.
                Err(refused) if distinct.len() == 1 => {
                    self.answer(reply, Err(refused));
                    return Ok(());
                }
                Err(refused) => {
                    tracing::debug!(task_id = %id, %refused, "dead letter stays");
                    continue;
                }
            }
            match self.apply(id, |task, now| transition::redrive(task, spec, now)) {
                Ok(()) => redriven.push(id),
                // Counted by whoever asked: it is not among those that were redriven.
                Err(rejected) => tracing::debug!(task_id = %id, %rejected, "dead letter stays"),
            }
        }
        self.step.durable |= !redriven.is_empty();
        self.answer(reply, Ok(redriven));
        Ok(())
    }
}
