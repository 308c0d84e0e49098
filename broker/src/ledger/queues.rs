//! Queues as the ledger keeps them: what they are set to, what of them runs, and where their tasks wait.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tq_core::limits::QUEUES_MAX;
use tq_core::outcome::Outcome;
use tq_core::placement::{DEFAULT_QUEUE, is_default_queue};
use tq_core::planted::{Bug, is_planted};
use tq_core::queue::{Order, Settings};
use tq_core::task::{DataRef, Spec, Task};
use tq_core::{Cost, Priority, TaskId};

use super::{Error, Ledger, QueueChange, QueuePatch, QueueView, Refused};
#[cfg(any(test, feature = "simulation"))]
use crate::dispatch::lanes::Place;
use crate::dispatch::lanes::Spot;
use crate::dispatch::needs::Conditions;
use crate::dispatch::queues::Queue;
use crate::store::Space;
use crate::tables::key::{self, Namespace, QueueId};
use crate::tables::row::{self, Counters, QueueRow};

impl Ledger {
    /// Where a task waits when it is ready.
    pub(super) fn spot(&mut self, namespace: Namespace, spec: &Arc<Spec>) -> Spot {
        let queue = self.queue_of(namespace, spec);
        if let Some((last, spot)) = &self.last_spot
            && spot.conditions.are_of(namespace, queue, last, spec)
        {
            return self.spot_under(Arc::clone(&spot.conditions), spec);
        }
        let conditions = Arc::new(Conditions::of(namespace, queue, spec));
        let spot = self.spot_under(conditions, spec);
        self.last_spot = Some((Arc::clone(spec), spot.clone()));
        spot
    }

    fn spot_under(&self, conditions: Arc<Conditions>, spec: &Spec) -> Spot {
        let namespace = conditions.lane.namespace;
        let order = self.queues.settings(namespace, conditions.queue).order;
        Spot {
            priority: match order {
                Order::Priority => spec.priority,
                Order::Fifo => Priority::DEFAULT,
            },
            conditions,
            order,
        }
    }

