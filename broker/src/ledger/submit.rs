//! Taking tasks in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tq_core::limits::ID_AHEAD_MAX;
use tq_core::planted::{Bug, is_planted};
use tq_core::transition::{self, Effect};
use tq_core::{TaskId, Timestamp};

use super::step::Call;
use super::{Error, Ledger, Open, Refused, Submission, Submit, Submitted, Weight};
use crate::tables::Namespace;
use crate::tables::key::{self, Timer};
use crate::tables::row::{self, Beside, IdempotencyRow};

/// How old an answer about free space may be.
const FREE_BYTES_AGE_MAX: Duration = Duration::from_millis(100);

impl Ledger {
    /// Takes all tasks of a request or none of them.
    pub(super) fn submit(&mut self, submit: Submit) -> Result<(), Error> {
        let Submit {
            namespace,
            tasks,
            permit,
            reply,
        } = submit;
        self.step.permits.extend(permit);
        let result = match self.namespace(&namespace) {
            None => Err(Refused::NoNamespace(namespace)),
            Some(number) => match self.refuse_new(&tasks)? {
                Some(refused) => Err(refused),
                None => self.submit_all(number, tasks)?,
            },
        };
        match &result {
            Ok(submitted) => {
                self.step.durable = true;
                self.shared
                    .metrics
                    .submitted
                    .inc_by(submitted.iter().filter(|task| !task.existed).count() as u64);
            }
            Err(_) => {
                self.shared.metrics.refused.inc();
            }
        }
        self.answer(reply, result);
        Ok(())
    }

    fn submit_all(
        &mut self,
        namespace: Namespace,
        tasks: Vec<Submission>,
    ) -> Result<Result<Vec<Submitted>, Refused>, Error> {
        // Everything that can be refused comes before the first change, so that a refused request changes nothing.
        let mut known = Vec::with_capacity(tasks.len());
        let mut in_request = HashMap::new();
        let mut unique_in_request = HashMap::new();
        let mut seen_module = None;
        for (index, task) in tasks.iter().enumerate() {
            let key = &task.spec.idempotency_key;
            let before = match key.is_empty() {
                true => None,
                false => self.key_holder(namespace, key)?,
            };
            let conflict = |id| Refused::KeyConflict {
                key: key.clone(),
                id,
            };
            let twin = (!key.is_empty())
                .then(|| in_request.insert(key.clone(), index))
                .flatten();
            match before {
                Some((id, request)) if request != task.request => {
                    return Ok(Err(conflict(Some(id))));
                }
                Some((id, _)) => known.push(Known::Task(id)),
                None => match twin {
                    Some(first) if tasks[first].request != task.request => {
                        return Ok(Err(conflict(None)));
                    }
                    Some(first) => known.push(Known::Twin(first)),
                    None => known.push(Known::No),
                },
            }
            let unique = &task.spec.unique_key;
            if !unique.is_empty()
                && let Some(last) = known.last_mut()
            {
                *last = match unique_in_request.get(unique) {
                    Some(first) => Known::Twin(*first),
                    None => match self.unique_holder(namespace, unique)? {
                        Some(id) => Known::Task(id),
                        None => Known::No,
                    },
                };
                unique_in_request.entry(unique.clone()).or_insert(index);
            }
            if let Err(refused) = self.has_queue(&task.spec.namespace, &task.spec) {
                return Ok(Err(refused));
            }
            // It was there when the request was read, and may have been deleted since. Neighbours are mostly of one module.
            let module = (&task.spec.module, task.spec.version, task.spec.digest);
            if let Some(Known::No) = known.last()
                && seen_module != Some(module)
            {
                if let Err(refused) = self.has_module(&task.spec) {
                    return Ok(Err(refused));
                }
                seen_module = Some(module);
            }
            // What is there already is answered with, however late it is asked for again.
            if let Some(Known::No) = known.last()
                && let Some(deadline) = task.spec.deadline.filter(|deadline| *deadline <= self.time)
            {
                let rejected = transition::Rejected::DeadlinePassed {
                    deadline: deadline.0,
                    now: self.time.0,
                };
                return Ok(Err(rejected.into()));
            }
        }
        let new = tasks.iter().zip(&known);
        let new = new.filter_map(|(task, known)| matches!(known, Known::No).then_some(task));
        if let Err(refused) = self.admit(namespace, new) {
            return Ok(Err(refused));
        }
        let mut submitted: Vec<Submitted> = Vec::with_capacity(tasks.len());
        for (task, known) in tasks.into_iter().zip(known) {
            submitted.push(match known {
                Known::Task(id) => Submitted { id, existed: true },
                Known::Twin(first) => Submitted {
                    id: submitted[first].id,
                    existed: true,
                },
                Known::No => Submitted {
                    id: self.submit_one(namespace, task),
                    existed: false,
                },
            });
        }
        Ok(Ok(submitted))
    }

