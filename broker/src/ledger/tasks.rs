//! Tasks as the ledger holds them: loading them, changing them, and what follows from a change.

use tq_core::task::{DataRef, Lease, Task};
use tq_core::transition::{self, Amendment, Effect, Rejected, Transition};
use tq_core::{Epoch, TaskId, Timestamp};

use super::quotas::waits;
use super::ready::is_ready;
use super::{Error, Ledger, LogChunk, Open, Refused, Seen, Target};
use crate::dispatch::lanes::Spot;
use crate::store::{Direction, Space};
use crate::tables::key::{self, Namespace};
use crate::tables::row::{self, Record};

impl Ledger {
    /// Makes sure that a task is in memory. `false` if there is none.
    pub(super) fn load(&mut self, namespace: Namespace, id: TaskId) -> Result<bool, Error> {
        if self.step.removed.contains(&id) {
            return Ok(false);
        }
        match self.open.get(&id) {
            Some(open) => Ok(open.namespace == namespace),
            None => {
                let found = row::find_task::<Error>(&*self.store, namespace, id)?;
                let is_there = found.is_some();
                found
                    .into_iter()
                    .for_each(|record| self.hold(namespace, record));
                Ok(is_there)
            }
        }
    }

    /// Makes sure that those tasks are in memory that there are.
    pub(super) fn load_all(&mut self, namespace: Namespace, ids: &[TaskId]) -> Result<(), Error> {
        let ids = ids.iter().copied();
        let missing: Vec<_> = ids.filter(|id| !self.open.contains_key(id)).collect();
        let found = row::find_tasks::<Error>(&*self.store, namespace, &missing)?;
        let records = found.into_iter().flatten();
        records.for_each(|record| self.hold(namespace, record));
        Ok(())
    }

    /// Takes into memory what was read of a task.
    fn hold(&mut self, namespace: Namespace, record: Record) {
        let Record {
            task,
            beside,
            payload,
            result,
        } = record;
        let id = task.id;
        let payload = self.keep_payload(&payload);
        self.open.insert(
            id,
            Open {
                namespace,
                task,
                beside,
                unindexed: false,
                in_window: None,
                spot: None,
                charged_us: 0,
                claimed_in: None,
                payload,
                result,
            },
        );
        self.step.loaded.push(id);
    }

    /// Runs a command of `core` on a task in memory, and takes over what becomes of it.
    pub(super) fn apply(
        &mut self,
        id: TaskId,
        command: impl FnOnce(&Task, Timestamp) -> Result<Transition, Rejected>,
    ) -> Result<(), Rejected> {
        self.change(id, Self::touch, command)
    }

    /// Hands a task in memory to a host.
    pub(super) fn claim(&mut self, id: TaskId, lease: Lease) -> Result<(), Rejected> {
        self.change(id, Self::touch_beside, |task, _| {
            transition::claim(task, lease)
        })
    }

