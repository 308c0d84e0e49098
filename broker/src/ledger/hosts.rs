//! What hosts say: hello, outcomes, and that they are gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tq_core::limits::{CHECKPOINT_BYTES_MAX, RESULT_BYTES_MAX};
use tq_core::outcome::{Class, Outcome};
use tq_core::planted::{Bug, is_planted};
use tq_core::task::{DataRef, Failure, Lease, Report, State};
use tq_core::transition::{self, Rejected};
use tq_core::{Epoch, TaskId};

use super::{Error, HelloRefused, HostView, Ledger, Readiness, Reply, lock, read};
use crate::dispatch::SessionId;
use crate::dispatch::hosts::Link;
use crate::dispatch::message::{AttemptOutcome, AttemptRef, Data, FromHost, Hello, ToHost};
use crate::tables::Namespace;
use crate::tables::key;
use crate::tables::row;

impl Ledger {
    /// Begins a session: settles what the host has outcomes of, keeps what it holds, and takes back the rest.
    pub(super) fn hello(
        &mut self,
        hello: Hello,
        link: Arc<dyn Link>,
        reply: Reply<Result<SessionId, HelloRefused>>,
    ) -> Result<(), Error> {
        let seq = self.store.durable_seq();
        if let Some((store, seen)) = hello.seen
            && store == self.store.store_id()
            && seen > self.store.seq()
        {
            let refused = HelloRefused::RolledBack { seen, seq };
            drop(reply.send(Err(refused.clone())));
            return Err(Error::RolledBack(refused));
        }
        let name: Arc<str> = hello.name.as_str().into();
        let session = self.hosts.entry(&name, self.mono);
        if session.is_connected() && session.incarnation != Some(hello.incarnation) {
            self.answer(reply, Err(HelloRefused::NameTaken(hello.name)));
            return Ok(());
        }
        let id = self.hosts.connect(&name, link, self.mono);
        let time = self.time;
        if let Some(session) = self.hosts.named(&name) {
            session.incarnation = Some(hello.incarnation);
            session.slots = hello.slots;
            session.version = hello.version;
            session.connected_at = time;
            session.ready = hello.ready.into_iter().collect();
        }
        for outcome in hello.outcomes {
            self.settle(&name, outcome)?;
        }
        let mut held = BTreeSet::new();
        let mut fenced = Vec::new();
        for attempt in hello.held {
            if self.still_holds(&name, &attempt)? {
                held.insert(attempt.epoch);
                // It may have missed that it is to stop.
                if let Some(State::Running {
                    stop: Some(stop), ..
                }) = self.open.get(&attempt.id).map(|open| &open.task.state)
                {
                    let stop = *stop;
                    self.stop_attempt(&name, attempt.epoch, stop);
                }
            } else {
                fenced.push(attempt.epoch);
            }
        }
        self.lose_all_but(&name, &held);
        let welcome = ToHost::Welcome {
            store: self.store.store_id(),
            generation: self.store.generation(),
            fenced,
            seq,
        };
        if let Some(session) = self.hosts.named(&name) {
            session.welcome(welcome);
        }
        self.step.fed.extend(self.lanes.lanes());
        self.shared
            .metrics
            .hosts
            .set(self.hosts.iter().filter(|host| host.is_connected()).count() as i64);
        tracing::info!(host = %name, slots = hello.slots, "host connected");
        self.answer(reply, Ok(id));
        Ok(())
    }

    /// Takes what a connected host says. What comes from a connection that is not its host's any more is dropped: the
    /// host says it again on its new one.
    pub(super) fn hear(&mut self, id: SessionId, message: FromHost) -> Result<(), Error> {
        let mono = self.mono;
        self.hosts.heard(id, mono);
        let Some(session) = self.hosts.get(id) else {
            return Ok(());
        };
        let name = Arc::clone(&session.name);
        match message {
            FromHost::Credits(granted) => session.grant(granted),
            FromHost::Heartbeat => session.tell(ToHost::Heartbeat),
            FromHost::Draining => session.draining = true,
            FromHost::Ready { held, dropped } => {
                dropped.iter().for_each(|digest| {
                    session.ready.remove(digest);
                    session.forget_asked(digest);
                });
                session.ready.extend(held);
                // It may have let go of what tasks are waiting for.
                self.step.fed.extend(
                    self.lanes
                        .lanes()
                        .filter(|lane| dropped.contains(&lane.digest)),
                );
            }
            FromHost::PrepareFailed {
                digest,
                message,
                permanent,
            } => {
                session.forget_asked(&digest);
                if read(&self.shared.registry).by_digest(&digest).is_none() {
                    return Ok(());
                }
                tracing::warn!(host = %name, %digest, message, "host could not prepare a module");
                if !self.hosts.compile_failed(digest, &name, message, permanent) {
                    self.prepare(&digest);
                }
            }
            FromHost::Progress(reports) => {
                let mut progress = lock(&self.shared.progress);
                for (id, epoch, fraction, note) in reports {
                    if session
                        .held
                        .get(&epoch)
                        .is_some_and(|(_, held)| *held == id)
                        && !fraction.is_nan()
                    {
                        progress.insert(id, (fraction.clamp(0.0, 1.0), note));
                    }
                }
            }
            FromHost::Checkpoint { attempt, state } => self.checkpoint(&name, &attempt, state)?,
            FromHost::Outcomes(outcomes) => {
                for outcome in outcomes {
                    self.settle(&name, outcome)?;
                }
            }
        }
        Ok(())
    }

