//! Handing ready tasks to hosts.

use std::sync::Arc;

use bytes::Bytes;
use tq_core::label::Labels;
use tq_core::limits::{BATCH_COMMANDS_MAX, ERROR_MESSAGE_BYTES_MAX};
use tq_core::outcome::{Outcome, Usage};
use tq_core::planted::{Bug, is_planted};
use tq_core::task::{DataRef, Failure, Lease, Report, Stop};
use tq_core::{Digest, Epoch, TaskId, transition};

use super::{Error, Ledger, read};
use crate::dispatch::lanes::Place;
use crate::dispatch::message::{Assignment, Data, ToHost};
use crate::dispatch::needs::{Conditions, Needs};
use crate::store::Key;
use crate::tables::{key, row};

/// Tasks of a module that cannot be compiled which one step buries.
const BURY: usize = 256;
/// Reads of one step that find no task which is still ready. Many rows lead to none when many tasks were cancelled.
const IN_VAIN_MAX: usize = 8;

impl Ledger {
    /// Gives out tasks as long as there are hosts with credits that can run them. Returns whether there may be more.
    pub(super) fn dispatch(&mut self) -> Result<bool, Error> {
        let mut fed = std::mem::take(&mut self.step.fed);
        fed.dedup_by(|a, b| Arc::ptr_eq(a, b));
        fed.iter().for_each(|needs| self.prepare_for(needs));
        self.open_queues();
        if !self.hosts.have_credits() {
            return Ok(false);
        }
        let hosts = &self.hosts;
        self.lanes
            .open_needs(|needs| hosts.best_for(needs).is_some());
        let mut chosen = 0;
        let mut in_vain = 0;
        let mut passed_over = 0;
        while chosen < BATCH_COMMANDS_MAX
            && in_vain < IN_VAIN_MAX
            && passed_over < BATCH_COMMANDS_MAX
        {
            let Some((place, conditions)) = self.lanes.pick() else {
                break;
            };
            // Before the task is taken, so that none is taken in vain.
            let Some(host) = self.host_for(place, &conditions) else {
                passed_over += 1;
                continue;
            };
            if !self.has_fuel(place)? {
                passed_over += 1;
                continue;
            }
            let Some(id) = self.take_first(place)? else {
                in_vain += 1;
                continue;
            };
            let epoch = self.next_epoch()?;
            let lease = Lease {
                epoch,
                host: Arc::clone(&host),
                started_at: self.time,
            };
            match self.claim(id, lease) {
                Ok(()) => {
                    chosen += 1;
                    self.breakers.started(conditions.function, epoch);
                    if !self.assign(&host, id, epoch)? {
                        self.give_up(id, epoch);
                    }
                }
                Err(rejected) => {
                    tracing::error!(task_id = %id, %rejected, "a ready task could not be handed out")
                }
            }
        }
        self.shared.metrics.dispatched.inc_by(chosen as u64);
        let is_bound = chosen == BATCH_COMMANDS_MAX
            || in_vain == IN_VAIN_MAX
            || passed_over == BATCH_COMMANDS_MAX;
        Ok(is_bound)
    }

    /// The host that is to run the next task of a line. None if nothing of it may run now; it is passed over then until
    /// that may have changed.
    fn host_for(&mut self, place: Place, conditions: &Conditions) -> Option<Arc<str>> {
        let namespace = place.lane.namespace;
        if !self.has_room(namespace) {
            return None;
        }
        let closed = self.queues.closed(namespace, conditions.queue, self.time);
        if closed.is_some() {
            self.lanes.set_queue(namespace, conditions.queue, false);
            return None;
        }
        if !self.breakers.lets_through(conditions.function) {
            self.lanes.stop(place);
            return None;
        }
        if let Some((key, limit)) = conditions.concurrency
            && self.queues.is_key_full(namespace, key, limit)
        {
            self.queues.hold(key, place);
            self.lanes.hold(place, true);
            return None;
        }
        let Some(host) = self.hosts.best_for(&conditions.needs) else {
            self.lanes.close_needs(conditions.needs_id);
            return None;
        };
        Some(Arc::clone(&host.name))
    }

    /// Sends an attempt to its host, when the commit is done. `false` if its payload is not in the store.
    fn assign(&mut self, host: &Arc<str>, id: TaskId, epoch: Epoch) -> Result<bool, Error> {
        let Some(open) = self.open.get(&id) else {
            return Ok(false);
        };
        let namespace = open.namespace;
        let task = &open.task;
        let spec = &task.spec;
        let payload = match &open.payload {
            Some(payload) => Some(Data::Inline(payload.clone())),
            None => self.data(spec.payload, key::payload(namespace, id), |at| {
                if !row::in_row(spec.payload) {
                    return Ok(self.store.get(at)?);
                }
                let found = row::find_task::<Error>(&*self.store, namespace, id)?;
                Ok(found.map(|record| record.payload))
            })?,
        };
        let Some(payload) = payload else {
            return Ok(false);
        };
        let checkpoint = match open.beside.checkpoint {
            None => None,
            // It saves time and no more, so that the attempt goes without one that cannot be read.
            Some(state) => self.data(state, key::checkpoint(namespace, id), |at| {
                Ok(self.store.get(at)?)
            })?,
        };
        let token = self.secret.token(id, epoch, host);
        let assignment = Assignment {
            id,
            epoch,
            token,
            spec: Arc::clone(spec),
            number: task.attempt(),
            payload,
            checkpoint,
            alone: task.is_suspect() && !is_planted(Bug::SuspectUnmarked),
            grants: read(&self.shared.registry).grants(spec),
        };
        if let Some(session) = self.hosts.named(host) {
            session.assign(namespace, assignment);
        }
        Ok(true)
    }

