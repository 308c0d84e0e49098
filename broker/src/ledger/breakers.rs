//! Circuit breakers as the ledger keeps them: what attempts say of their functions, what waits for that, and what
//! operators want.

use tq_core::Epoch;
use tq_core::breaker::{Change, Forced, Phase, Tally};
use tq_core::limits::BREAKER_CHANGES_MAX;
use tq_core::outcome::Outcome;
use tq_core::planted::{Bug, is_planted};
use tq_core::task::Task;

use super::{BreakerOrder, BreakerView, Error, Ledger, Refused, read};
use crate::dispatch::breakers::{Ended, Entry, Function, FunctionId, Moment, Override};
use crate::modules::registry::Module;
use crate::store::Space;
use crate::tables::Namespace;
use crate::tables::{key, row};

impl Ledger {
    fn moment(&self) -> Moment {
        Moment {
            now: self.time,
            newest: Epoch::new(self.store.generation(), self.epochs),
        }
    }

    /// Takes note of how an attempt ended, for the breaker of its function. None if that is not known.
    pub(super) fn note_verdict(&mut self, of: FunctionId, before: &Task, outcome: Option<Outcome>) {
        let Some(lease) = before.lease() else {
            return;
        };
        let ended = Ended {
            spec: &before.spec,
            epoch: lease.epoch,
            outcome,
            was_alone: before.is_suspect(),
        };
        if let Some(change) = self.breakers.ended(of, ended, self.moment()) {
            self.breaker_changed(of, change);
        }
        self.let_go(of);
    }

    /// Ends the pauses of breakers that are over.
    pub(super) fn tend_breakers(&mut self) {
        while let Some((of, change)) = self.breakers.tend(self.moment()) {
            self.breaker_changed(of, change);
            self.let_go(of);
        }
    }

    /// Lets the tasks of a function go that its breaker has held back, if it lets one through. Those of another function may be next
    /// if not.
    fn let_go(&mut self, of: FunctionId) {
        self.ask_anew(of.namespace, None);
        if self.breakers.lets_through(of) && !is_planted(Bug::BreakerUntold) {
            // Hosts that came meanwhile were not asked to prepare what nobody was to run.
            self.step.fed.extend(self.lanes.let_go(of));
        }
    }

    /// Says what has become of a breaker by itself.
    fn breaker_changed(&mut self, of: FunctionId, change: Change) {
        self.count_breakers();
        let Some(entry) = self.breakers.get(of) else {
            return;
        };
        let namespace = self.name_of(of.namespace);
        let function = &entry.function;
        match change {
            Change::Opened { .. } | Change::Reopened { .. } => {
                self.shared.metrics.breaker_openings.inc();
                tracing::warn!(namespace, %function, reason = %change, "circuit breaker is open");
            }
            Change::HalfOpened => {
                tracing::info!(namespace, %function, reason = %change, "circuit breaker is half open");
            }
            Change::Closed => {
                tracing::info!(namespace, %function, reason = %change, "circuit breaker is closed");
            }
        }
    }

    fn count_breakers(&self) {
        let (open, half_open) = self.breakers.counts();
        self.shared.metrics.breakers(open, half_open);
    }

    /// The breakers of a namespace of which there is something to say, by name.
    pub(super) fn breaker_views(&mut self, namespace: &str) -> Vec<BreakerView> {
        let Some(number) = self.namespace(namespace) else {
            return Vec::new();
        };
        self.tend_breakers();
        let of_namespace = self.breakers.of(number);
        let views = of_namespace.map(|entry| self.view_breaker(entry, 1));
        let mut views: Vec<_> = views.filter(BreakerView::is_remarkable).collect();
        views.sort_by(|a, b| name(&a.function).cmp(&name(&b.function)));
        views
    }

