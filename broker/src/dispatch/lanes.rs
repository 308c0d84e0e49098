//! Ready tasks in the order in which they are to run.
//!
//! A *lane* is the set of tasks that the same hosts can run. Namespaces take turns; in a namespace the tiers share by
//! weight, and in a tier the higher priority comes first; lanes of one priority take turns, and in a lane the first in
//! is the first out.
//!
//! Only the front of each lane is in memory: the *window*. What is behind it are index rows, read when the window of
//! that lane runs empty.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use tq_core::{Digest, Priority, TaskId, Tier};

use crate::tables::key::{Lane, Namespace, Position};

/// Tasks that are read at once when the window of a lane is empty.
const REFILL: usize = 256;
/// Stale entries that a window may have beside as many as it has live ones.
const STALE_MAX: usize = 64;

/// A lane at one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Who can run its tasks.
    pub lane: Lane,
    /// Their priority.
    pub priority: Priority,
}

/// A task's hold on its entry in a window. An entry whose task holds another one, or none, is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

#[derive(Debug, Default)]
struct Line {
    window: VecDeque<(TaskId, Ticket)>,
    /// Entries of the window that are not stale.
    live: usize,
    /// There are rows behind the window.
    has_behind: bool,
    /// They come after this one.
    read_to: Position,
    /// Those of them that the commit under way writes, so that no scan finds them yet, with their tasks.
    fresh: VecDeque<(Position, Vec<TaskId>)>,
}

impl Line {
    /// Whether a task of it can be had.
    fn is_open(&self) -> bool {
        self.live > 0 || self.has_behind
    }
}

/// Where a task that became ready goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Into the window.
    Window,
    /// Behind it: it has to be a row.
    Behind,
}

/// All ready tasks, by namespace, tier and lane.
#[derive(Debug)]
pub struct Lanes {
    tenants: BTreeMap<Namespace, Tenant>,
    /// The namespace that was served last.
    last: Option<Namespace>,
    /// Entries that all windows together hold.
    window_max: usize,
    in_window: usize,
    last_ticket: u64,
    /// Where there are rows that the commit under way writes.
    fresh: Vec<Place>,
}

#[derive(Debug, Default)]
struct Tenant {
    /// By the inverted priority, so that the highest comes first.
    lines: BTreeMap<(u8, Digest), Line>,
    /// What each tier has left of its turn, in the order of [`Tier::ALL`].
    turns: [u32; 3],
    /// The lane that was served last at each priority.
    last: BTreeMap<u8, Digest>,
}

impl Lanes {
    /// No lanes yet. Their windows hold `window_max` tasks together; a lane that finds no room has [`REFILL`] of its own.
    pub fn new(window_max: usize) -> Self {
        Self {
            tenants: BTreeMap::new(),
            last: None,
            window_max,
            in_window: 0,
            last_ticket: 0,
            fresh: Vec::new(),
        }
    }

    /// Tasks that are read at once, and entries that a lane may have however full the others are.
    pub fn refill(&self) -> usize {
        REFILL.min(self.window_max)
    }

    /// Whether the windows hold all that they may.
    pub fn is_full(&self) -> bool {
        self.in_window >= self.window_max
    }

    /// Tasks in all windows.
    #[cfg(any(test, feature = "simulation"))]
    pub fn in_window(&self) -> usize {
        self.in_window
    }

    /// Whether the row at `position` is still to be read behind the window of `place`.
    #[cfg(any(test, feature = "simulation"))]
    pub fn leads_to(&self, place: Place, position: Position) -> bool {
        self.line(place)
            .is_some_and(|line| line.has_behind && position > line.read_to)
    }

    /// Whether a task that becomes ready at `place` may go into the window: only if nothing is behind it already.
    pub fn room(&self, place: Place) -> Room {
        let line = self.line(place);
        let has_behind = line.is_some_and(|line| line.has_behind);
        // Lanes that nobody serves may fill the window; they must not slow down the others.
        let has_room = !self.is_full() || line.map_or(0, |line| line.live) < self.refill();
        if has_room && !has_behind {
            Room::Window
        } else {
            Room::Behind
        }
    }

    /// Puts a task at the end of the window. `position` is that of its row, if it has one.
    pub fn push(&mut self, place: Place, id: TaskId, position: Option<Position>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let line = self.line_mut(place);
        line.window.push_back((id, ticket));
        line.live += 1;
        line.read_to = line.read_to.max(position.unwrap_or_default());
        self.in_window += 1;
        ticket
    }