    /// Ends an attempt that cannot be run because its payload is gone.
    fn give_up(&mut self, id: TaskId, epoch: Epoch) {
        let message = "the payload is not in the broker's store".to_owned();
        let report = unrun(epoch, Outcome::HostError, message);
        if let Err(rejected) = self.apply(id, |task, now| transition::report(task, &report, now)) {
            tracing::error!(task_id = %id, %rejected, "an attempt without a payload could not be ended");
        }
    }

    /// What a reference stands for, or the reference if it is a blob: hosts fetch those themselves. What the step under way
    /// wrote at `at` comes before what `read` finds. None if that is not what is referred to.
    fn data(
        &self,
        data: DataRef,
        at: Key,
        read: impl FnOnce(&Key) -> Result<Option<Bytes>, Error>,
    ) -> Result<Option<Data>, Error> {
        let len = match data {
            DataRef::Blob { digest, len } => return Ok(Some(Data::Blob { digest, len })),
            DataRef::Row { len: 0 } => return Ok(Some(Data::Inline(Bytes::new()))),
            DataRef::Row { len } => len,
        };
        let bytes = match self.step.unread.get(&at) {
            Some(bytes) => Some(bytes.clone()),
            None => read(&at)?,
        };
        let whole = bytes.filter(|bytes| bytes.len() as u64 == len);
        if whole.is_none() {
            tracing::error!(
                ?at,
                len,
                "a row of a task is not in the store; check the data directory with `tq admin check`"
            );
        }
        Ok(whole.map(Data::Inline))
    }

    pub(super) fn stop_attempt(&mut self, host: &str, epoch: Epoch, stop: Stop) {
        if is_planted(Bug::StopUntold) {
            return;
        }
        if let Some(session) = self.hosts.named(host) {
            session.tell(ToHost::Stop {
                epoch,
                stop: Some(stop),
            });
        }
    }

    /// Asks all hosts that do not hold a module to prepare it.
    pub(super) fn prepare(&mut self, digest: &Digest) {
        self.prepare_for(&Needs {
            digest: *digest,
            memory_bytes: 0,
            required: Labels::default(),
            preferred: Labels::default(),
        });
    }

    /// Asks hosts to prepare the module of tasks that wait.
    fn prepare_for(&mut self, needs: &Needs) {
        let registry = &self.shared.registry;
        self.hosts.prepare(needs, || {
            let registry = read(registry);
            let module = registry.by_digest(&needs.digest)?;
            Some(module.size_bytes)
        });
    }

    /// Ends waiting tasks whose module no host can compile, a bounded number of them. Returns whether there are more.
    pub(super) fn bury_broken(&mut self) -> Result<bool, Error> {
        if !self.hosts.has_broken() {
            return Ok(false);
        }
        let mut in_vain = 0;
        for _ in 0..BURY {
            let broken = |needs: &Needs| {
                let broken = self.hosts.broken(&needs.digest)?;
                broken.is_final.then_some(broken)
            };
            let Some((place, needs)) = self.lanes.line_of(|needs| broken(needs).is_some()) else {
                return Ok(false);
            };
            let Some(broken) = broken(&needs).cloned() else {
                return Ok(false);
            };
            let Some(id) = self.take_first(place)? else {
                in_vain += 1;
                if in_vain == IN_VAIN_MAX {
                    break;
                }
                continue;
            };
            let epoch = self.next_epoch()?;
            let lease = Lease {
                epoch,
                host: broken.host.into(),
                started_at: self.time,
            };
            let mut message = broken.message;
            message.truncate(message.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX));
            let report = unrun(epoch, Outcome::CompileFailed, message);
            let buried = self
                .claim(id, lease)
                .and_then(|()| self.apply(id, |task, now| transition::report(task, &report, now)));
            if let Err(rejected) = buried {
                tracing::error!(task_id = %id, %rejected, "a task whose module cannot be compiled could not be ended");
            }
        }
        Ok(true)
    }
}

/// The report of an attempt that no host ran.
fn unrun(epoch: Epoch, outcome: Outcome, message: String) -> Report {
    Report {
        epoch,
        outcome,
        result: None,
        failure: Some(Failure {
            message,
            backtrace: String::new(),
        }),
        retry_after: None,
        usage: Usage::default(),
    }
}
