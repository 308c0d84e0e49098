//! Quotas of namespaces: which submits they refuse, and what waits for them.
//!
//! What a namespace keeps is counted in memory, and what of that is its tasks' in the counters of their queues too, which are
//! written with what changes it; modules and buckets are read when the broker starts anyway.

use tq_core::planted::{Bug, is_planted};
use tq_core::quota::{Asked, Exceeded, Fuel, Used};
use tq_core::task::{DataRef, State};
use tq_core::{Day, Quotas, TaskId};

use super::{Error, Ledger, Open, Refused, Submission, read};
use crate::dispatch::lanes::Place;
use crate::dispatch::shares::{self, Closed, Share};
use crate::tables::Namespace;
use crate::tables::key;
use crate::tables::row::Beside;

/// What a namespace has of what its quotas count, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaView {
    /// What it has.
    pub used: Used,
    /// The day that its fuel is of.
    pub day: Day,
    /// Why nothing of it starts, if it is for a quota; empty otherwise.
    pub reason: String,
    /// Attempts of some of its tasks may use more fuel than its whole budget, so that they do not start.
    pub holds_back: bool,
}

impl Ledger {
    /// Sets the quotas of a namespace. What they hold back is looked at anew.
    pub(super) fn set_quotas(&mut self, namespace: Namespace, quotas: Quotas) {
        self.shares.set(namespace, quotas, self.time);
        self.open_namespace(namespace);
        for place in self.shares.release_all(namespace) {
            self.release(place);
        }
    }

    /// Lets the tasks of a namespace go. Whether one may start is asked when its turn comes.
    pub(super) fn open_namespace(&mut self, namespace: Namespace) {
        self.lanes.set_namespace(namespace, true);
        self.shares.reopen(namespace);
    }

    fn release(&mut self, place: Place) {
        // Hosts that came meanwhile were not asked to prepare what nobody was to run.
        self.step.fed.extend(self.lanes.hold(place, false));
    }

    fn close_namespace(&mut self, namespace: Namespace, why: Closed) {
        self.shares.close(namespace, why);
        self.lanes.set_namespace(namespace, false);
    }

    /// Whether one more attempt of a namespace may run. If not, it is passed over until that may have changed.
    pub(super) fn has_room(&mut self, namespace: Namespace) -> bool {
        let share = self.shares.limits(namespace);
        let is_full = share.is_some_and(|share| share.quotas.is_full(&share.used));
        if is_full {
            self.close_namespace(namespace, Closed::Full);
        }
        !is_full
    }

    /// Whether the budget of its namespace has enough left for the next attempt of a line. If not, it is passed over, likewise.
    pub(super) fn has_fuel(&mut self, place: Place) -> Result<bool, Error> {
        let namespace = place.lane.namespace;
        let has_budget = |share: &Share| share.quotas.fuel_per_day.is_some();
        if !self.shares.limits(namespace).is_some_and(has_budget) {
            return Ok(true);
        }
        // If there is none, whoever takes it finds that too.
        let first = self.find_first(place)?;
        let fuel = first
            .and_then(|id| self.open.get(&id))
            .map_or(0, |open| open.task.spec.limits.fuel);
        let share = self.shares.get(namespace);
        let there = share.map_or(Fuel::Enough, |share| {
            share.quotas.fuel_for(&share.used, fuel)
        });
        match there {
            Fuel::Enough => return Ok(true),
            Fuel::Later => self.close_namespace(namespace, Closed::NoFuel),
            Fuel::Never => {
                self.shares.hold(place);
                self.lanes.hold(place, true);
            }
        }
        Ok(false)
    }

    /// Takes note that other tasks of a line are ready, or that others of a namespace may be the next ones: the one that was short
    /// of fuel may not be it any more.
    pub(super) fn ask_anew(&mut self, namespace: Namespace, line: Option<Place>) {
        if self.shares.wants_fuel(namespace) {
            self.open_namespace(namespace);
        }
        if let Some(place) = line
            && self.shares.release(place)
        {
            self.release(place);
        }
    }

    /// Takes note that hosts have come, gone or been given other orders: that changes what is next of every namespace.
    pub(super) fn ask_all_anew(&mut self) {
        for namespace in self.shares.spent().clone() {
            self.open_namespace(namespace);
        }
    }

    /// Frees what an attempt was given and counts what it used. Whatever waited for that goes on.
    pub(super) fn leave_share(&mut self, namespace: Namespace, reserved: u64, fuel: u64) {
        if self.shares.ended(namespace, reserved, fuel) && !is_planted(Bug::NamespaceUntold) {
            self.open_namespace(namespace);
        }
    }