    fn submit_one(&mut self, namespace: Namespace, submission: Submission) -> TaskId {
        let Submission {
            mut spec,
            payload,
            request,
            key_window,
        } = submission;
        let id = self.ids.next(self.time);
        // The machine's clock may have gone back, or the submit have waited for long: whoever looks for it by its id has to find it.
        let earliest = Timestamp(self.time.0.saturating_sub(ID_AHEAD_MAX.as_secs() * 1_000));
        spec.submitted_at = spec.submitted_at.max(earliest);
        self.last_id = id;
        self.submitted += 1;
        self.step.taken_in += 1;
        if !spec.idempotency_key.is_empty() {
            let expires = self.time.after(key_window);
            let row = IdempotencyRow {
                id: id.0.to_vec(),
                request: request.to_vec(),
                expires_ms: expires.0,
            };
            let key = key::idempotency(namespace, &spec.idempotency_key);
            self.step.batch.put(key.clone(), row.encode_to_vec());
            self.step.batch.put(
                key::timer(expires, Timer::ForgetKey, namespace, id),
                spec.idempotency_key.clone(),
            );
            self.step.keys.insert(key, Some(row));
            self.step.first_timer = self.step.first_timer.into_iter().chain([expires]).min();
        }
        if !spec.unique_key.is_empty() {
            let at = key::unique(namespace, &spec.unique_key);
            self.step.unique.insert(at, id);
        }
        let payload = payload.unwrap_or_default();
        let in_row = if row::in_row(spec.payload) {
            payload.clone()
        } else {
            if !payload.is_empty() {
                self.step
                    .batch
                    .put(key::payload(namespace, id), payload.clone());
            }
            Bytes::new()
        };
        let transition = match transition::submit(id, Arc::new(spec), 0, self.time) {
            Ok(transition) => transition,
            // Checked before the first change of the request.
            Err(rejected) => unreachable!("a deadline that was checked has passed: {rejected}"),
        };
        let kept = self.keep_payload(&payload);
        if kept.is_none() && !payload.is_empty() {
            let at = key::payload(namespace, id);
            self.step.unread.insert(at, payload.clone());
        }
        let (task, effect) = (transition.next, transition.effect);
        let spec = Arc::clone(&task.spec);
        self.is_sound(None, &task);
        self.shares.take_in(namespace, spec.payload.len());
        self.open.insert(
            id,
            Open {
                namespace,
                task,
                beside: Beside::default(),
                unindexed: false,
                in_window: None,
                spot: None,
                charged_us: 0,
                claimed_in: None,
                payload: kept,
                result: Bytes::new(),
            },
        );
        match effect {
            Effect::Enqueue => {
                self.enqueue(id, false);
                if let Some(open) = self
                    .open
                    .get_mut(&id)
                    .filter(|open| open.in_window.is_some())
                {
                    open.unindexed = true;
                    self.unindexed.push_back((id, self.submitted));
                }
            }
            Effect::SetTimer(_) | Effect::None | Effect::StopAttempt { .. } | Effect::End => {}
        }
        let call = Call {
            spec,
            position: self.open.get(&id).and_then(|open| open.beside.position),
            payload: in_row,
        };
        self.touch_new(id, call);
        id
    }