    /// Looks at a breaker, forces or releases it. Returns the breaker as it is then.
    pub(super) fn order_breaker(
        &mut self,
        namespace: &str,
        function: &str,
        order: BreakerOrder,
    ) -> Result<BreakerView, Refused> {
        let function = {
            let registry = read(&self.shared.registry);
            let (module, function) = registry.function(namespace, function)?;
            Function {
                module: module.name.clone(),
                version: module.version,
                digest: module.digest,
                name: function.name.clone(),
            }
        };
        let Some(number) = self.namespace(namespace) else {
            return Err(Refused::NoNamespace(namespace.to_owned()));
        };
        self.tend_breakers();
        let of = function.id(number);
        match order {
            BreakerOrder::Show => {}
            BreakerOrder::Force(forced, reason) => {
                self.force_breaker(namespace, number, &function, forced, reason)?;
            }
            BreakerOrder::Release => self.release_breaker(namespace, number, &function),
        }
        self.let_go(of);
        let view = match self.breakers.get(of) {
            Some(entry) => self.view_breaker(entry, BREAKER_CHANGES_MAX),
            None => BreakerView::quiet(function.clone()),
        };
        // Under the name by which it was asked for.
        Ok(BreakerView { function, ..view })
    }

    fn force_breaker(
        &mut self,
        namespace: &str,
        number: Namespace,
        function: &Function,
        forced: Forced,
        reason: String,
    ) -> Result<(), Refused> {
        tracing::info!(namespace, %function, to = forced.phase().name(), reason, "circuit breaker is forced");
        let forced = Override {
            forced,
            since: self.time,
            reason,
        };
        let row = row::encode_breaker(&forced, &function.module, function.version);
        let at = self.moment();
        if !self.breakers.force(number, function, forced, at) {
            return Err(Refused::TooManyBreakers);
        }
        if !is_planted(Bug::OverrideForgotten) {
            let key = key::breaker(number, &function.digest, &function.name);
            self.step.batch.put(key, row);
        }
        self.step.durable = true;
        self.count_breakers();
        Ok(())
    }

    fn release_breaker(&mut self, namespace: &str, number: Namespace, function: &Function) {
        tracing::info!(namespace, %function, "circuit breaker is released");
        let at = self.moment();
        if self.breakers.release(function.id(number), at) {
            let key = key::breaker(number, &function.digest, &function.name);
            self.step.batch.delete(key);
            self.step.durable = true;
        }
        self.count_breakers();
    }

    /// Forgets the breakers of a version that is removed, unless another one has the same bytes.
    pub(super) fn remove_breakers(&mut self, namespace: &str, number: Namespace, removed: &Module) {
        let is_left = {
            let registry = read(&self.shared.registry);
            let mut all = registry.list(namespace).flat_map(|of| of.all.values());
            all.any(|module| module.digest == removed.digest)
        };
        if is_left {
            return;
        }
        for function in self.breakers.remove(number, &removed.digest) {
            let key = key::breaker(number, &function.digest, &function.name);
            self.step.batch.delete(key);
        }
        self.count_breakers();
    }

    /// Takes up what operators want of breakers.
    pub(super) fn recover_breakers(&mut self) -> Result<(), Error> {
        let at = self.moment();
        for (key, bytes) in self.read_all(Space::Meta, &key::breakers())? {
            let (forced, module, version) = row::decode_breaker(bytes)?;
            if let Some((namespace, digest, name)) = key::breaker_of(&key) {
                let function = Function {
                    module,
                    version,
                    digest,
                    name: name.to_owned(),
                };
                self.breakers.force(namespace, &function, forced, at);
            }
        }
        self.count_breakers();
        Ok(())
    }

    /// A breaker as it is shown, with its last `changes`.
    fn view_breaker(&self, entry: &Entry, changes: usize) -> BreakerView {
        let past = entry.history().len().saturating_sub(changes);
        BreakerView {
            function: entry.function.clone(),
            phase: entry.phase(),
            forced: entry.forced.clone(),
            until: entry.changes_at(),
            tally: entry.tally(self.time),
            history: entry.history().skip(past).cloned().collect(),
        }
    }
}

impl BreakerView {
    /// That of a function that has none.
    fn quiet(function: Function) -> Self {
        Self {
            function,
            phase: Phase::Closed,
            forced: None,
            until: None,
            tally: Tally::default(),
            history: Vec::new(),
        }
    }

    /// Whether there is something to say of it.
    fn is_remarkable(&self) -> bool {
        let is_quiet = self.phase == Phase::Closed && self.forced.is_none();
        !is_quiet || self.tally.failed > 0 || !self.history.is_empty()
    }
}

fn name(function: &Function) -> (&str, u32, &str) {
    (&function.module, function.version, &function.name)
}
