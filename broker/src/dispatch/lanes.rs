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

use tq_core::limits::READY_WINDOW;
use tq_core::{Digest, Priority, TaskId, Tier};

use crate::tables::key::{Lane, Namespace, Position};

/// A lane at one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Who can run its tasks.
    pub lane: Lane,
    /// Their priority.
    pub priority: Priority,
}

/// What there may be behind a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behind {
    /// Nothing.
    #[default]
    Nothing,
    /// Rows.
    Rows,
    /// Rows that can be read only after the commit under way.
    Unread,
}

#[derive(Debug, Default)]
struct Line {
    window: VecDeque<TaskId>,
    behind: Behind,
    /// Rows behind the window come after this one.
    read_to: Position,
}

impl Line {
    /// Whether its first task can be had now.
    fn is_open(&self) -> bool {
        !self.window.is_empty() || self.behind == Behind::Rows
    }
}

impl Default for Position {
    fn default() -> Self {
        Self(0)
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
#[derive(Debug, Default)]
pub struct Lanes {
    tenants: BTreeMap<Namespace, Tenant>,
    /// The namespace that was served last.
    last: Option<Namespace>,
    in_window: usize,
    /// Where there are rows that can be read only after the commit under way.
    unread: Vec<Place>,
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
    /// Whether a task that becomes ready at `place` may go into the window: only if nothing is behind it already.
    pub fn room(&self, place: Place) -> Room {
        let behind = self
            .line(place)
            .is_some_and(|line| line.behind != Behind::Nothing);
        if behind || self.in_window >= READY_WINDOW {
            Room::Behind
        } else {
            Room::Window
        }
    }

    /// Puts a task at the end of the window. `position` is that of its row, if it has one.
    pub fn push(&mut self, place: Place, id: TaskId, position: Option<Position>) {
        let line = self.line_mut(place);
        line.window.push_back(id);
        line.read_to = line.read_to.max(position.unwrap_or_default());
        self.in_window += 1;
    }

    /// Notes that there are rows behind the window of `place`.
    pub fn mark_behind(&mut self, place: Place) {
        let line = self.line_mut(place);
        if line.behind == Behind::Nothing {
            line.behind = Behind::Rows;
        }
    }

    /// Where to go on reading rows when the window of `place` is empty; none if there is nothing behind it.
    pub fn read_from(&self, place: Place) -> Option<Position> {
        self.line(place)
            .filter(|line| line.window.is_empty() && line.behind == Behind::Rows)
            .map(|line| Position(line.read_to.0 + 1))
    }

    /// Takes what was read behind the window up to `read_to`, the first one first, and notes what is left there.
    pub fn refill(
        &mut self,
        place: Place,
        rows: impl IntoIterator<Item = (TaskId, Position)>,
        read_to: Position,
        behind: Behind,
    ) {
        for (id, position) in rows {
            self.push(place, id, Some(position));
        }
        let line = self.line_mut(place);
        line.read_to = line.read_to.max(read_to);
        line.behind = behind;
        if behind == Behind::Unread {
            self.unread.push(place);
        }
        self.forget_if_empty(place);
    }

    /// Whether there are rows that can be read after the commit under way.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Notes that what was written can be read.
    pub fn note_commit(&mut self) {
        for place in std::mem::take(&mut self.unread) {
            self.line_mut(place).behind = Behind::Rows;
        }
    }

    /// The place whose turn it is, among those whose module `can_run` accepts. Nothing is taken yet.
    pub fn pick(&mut self, can_run: impl Fn(&Digest) -> bool) -> Option<Place> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let turn = self
            .tenants
            .range((after, Bound::Unbounded))
            .chain(self.tenants.range(..));
        let namespaces: Vec<Namespace> = turn
            .map(|(namespace, _)| *namespace)
            .take(self.tenants.len())
            .collect();
        for namespace in namespaces {
            if let Some(place) = self
                .tenants
                .get_mut(&namespace)
                .and_then(|tenant| tenant.pick(namespace, &can_run))
            {
                self.last = Some(namespace);
                return Some(place);
            }
        }
        None
    }

    /// Takes the first task in the window of `place`.
    pub fn pop(&mut self, place: Place) -> Option<TaskId> {
        let id = self
            .tenants
            .get_mut(&place.lane.namespace)?
            .lines
            .get_mut(&at(place))?
            .window
            .pop_front();
        self.in_window -= usize::from(id.is_some());
        self.forget_if_empty(place);
        id
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

    fn forget_if_empty(&mut self, place: Place) {
        let Some(tenant) = self.tenants.get_mut(&place.lane.namespace) else {
            return;
        };
        if tenant
            .lines
            .get(&at(place))
            .is_some_and(|line| line.window.is_empty() && line.behind == Behind::Nothing)
        {
            tenant.lines.remove(&at(place));
        }
        if tenant.lines.is_empty() {
            self.tenants.remove(&place.lane.namespace);
        }
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
            Tier::High => (u8::MAX - 255, u8::MAX - 170),
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
        Some((
            place,
            lanes
                .pop(place)
                .expect("a place that was picked has a task"),
        ))
    }

    #[test]
    fn first_in_is_first_out_and_higher_priority_before_that() {
        let mut lanes = Lanes::default();
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
        let mut lanes = Lanes::default();
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
        let mut lanes = Lanes::default();
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
        let mut lanes = Lanes::default();
        lanes.push(place(1, 1, 200), id(1), None);
        lanes.push(place(1, 2, 10), id(2), None);
        assert_eq!(lanes.pick(|digest| digest.0[0] == 2), Some(place(1, 2, 10)));
        assert_eq!(lanes.pick(|_| false), None);
    }

    #[test]
    fn what_is_behind_the_window_comes_after_it_and_once() {
        let mut lanes = Lanes::default();
        let here = place(1, 1, 100);
        lanes.push(here, id(1), None);
        assert_eq!(lanes.room(here), Room::Window);
        lanes.mark_behind(here);
        assert_eq!(
            (lanes.room(here), lanes.read_from(here)),
            (Room::Behind, None)
        );
        assert_eq!(lanes.pop(here), Some(id(1)));
        assert_eq!(lanes.read_from(here), Some(Position(1)));
        lanes.refill(
            here,
            [(id(2), Position(5)), (id(3), Position(9))],
            Position(11),
            Behind::Rows,
        );
        assert_eq!(
            (lanes.pop(here), lanes.pop(here)),
            (Some(id(2)), Some(id(3)))
        );
        assert_eq!(lanes.read_from(here), Some(Position(12)));
        lanes.refill(here, [], Position(11), Behind::Unread);
        assert_eq!(
            (lanes.pick(|_| true), lanes.room(here), lanes.has_unread()),
            (None, Room::Behind, true)
        );
        lanes.note_commit();
        assert_eq!(
            (lanes.pick(|_| true), lanes.read_from(here)),
            (Some(here), Some(Position(12)))
        );
        lanes.refill(here, [], Position(11), Behind::Nothing);
        assert_eq!(
            (lanes.pick(|_| true), lanes.room(here)),
            (None, Room::Window)
        );
    }
}