    /// The task that an idempotency key stands for, and the hash of its request.
    fn key_holder(
        &self,
        namespace: Namespace,
        key: &str,
    ) -> Result<Option<(TaskId, [u8; 32])>, Error> {
        let row = self
            .key_row(namespace, key)?
            .filter(|row| row.expires_ms > self.time.0);
        Ok(row.and_then(|row| {
            Some((
                TaskId(row.id.try_into().ok()?),
                row.request.try_into().ok()?,
            ))
        }))
    }

    /// The task that waits for its first start under a unique key.
    fn unique_holder(&mut self, namespace: Namespace, key: &str) -> Result<Option<TaskId>, Error> {
        let at = key::unique(namespace, key);
        let in_step = self.step.unique.get(&at).copied();
        let holder = match in_step.filter(|_| !is_planted(Bug::KeyUnseen)) {
            Some(id) => Some(id),
            None => {
                let row = self.store.get(&at)?;
                row.and_then(|row| Some(TaskId(row.as_ref().try_into().ok()?)))
            }
        };
        let Some(id) = holder else {
            return Ok(None);
        };
        // What this step has made of it is in memory only.
        let holds = self.load(namespace, id)?
            && self
                .open
                .get(&id)
                .is_some_and(|open| open.task.holds_unique_key() == Some(key));
        Ok(holds.then_some(id))
    }

    /// The row of an idempotency key, which may be past its time.
    pub(super) fn key_row(
        &self,
        namespace: Namespace,
        key: &str,
    ) -> Result<Option<IdempotencyRow>, Error> {
        let at = key::idempotency(namespace, key);
        if let Some(row) = self.step.keys.get(&at)
            && !is_planted(Bug::KeyUnseen)
        {
            return Ok(row.clone());
        }
        let decode = |source| row::Error::Decode {
            kind: "idempotency key",
            source,
        };
        Ok(self
            .store
            .get(&at)?
            .map(IdempotencyRow::decode)
            .transpose()
            .map_err(decode)?)
    }

    /// Refuses submits while there is no room for them: on the disk, or among those that wait.
    fn refuse_new(&mut self, tasks: &[Submission]) -> Result<Option<Refused>, Error> {
        if let Some(refused) = self.refuse_when_full()? {
            return Ok(Some(refused));
        }
        let tiers = tasks.iter().map(|task| task.spec.priority.tier());
        let Some(tier) = tiers.min() else {
            return Ok(None);
        };
        let weight = Weight {
            tier,
            tasks: tasks.len() as u64,
            // They are here already.
            bytes: 0,
        };
        let admission = &self.shared.admission;
        let admitted = admission.check_waiting(weight, self.step.taken_in, self.time);
        Ok(admitted.err())
    }

    /// Refuses submits and values while too little space is left. It is asked for at most ten times a second.
    pub(super) fn refuse_when_full(&mut self) -> Result<Option<Refused>, Error> {
        let free = match self.free_bytes {
            Some((free, at)) if self.mono.saturating_sub(at) < FREE_BYTES_AGE_MAX => free,
            Some(_) | None => {
                let free = self.store.free_bytes()?;
                self.free_bytes = Some((free, self.mono));
                free
            }
        };
        let floor = self.config.free_bytes_floor;
        Ok((free < floor).then_some(Refused::DiskFull { free, floor }))
    }
}

/// What is known of a task's idempotency key.
enum Known {
    /// Nothing, or it has none.
    No,
    /// It stands for this task.
    Task(TaskId),
    /// It stands for an earlier task of the same request.
    Twin(usize),
}
