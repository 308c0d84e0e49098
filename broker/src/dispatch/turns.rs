//! Whose turn it is: namespaces by what they have used, tiers by weight, and in a tier the higher priority first.
//!
//! What cannot run now is not looked at: a queue that is closed, needs that no host meets, a line that is held back. Each
//! is one entry of an ordered set, taken out when it is found closed and put back when it may be open again, so that a
//! turn costs the logarithm of what is open, however much is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tq_core::limits::AGED_TURN;
use tq_core::{Priority, Tier, Timestamp};

use super::lanes::Place;
use super::needs::{Conditions, Needs, NeedsId};
use crate::tables::Namespace;
use crate::tables::key::{Lane, LaneId, QueueId};

/// What an attempt is taken to use of a slot before one of its namespace has ended, in microseconds.
const FIRST_ESTIMATE_US: u64 = 1_000;

/// Where a line stands among those that are open. The lower comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// The inverted priority.
    rank: u8,
    /// Among those of one priority: when it was served last or, in a queue that is first in first out, since when its
    /// first task has waited.
    turn: u64,
    /// Since when its first task has waited.
    since: u64,
}

impl Standing {
    /// A line whose turn it is by the order of service.
    pub fn by_turn(priority: Priority, served: u64, since: Timestamp) -> Self {
        Self {
            rank: u8::MAX - priority.0,
            turn: served,
            // To the second, so that a busy line is not sorted anew with each of its tasks.
            since: since.0 / 1_000 * 1_000,
        }
    }

    /// A line whose turn it is by the age of its first task.
    pub fn by_age(priority: Priority, since: Timestamp) -> Self {
        Self {
            rank: u8::MAX - priority.0,
            turn: since.0,
            since: since.0,
        }
    }
}

/// How the next one is chosen.
#[derive(Clone, Copy, Debug)]
enum By {
    Rank,
    Age,
}

/// Things in the order of their standing, and in that of their age.
#[derive(Debug)]
struct Ranked<T> {
    standings: BTreeMap<T, Standing>,
    by_rank: BTreeSet<(u8, u64, T)>,
    by_age: BTreeSet<(u64, T)>,
}

impl<T> Default for Ranked<T> {
    fn default() -> Self {
        Self {
            standings: BTreeMap::new(),
            by_rank: BTreeSet::new(),
            by_age: BTreeSet::new(),
        }
    }
}

impl<T: Copy + Ord> Ranked<T> {
    /// Puts something where it stands; none takes it out. Returns whether that changes anything.
    fn set(&mut self, item: T, standing: Option<Standing>) -> bool {
        let before = self.standings.get(&item).copied();
        if before == standing {
            return false;
        }
        if let Some(before) = before {
            self.by_rank.remove(&(before.rank, before.turn, item));
            self.by_age.remove(&(before.since, item));
        }
        match standing {
            Some(standing) => {
                self.standings.insert(item, standing);
                self.by_rank.insert((standing.rank, standing.turn, item));
                self.by_age.insert((standing.since, item));
            }
            None => drop(self.standings.remove(&item)),
        }
        true
    }

    /// Where all of it stands, as one.
    fn best(&self) -> Option<Standing> {
        let (rank, turn, _) = self.by_rank.first()?;
        let (since, _) = self.by_age.first()?;
        Some(Standing {
            rank: *rank,
            turn: *turn,
            since: *since,
        })
    }

    fn first(&self, by: By) -> Option<T> {
        match by {
            By::Rank => self.by_rank.first().map(|(_, _, item)| *item),
            By::Age => self.by_age.first().map(|(_, item)| *item),
        }
    }

    fn is_empty(&self) -> bool {
        self.standings.is_empty()
    }
}

/// A line as its group knows it.
type LineId = (u8, LaneId);

/// The tasks of one queue and tier that the same hosts can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Group {
    namespace: Namespace,
    tier: usize,
    queue: QueueId,
    needs: NeedsId,
}

impl Group {
    /// Where one of its lines is.
    fn place(&self, (inverted, id): LineId) -> Place {
        Place {
            lane: Lane {
                namespace: self.namespace,
                id,
            },
            priority: Priority(u8::MAX - inverted),
        }
    }
}

#[derive(Debug)]
struct Demand {
    needs: Arc<Needs>,
    is_closed: bool,
    groups: BTreeSet<Group>,
}

#[derive(Debug, Default)]
struct TierTurns {
    /// The queues that are open, of those that have something open.
    queues: Ranked<QueueId>,
    /// Starts that are left of its turn.
    left: u32,
    /// Starts so far, as far as they tell whose turn it is.
    starts: u32,
}

