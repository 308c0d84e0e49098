//! What hosts say: hello, outcomes, and that they are gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tq_core::limits::{CHECKPOINT_BYTES_MAX, CHECKPOINT_FRAME_BYTES, RESULT_BYTES_MAX};
use tq_core::outcome::{Class, Outcome};
use tq_core::planted::{Bug, is_planted};
use tq_core::task::{DataRef, Failure, Lease, Report, State};
use tq_core::transition::{self, Rejected};
use tq_core::{Epoch, Grants, TaskId, Timestamp};

use super::{
    Error, HelloRefused, HostOrder, HostState, HostView, Ledger, Open, Readiness, Refused, Reply,
    lock, read,
};
use crate::dispatch::SessionId;
use crate::dispatch::duty::{Drains, Duty, Order};
use crate::dispatch::health::{Fault, Health};
use crate::dispatch::hosts::{Link, Session};
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
        self.hosts.forget_gone(self.time);
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
            session.labels = hello.labels;
            session.memory_bytes = hello.memory_bytes;
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
            if let Duty::Draining { .. } = session.duty {
                // It may have missed that, or be another process.
                session.tell(ToHost::HandBack);
            }
        }
        self.step.fed.extend(self.lanes.needs().cloned());
        self.hosts_changed();
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
                let needs = self.lanes.needs();
                self.step.fed.extend(
                    needs
                        .filter(|needs| dropped.contains(&needs.digest))
                        .cloned(),
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
                let is_sound = |(id, epoch, fraction, _): &(TaskId, Epoch, f64, String)| {
                    session.held().get(epoch).is_some_and(|held| held.id == *id)
                        && !fraction.is_nan()
                };
                let reports: Vec<_> = reports.into_iter().filter(is_sound).collect();
                let ids: Vec<_> = reports.iter().map(|(id, ..)| *id).collect();
                lock(&self.shared.progress).extend(
                    reports
                        .into_iter()
                        .map(|(id, _, fraction, note)| (id, (fraction.clamp(0.0, 1.0), note))),
                );
                self.shared.tell_followers(ids.iter());
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
        let is_fault = session.has_link() && !was_draining && !session.held().is_empty();
        session.disconnect();
        tracing::info!(host = %name, held = session.held().len(), "host disconnected");
        if is_fault {
            self.host_failed(&name, Fault::SessionLost);
        }
        if was_draining {
            self.lose_all_but(&name, &BTreeSet::new());
            self.hosts.part_with(&name, self.time);
        }
        self.hosts_changed();
    }

    /// Takes back the attempts of hosts that were silent for too long.
    pub(super) fn expire_leases(&mut self) {
        for name in self.hosts.silent(self.mono) {
            tracing::warn!(host = %name, "host was silent for too long; its attempts go to others");
            // One whose connection was seen to end has been blamed for that.
            let is_fault = |session: &mut Session| session.has_link() && !session.held().is_empty();
            if self.hosts.named(&name).is_some_and(is_fault) {
                self.host_failed(&name, Fault::SessionLost);
            }
            self.lose_all_but(&name, &BTreeSet::new());
            self.hosts.part_with(&name, self.time);
            self.hosts_changed();
        }
    }

    /// Takes note that hosts have come, gone or been given other orders.
    fn hosts_changed(&mut self) {
        self.ask_all_anew();
        let connected = self.hosts.iter().filter(|host| host.is_connected());
        self.shared.metrics.hosts.set(connected.count() as i64);
    }

    /// Takes note of what a host did through its own fault.
    fn host_failed(&mut self, name: &str, fault: Fault) {
        let now = self.time;
        if let Some(session) = self.hosts.named(name)
            && session.health.failed(fault, now)
        {
            self.shared.metrics.quarantines.inc();
            let until_ms = session.health.now().changes_at().map(|at| at.0);
            tracing::warn!(
                host = name,
                fault = fault.text(),
                until_ms,
                "host is quarantined"
            );
            self.hosts_changed();
        }
    }

    /// Ends what has come to its time: pauses of quarantined hosts, and drains.
    pub(super) fn tend_hosts(&mut self) {
        for name in self.hosts.tend(self.time) {
            self.hosts_changed();
            let now = self.time;
            let Some(session) = self.hosts.named(&name) else {
                continue;
            };
            let Duty::Draining { until } = session.duty else {
                continue;
            };
            if !session.held().is_empty() && until > now {
                continue;
            }
            let stopped = self.take_all_back(&name);
            tracing::info!(host = %name, stopped, "host is drained");
            self.set_duty(&name, Duty::Drained);
        }
    }

    /// Takes every attempt of a host back, which tells it to stop them. They go to others, and count as no loss. Returns
    /// their number.
    fn take_all_back(&mut self, name: &str) -> usize {
        let Some(session) = self.hosts.named(name) else {
            return 0;
        };
        let held: Vec<_> = session
            .held()
            .iter()
            .map(|(epoch, held)| (*epoch, held.id))
            .collect();
        for (epoch, _) in &held {
            session.release(*epoch);
            session.tell(ToHost::Stop {
                epoch: *epoch,
                stop: None,
            });
        }
        let count = held.len();
        for (epoch, id) in held {
            if let Err(rejected) =
                self.apply(id, |task, now| transition::hand_back(task, epoch, now))
            {
                tracing::debug!(task_id = %id, %rejected, "an attempt that a host is to give back was not the task's any more");
            }
        }
        count
    }

    /// Sets what is wanted of a host, so that it outlives a restart.
    fn set_duty(&mut self, name: &str, duty: Duty) {
        if let Some(session) = self.hosts.named(name) {
            session.duty = duty;
        }
        match row::encode_host(duty) {
            Some(row) => self.step.batch.put(key::host(name), row),
            None => self.step.batch.delete(key::host(name)),
        }
        self.step.durable = true;
        self.hosts_changed();
    }

    /// Does what an operator wants of a host. Returns the host as it is then.
    pub(super) fn order(&mut self, name: &str, order: HostOrder) -> Result<HostView, Refused> {
        let order = match order {
            HostOrder::Show => Order::Show,
            HostOrder::Pause => Order::Pause,
            HostOrder::Resume => Order::Resume,
            HostOrder::Drain(within) => Order::Drain {
                until: self.time.after(within),
            },
        };
        let now = self.time;
        let session = self.known(name)?;
        let before = session.duty;
        let duty = before
            .after(order)
            .map_err(|Drains| Refused::HostDrains(name.to_owned()))?;
        if order == Order::Resume {
            session.health.resume(now);
        }
        if duty != before {
            if let Duty::Draining { .. } = duty {
                session.tell(ToHost::HandBack);
            }
            tracing::info!(host = name, ?duty, "host has other orders");
            self.set_duty(name, duty);
            // One without attempts is drained at once.
            self.tend_hosts();
        }
        if order == Order::Resume {
            // It may lack what tasks are waiting for.
            self.step.fed.extend(self.lanes.needs().cloned());
        }
        // Not as one that is shown: there may be nothing to remember any more of one that is not there.
        let time = self.time;
        let session = self.hosts.named(name).map(|session| view(session, time));
        session.ok_or_else(|| Refused::NoHost(name.to_owned()))
    }

    /// Forgets a host, and takes from it what it has. Returns the number of its attempts.
    pub(super) fn remove_host(&mut self, name: &str) -> Result<usize, Refused> {
        self.known(name)?;
        let taken_back = self.take_all_back(name);
        self.hosts.remove(name);
        self.step.batch.delete(key::host(name));
        self.step.durable = true;
        self.hosts_changed();
        tracing::info!(host = name, taken_back, "host was removed");
        Ok(taken_back)
    }

    /// The host of this name, if it is one that is shown.
    fn known(&mut self, name: &str) -> Result<&mut Session, Refused> {
        let session = self.hosts.named(name).filter(|session| is_shown(session));
        session.ok_or_else(|| Refused::NoHost(name.to_owned()))
    }

    fn lose_all_but(&mut self, name: &str, kept: &BTreeSet<Epoch>) {
        let Some(session) = self.hosts.named(name) else {
            return;
        };
        let lost: Vec<_> = session
            .held()
            .iter()
            .filter(|(epoch, _)| !kept.contains(epoch))
            .map(|(epoch, held)| (*epoch, held.id))
            .collect();
        lost.iter().for_each(|(epoch, _)| session.release(*epoch));
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
        self.adopt(name, attempt.id, attempt.epoch)
    }

    /// Whether a task in memory has a lease, under this epoch.
    fn is_held(&self, id: TaskId, epoch: Epoch) -> bool {
        let lease = self.open.get(&id).and_then(|open| open.task.lease());
        lease.is_some_and(|lease| lease.epoch == epoch)
    }

    /// Restores the claim of an attempt if it was lost with the last stop of the broker.
    fn adopt(&mut self, name: &Arc<str>, id: TaskId, epoch: Epoch) -> Result<bool, Error> {
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
        let held = self.open.get(&id).map(Open::held);
        if let (Some(session), Some(held)) = (self.hosts.named(name), held) {
            session.hold(epoch, held);
        }
        Ok(true)
    }

    /// Settles an attempt: the first valid report counts, the same again gets the same answer, a stale one is fenced.
    fn settle(&mut self, name: &Arc<str>, outcome: AttemptOutcome) -> Result<(), Error> {
        let (id, epoch) = (outcome.attempt.id, outcome.attempt.epoch);
        let session = self.hosts.named(name);
        let held = session.and_then(|session| session.held().get(&epoch).copied());
        let namespace = match held {
            // The host has its lease, so that there is nothing to be proven.
            Some(held) if held.id == id => Some(held.namespace),
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
            && !self.adopt(name, id, epoch)?
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
            self.note_health(name, report.outcome);
        } else if answer.is_ok() && is_planted(Bug::CostTwice) {
            self.count_again(id, &usage);
        }
        Ok(answer)
    }

    /// Takes note of what an outcome says of the host that reports it.
    fn note_health(&mut self, name: &str, outcome: Outcome) {
        if outcome == Outcome::HostError {
            return self.host_failed(name, Fault::HostError);
        }
        match outcome.class() {
            // The host did its part, whatever the task made of it.
            Class::Success | Class::Retryable | Class::Permanent => {
                let now = self.time;
                if let Some(session) = self.hosts.named(name)
                    && session.health.succeeded(now)
                {
                    tracing::info!(host = name, "host is fit again");
                }
            }
            // Whose doing it is shows when the task runs alone.
            Class::Stopped | Class::HostLost | Class::Crash => {}
        }
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
        if size(&state) > (CHECKPOINT_BYTES_MAX + CHECKPOINT_FRAME_BYTES) as u64
            || !self.secret.verify(*id, *epoch, name, *token)
            || !self.load(number, *id)?
            || !self.is_held(*id, *epoch)
        {
            return Ok(());
        }
        self.touch(*id);
        let (data, row) = stored(Some(state));
        let before = self.open.get_mut(id).and_then(|open| {
            open.task.gets_on();
            std::mem::replace(&mut open.beside.checkpoint, data)
        });
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

    /// What an attempt was granted, if it runs and proves to be the one.
    pub(super) fn granted(
        &mut self,
        attempt: &AttemptRef,
    ) -> Result<Result<Arc<Grants>, Refused>, Error> {
        let AttemptRef {
            namespace,
            id,
            epoch,
            token,
        } = attempt;
        let is_loaded = match self.namespace(namespace) {
            Some(number) => self.load(number, *id)?,
            None => false,
        };
        let open = self.open.get(id).filter(|_| is_loaded);
        let held = open.filter(|open| {
            open.task.lease().is_some_and(|lease| {
                lease.epoch == *epoch && self.secret.verify(*id, *epoch, &lease.host, *token)
            })
        });
        Ok(match held {
            Some(open) => {
                let granted = read(&self.shared.registry).grants(&open.task.spec);
                Ok(granted.unwrap_or_default())
            }
            None => Err(Refused::NotHeld {
                id: *id,
                epoch: *epoch,
            }),
        })
    }

    pub(super) fn host_views(&self) -> Vec<HostView> {
        let hosts = self.hosts.iter().filter(|host| is_shown(host));
        let last = |mut view: HostView| {
            view.changes.drain(..view.changes.len().saturating_sub(1));
            view
        };
        hosts.map(|host| last(view(host, self.time))).collect()
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

/// Whether there is something to say of a host: not of one that is known only by attempts that an earlier process of the
/// broker gave it, and not of one that left and failed now and then.
fn is_shown(host: &Session) -> bool {
    let is_there = host.incarnation.is_some() && !host.is_gone;
    is_there || !host.duty.is_working() || !host.health.now().is_fit()
}

/// A host as it is shown.
fn view(host: &Session, now: Timestamp) -> HostView {
    let is_connected = host.is_connected();
    let health = host.health.now();
    let state = match (host.duty, health) {
        (Duty::Paused, _) => HostState::Paused,
        (Duty::Draining { .. }, _) => HostState::Draining,
        (Duty::Drained, _) => HostState::Drained,
        (Duty::Working, Health::Quarantined { .. } | Health::Probing { .. }) => {
            HostState::Quarantined
        }
        (Duty::Working, Health::Fit { .. }) if !is_connected => HostState::Silent,
        (Duty::Working, Health::Fit { .. }) if host.draining => HostState::Draining,
        (Duty::Working, Health::Fit { .. }) => HostState::Connected,
    };
    let (reason, until) = match host.duty {
        Duty::Working => match health.reason() {
            Some(reason) => (reason, health.changes_at()),
            None if host.draining && is_connected => (
                "it was told to end, and finishes what it has".to_owned(),
                None,
            ),
            None => (String::new(), None),
        },
        Duty::Draining { until } => (text(host.duty), Some(until)),
        Duty::Paused | Duty::Drained => (text(host.duty), None),
    };
    HostView {
        name: host.name.to_string(),
        state,
        reason,
        until: until.filter(|until| *until > now),
        is_connected,
        labels: host.labels.clone(),
        memory_bytes: host.memory_bytes,
        reserved_bytes: host.reserved_bytes(),
        slots: host.slots,
        held: host.held().len(),
        ready: host.ready.len(),
        version: host.version.clone(),
        connected_ms: host.connected_at.0,
        changes: host.health.changes().cloned().collect(),
    }
}

fn text(duty: Duty) -> String {
    duty.reason().unwrap_or_default().to_owned()
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