    /// A connection ended. The leases go on, so that the host may come back to its work; those of one that had said
    /// that it ends are over.
    pub(super) fn disconnected(&mut self, id: SessionId) {
        let Some(session) = self.hosts.get(id) else {
            return;
        };
        let (name, was_draining) = (Arc::clone(&session.name), session.draining);
        session.disconnect();
        tracing::info!(host = %name, held = session.held.len(), "host disconnected");
        if was_draining {
            self.lose_all_but(&name, &BTreeSet::new());
            self.hosts.remove(&name);
        }
        self.shared
            .metrics
            .hosts
            .set(self.hosts.iter().filter(|host| host.is_connected()).count() as i64);
    }

    /// Takes back the attempts of hosts that were silent for too long.
    pub(super) fn expire_leases(&mut self) {
        for name in self.hosts.silent(self.mono) {
            tracing::warn!(host = %name, "host was silent for too long; its attempts go to others");
            self.lose_all_but(&name, &BTreeSet::new());
            self.hosts.remove(&name);
        }
    }

    fn lose_all_but(&mut self, name: &str, kept: &BTreeSet<Epoch>) {
        let Some(session) = self.hosts.named(name) else {
            return;
        };
        let lost: Vec<_> = session
            .held
            .iter()
            .filter(|(epoch, _)| !kept.contains(epoch))
            .map(|(epoch, (_, id))| (*epoch, *id))
            .collect();
        session.held.retain(|epoch, _| kept.contains(epoch));
        for (epoch, id) in lost {
            match self.apply(id, |task, now| transition::lose(task, epoch, now)) {
                Ok(()) => self.shared.metrics.lost.inc(),
                Err(rejected) => {
                    tracing::debug!(task_id = %id, %rejected, "an attempt that a host lost was not the task's any more");
                    continue;
                }
            };
        }
    }

    /// Whether an attempt that a host says it holds is its own; one whose claim was lost is restored.
    fn still_holds(&mut self, name: &Arc<str>, attempt: &AttemptRef) -> Result<bool, Error> {
        let Some(namespace) = self.namespace(&attempt.namespace) else {
            return Ok(false);
        };
        if !self
            .secret
            .verify(attempt.id, attempt.epoch, name, attempt.token)
            || !self.load(namespace, attempt.id)?
        {
            return Ok(false);
        }
        self.adopt(namespace, name, attempt.id, attempt.epoch)
    }

    /// Whether a task in memory has a lease, under this epoch.
    fn is_held(&self, id: TaskId, epoch: Epoch) -> bool {
        let lease = self.open.get(&id).and_then(|open| open.task.lease());
        lease.is_some_and(|lease| lease.epoch == epoch)
    }

    /// Restores the claim of an attempt if it was lost with the last stop of the broker.
    fn adopt(
        &mut self,
        namespace: Namespace,
        name: &Arc<str>,
        id: TaskId,
        epoch: Epoch,
    ) -> Result<bool, Error> {
        if !self.is_held(id, epoch) {
            // Only the generation just before this one can have claims that its stop has lost: a claim is in the store
            // before it is sent, and was read when this generation began.
            if epoch.generation() + 1 != self.store.generation() {
                return Ok(false);
            }
            let lease = Lease {
                epoch,
                host: Arc::clone(name),
                started_at: self.time,
            };
            if self
                .apply(id, |task, _| transition::adopt(task, lease))
                .is_err()
            {
                return Ok(false);
            }
        }
        if let Some(session) = self.hosts.named(name) {
            session.held.insert(epoch, (namespace, id));
        }
        Ok(true)
    }

    /// Settles an attempt: the first valid report counts, the same again gets the same answer, a stale one is fenced.
    fn settle(&mut self, name: &Arc<str>, outcome: AttemptOutcome) -> Result<(), Error> {
        let (id, epoch) = (outcome.attempt.id, outcome.attempt.epoch);
        let session = self.hosts.named(name);
        let held = session.and_then(|session| session.held.get(&epoch).copied());
        let namespace = match held {
            // The host has its lease, so that there is nothing to be proven.
            Some((namespace, held)) if held == id => Some(namespace),
            Some(_) | None => {
                let proven = self.secret.verify(id, epoch, name, outcome.attempt.token);
                self.namespace(&outcome.attempt.namespace)
                    .filter(|_| proven)
            }
        };
        let fenced = match namespace {
            Some(namespace) if self.load(namespace, id)? => {
                let result = self.report(namespace, name, outcome)?;
                if result.is_err() {
                    self.shared.metrics.fenced.inc();
                    tracing::debug!(task_id = %id, %epoch, host = %name, "report is fenced");
                }
                result.is_err()
            }
            Some(_) | None => true,
        };
        // Even a repeated report is acknowledged only when what it repeats is on disk.
        self.step.durable = true;
        if let Some(session) = self.hosts.named(name) {
            session.acknowledge(epoch, fenced);
        }
        Ok(())
    }