    /// Puts a task behind the window. The commit under way writes its row, which others may share.
    pub fn push_behind(&mut self, place: Place, id: TaskId, position: Position) {
        self.mark_behind(place, position);
        let fresh = &mut self.line_mut(place).fresh;
        match fresh.back_mut() {
            Some((last, ids)) if *last == position => ids.push(id),
            last => {
                let is_first = last.is_none();
                fresh.push_back((position, vec![id]));
                if is_first {
                    self.fresh.push(place);
                }
            }
        }
    }

    /// Notes that there are rows behind the window of `place`, none of them before `position`.
    pub fn mark_behind(&mut self, place: Place, position: Position) {
        let line = self.line_mut(place);
        if !line.has_behind {
            line.has_behind = true;
            // A scan from further ahead would wade through what is left of rows that were deleted.
            line.read_to = line.read_to.max(Position(position.0.saturating_sub(1)));
        }
    }

    /// Where to go on reading rows when the window of `place` is empty; none if there is nothing behind it.
    pub fn read_from(&self, place: Place) -> Option<Position> {
        self.line(place)
            .filter(|line| line.live == 0 && line.has_behind)
            .map(|line| Position(line.read_to.0 + 1))
    }

    /// Notes that the rows behind the window were read up to `read_to`. If they ended there, returns the next ones that
    /// the commit under way writes, with their tasks; they count as read.
    pub fn note_read(
        &mut self,
        place: Place,
        read_to: Position,
        reached_end: bool,
    ) -> Vec<(Position, Vec<TaskId>)> {
        let limit = self.refill();
        let line = self.line_mut(place);
        line.read_to = line.read_to.max(read_to);
        let mut fresh = Vec::new();
        if reached_end {
            let mut tasks = 0;
            while tasks < limit
                && let Some((position, ids)) = line.fresh.pop_front()
            {
                tasks += ids.len();
                line.read_to = position;
                fresh.push((position, ids));
            }
            line.has_behind = !line.fresh.is_empty();
        }
        fresh
    }

    /// Notes that what was written can be read.
    pub fn note_commit(&mut self) {
        for place in std::mem::take(&mut self.fresh) {
            let tenant = self.tenants.get_mut(&place.lane.namespace);
            if let Some(line) = tenant.and_then(|tenant| tenant.lines.get_mut(&at(place))) {
                line.fresh.clear();
            }
        }
    }

    /// The place whose turn it is, among those whose module `can_run` accepts. Nothing is taken yet.
    pub fn pick(&mut self, can_run: impl Fn(&Digest) -> bool) -> Option<Place> {
        let mut after = self.last;
        for _ in 0..self.tenants.len() {
            let rest = (
                after.map_or(Bound::Unbounded, Bound::Excluded),
                Bound::Unbounded,
            );
            let next = self
                .tenants
                .range(rest)
                .next()
                .or_else(|| self.tenants.iter().next());
            let namespace = *next?.0;
            let tenant = self.tenants.get_mut(&namespace)?;
            if let Some(place) = tenant.pick(namespace, &can_run) {
                self.last = Some(namespace);
                return Some(place);
            }
            after = Some(namespace);
        }
        None
    }

    /// Takes the first entry out of the window of `place`. If it is not stale, its task [leaves](Self::leave).
    pub fn pop(&mut self, place: Place) -> Option<(TaskId, Ticket)> {
        let tenant = self.tenants.get_mut(&place.lane.namespace)?;
        tenant.lines.get_mut(&at(place))?.window.pop_front()
    }

    /// Notes that an entry in the window of `place` is stale from now on. Returns whether so many are that it is time to
    /// [sweep](Self::sweep) them out.
    pub fn leave(&mut self, place: Place) -> bool {
        self.in_window -= 1;
        let line = self.line_mut(place);
        line.live -= 1;
        if line.live == 0 {
            line.window.clear();
            self.forget_if_empty(place);
            return false;
        }
        line.window.len() > 2 * line.live + STALE_MAX
    }

    /// Removes the stale entries of a window; `is_live` tells which are not.
    pub fn sweep(&mut self, place: Place, is_live: impl Fn(TaskId, Ticket) -> bool) {
        self.line_mut(place)
            .window
            .retain(|(id, ticket)| is_live(*id, *ticket));
    }