    /// The line in which a task waits when it is ready.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn place_of(&self, namespace: Namespace, spec: &Spec) -> Place {
        let queue = self.queue_of(namespace, spec);
        let conditions = Conditions::of(namespace, queue, spec);
        self.spot_under(Arc::new(conditions), spec).place()
    }

    /// The queue of a task.
    pub(super) fn queue_of(&self, namespace: Namespace, spec: &Spec) -> QueueId {
        // The number of a queue outlives its deletion, so that each task's is known.
        self.queues
            .number(namespace, &spec.placement.queue)
            .unwrap_or_default()
    }

    /// Takes note of an attempt that a transition began or ended.
    pub(super) fn count_attempt(&mut self, id: TaskId, before: &Task) {
        let was = before.lease().map(|lease| lease.epoch);
        let Some(open) = self.open.get(&id) else {
            return;
        };
        if open.task.lease().map(|lease| lease.epoch) == was {
            return;
        }
        if was.is_some() {
            self.count_end(id, before);
        }
        if self
            .open
            .get(&id)
            .is_some_and(|open| open.task.lease().is_some())
        {
            self.count_start(id);
        }
    }

    /// Counts an attempt that begins, in its queue and under its concurrency key.
    pub(super) fn count_start(&mut self, id: TaskId) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let (namespace, spec) = (open.namespace, Arc::clone(&open.task.spec));
        let spot = match &open.spot {
            Some(spot) => spot.clone(),
            None => self.spot(namespace, &spec),
        };
        self.queues
            .started(namespace, spot.conditions.queue, self.time);
        if let Some((key, _)) = spot.conditions.concurrency {
            self.queues.key_started(namespace, key);
        }
        self.shares.started(namespace, spec.limits.fuel);
        let charged_us = self.lanes.started(spot.place());
        if let Some(open) = self.open.get_mut(&id) {
            open.charged_us = charged_us;
            open.spot = Some(spot);
        }
    }

    /// Counts an attempt that ended, and lets those go on that waited for it.
    fn count_end(&mut self, id: TaskId, before: &Task) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let namespace = open.namespace;
        let charged_us = std::mem::take(&mut open.charged_us);
        // No change of a task that runs reaches its limits.
        let reserved_fuel = before.spec.limits.fuel;
        let lease = before.lease();
        let attempt = open.task.attempts.last();
        let attempt =
            attempt.filter(|attempt| lease.is_some_and(|lease| lease.epoch == attempt.epoch));
        let outcome = attempt.map(|attempt| attempt.outcome);
        let result = open
            .task
            .result
            .filter(|_| outcome == Some(Outcome::Succeeded));
        let cost = attempt.map(|attempt| {
            let bytes_in = before.spec.payload.len();
            let bytes_out = result.map_or(0, DataRef::len);
            Cost::of(&attempt.usage, reserved_fuel, bytes_in, bytes_out)
        });
        let measured = attempt
            .map(|attempt| attempt.usage.wall_ns / 1_000)
            .filter(|used_us| *used_us > 0);
        let since_start =
            || lease.map_or(Duration::ZERO, |lease| self.time.since(lease.started_at));
        let used_us = measured
            .unwrap_or_else(|| u64::try_from(since_start().as_micros()).unwrap_or(u64::MAX));
        let spot = open.spot.clone();
        self.lanes.ended(namespace, used_us, charged_us);
        let fuel = cost.map_or(0, |cost| cost.fuel);
        self.leave_share(namespace, reserved_fuel, fuel);
        let Some(spot) = spot else {
            return;
        };
        if let Some(cost) = &cost {
            let function = spot.conditions.function;
            self.costs.add(namespace, function, &before.spec, cost);
        }
        self.note_verdict(spot.conditions.function, before, outcome);
        let queue = spot.conditions.queue;
        if self.queues.ended(namespace, queue) {
            self.lanes.set_queue(namespace, queue, true);
        }
        if let Some((key, _)) = spot.conditions.concurrency {
            for place in self.queues.key_ended(namespace, key) {
                let is_held = is_planted(Bug::HeldLineForgotten);
                // Hosts that came meanwhile were not asked to prepare what nobody was to run.
                self.step.fed.extend(self.lanes.hold(place, is_held));
            }
        }
    }

    /// Lets the queues go on that have used up their rate some time ago.
    pub(super) fn open_queues(&mut self) {
        while let Some((namespace, queue)) = self.queues.opened(self.time) {
            self.lanes.set_queue(namespace, queue, true);
        }
    }

    /// Sets a queue up, changes or deletes it.
    pub(super) fn change_queue(&mut self, change: QueueChange) {
        let QueueChange {
            namespace,
            name,
            patch,
            reply,
        } = change;
        let result = self.patch_queue(&namespace, &name, patch);
        if let Some(number) = self.namespace(&namespace) {
            self.ask_anew(number, None);
        }
        self.step.durable |= result.is_ok();
        self.answer(reply, result);
    }

    fn patch_queue(
        &mut self,
        namespace: &str,
        name: &str,
        patch: QueuePatch,
    ) -> Result<QueueView, Refused> {
        let no_queue = || Refused::NoQueue {
            namespace: namespace.to_owned(),
            queue: name.to_owned(),
        };
        let number = match (self.namespace(namespace), &patch) {
            (Some(number), _) => number,
            (None, QueuePatch::Set { .. }) => self.namespace_or_new(namespace),
            (None, QueuePatch::Pause(_) | QueuePatch::Delete) => return Err(no_queue()),
        };
        let known = self.queues.number(number, name);
        let is_there = |id: &QueueId| {
            let queue = self.queues.get(number, *id);
            *id == QueueId::DEFAULT || queue.is_some_and(|queue| !queue.is_deleted)
        };
        let there = known.filter(is_there);
        let before = there
            .map(|id| self.queues.settings(number, id))
            .unwrap_or_default();
        let counters = |id| {
            self.counters
                .get(&(number, id))
                .copied()
                .unwrap_or_default()
        };
        let (settings, is_deleted) = match patch {
            QueuePatch::Set {
                order,
                concurrency,
                rate,
            } => {
                let settings = Settings {
                    order: order.unwrap_or(before.order),
                    concurrency: concurrency.unwrap_or(before.concurrency),
                    rate: rate.unwrap_or(before.rate),
                    is_paused: before.is_paused,
                };
                settings.check()?;
                let ready = there.map_or(0, |id| counters(id).ready);
                if settings.order != before.order && ready > 0 {
                    return Err(Refused::OrderInUse {
                        queue: name.to_owned(),
                        ready,
                    });
                }
                (settings, false)
            }
            QueuePatch::Pause(is_paused) => {
                there.ok_or_else(no_queue)?;
                let settings = Settings {
                    is_paused,
                    ..before
                };
                (settings, false)
            }
            QueuePatch::Delete => {
                let id = there.ok_or_else(no_queue)?;
                if id == QueueId::DEFAULT {
                    return Err(Refused::DefaultQueue);
                }
                let Counters {
                    blocked,
                    scheduled,
                    ready,
                    running,
                    ..
                } = counters(id);
                let waiting = blocked + scheduled + ready;
                if waiting + running > 0 {
                    return Err(Refused::QueueInUse {
                        queue: name.to_owned(),
                        waiting,
                        running,
                    });
                }
                (Settings::default(), true)
            }
        };
        let in_use = self.queues.of(number);
        let in_use = in_use.filter(|(_, queue)| !queue.is_deleted).count();
        if there.is_none() && in_use >= QUEUES_MAX {
            return Err(Refused::TooManyQueues);
        }
        let id = known.unwrap_or_else(|| self.queues.next_number(number));
        let name = if is_default_queue(name) {
            DEFAULT_QUEUE
        } else {
            name
        };
        self.queues.set(number, id, name, settings, self.time);
        if is_deleted {
            self.queues.delete(number, id);
        }
        let row = QueueRow::of(name, &settings, is_deleted);
        self.step
            .batch
            .put(key::queue(number, id), row.encode_to_vec());
        // Whether something of it may start is asked when its turn comes.
        self.lanes.set_queue(number, id, true);
        self.view(number, id).ok_or_else(|| Refused::NoQueue {
            namespace: namespace.to_owned(),
            queue: name.to_owned(),
        })
    }

    /// The queues of a namespace, by name.
    pub(super) fn queue_views(&mut self, namespace: &str) -> Vec<QueueView> {
        let Some(number) = self.namespace(namespace) else {
            return Vec::new();
        };
        let all = self.queues.of(number);
        let there: Vec<_> = all
            .filter(|(_, queue)| !queue.is_deleted)
            .map(|(id, _)| id)
            .filter(|id| *id != QueueId::DEFAULT)
            .collect();
        let views = [QueueId::DEFAULT].into_iter().chain(there);
        let mut views: Vec<_> = views.filter_map(|id| self.view(number, id)).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    fn view(&mut self, namespace: Namespace, id: QueueId) -> Option<QueueView> {
        let closed = self.queues.closed(namespace, id, self.time);
        let found = self.queues.get(namespace, id);
        let name = match found {
            Some(Queue { name, .. }) => name.clone(),
            None if id == QueueId::DEFAULT => DEFAULT_QUEUE.to_owned(),
            None => return None,
        };
        let settings = self.queues.settings(namespace, id);
        let counters = self.counters.get(&(namespace, id));
        Some(QueueView {
            name,
            settings,
            counters: counters.copied().unwrap_or_default(),
            oldest: self.lanes.oldest(namespace, id),
            closed,
        })
    }

    /// Checks that the queue of a task that is to wait is there.
    pub(super) fn has_queue(&self, namespace: &str, spec: &Spec) -> Result<(), Refused> {
        let queue = spec.placement.queue();
        if is_default_queue(queue) {
            return Ok(());
        }
        let number = self.namespace(namespace);
        let found = number.and_then(|number| {
            let id = self.queues.number(number, queue)?;
            self.queues.get(number, id)
        });
        match found {
            Some(found) if !found.is_deleted => Ok(()),
            Some(_) | None => Err(Refused::NoQueue {
                namespace: namespace.to_owned(),
                queue: queue.to_owned(),
            }),
        }
    }

    /// Takes up what queues are set to, and how many tasks are in them.
    pub(super) fn recover_queues(&mut self) -> Result<(), Error> {
        for (at, bytes) in self.read_all(Space::Meta, &key::queues())? {
            let Some((namespace, id)) = key::queue_of(&at) else {
                continue;
            };
            let (name, settings, is_deleted) = QueueRow::read(bytes)?;
            self.queues
                .restore(namespace, id, &name, settings, self.time);
            if is_deleted {
                self.queues.delete(namespace, id);
            }
        }
        for (at, bytes) in self.read_all(Space::Meta, &key::all_counters())? {
            let Some(of) = key::counters_of(&at) else {
                continue;
            };
            let counters = Counters::decode(bytes).map_err(|source| row::Error::Decode {
                kind: "counters",
                source,
            })?;
            self.total.add(&counters);
            self.counters.insert(of, counters);
        }
        Ok(())
    }
}
