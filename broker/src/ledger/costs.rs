//! What attempts cost, by day, namespace and function: written with what settles them, so that each counts once whatever
//! stops in between.
//!
//! The rows of the current day are in memory too, so that nothing is read for a settlement; a step writes one for each function
//! that it settles attempts of. What a namespace has used of its budget is the sum of its rows of the day, and needs no row of
//! its own.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use tq_core::limits::{COST_DAYS_MAX, COST_FUNCTIONS_MAX};
use tq_core::outcome::Usage;
use tq_core::planted::{Bug, is_planted};
use tq_core::task::Spec;
use tq_core::{Cost, Day, TaskId};

use super::{Error, Ledger};
use crate::dispatch::breakers::FunctionId;
use crate::store::{Batch, Direction, Key, Space};
use crate::tables::Namespace;
use crate::tables::{key, row};

/// Stands for the functions of a day beyond the first [`COST_FUNCTIONS_MAX`]. A function's name has a `/`.
const OTHERS: &str = "others";
/// Functions whose row is found without a look at its name. Each deploy makes others.
const KNOWN_MAX: usize = 16_384;
/// Rows of days that are over their time which a step removes.
const REMOVED_PER_STEP: usize = 256;

/// The costs of the current day.
#[derive(Debug, Default)]
pub(super) struct Costs {
    day: Day,
    rows: Vec<Row>,
    known: FxHashMap<FunctionId, Known>,
    by_name: BTreeMap<(Namespace, String), usize>,
    /// Rows of each namespace.
    counts: FxHashMap<Namespace, usize>,
    changed: Vec<usize>,
    /// Where the oldest rows are, while it is not known whether some are over their time.
    oldest: Option<Vec<u8>>,
}

/// The row of a function: of the module that it was found for last, since two modules may have the same bytes.
#[derive(Debug)]
struct Known {
    module: String,
    row: usize,
}

#[derive(Debug)]
struct Row {
    at: Key,
    cost: Cost,
    is_changed: bool,
}

impl Costs {
    /// Begins a day. What of the one before is not written is not written any more.
    pub(super) fn turn(&mut self, day: Day) {
        *self = Self {
            day,
            oldest: Some(Vec::new()),
            ..Self::default()
        };
    }

    /// Adds what an attempt of a function cost.
    pub(super) fn add(&mut self, namespace: Namespace, of: FunctionId, spec: &Spec, cost: &Cost) {
        let known = self.known.get(&of);
        let known = known.filter(|known| known.module == spec.module);
        let known = known.map(|known| known.row);
        let at = known.unwrap_or_else(|| self.find(namespace, of, spec));
        let row = &mut self.rows[at];
        row.cost.add(cost);
        if !row.is_changed {
            row.is_changed = true;
            self.changed.push(at);
        }
    }

    /// The row of a function, which is made if it is new today.
    fn find(&mut self, namespace: Namespace, of: FunctionId, spec: &Spec) -> usize {
        let name = format!("{}/{}", spec.module, spec.function);
        let known = self.by_name.get(&(namespace, name.clone())).copied();
        let at = known.unwrap_or_else(|| {
            let count = self.counts.get(&namespace).copied().unwrap_or(0);
            let is_full = count >= COST_FUNCTIONS_MAX;
            let name = if is_full { OTHERS.to_owned() } else { name };
            self.insert(namespace, name, Cost::default())
        });
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let module = spec.module.clone();
        self.known.insert(of, Known { module, row: at });
        at
    }

    fn insert(&mut self, namespace: Namespace, name: String, cost: Cost) -> usize {
        let (day, rows, counts) = (self.day, &mut self.rows, &mut self.counts);
        let at = self.by_name.entry((namespace, name));
        *at.or_insert_with_key(|(_, name)| {
            *counts.entry(namespace).or_default() += 1;
            rows.push(Row {
                at: key::cost(day, namespace, name),
                cost,
                is_changed: false,
            });
            rows.len() - 1
        })
    }

    /// Writes what has changed.
    pub(super) fn write(&mut self, batch: &mut Batch) {
        for at in self.changed.drain(..) {
            let row = &mut self.rows[at];
            row.is_changed = false;
            if !is_planted(Bug::CostForgotten) {
                batch.put(row.at.clone(), row::encode_cost(&row.cost));
            }
        }
    }
}