    /// Forgets a lane that has nothing left.
    pub fn forget_if_empty(&mut self, place: Place) {
        let Some(tenant) = self.tenants.get_mut(&place.lane.namespace) else {
            return;
        };
        if tenant
            .lines
            .get(&at(place))
            .is_some_and(|line| !line.is_open())
        {
            tenant.lines.remove(&at(place));
        }
        if tenant.lines.is_empty() {
            self.tenants.remove(&place.lane.namespace);
        }
    }

    /// The lanes that have tasks, in no order that matters.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> + '_ {
        self.tenants.iter().flat_map(|(namespace, tenant)| {
            tenant.lines.keys().map(|(_, digest)| Lane {
                namespace: *namespace,
                digest: *digest,
            })
        })
    }

    fn line(&self, place: Place) -> Option<&Line> {
        self.tenants
            .get(&place.lane.namespace)?
            .lines
            .get(&at(place))
    }

    fn line_mut(&mut self, place: Place) -> &mut Line {
        self.tenants
            .entry(place.lane.namespace)
            .or_default()
            .lines
            .entry(at(place))
            .or_default()
    }
}

impl Tenant {
    fn pick(&mut self, namespace: Namespace, can_run: &impl Fn(&Digest) -> bool) -> Option<Place> {
        // A tier that has used up its turn waits until the others have had theirs, or have nothing to run.
        for renewed in [false, true] {
            if renewed {
                self.turns = Tier::ALL.map(Tier::weight);
            }
            for (index, tier) in Tier::ALL.into_iter().enumerate() {
                if self.turns[index] == 0 {
                    continue;
                }
                if let Some((inverted, digest)) = self.first(tier, can_run) {
                    self.turns[index] -= 1;
                    self.last.insert(inverted, digest);
                    return Some(Place {
                        lane: Lane { namespace, digest },
                        priority: Priority(u8::MAX - inverted),
                    });
                }
            }
        }
        None
    }

    /// The highest priority of a tier that has a lane to run, and the lane whose turn it is there.
    fn first(&self, tier: Tier, can_run: &impl Fn(&Digest) -> bool) -> Option<(u8, Digest)> {
        let (from, to) = match tier {
            Tier::High => (0, u8::MAX - 170),
            Tier::Normal => (u8::MAX - 169, u8::MAX - 85),
            Tier::Low => (u8::MAX - 84, u8::MAX),
        };
        let bounds = (from, Digest([0; 32]))..=(to, Digest([u8::MAX; 32]));
        let can_run = |at: &(&(u8, Digest), &Line)| at.1.is_open() && can_run(&at.0.1);
        let (inverted, first) = *self.lines.range(bounds).find(can_run)?.0;
        let after_last = self.last.get(&inverted).and_then(|last| {
            let after = Bound::Excluded((inverted, *last));
            let end = Bound::Included((inverted, Digest([u8::MAX; 32])));
            self.lines
                .range((after, end))
                .find(can_run)
                .map(|((_, digest), _)| *digest)
        });
        Some((inverted, after_last.unwrap_or(first)))
    }
}

