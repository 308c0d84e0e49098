//! What each namespace has of what quotas count, and which may start nothing because of that.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use tq_core::queue::{Bucket, Rate};
use tq_core::quota::{Asked, Exceeded, Quota, Used};
use tq_core::{Day, Quotas, Timestamp};

use super::lanes::Place;
use crate::tables::Namespace;

/// Why nothing of a namespace starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// As many of its attempts run as may.
    Full,
    /// What is left of the day's fuel is less than the next attempt may use.
    NoFuel,
}

/// What a namespace has.
#[derive(Debug, Default)]
pub struct Share {
    /// How much it may have.
    pub quotas: Quotas,
    /// What it has of that, with all that the step under way has done, but for what it keeps of tasks that are not new.
    pub used: Used,
    rate: Option<Bucket>,
    closed: Option<Closed>,
    /// Lines whose next attempt may use more than the whole budget.
    held: BTreeSet<Place>,
}

/// What all namespaces have.
#[derive(Debug, Default)]
pub struct Shares {
    all: FxHashMap<Namespace, Share>,
    /// A quota was set, of whichever namespace.
    are_limited: bool,
    day: Day,
    /// Those of which nothing starts for want of fuel: before the day is over, unless an attempt leaves some or another task comes
    /// first.
    spent: BTreeSet<Namespace>,
}

impl Share {
    /// Why nothing of it starts.
    pub fn closed(&self) -> Option<Closed> {
        self.closed
    }

    /// Whether attempts of some of its tasks may use more fuel than its whole budget, so that they do not start.
    pub fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }
}

impl Shares {
    /// The day that budgets are of.
    pub fn day(&self) -> Day {
        self.day
    }

    /// What a namespace has. None if that is nothing, and no quota was set.
    pub fn get(&self, namespace: Namespace) -> Option<&Share> {
        self.all.get(&namespace)
    }

    /// What a namespace has, if quotas may say how much that may be. Where nobody has set any, nothing is looked up.
    pub fn limits(&self, namespace: Namespace) -> Option<&Share> {
        match self.are_limited {
            true => self.get(namespace),
            false => None,
        }
    }

    /// Sets quotas. A new rate begins with a full bucket.
    pub fn set(&mut self, namespace: Namespace, quotas: Quotas, now: Timestamp) {
        self.are_limited |= quotas != Quotas::default();
        let share = self.all.entry(namespace).or_default();
        share.quotas = quotas;
        share.rate = quotas.submits_per_second.map(|tasks| {
            let rate = Rate::per_second(tasks);
            match share.rate {
                Some(bucket) => bucket.at_rate(rate, now),
                None => Bucket::full(rate, now),
            }
        });
    }

    /// Takes up what was set before a restart. A rate begins with an empty bucket, since what was spent of it is not known.
    pub fn restore(&mut self, namespace: Namespace, quotas: Quotas, now: Timestamp) {
        self.are_limited |= quotas != Quotas::default();
        let share = self.all.entry(namespace).or_default();
        share.quotas = quotas;
        let rate = quotas.submits_per_second.map(Rate::per_second);
        share.rate = rate.map(|rate| Bucket::empty(rate, now));
    }

    /// Lets new tasks in, which count towards the rate then.
    ///
    /// # Errors
    /// [`Exceeded`] if a namespace would have too much. Nothing has changed.
    pub fn admit(
        &mut self,
        namespace: Namespace,
        asked: &Asked,
        now: Timestamp,
    ) -> Result<(), Exceeded> {
        let day = self.day;
        let Some(share) = self.all.get_mut(&namespace) else {
            return Ok(());
        };
        share.quotas.admit(&share.used, asked, day)?;
        if let (Some(rate), Some(limit)) = (&mut share.rate, share.quotas.submits_per_second) {
            let ready_at = rate.ready_for(asked.tasks, now);
            if ready_at.is_none_or(|at| at > now) {
                return Err(Exceeded::SubmitRate {
                    limit,
                    asked: asked.tasks,
                    ready_at,
                });
            }
            rate.take_many(asked.tasks, now);
        }
        Ok(())
    }

    /// Counts tasks that wait from now on, or fewer of them.
    pub fn wait(&mut self, namespace: Namespace, more: i64) {
        let used = &mut self.all.entry(namespace).or_default().used;
        used.waiting = used.waiting.saturating_add_signed(more);
    }

    /// Counts a new task, of which so many bytes are kept.
    pub fn take_in(&mut self, namespace: Namespace, bytes: u64) {
        let used = &mut self.all.entry(namespace).or_default().used;
        used.waiting += 1;
        used.stored_bytes = used.stored_bytes.saturating_add(bytes);
    }