impl Ledger {
    /// Begins the day that it is by now, if that is another.
    pub(super) fn turn_day(&mut self) {
        let day = Day::of(self.time);
        if day == self.costs.day {
            return;
        }
        self.costs.turn(day);
        for namespace in self.shares.turn(day) {
            self.open_namespace(namespace);
        }
    }

    /// Takes up what the current day has cost so far.
    pub(super) fn recover_costs(&mut self) -> Result<(), Error> {
        let day = Day::of(self.time);
        self.costs.turn(day);
        self.shares.turn(day);
        for (at, bytes) in self.read_all(Space::Index, &key::costs_of_day(day))? {
            let Some((_, namespace, name)) = key::cost_of(&at) else {
                continue;
            };
            let cost = row::decode_cost(bytes)?;
            if !is_planted(Bug::FuelForgotten) {
                self.shares.recover_fuel(namespace, cost.fuel);
            }
            self.costs.insert(namespace, name.to_owned(), cost);
        }
        Ok(())
    }

    /// Counts an attempt once more whose report is repeated. That is a bug, which the simulation plants and has to find.
    pub(super) fn count_again(&mut self, id: TaskId, usage: &Usage) {
        let open = self.open.get(&id);
        if let Some((namespace, spec)) = open.map(|open| (open.namespace, &open.task.spec)) {
            let of = FunctionId::of(namespace, &spec.digest, &spec.function);
            let cost = Cost::of(usage, spec.limits.fuel, spec.payload.len(), 0);
            self.shares.recover_fuel(namespace, cost.fuel);
            self.costs.add(namespace, of, spec, &cost);
        }
    }

    /// Removes rows of days that are over their time, a bounded number of them. Returns whether there are more.
    pub(super) fn collect_costs(&mut self) -> Result<bool, Error> {
        let Some(from) = &self.costs.oldest else {
            return Ok(false);
        };
        let page = self.store.scan(
            Space::Index,
            &key::costs(),
            from,
            Direction::Ascending,
            REMOVED_PER_STEP,
        )?;
        let first = self.costs.day.before(COST_DAYS_MAX);
        let is_over = |key: &[u8]| key::cost_of(key).is_some_and(|(day, ..)| day < first);
        let mut removed = 0;
        for pair in page.iter().take_while(|pair| is_over(&pair.key)) {
            self.step
                .batch
                .delete(Key::new(Space::Index, pair.key.to_vec()));
            removed += 1;
        }
        let last = page.last().filter(|_| removed == REMOVED_PER_STEP);
        self.costs.oldest = last.map(|last| [&last.key[..], &[0]].concat());
        Ok(self.costs.oldest.is_some())
    }
}

#[cfg(any(test, feature = "simulation"))]
impl Costs {
    /// Every row of the current day.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Namespace, &str, Cost)> {
        let rows = self.by_name.iter();
        rows.map(|((namespace, name), at)| (*namespace, name.as_str(), self.rows[*at].cost))
    }

    /// The current day.
    pub(super) fn day(&self) -> Day {
        self.day
    }
}

#[cfg(test)]
mod tests {
    use tq_core::Digest;

    use super::*;
    use crate::ledger::tests::spec_of;

    #[test]
    fn functions_beyond_the_limit_are_kept_together_and_modules_of_the_same_bytes_apart() {
        let mut costs = Costs::default();
        costs.turn(Day(3));
        let namespace = Namespace(1);
        let one = Cost {
            attempts: 1,
            ..Cost::default()
        };
        let mut add = |module: &str, function: String| {
            let spec = spec_of(module, &function);
            let of = FunctionId::of(namespace, &Digest([7; 32]), &function);
            costs.add(namespace, of, &spec, &one);
        };
        // Two modules of the same bytes.
        for module in ["a", "b", "a"] {
            add(module, "f".to_owned());
        }
        for number in 0..COST_FUNCTIONS_MAX {
            add("a", format!("f{number}"));
        }
        add("a", "one more".to_owned());
        let attempts = |name: &str| {
            let row = costs.iter().find(|(_, row, _)| *row == name);
            row.map(|(.., cost)| cost.attempts)
        };
        assert_eq!(attempts("a/f"), Some(2));
        assert_eq!(attempts("b/f"), Some(1));
        assert_eq!(attempts("a/f0"), Some(1));
        assert_eq!(attempts(OTHERS), Some(3));
        assert_eq!(costs.rows.len(), COST_FUNCTIONS_MAX + 1);
    }
}
