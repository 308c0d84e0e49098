//! Removing tasks that have ended, with everything that is theirs.
//!
//! What a removal has to find is bounded, but for logs: an attempt may have written thousands of pieces. What a step
//! cannot remove of them it notes in a *leftover row*, and the steps after it go on.

use tq_core::limits::LOG_ROWS_PER_STEP;
use tq_core::planted::{Bug, is_planted};
use tq_core::task::DataRef;
use tq_core::{Epoch, TaskId, Timestamp};

use super::{Delete, Doomed, Error, Ledger, Refused};
use crate::store::{Direction, Key, Space};
use crate::tables::Namespace;
use crate::tables::key::{self, Timer};
use crate::tables::row;

/// Pieces of logs that are read at once; one may have 16 KiB.
const LOG_PAGE: usize = 64;

/// A removed task that has left rows of logs behind.
#[derive(Debug)]
pub(super) struct Leftover {
    namespace: Namespace,
    id: TaskId,
    /// What is before this key is gone, so that nothing looks at it again.
    from: Vec<u8>,
}

impl Leftover {
    fn new(namespace: Namespace, id: TaskId) -> Self {
        Self {
            namespace,
            id,
            from: Vec::new(),
        }
    }

    /// Which task it was.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn task(&self) -> (Namespace, TaskId) {
        (self.namespace, self.id)
    }
}

impl Ledger {
    /// Removes tasks that have ended. Answered when they are off the disk for good.
    pub(super) fn delete(&mut self, delete: Delete) -> Result<(), Error> {
        let Delete {
            namespace,
            tasks,
            reply,
        } = delete;
        let result = match tasks {
            Doomed::One(id) => self.delete_one(&namespace, id)?,
            Doomed::As(tasks) => match self.namespace(&namespace) {
                None => Ok(0),
                Some(number) => {
                    let ids: Vec<TaskId> = tasks.iter().map(|(id, _)| *id).collect();
                    self.load_all(number, &ids)?;
                    let ids = tasks.into_iter().filter_map(|(id, state)| {
                        let open = self.open.get(&id)?;
                        let is_same = open.namespace == number
                            && open.task.state == state
                            && state.is_terminal()
                            && !self.step.removed.contains(&id);
                        is_same.then_some(id)
                    });
                    let ids = ids.collect();
                    Ok(self.remove(number, ids)?)
                }
            },
        };
        // Even of those that are gone already it says so only when that is on disk.
        self.step.durable |= result.is_ok();
        self.answer(reply, result);
        Ok(())
    }

    fn delete_one(&mut self, namespace: &str, id: TaskId) -> Result<Result<usize, Refused>, Error> {
        if let Err(refused) = self.find(namespace, id)? {
            return Ok(Err(refused));
        }
        match self.open.get(&id) {
            Some(open) if !open.task.state.is_terminal() => Ok(Err(Refused::NotEnded {
                id,
                state: open.task.state.name(),
            })),
            Some(open) => Ok(Ok(self.remove(open.namespace, vec![id])?)),
            None => Ok(Ok(0)),
        }
    }

    /// Removes tasks of one namespace that are in memory, have ended and are not removed yet. Returns how many.
    pub(super) fn remove(
        &mut self,
        namespace: Namespace,
        mut ids: Vec<TaskId>,
    ) -> Result<usize, Error> {
        // In the order of keys, so that their logs are found in one pass.
        ids.sort_unstable();
        ids.dedup();
        for id in &ids {
            self.touch_beside(*id);
            self.step.removed.insert(*id);
            let Some(open) = self.open.get(id) else {
                continue;
            };
            #[cfg(any(test, feature = "simulation"))]
            self.removed.push((open.task.clone(), self.time));
            let batch = &mut self.step.batch;
            batch.delete(key::call(namespace, *id));
            batch.delete(key::state(namespace, *id));
            if is_apart(open.task.spec.payload) {
                batch.delete(key::payload(namespace, *id));
            }
            if open.task.result.is_some_and(is_apart) {
                batch.delete(key::result(namespace, *id));
            }
            let idempotency_key = open.task.spec.idempotency_key.clone();
            if !idempotency_key.is_empty() && !is_planted(Bug::KeyOutlivesTask) {
                self.free_key(namespace, *id, &idempotency_key)?;
            }
            let logs: Vec<_> = self
                .log_sizes
                .range((*id, Epoch(0))..=(*id, Epoch(u64::MAX)))
                .map(|(attempt, _)| *attempt)
                .collect();
            for attempt in logs {
                self.log_sizes.remove(&attempt);
            }
        }
        self.remove_logs(namespace, &ids)?;
        self.shared.metrics.removed.inc_by(ids.len() as u64);
        Ok(ids.len())
    }