#[derive(Debug, Default)]
struct Tenant {
    /// In the order of [`Tier::ALL`].
    tiers: [TierTurns; 3],
    /// Lines that are open or closed, but not held back.
    lines: usize,
    /// What it has used of slots, in microseconds, and at least what the least of those that waited had when it came.
    used_us: u64,
    /// What its next attempt will use, by those that ended.
    estimate_us: Option<u64>,
    /// Nothing of it may start.
    is_closed: bool,
    /// Its entry in the order of tenants.
    entry: Option<u64>,
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct Turns {
    tenants: BTreeMap<Namespace, Tenant>,
    /// Those that have something open, the one that has used least first.
    order: BTreeSet<(u64, Namespace)>,
    /// What the one that was served last had used.
    floor_us: u64,
    groups: FxHashMap<Group, Ranked<LineId>>,
    queues: FxHashMap<(Namespace, usize, QueueId), Ranked<NeedsId>>,
    closed_queues: BTreeSet<(Namespace, QueueId)>,
    demands: BTreeMap<NeedsId, Demand>,
}

impl Turns {
    /// Puts a line where it stands; none if it has nothing or is held back.
    pub fn set(&mut self, conditions: &Conditions, priority: Priority, standing: Option<Standing>) {
        let group = Group {
            namespace: conditions.lane.namespace,
            tier: index(priority.tier()),
            queue: conditions.queue,
            needs: conditions.needs_id,
        };
        let line = (u8::MAX - priority.0, conditions.lane.id);
        if standing.is_some() && !self.groups.contains_key(&group) {
            let demand = self
                .demands
                .entry(conditions.needs_id)
                .or_insert_with(|| Demand {
                    needs: Arc::clone(&conditions.needs),
                    is_closed: false,
                    groups: BTreeSet::new(),
                });
            demand.groups.insert(group);
        }
        let lines = self.groups.entry(group).or_default();
        let before = lines.standings.len();
        let is_changed = lines.set(line, standing);
        let after = lines.standings.len();
        if is_changed {
            let tenant = self.tenants.entry(group.namespace).or_default();
            tenant.lines = tenant.lines + after - before;
        }
        if after == 0 {
            self.groups.remove(&group);
            if let Some(demand) = self.demands.get_mut(&group.needs) {
                demand.groups.remove(&group);
                if demand.groups.is_empty() {
                    self.demands.remove(&group.needs);
                }
            }
        }
        if is_changed {
            self.rank_group(group);
        }
    }

    /// The line whose turn it is. Nothing is taken yet.
    pub fn pick(&mut self) -> Option<Place> {
        let (_, namespace) = *self.order.first()?;
        let tenant = self.tenants.get_mut(&namespace)?;
        // A tier that has used up its turn waits until the others have had theirs, or have nothing to run.
        let has_turn =
            |tier: &TierTurns, renewed| (renewed || tier.left > 0) && !tier.queues.is_empty();
        let find = |tenant: &Tenant, renewed| {
            let mut tiers = tenant.tiers.iter();
            tiers.position(|tier| has_turn(tier, renewed))
        };
        let tier = match find(tenant, false) {
            Some(tier) => tier,
            None => {
                for (tier, turns) in Tier::ALL.into_iter().zip(&mut tenant.tiers) {
                    turns.left = tier.weight();
                }
                find(tenant, true)?
            }
        };
        let turns = &tenant.tiers[tier];
        let by = if turns.starts % AGED_TURN == AGED_TURN - 1 {
            By::Age
        } else {
            By::Rank
        };
        let queue = turns.queues.first(by)?;
        let needs = self.queues.get(&(namespace, tier, queue))?.first(by)?;
        let group = Group {
            namespace,
            tier,
            queue,
            needs,
        };
        Some(group.place(self.groups.get(&group)?.first(by)?))
    }

    /// Counts a start of a task of `place`. Returns what it is taken to use of its slot, in microseconds.
    pub fn started(&mut self, place: Place) -> u64 {
        let Some(tenant) = self.tenants.get_mut(&place.lane.namespace) else {
            return 0;
        };
        let turns = &mut tenant.tiers[index(place.priority.tier())];
        turns.left = turns.left.saturating_sub(1);
        turns.starts = turns.starts.wrapping_add(1);
        self.floor_us = self.floor_us.max(tenant.used_us);
        let charge = tenant.estimate_us.unwrap_or(FIRST_ESTIMATE_US);
        tenant.used_us += charge;
        self.rank_tenant(place.lane.namespace);
        charge
    }

    /// Takes note of what an attempt has used of its slot, for which `charged` was counted.
    pub fn ended(&mut self, namespace: Namespace, used_us: u64, charged_us: u64) {
        let Some(tenant) = self.tenants.get_mut(&namespace) else {
            return;
        };
        let estimate = tenant.estimate_us.unwrap_or(used_us);
        tenant.estimate_us = Some((estimate * 7 + used_us).div_ceil(8).max(1));
        tenant.used_us = (tenant.used_us + used_us).saturating_sub(charged_us);
        self.rank_tenant(namespace);
    }