    /// Counts an attempt that starts, and may use so much fuel.
    pub fn started(&mut self, namespace: Namespace, fuel: u64) {
        let used = &mut self.all.entry(namespace).or_default().used;
        used.running += 1;
        used.fuel_reserved = used.fuel_reserved.saturating_add(fuel);
    }

    /// Counts an attempt that ended: how much it might have used, and what it has. Returns whether anything may wait for that.
    pub fn ended(&mut self, namespace: Namespace, reserved: u64, fuel: u64) -> bool {
        let share = self.all.entry(namespace).or_default();
        let used = &mut share.used;
        used.running = used.running.saturating_sub(1);
        used.fuel_reserved = used.fuel_reserved.saturating_sub(reserved);
        used.fuel = used.fuel.saturating_add(fuel);
        share.closed.is_some()
    }

    /// Takes up what attempts used that ended today, before a restart.
    pub fn recover_fuel(&mut self, namespace: Namespace, fuel: u64) {
        let used = &mut self.all.entry(namespace).or_default().used;
        used.fuel = used.fuel.saturating_add(fuel);
    }

    /// Counts bytes that are kept from now on, in place of those of before.
    pub fn keep(&mut self, namespace: Namespace, before: u64, after: u64) {
        if before == after {
            return;
        }
        let used = &mut self.all.entry(namespace).or_default().used;
        used.stored_bytes = used
            .stored_bytes
            .saturating_sub(before)
            .saturating_add(after);
    }

    /// Notes that nothing of a namespace starts.
    pub fn close(&mut self, namespace: Namespace, why: Closed) {
        self.all.entry(namespace).or_default().closed = Some(why);
        if why == Closed::NoFuel {
            self.spent.insert(namespace);
        }
    }

    /// Notes that nothing of a line starts: neither the end of an attempt nor another day changes that.
    pub fn hold(&mut self, place: Place) {
        let share = self.all.entry(place.lane.namespace).or_default();
        share.held.insert(place);
    }

    /// Lets a line go, if it is held.
    pub fn release(&mut self, place: Place) -> bool {
        let share = self.all.get_mut(&place.lane.namespace);
        share.is_some_and(|share| share.held.remove(&place))
    }

    /// Lets all lines of a namespace go that are held.
    pub fn release_all(&mut self, namespace: Namespace) -> BTreeSet<Place> {
        let share = self.all.get_mut(&namespace);
        share.map_or_else(BTreeSet::new, |share| std::mem::take(&mut share.held))
    }

    /// Whether nothing of a namespace starts for want of fuel.
    pub fn wants_fuel(&self, namespace: Namespace) -> bool {
        !self.spent.is_empty() && self.spent.contains(&namespace)
    }

    /// The namespaces of which nothing starts for want of fuel.
    pub fn spent(&self) -> &BTreeSet<Namespace> {
        &self.spent
    }

    /// Notes that it has to be looked anew whether something of a namespace may start.
    pub fn reopen(&mut self, namespace: Namespace) {
        self.spent.remove(&namespace);
        if let Some(share) = self.all.get_mut(&namespace) {
            share.closed = None;
        }
    }

    /// Begins the day that it is by now. Returns the namespaces that waited for it.
    pub fn turn(&mut self, day: Day) -> BTreeSet<Namespace> {
        if day <= self.day {
            return BTreeSet::new();
        }
        self.day = day;
        for share in self.all.values_mut() {
            share.used.fuel = 0;
        }
        std::mem::take(&mut self.spent)
    }

    /// When the next namespace may start something by itself that starts nothing now.
    pub fn next_opening(&self) -> Option<Timestamp> {
        (!self.spent.is_empty()).then(|| self.day.next().begins_at())
    }
}

/// Why nothing of a namespace starts, for a person to read; empty if something may.
pub fn reason(share: &Share, day: Day) -> String {
    let Share {
        quotas,
        used,
        closed,
        ..
    } = share;
    match closed {
        Some(Closed::Full) => format!(
            "as many attempts of its namespace run as its quota `{}` of {} allows",
            Quota::Running.name(),
            quotas.running.unwrap_or(0),
        ),
        Some(Closed::NoFuel) => format!(
            "the fuel that its namespace has left today, of {} of which {} are used and {} reserved by what runs, is less than \
             the next attempt may use; that ends with an attempt that leaves some, and at {}T00:00:00Z",
            quotas.fuel_per_day.unwrap_or(0),
            used.fuel,
            used.fuel_reserved,
            day.next(),
        ),
        None => String::new(),
    }
}