fn at(place: Place) -> (u8, Digest) {
    (u8::MAX - place.priority.0, place.lane.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(namespace: u32, module: u8, priority: u8) -> Place {
        Place {
            lane: Lane {
                namespace: Namespace(namespace),
                digest: Digest([module; 32]),
            },
            priority: Priority(priority),
        }
    }

    fn id(n: u8) -> TaskId {
        TaskId([n; 16])
    }

    fn take(lanes: &mut Lanes) -> Option<(Place, TaskId)> {
        let place = lanes.pick(|_| true)?;
        let (id, _) = lanes
            .pop(place)
            .expect("a place that was picked has a task");
        lanes.leave(place);
        Some((place, id))
    }

    #[test]
    fn first_in_is_first_out_and_higher_priority_before_that() {
        let mut lanes = Lanes::new(1_000);
        for (n, priority) in [(1, 100), (2, 100), (3, 120)] {
            lanes.push(place(1, 1, priority), id(n), None);
        }
        let order: Vec<_> = std::iter::from_fn(|| take(&mut lanes))
            .map(|(_, id)| id.0[0])
            .collect();
        assert_eq!(order, [3, 1, 2]);
    }

    #[test]
    fn tiers_share_by_weight() {
        let mut lanes = Lanes::new(1_000);
        for n in 0..130 {
            for priority in [10, 100, 200] {
                lanes.push(place(1, 1, priority), id(n), None);
            }
        }
        let mut counts = BTreeMap::new();
        for _ in 0..130 {
            let (place, _) = take(&mut lanes).expect("there is work");
            *counts.entry(place.priority.tier()).or_insert(0) += 1;
        }
        assert_eq!(
            counts,
            BTreeMap::from([(Tier::High, 80), (Tier::Normal, 40), (Tier::Low, 10)])
        );
    }

    #[test]
    fn namespaces_and_lanes_take_turns() {
        let mut lanes = Lanes::new(1_000);
        for n in 0..4 {
            for (namespace, module) in [(1, 1), (1, 2), (2, 1)] {
                lanes.push(place(namespace, module, 100), id(n), None);
            }
        }
        let order: Vec<_> = (0..8)
            .map(|_| take(&mut lanes).expect("there is work").0.lane)
            .map(|lane| (lane.namespace.0, lane.digest.0[0]))
            .collect();
        assert_eq!(
            order,
            [
                (1, 1),
                (2, 1),
                (1, 2),
                (2, 1),
                (1, 1),
                (2, 1),
                (1, 2),
                (2, 1)
            ]
        );
    }

    #[test]
    fn lane_that_no_host_can_run_holds_up_nobody() {
        let mut lanes = Lanes::new(1_000);
        lanes.push(place(1, 1, 200), id(1), None);
        lanes.push(place(1, 2, 10), id(2), None);
        assert_eq!(lanes.pick(|digest| digest.0[0] == 2), Some(place(1, 2, 10)));
        assert_eq!(lanes.pick(|_| false), None);
    }

    #[test]
    fn what_is_behind_the_window_comes_after_it_and_once() {
        let mut lanes = Lanes::new(1_000);
        let here = place(1, 1, 100);
        lanes.push(here, id(1), None);
        assert_eq!(lanes.room(here), Room::Window);
        lanes.mark_behind(here, Position(5));
        assert_eq!(
            (lanes.room(here), lanes.read_from(here)),
            (Room::Behind, None)
        );
        assert_eq!(take(&mut lanes), Some((here, id(1))));
        assert_eq!(
            (lanes.pick(|_| true), lanes.read_from(here)),
            (Some(here), Some(Position(5)))
        );
        lanes.push_behind(here, id(3), Position(12));
        assert_eq!(lanes.note_read(here, Position(11), false), []);
        assert_eq!(
            (lanes.room(here), lanes.read_from(here)),
            (Room::Behind, Some(Position(12)))
        );
        // No scan finds what the commit under way writes; it is had from memory, and once.
        assert_eq!(
            lanes.note_read(here, Position(11), true),
            [(Position(12), vec![id(3)])]
        );
        assert_eq!(lanes.room(here), Room::Window);
        lanes.push_behind(here, id(4), Position(13));
        lanes.note_commit();
        assert_eq!(lanes.read_from(here), Some(Position(13)));
        assert_eq!(lanes.note_read(here, Position(13), true), []);
        lanes.forget_if_empty(here);
        assert_eq!((lanes.pick(|_| true), lanes.lanes().count()), (None, 0));
    }

    #[test]
    fn stale_entries_take_no_room() {
        let mut lanes = Lanes::new(2);
        let (idle, busy) = (place(1, 1, 100), place(1, 2, 100));
        lanes.push(idle, id(1), None);
        lanes.push(idle, id(2), None);
        assert_eq!(
            (lanes.room(idle), lanes.room(busy)),
            (Room::Behind, Room::Window)
        );
        assert!(!lanes.leave(idle));
        assert_eq!((lanes.room(idle), lanes.in_window()), (Room::Window, 1));
        let kept = lanes.push(idle, id(3), None);
        let mut is_time = false;
        for n in 0..STALE_MAX + 8 {
            lanes.push(idle, id(n as u8), None);
            is_time |= lanes.leave(idle);
        }
        assert!(is_time);
        lanes.leave(idle);
        lanes.sweep(idle, |_, ticket| ticket == kept);
        assert_eq!(
            (lanes.pop(idle), lanes.pop(idle)),
            (Some((id(3), kept)), None)
        );
    }
}