    /// Lets new tasks in, or says what their namespace would have too much of.
    pub(super) fn admit<'a>(
        &mut self,
        namespace: Namespace,
        new: impl Iterator<Item = &'a Submission>,
    ) -> Result<(), Refused> {
        if self
            .shares
            .limits(namespace)
            .is_none_or(|share| share.quotas == Quotas::default())
        {
            return Ok(());
        }
        let mut asked = Asked::default();
        for Submission { spec, .. } in new {
            asked.tasks += 1;
            asked.bytes = asked.bytes.saturating_add(spec.payload.len());
            asked.fuel = asked.fuel.max(spec.limits.fuel);
        }
        let admitted = self.shares.admit(namespace, &asked, self.time);
        admitted.map_err(|exceeded| {
            let quota = exceeded.quota();
            self.shared.metrics.quota_refused(quota, asked.tasks);
            self.over_quota(namespace, exceeded)
        })
    }

    /// Refuses what would be kept beyond the quota of a namespace.
    pub(super) fn refuse_stored(&self, namespace: Namespace, bytes: u64) -> Result<(), Refused> {
        let share = self.shares.get(namespace);
        let stored = share.map_or(Ok(()), |share| share.quotas.store(&share.used, bytes));
        stored.map_err(|exceeded| self.over_quota(namespace, exceeded))
    }

    fn over_quota(&self, namespace: Namespace, exceeded: Exceeded) -> Refused {
        Refused::OverQuota {
            namespace: self.name_of(namespace),
            exceeded,
            retry_after: exceeded.resets_at().map(|at| at.since(self.time)),
        }
    }

    /// What a namespace has of what its quotas count.
    pub(super) fn quota_view(&self, namespace: &str) -> QuotaView {
        let number = self.namespace(namespace);
        let share = number.and_then(|number| self.shares.get(number));
        let day = self.shares.day();
        QuotaView {
            used: share.map_or_else(Used::default, |share| share.used),
            day,
            reason: share.map_or_else(String::new, |share| shares::reason(share, day)),
            holds_back: share.is_some_and(Share::holds_back),
        }
    }

    /// Takes up how many tasks wait and what is kept. What was never counted is counted once, by reading all tasks.
    pub(super) fn recover_shares(&mut self) -> Result<(), Error> {
        let is_counted = self.store.get(&key::kept_is_counted())?;
        if is_counted.is_none() {
            self.count_kept()?;
            let nothing: &[u8] = &[];
            self.step
                .batch
                .put(key::kept_is_counted(), nothing.to_vec());
        }
        for ((namespace, _), counters) in &self.counters {
            let waiting = i64::try_from(counters.waiting()).unwrap_or(i64::MAX);
            self.shares.wait(*namespace, waiting);
            self.shares.keep(*namespace, 0, counters.kept_bytes);
        }
        let namespaces = read(&self.shared.namespaces).clone();
        let modules: Vec<_> = {
            let registry = read(&self.shared.registry);
            let all = registry.all().filter_map(|(name, versions)| {
                let sizes = versions.all.values().map(|module| module.size_bytes);
                Some((*namespaces.get(name)?, sizes.sum()))
            });
            all.collect()
        };
        for (namespace, bytes) in modules {
            self.shares.keep(namespace, 0, bytes);
        }
        Ok(())
    }

    /// Counts what is kept of all tasks.
    fn count_kept(&mut self) -> Result<(), Error> {
        self.each_task(TaskId([0; 16]), |ledger, namespace, record| {
            let bytes = kept(&record.task, &record.beside);
            let of = (namespace, ledger.queue_of(namespace, &record.task.spec));
            ledger.counters.entry(of).or_default().keep(0, bytes);
            ledger.total.keep(0, bytes);
            Ok(())
        })?;
        self.step.recounted = self.counters.keys().copied().collect();
        Ok(())
    }
}

/// What is kept of a task in memory.
pub(super) fn kept_of(open: &Open) -> u64 {
    kept(&open.task, &open.beside)
}

/// What is kept of a task, wherever it is: its payload, its result and its newest checkpoint. A file counts for each task
/// that names it.
pub(super) fn kept(task: &tq_core::Task, beside: &Beside) -> u64 {
    let has_result = beside.result_gone.is_none() && !is_planted(Bug::StoredDrifts);
    let result = task.result.filter(|_| has_result);
    let len = |data: Option<DataRef>| data.map_or(0, DataRef::len);
    task.spec.payload.len() + len(result) + len(beside.checkpoint)
}

/// Whether a task waits, for whatever it is.
pub(super) fn waits(state: &State) -> bool {
    match state {
        State::Blocked { .. } | State::Scheduled { .. } | State::Ready { .. } => true,
        State::Running { .. }
        | State::Succeeded { .. }
        | State::Dead { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => false,
    }
}