    fn change(
        &mut self,
        id: TaskId,
        touch: fn(&mut Self, TaskId),
        command: impl FnOnce(&Task, Timestamp) -> Result<Transition, Rejected>,
    ) -> Result<(), Rejected> {
        let Some(open) = self.open.get(&id) else {
            return Err(Rejected::WrongState {
                state: "unknown",
                expected: "known",
            });
        };
        let Transition { next, effect } = command(&open.task, self.time)?;
        if next == open.task {
            return Ok(());
        }
        if !self.is_sound(Some(&open.task), &next) {
            return Err(Rejected::WrongState {
                state: open.task.state.name(),
                expected: "in a state that allows this",
            });
        }
        touch(self, id);
        let Some(open) = self.open.get_mut(&id) else {
            return Ok(());
        };
        let namespace = open.namespace;
        if !is_ready(&next) {
            let line = open.spot.as_ref().map(Spot::place);
            self.leave_window(id);
            self.ask_anew(namespace, line);
        }
        let Some(open) = self.open.get_mut(&id) else {
            return Ok(());
        };
        open.beside.is_amended |= next.spec != open.task.spec;
        let before = std::mem::replace(&mut open.task, next);
        open.beside.finished_in = match open.task.state.is_terminal() {
            true => open.beside.finished_in.or(Some(self.store.seq() + 1)),
            false => None,
        };
        let (did_wait, does_wait) = (waits(&before.state), waits(&open.task.state));
        if did_wait != does_wait {
            let more = i64::from(does_wait) - i64::from(did_wait);
            self.shares.wait(namespace, more);
        }
        self.count_attempt(id, &before);
        match effect {
            // A timer is a row that the state implies.
            Effect::None | Effect::SetTimer(_) => {}
            Effect::Enqueue if self.keeps_its_place(namespace, id, &before) => {}
            Effect::Enqueue => {
                self.leave_window(id);
                self.enqueue(id, true);
            }
            Effect::StopAttempt { host, epoch, stop } => self.stop_attempt(&host, epoch, stop),
            Effect::End => {
                if let Some(open) = self.open.get_mut(&id) {
                    let checkpoint = open.beside.checkpoint.take();
                    if checkpoint.is_some_and(|state| matches!(state, DataRef::Row { .. })) {
                        self.step.batch.delete(key::checkpoint(namespace, id));
                    }
                    self.shared.metrics.ended(open.task.state.name());
                }
                self.note_end(namespace, id);
            }
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, target: Target) -> Result<(), Error> {
        let result = match self.as_seen(&target)? {
            Err(refused) => Err(refused),
            Ok(()) => self
                .apply(target.id, transition::cancel)
                .map_err(Refused::from),
        };
        self.answer_task(target, result);
        Ok(())
    }

    pub(super) fn amend(&mut self, amendment: Amendment, target: Target) -> Result<(), Error> {
        let result = match self.as_seen(&target)? {
            Err(refused) => Err(refused),
            Ok(()) => self
                .apply(target.id, |task, now| {
                    transition::amend(task, &amendment, now)
                })
                .map_err(Refused::from),
        };
        self.answer_task(target, result);
        Ok(())
    }

    pub(super) fn redrive(&mut self, target: Target) -> Result<(), Error> {
        let result = match self.as_seen(&target)? {
            Err(refused) => Err(refused),
            Ok(()) => {
                let spec = self
                    .open
                    .get(&target.id)
                    .map(|open| self.shared.on_current_version(&open.task.spec));
                match spec {
                    None => Ok(()),
                    Some(spec) => match self.has_queue(&target.namespace, &spec) {
                        Err(refused) => Err(refused),
                        Ok(()) => self
                            .apply(target.id, |task, now| transition::redrive(task, spec, now))
                            .map_err(Refused::from),
                    },
                }
            }
        };
        self.answer_task(target, result);
        Ok(())
    }

    /// Whether the task of a command is there, and as its sender has seen it.
    fn as_seen(&mut self, target: &Target) -> Result<Result<(), Refused>, Error> {
        if let Err(refused) = self.find(&target.namespace, target.id)? {
            return Ok(Err(refused));
        }
        let task = self.open.get(&target.id).map(|open| &open.task);
        Ok(match (task, target.seen) {
            (Some(task), Some(seen)) if Seen::of(task) != seen => {
                Err(Refused::from(Rejected::WrongState {
                    state: task.state.name(),
                    expected: "as it was found",
                }))
            }
            _ => Ok(()),
        })
    }

    pub(super) fn find(
        &mut self,
        namespace: &str,
        id: TaskId,
    ) -> Result<Result<(), Refused>, Error> {
        let none = || Refused::NoTask {
            namespace: namespace.to_owned(),
            id,
        };
        let Some(number) = self.namespace(namespace) else {
            return Ok(Err(none()));
        };
        Ok(if self.load(number, id)? {
            Ok(())
        } else {
            Err(none())
        })
    }

    /// The answer is sent when the commit is done, and says what the task is then.
    fn answer_task(&mut self, target: Target, result: Result<(), Refused>) {
        let task = self.open.get(&target.id).map(|open| open.task.clone());
        let none = Refused::NoTask {
            namespace: target.namespace,
            id: target.id,
        };
        self.step.durable |= result.is_ok();
        self.answer(target.reply, result.and_then(|()| task.ok_or(none)));
    }

    /// Keeps a piece of an attempt's log, as far as its limit allows. Best effort: it is not synced.
    pub(super) fn log(&mut self, chunk: &LogChunk) -> Result<(), Error> {
        let Some(namespace) = self.namespace(&chunk.namespace) else {
            return Ok(());
        };
        let attempt = (chunk.id, chunk.epoch);
        if !self.log_sizes.contains_key(&attempt) {
            if !self.load(namespace, chunk.id)?
                || !self
                    .open
                    .get(&chunk.id)
                    .is_some_and(|open| had(&open.task, chunk.epoch))
            {
                return Ok(());
            }
            let limit = self
                .open
                .get(&chunk.id)
                .map_or(0, |open| open.task.spec.limits.log_bytes);
            let size = LogSize {
                bytes: self.written_log(namespace, chunk.id, chunk.epoch)?,
                // With room for the notices of what was cut.
                bytes_max: limit + limit / 8,
            };
            self.log_sizes.insert(attempt, size);
        }
        let Some(LogSize { bytes, bytes_max }) = self.log_sizes.get_mut(&attempt) else {
            return Ok(());
        };
        let end = chunk.offset.saturating_add(chunk.text.len() as u64);
        // What begins before the end is there already.
        if chunk.text.is_empty() || chunk.offset < *bytes || end > *bytes_max {
            return Ok(());
        }
        let Ok(number) = u32::try_from(chunk.offset + 1) else {
            return Ok(());
        };
        *bytes = end;
        let at = key::log(namespace, chunk.id, chunk.epoch, number);
        self.step.logged.insert(chunk.id);
        self.step.batch.put(at, chunk.text.clone());
        Ok(())
    }

    /// How far the log of an attempt goes in the store, so that a broker that has forgotten or never knew that goes on
    /// where it ends.
    fn written_log(&self, namespace: Namespace, id: TaskId, epoch: Epoch) -> Result<u64, Error> {
        let last = self.store.scan(
            Space::Payloads,
            &key::logs_of(namespace, id, epoch),
            &[],
            Direction::Descending,
            1,
        )?;
        let end = last.first().and_then(|piece| {
            let (_, number) = key::log_piece_of(&piece.key)?;
            Some(u64::from(number).saturating_sub(1) + piece.value.len() as u64)
        });
        Ok(end.unwrap_or(0))
    }
}

/// What there is of the log of an attempt.
pub(super) struct LogSize {
    /// Where it ends.
    bytes: u64,
    bytes_max: u64,
}

/// Whether a task has or had an attempt.
fn had(task: &Task, epoch: Epoch) -> bool {
    task.lease().is_some_and(|lease| lease.epoch == epoch)
        || task.attempts.iter().any(|attempt| attempt.epoch == epoch)
}