    fn report(
        &mut self,
        namespace: Namespace,
        name: &Arc<str>,
        outcome: AttemptOutcome,
    ) -> Result<Result<(), Rejected>, Error> {
        let AttemptOutcome {
            attempt: AttemptRef { id, epoch, .. },
            mut outcome,
            result,
            mut failure,
            retry_after,
            usage,
        } = outcome;
        let open = self.open.get(&id);
        let is_repeated = open.is_some_and(|open| open.task.settled == Some(epoch));
        let is_unfenced = is_planted(Bug::StaleReportWins);
        if !is_repeated
            && !is_unfenced
            && !self.is_held(id, epoch)
            && !self.adopt(namespace, name, id, epoch)?
        {
            return Ok(Err(Rejected::Fenced { offered: epoch }));
        }
        let mut result = if outcome.class() == Class::Success {
            Some(result.unwrap_or(Data::Inline(Bytes::new())))
        } else {
            None
        };
        let len = result.as_ref().map_or(0, size);
        if len > RESULT_BYTES_MAX as u64 {
            (outcome, result) = (Outcome::OutputLimit, None);
            failure = Some(Failure {
                message: format!(
                    "result of {len} bytes is over the limit of {RESULT_BYTES_MAX} bytes"
                ),
                ..Failure::default()
            });
        }
        let (data, row) = stored(result);
        let report = Report {
            epoch,
            outcome,
            result: data,
            failure,
            retry_after,
            usage,
        };
        let answer = self.apply(id, |task, now| transition::report(task, &report, now));
        if answer.is_ok() && !is_repeated {
            match (row, data) {
                (Some(bytes), Some(data)) if row::in_row(data) => {
                    if let Some(open) = self.open.get_mut(&id)
                        && !is_planted(Bug::ResultLost)
                    {
                        open.result = bytes;
                    }
                }
                (Some(bytes), _) => self.step.batch.put(key::result(namespace, id), bytes),
                (None, _) => {}
            }
            self.shared.metrics.attempt(report.outcome, &usage);
        }
        Ok(answer)
    }

    /// Keeps the newest state of an attempt. It is not synced by itself: what it saves is time.
    fn checkpoint(
        &mut self,
        name: &Arc<str>,
        attempt: &AttemptRef,
        state: Data,
    ) -> Result<(), Error> {
        let AttemptRef {
            namespace,
            id,
            epoch,
            token,
        } = attempt;
        let Some(number) = self.namespace(namespace) else {
            return Ok(());
        };
        if size(&state) > CHECKPOINT_BYTES_MAX as u64
            || !self.secret.verify(*id, *epoch, name, *token)
            || !self.load(number, *id)?
            || !self.is_held(*id, *epoch)
        {
            return Ok(());
        }
        self.touch(*id);
        let (data, row) = stored(Some(state));
        let before = self
            .open
            .get_mut(id)
            .and_then(|open| std::mem::replace(&mut open.beside.checkpoint, data));
        let at = key::checkpoint(number, *id);
        if row.is_none() && matches!(before, Some(DataRef::Row { .. })) {
            // Nothing leads to it any more: the newest one is a file.
            self.step.unread.remove(&at);
            self.step.batch.delete(at);
        } else if let Some(bytes) = row {
            self.step.unread.insert(at.clone(), bytes.clone());
            self.step.batch.put(at, bytes);
        }
        Ok(())
    }

    pub(super) fn host_views(&self) -> Vec<HostView> {
        let hosts = self.hosts.iter().filter(|host| host.incarnation.is_some());
        hosts
            .map(|host| HostView {
                name: host.name.to_string(),
                is_connected: host.is_connected(),
                is_draining: host.draining,
                slots: host.slots,
                held: host.held.len(),
                ready: host.ready.len(),
                version: host.version.clone(),
                connected_ms: host.connected_at.0,
            })
            .collect()
    }

    pub(super) fn readiness(&self, digest: &tq_core::Digest) -> Readiness {
        let hosts = self
            .hosts
            .iter()
            .filter(|host| host.is_connected() && host.ready.contains(digest));
        Readiness {
            hosts: hosts.map(|host| host.name.to_string()).collect(),
            error: self
                .hosts
                .broken(digest)
                .map(|broken| broken.message.clone()),
        }
    }
}

fn size(data: &Data) -> u64 {
    match data {
        Data::Inline(bytes) => bytes.len() as u64,
        Data::Blob { len, .. } => *len,
    }
}

/// Where bytes are kept, and what goes into a row for it. Small ones that came as a blob stay one: they are on disk.
fn stored(data: Option<Data>) -> (Option<DataRef>, Option<Bytes>) {
    match data {
        None => (None, None),
        Some(Data::Blob { digest, len }) => (Some(DataRef::Blob { digest, len }), None),
        Some(Data::Inline(bytes)) => {
            let data = DataRef::Row {
                len: bytes.len() as u64,
            };
            (Some(data), (!bytes.is_empty()).then_some(bytes))
        }
    }
}