    /// Whether lines of a namespace have others beside them, so that it matters which was served last.
    pub fn has_others(&self, namespace: Namespace) -> bool {
        self.tenants
            .get(&namespace)
            .is_some_and(|tenant| tenant.lines > 1)
    }

    /// Takes all of a namespace out, or puts it back.
    pub fn set_namespace(&mut self, namespace: Namespace, is_open: bool) {
        self.tenants.entry(namespace).or_default().is_closed = !is_open;
        self.rank_tenant(namespace);
    }

    /// Takes a queue out, or puts it back.
    pub fn set_queue(&mut self, namespace: Namespace, queue: QueueId, is_open: bool) {
        let is_changed = if is_open {
            self.closed_queues.remove(&(namespace, queue))
        } else {
            self.closed_queues.insert((namespace, queue))
        };
        if is_changed {
            (0..Tier::ALL.len()).for_each(|tier| self.rank_queue(namespace, tier, queue));
        }
    }

    /// Takes out what no host can run.
    pub fn close_needs(&mut self, id: NeedsId) {
        self.set_needs(id, true);
    }

    /// Puts back what hosts may be able to run now, as `is_met` says.
    pub fn open_needs(&mut self, is_met: impl Fn(&Needs) -> bool) {
        let met: Vec<_> = self
            .demands
            .iter()
            .filter(|(_, demand)| demand.is_closed && is_met(&demand.needs))
            .map(|(id, _)| *id)
            .collect();
        met.into_iter().for_each(|id| self.set_needs(id, false));
    }

    /// All that is needed of hosts.
    pub fn needs(&self) -> impl Iterator<Item = &Arc<Needs>> {
        self.demands.values().map(|demand| &demand.needs)
    }

    /// A line of tasks whose needs are `of`, whether it may run or not.
    pub fn line_of(&self, of: impl Fn(&Needs) -> bool) -> Option<(Place, Arc<Needs>)> {
        let demand = self.demands.values().find(|demand| of(&demand.needs))?;
        let group = demand.groups.first()?;
        let place = group.place(self.groups.get(group)?.first(By::Rank)?);
        Some((place, Arc::clone(&demand.needs)))
    }

    fn set_needs(&mut self, id: NeedsId, is_closed: bool) {
        let Some(demand) = self.demands.get_mut(&id) else {
            return;
        };
        demand.is_closed = is_closed;
        let groups: Vec<_> = demand.groups.iter().copied().collect();
        groups.into_iter().for_each(|group| self.rank_group(group));
    }

    fn rank_group(&mut self, group: Group) {
        let Group {
            namespace,
            tier,
            queue,
            needs,
        } = group;
        let is_closed = self
            .demands
            .get(&needs)
            .is_some_and(|demand| demand.is_closed);
        let standing = self
            .groups
            .get(&group)
            .filter(|_| !is_closed)
            .and_then(Ranked::best);
        let queues = self.queues.entry((namespace, tier, queue)).or_default();
        if !queues.set(needs, standing) {
            return;
        }
        if queues.is_empty() {
            self.queues.remove(&(namespace, tier, queue));
        }
        self.rank_queue(namespace, tier, queue);
    }

    fn rank_queue(&mut self, namespace: Namespace, tier: usize, queue: QueueId) {
        let is_closed = self.closed_queues.contains(&(namespace, queue));
        let standing = self
            .queues
            .get(&(namespace, tier, queue))
            .filter(|_| !is_closed)
            .and_then(Ranked::best);
        let Some(tenant) = self.tenants.get_mut(&namespace) else {
            return;
        };
        if tenant.tiers[tier].queues.set(queue, standing) {
            self.rank_tenant(namespace);
        }
    }

    fn rank_tenant(&mut self, namespace: Namespace) {
        let Some(tenant) = self.tenants.get_mut(&namespace) else {
            return;
        };
        let is_open = !tenant.is_closed && tenant.tiers.iter().any(|tier| !tier.queues.is_empty());
        let entry = match (tenant.entry, is_open) {
            (None, true) => {
                // What it did not use while it had nothing to run is not saved up.
                tenant.used_us = tenant.used_us.max(self.floor_us);
                Some(tenant.used_us)
            }
            (Some(_), true) => Some(tenant.used_us),
            (_, false) => None,
        };
        if entry == tenant.entry {
            return;
        }
        let before = std::mem::replace(&mut tenant.entry, entry);
        if let Some(before) = before {
            self.order.remove(&(before, namespace));
        }
        if let Some(entry) = entry {
            self.order.insert((entry, namespace));
        }
    }
}

fn index(tier: Tier) -> usize {
    match tier {
        Tier::High => 0,
        Tier::Normal => 1,
        Tier::Low => 2,
    }
}