    /// Lets an idempotency key be used again, if it stands for this task.
    fn free_key(&mut self, namespace: Namespace, id: TaskId, name: &str) -> Result<(), Error> {
        let Some(row) = self.key_row(namespace, name)?.filter(|row| row.id == id.0) else {
            return Ok(());
        };
        let at = Timestamp(row.expires_ms);
        let key = key::idempotency(namespace, name);
        self.step
            .batch
            .delete(key::timer(at, Timer::ForgetKey, namespace, id));
        self.step.batch.delete(key.clone());
        self.step.keys.insert(key, None);
        Ok(())
    }

    /// Removes the logs of removed tasks, which come in the order of their keys, as far as a step may. The others are
    /// noted, so that they go later.
    fn remove_logs(&mut self, namespace: Namespace, ids: &[TaskId]) -> Result<(), Error> {
        let mut left = LOG_ROWS_PER_STEP;
        let mut next = 0;
        let mut from = None;
        while let Some(id) = ids.get(next) {
            if left == 0 {
                break;
            }
            let from_here = from.take().unwrap_or_else(|| key::logs(namespace, *id));
            // Over all logs, not those of one task: mostly there are none, and one look finds that for all of them.
            let limit = LOG_PAGE.min(left);
            let page = self.store.scan(
                Space::Payloads,
                &key::logs_all(),
                &from_here,
                Direction::Ascending,
                limit,
            )?;
            let is_last = page.len() < limit;
            let mut has_skipped = false;
            for piece in &page {
                let found = key::log_task_of(&piece.key);
                while let Some(id) = ids.get(next)
                    && found.is_none_or(|found| found > (namespace, *id))
                {
                    next += 1;
                }
                if ids
                    .get(next)
                    .is_some_and(|id| found == Some((namespace, *id)))
                {
                    let at = Key::new(Space::Payloads, piece.key.to_vec());
                    self.step.batch.delete(at);
                    left -= 1;
                } else {
                    // It is somebody else's: on to the next of ours.
                    has_skipped = true;
                    break;
                }
            }
            if is_last && !has_skipped {
                next = ids.len();
            } else if !has_skipped {
                from = page.last().map(|piece| [&piece.key[..], &[0]].concat());
            }
        }
        // What the step itself has written of a log cannot be found yet.
        let logged = &self.step.logged;
        let unsure = ids[..next].iter().filter(|id| logged.contains(*id));
        for id in unsure.chain(&ids[next..]).copied().collect::<Vec<_>>() {
            self.step
                .batch
                .put(key::leftover(namespace, id), Vec::<u8>::new());
            self.leftovers.push_back(Leftover::new(namespace, id));
        }
        Ok(())
    }

    /// Removes a bounded number of rows that removed tasks have left behind. Returns whether there are more.
    pub(super) fn clear_leftovers(&mut self) -> Result<bool, Error> {
        // What was noted in this step is not in the store before its commit.
        if !self.step.removed.is_empty() {
            return Ok(!self.leftovers.is_empty());
        }
        let Some(Leftover {
            namespace,
            id,
            from,
        }) = self.leftovers.front_mut()
        else {
            return Ok(false);
        };
        let page = self.store.scan(
            Space::Payloads,
            &key::logs(*namespace, *id),
            from,
            Direction::Ascending,
            LOG_ROWS_PER_STEP,
        )?;
        for piece in &page {
            let at = Key::new(Space::Payloads, piece.key.to_vec());
            self.step.batch.delete(at);
        }
        match page.last() {
            Some(last) if page.len() == LOG_ROWS_PER_STEP => {
                *from = [&last.key[..], &[0]].concat();
            }
            Some(_) | None => {
                self.step.batch.delete(key::leftover(*namespace, *id));
                self.leftovers.pop_front();
            }
        }
        Ok(!self.leftovers.is_empty())
    }

    /// The tasks that were removed since this was asked for last, as they were then, and when that was.
    #[cfg(any(test, feature = "simulation"))]
    pub fn take_removed(&mut self) -> Vec<(tq_core::Task, Timestamp)> {
        std::mem::take(&mut self.removed)
    }

    /// Finds the tasks that were removed and have left rows behind.
    pub(super) fn recover_leftovers(&mut self) -> Result<(), Error> {
        let found = self.read_all(Space::Index, &key::leftovers())?;
        self.leftovers = found
            .iter()
            .filter_map(|(at, _)| key::task_of(at))
            .map(|(namespace, id)| Leftover::new(namespace, id))
            .collect();
        Ok(())
    }
}

/// Whether bytes are in a row of their own.
fn is_apart(data: DataRef) -> bool {
    match data {
        DataRef::Row { len } => len > 0 && !row::in_row(data),
        DataRef::Blob { .. } => false,
    }
}
