//! Ready tasks in the order in which they are to run.
//!
//! A *lane* is the set of tasks that may run under the same conditions, and a *line* those of them that have the same
//! priority: the first in is the first out. [`Turns`] decides between lines.
//!
//! Only the front of each line is in memory: the *window*. What is behind it are index rows, read when the window of
//! that line runs empty.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tq_core::queue::Order;
use tq_core::{Priority, TaskId, Timestamp};

use super::breakers::FunctionId;
use super::needs::{Conditions, Needs, NeedsId};
use super::turns::{Standing, Turns};
use crate::tables::Namespace;
use crate::tables::key::{Lane, Position, QueueId};

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

#[derive(Debug)]
struct Line {
    conditions: Arc<Conditions>,
    /// Its queue is first in first out.
    is_fifo: bool,
    window: VecDeque<(TaskId, Ticket, Timestamp)>,
    /// Entries of the window that are not stale.
    live: usize,
    /// There are rows behind the window.
    has_behind: bool,
    /// They come after this one.
    read_to: Position,
    /// Those of them that the commit under way writes, so that no scan finds them yet, with their tasks.
    fresh: VecDeque<(Position, Vec<TaskId>)>,
    /// Since when its first task has waited, or a little longer.
    since: Timestamp,
    /// When it was served last.
    served: u64,
    /// As many tasks of its concurrency key run as may, or the breaker of its function lets nothing through.
    is_held: bool,
}

impl Line {
    /// Whether a task of it can be had.
    fn is_open(&self) -> bool {
        self.live > 0 || self.has_behind
    }

    fn standing(&self, priority: Priority) -> Option<Standing> {
        if self.is_held || !self.is_open() {
            None
        } else if self.is_fifo {
            Some(Standing::by_age(priority, self.since))
        } else {
            Some(Standing::by_turn(priority, self.served, self.since))
        }
    }
}

/// Where a task waits: its line, and the conditions that it shares with the others of it.
#[derive(Clone, Debug)]
pub struct Spot {
    /// The conditions.
    pub conditions: Arc<Conditions>,
    /// The priority of the line, which is the same for all in a queue that is first in first out.
    pub priority: Priority,
    /// The order of its queue.
    pub order: Order,
}

impl Spot {
    /// Its line.
    pub fn place(&self) -> Place {
        Place {
            lane: self.conditions.lane,
            priority: self.priority,
        }
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

/// All ready tasks, by line.
#[derive(Debug)]
pub struct Lanes {
    lines: FxHashMap<Place, Line>,
    turns: Turns,
    /// Entries that all windows together hold.
    window_max: usize,
    in_window: usize,
    last_ticket: u64,
    /// Where there are rows that the commit under way writes.
    fresh: Vec<Place>,
    /// Lines that are held back because the breaker of their function lets nothing through.
    stopped: FxHashMap<FunctionId, BTreeSet<Place>>,
    /// Starts so far.
    starts: u64,
}

impl Lanes {
    /// No lanes yet. Their windows hold `window_max` tasks together; a line that finds no room has [`REFILL`] of its own.
    pub fn new(window_max: usize) -> Self {
        Self {
            lines: FxHashMap::default(),
            turns: Turns::default(),
            window_max,
            in_window: 0,
            last_ticket: 0,
            fresh: Vec::new(),
            stopped: FxHashMap::default(),
            starts: 0,
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
        self.lines
            .get(&place)
            .is_some_and(|line| line.has_behind && position > line.read_to)
    }

    /// Whether a task that becomes ready at `place` may go into the window: only if nothing is behind it already.
    pub fn room(&self, place: Place) -> Room {
        let line = self.lines.get(&place);
        let has_behind = line.is_some_and(|line| line.has_behind);
        // Lanes that nobody serves may fill the window; they must not slow down the others.
        let has_room = !self.is_full() || line.map_or(0, |line| line.live) < self.refill();
        if has_room && !has_behind {
            Room::Window
        } else {
            Room::Behind
        }
    }

    /// Puts a task at the end of the window. It has waited since `since`; `position` is that of its row, if it has one.
    pub fn push(
        &mut self,
        spot: &Spot,
        id: TaskId,
        since: Timestamp,
        position: Option<Position>,
    ) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let line = self.line_mut(spot, since);
        let was_first = line.live == 0;
        line.window.push_back((id, ticket, since));
        line.live += 1;
        line.read_to = line.read_to.max(position.unwrap_or_default());
        if was_first {
            line.since = since;
        }
        self.in_window += 1;
        if was_first {
            self.rank(spot.place());
        }
        ticket
    }

    /// Puts a task behind the window. The commit under way writes its row, which others may share.
    pub fn push_behind(&mut self, spot: &Spot, id: TaskId, since: Timestamp, position: Position) {
        self.mark_behind(spot, since, position);
        let place = spot.place();
        let Some(line) = self.lines.get_mut(&place) else {
            return;
        };
        match line.fresh.back_mut() {
            Some((last, ids)) if *last == position => ids.push(id),
            last => {
                let is_first = last.is_none();
                line.fresh.push_back((position, vec![id]));
                if is_first {
                    self.fresh.push(place);
                }
            }
        }
    }

    /// Notes that there are rows behind the window of a line, none of them before `position`. Their first task has
    /// waited since `since`.
    pub fn mark_behind(&mut self, spot: &Spot, since: Timestamp, position: Position) {
        let line = self.line_mut(spot, since);
        if line.has_behind {
            return;
        }
        line.has_behind = true;
        // A scan from further ahead would wade through what is left of rows that were deleted.
        line.read_to = line.read_to.max(Position(position.0.saturating_sub(1)));
        self.rank(spot.place());
    }

    /// Where to go on reading rows when the window of `place` is empty; none if there is nothing behind it.
    pub fn read_from(&self, place: Place) -> Option<Position> {
        self.lines
            .get(&place)
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
        let Some(line) = self.lines.get_mut(&place) else {
            return Vec::new();
        };
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
            self.rank(place);
        }
        fresh
    }

    /// Notes that what was written can be read.
    pub fn note_commit(&mut self) {
        for place in std::mem::take(&mut self.fresh) {
            if let Some(line) = self.lines.get_mut(&place) {
                line.fresh.clear();
            }
        }
    }

    /// The line whose turn it is. Nothing is taken yet: if it turns out that nothing of it can run, whoever asks
    /// [closes its queue](Self::set_queue), [its needs](Self::close_needs), [holds it back](Self::hold) or
    /// [stops it](Self::stop), and asks again.
    pub fn pick(&mut self) -> Option<(Place, Arc<Conditions>)> {
        let place = self.turns.pick()?;
        let line = self.lines.get(&place)?;
        Some((place, Arc::clone(&line.conditions)))
    }

    /// Counts a start of a task of `place`. Returns what it is taken to use of its slot, in microseconds.
    pub fn started(&mut self, place: Place) -> u64 {
        self.starts += 1;
        if let Some(line) = self.lines.get_mut(&place)
            && self.turns.has_others(place.lane.namespace)
        {
            line.served = self.starts;
        }
        self.rank(place);
        self.turns.started(place)
    }

    /// Takes note of what an attempt has used of its slot, for which `charged` was counted.
    pub fn ended(&mut self, namespace: Namespace, used_us: u64, charged_us: u64) {
        self.turns.ended(namespace, used_us, charged_us);
    }

    /// Opens or closes a namespace.
    pub fn set_namespace(&mut self, namespace: Namespace, is_open: bool) {
        self.turns.set_namespace(namespace, is_open);
    }

    /// Opens or closes a queue.
    pub fn set_queue(&mut self, namespace: Namespace, queue: QueueId, is_open: bool) {
        self.turns.set_queue(namespace, queue, is_open);
    }

    /// Passes over what needs a host that is not there, until [`Lanes::open_needs`] finds one.
    pub fn close_needs(&mut self, id: NeedsId) {
        self.turns.close_needs(id);
    }

    /// Opens what was closed for want of a host, if `is_met` says that there is one.
    pub fn open_needs(&mut self, is_met: impl Fn(&Needs) -> bool) {
        self.turns.open_needs(is_met);
    }

    /// Holds a line back, or lets it go. Returns what its tasks need of hosts, if it is there.
    pub fn hold(&mut self, place: Place, is_held: bool) -> Option<Arc<Needs>> {
        let line = self.lines.get_mut(&place)?;
        line.is_held = is_held;
        let needs = Arc::clone(&line.conditions.needs);
        self.rank(place);
        Some(needs)
    }

    /// Holds a line back until its [function](Self::let_go) may run again.
    pub fn stop(&mut self, place: Place) {
        if let Some(line) = self.lines.get_mut(&place) {
            line.is_held = true;
            let function = line.conditions.function;
            self.stopped.entry(function).or_default().insert(place);
            self.rank(place);
        }
    }

    /// Lets the lines of a function go that were [stopped](Self::stop). Returns what their tasks need of hosts.
    pub fn let_go(&mut self, function: FunctionId) -> Vec<Arc<Needs>> {
        let places = self.stopped.remove(&function).unwrap_or_default();
        places
            .into_iter()
            .filter_map(|place| self.hold(place, false))
            .collect()
    }

    /// The functions of which lines are stopped, and how many.
    #[cfg(any(test, feature = "simulation"))]
    pub fn stopped(&self) -> impl Iterator<Item = (FunctionId, usize)> {
        self.stopped.iter().map(|(of, places)| (*of, places.len()))
    }

    /// A line of tasks whose needs are `of`, whether it may run or not.
    pub fn line_of(&self, of: impl Fn(&Needs) -> bool) -> Option<(Place, Arc<Needs>)> {
        self.turns.line_of(of)
    }

    /// All that tasks need of hosts.
    pub fn needs(&self) -> impl Iterator<Item = &Arc<Needs>> {
        self.turns.needs()
    }

    /// Since when the tasks of a queue have waited, that have waited longest.
    pub fn oldest(&self, namespace: Namespace, queue: QueueId) -> Option<Timestamp> {
        let lines = self.lines.iter();
        lines
            .filter(|(place, line)| {
                place.lane.namespace == namespace
                    && line.conditions.queue == queue
                    && line.is_open()
            })
            .map(|(_, line)| line.since)
            .min()
    }

    /// The first entry in the window of `place`, which may be stale.
    pub fn front(&self, place: Place) -> Option<(TaskId, Ticket)> {
        let line = self.lines.get(&place)?;
        line.window.front().map(|(id, ticket, _)| (*id, *ticket))
    }

    /// Takes the first entry out of the window of `place`. If it is not stale, its task [leaves](Self::leave).
    pub fn pop(&mut self, place: Place) -> Option<(TaskId, Ticket)> {
        let line = self.lines.get_mut(&place)?;
        let (id, ticket, since) = line.window.pop_front()?;
        let next = line.window.front().map_or(since, |(.., since)| *since);
        line.since = line.since.max(next);
        Some((id, ticket))
    }

    /// Notes that an entry in the window of `place` is stale from now on. Returns whether so many are that it is time to
    /// [sweep](Self::sweep) them out.
    pub fn leave(&mut self, place: Place) -> bool {
        self.in_window -= 1;
        let Some(line) = self.lines.get_mut(&place) else {
            return false;
        };
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
        if let Some(line) = self.lines.get_mut(&place) {
            line.window.retain(|(id, ticket, _)| is_live(*id, *ticket));
        }
    }

    /// Forgets a line that has nothing left.
    pub fn forget_if_empty(&mut self, place: Place) {
        if let Some(line) = self.lines.get(&place)
            && !line.is_open()
        {
            let conditions = Arc::clone(&line.conditions);
            self.lines.remove(&place);
            self.turns.set(&conditions, place.priority, None);
            if let Some(stopped) = self.stopped.get_mut(&conditions.function) {
                stopped.remove(&place);
                if stopped.is_empty() {
                    self.stopped.remove(&conditions.function);
                }
            }
        }
    }

    /// How many lines have tasks.
    #[cfg(any(test, feature = "simulation"))]
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    fn line_mut(&mut self, spot: &Spot, since: Timestamp) -> &mut Line {
        // It joins behind those that wait already.
        let served = self.starts;
        self.lines.entry(spot.place()).or_insert_with(|| Line {
            conditions: Arc::clone(&spot.conditions),
            is_fifo: spot.order == Order::Fifo,
            window: VecDeque::new(),
            live: 0,
            has_behind: false,
            read_to: Position::default(),
            fresh: VecDeque::new(),
            since,
            served,
            is_held: false,
        })
    }

    /// Puts a line where it stands now.
    fn rank(&mut self, place: Place) {
        if let Some(line) = self.lines.get(&place) {
            let standing = line.standing(place.priority);
            self.turns.set(&line.conditions, place.priority, standing);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tq_core::label::Labels;
    use tq_core::{Digest, Tier};

    use super::*;
    use crate::tables::key::LaneId;

    const NOW: Timestamp = Timestamp(1_000_000);

    /// A line of a lane of its own in a queue, whose tasks need what the hosts of `needs` have.
    fn spot_in(namespace: u32, lane: u8, priority: u8, queue: u32, needs: u8) -> Spot {
        let needed = Needs {
            digest: Digest([needs; 32]),
            memory_bytes: 1,
            required: Labels::default(),
            preferred: Labels::default(),
        };
        let namespace = Namespace(namespace);
        Spot {
            conditions: Arc::new(Conditions {
                lane: Lane {
                    namespace,
                    id: LaneId([lane; 16]),
                },
                queue: QueueId(queue),
                needs_id: needed.id(),
                needs: Arc::new(needed),
                function: FunctionId::of(namespace, &Digest([needs; 32]), "f"),
                concurrency: None,
            }),
            priority: Priority(priority),
            order: Order::Priority,
        }
    }

    fn spot(namespace: u32, lane: u8, priority: u8) -> Spot {
        spot_in(namespace, lane, priority, 0, 1)
    }

    fn id(n: u8) -> TaskId {
        TaskId([n; 16])
    }

    fn take(lanes: &mut Lanes) -> Option<(Place, TaskId)> {
        let (place, _) = lanes.pick()?;
        let (id, _) = lanes
            .pop(place)
            .expect("a place that was picked has a task");
        lanes.leave(place);
        lanes.started(place);
        Some((place, id))
    }

    fn order(lanes: &mut Lanes) -> Vec<u8> {
        std::iter::from_fn(|| take(lanes))
            .map(|(_, id)| id.0[0])
            .collect()
    }

    #[test]
    fn first_in_is_first_out_and_higher_priority_before_that() {
        let mut lanes = Lanes::new(1_000);
        for (n, priority) in [(1, 100), (2, 100), (3, 120)] {
            lanes.push(&spot(1, 1, priority), id(n), NOW, None);
        }
        assert_eq!(order(&mut lanes), [3, 1, 2]);
    }

    #[test]
    fn tiers_share_by_weight() {
        let mut lanes = Lanes::new(1_000);
        for n in 0..130 {
            for priority in [10, 100, 200] {
                lanes.push(&spot(1, 1, priority), id(n), NOW, None);
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
    fn lines_of_one_priority_take_turns() {
        let mut lanes = Lanes::new(1_000);
        for n in 0..4 {
            for lane in [1, 2] {
                lanes.push(&spot(1, lane, 100), id(10 * lane + n), NOW, None);
            }
        }
        assert_eq!(order(&mut lanes), [10, 20, 11, 21, 12, 22, 13, 23]);
    }

    #[test]
    fn one_in_eight_is_the_one_that_has_waited_longest() {
        let mut lanes = Lanes::new(1_000);
        let old = Timestamp(NOW.0 - 5_000);
        for n in 0..4 {
            lanes.push(&spot(1, 1, 90), id(n), old, None);
        }
        for n in 0..28 {
            lanes.push(&spot(1, 1, 160), id(100 + n), NOW, None);
        }
        let turns: Vec<_> = order(&mut lanes)
            .into_iter()
            .enumerate()
            .filter(|(_, id)| *id < 100)
            .map(|(turn, _)| turn)
            .collect();
        assert_eq!(turns, [7, 15, 23, 31]);
    }

    #[test]
    fn a_fifo_queue_gives_in_the_order_of_age_over_its_lanes() {
        let mut lanes = Lanes::new(1_000);
        let fifo = |lane| Spot {
            order: Order::Fifo,
            ..spot_in(1, lane, 127, 5, lane)
        };
        for n in 0..12 {
            let since = Timestamp(NOW.0 + u64::from(n));
            lanes.push(
                &fifo([1, 2, 2, 1, 3, 1][usize::from(n) % 6]),
                id(n),
                since,
                None,
            );
        }
        assert_eq!(order(&mut lanes), (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn namespaces_share_by_what_they_use_of_slots() {
        let mut lanes = Lanes::new(10_000);
        for n in 0..=u8::MAX {
            for namespace in [1, 2] {
                lanes.push(&spot(namespace, 1, 100), id(n), NOW, None);
            }
        }
        let mut counts = BTreeMap::new();
        for _ in 0..110 {
            let (place, _) = lanes.pick().expect("there is work");
            lanes.pop(place);
            lanes.leave(place);
            let charged = lanes.started(place);
            let namespace = place.lane.namespace;
            // The tasks of the second one take ten times as long.
            let used = if namespace.0 == 1 { 1_000 } else { 10_000 };
            lanes.ended(namespace, used, charged);
            *counts.entry(namespace.0).or_insert(0) += 1;
        }
        assert!(
            (9..=12).contains(&counts[&2]) && counts[&1] >= 98,
            "{counts:?}"
        );
    }

    #[test]
    fn a_namespace_that_was_idle_has_saved_nothing_up() {
        let mut lanes = Lanes::new(10_000);
        for n in 0..200 {
            lanes.push(&spot(1, 1, 100), id(n), NOW, None);
        }
        for _ in 0..100 {
            take(&mut lanes);
        }
        for n in 0..100 {
            lanes.push(&spot(2, 1, 100), id(n), NOW, None);
        }
        let of_first = (0..40)
            .filter_map(|_| take(&mut lanes))
            .filter(|(place, _)| place.lane.namespace.0 == 1)
            .count();
        assert!((19..=21).contains(&of_first), "{of_first} of 40");
    }

    #[test]
    fn what_cannot_run_holds_up_nobody_and_comes_back() {
        let mut lanes = Lanes::new(1_000);
        let (closed, unmet, held, free) = (
            spot_in(1, 1, 255, 7, 1),
            spot_in(1, 2, 254, 0, 2),
            spot_in(1, 3, 253, 0, 3),
            spot_in(1, 4, 10, 0, 4),
        );
        for (n, spot) in [(1, &closed), (2, &unmet), (3, &held), (4, &free)] {
            lanes.push(spot, id(n), NOW, None);
        }
        lanes.set_queue(Namespace(1), QueueId(7), false);
        lanes.close_needs(unmet.conditions.needs_id);
        lanes.hold(held.place(), true);
        assert_eq!(lanes.pick().map(|(place, _)| place), Some(free.place()));
        lanes.hold(held.place(), false);
        lanes.set_namespace(Namespace(1), false);
        assert_eq!(lanes.pick().map(|(place, _)| place), None);
        lanes.set_namespace(Namespace(1), true);
        assert_eq!(lanes.pick().map(|(place, _)| place), Some(held.place()));
        lanes.open_needs(|needs| needs.digest.0[0] == 9);
        assert_eq!(lanes.pick().map(|(place, _)| place), Some(held.place()));
        lanes.open_needs(|needs| needs.digest.0[0] == 2);
        lanes.set_queue(Namespace(1), QueueId(7), true);
        assert_eq!(order(&mut lanes), [1, 2, 3, 4]);
        assert_eq!((lanes.lines(), lanes.needs().count()), (0, 0));
    }

    #[test]
    fn what_is_behind_the_window_comes_after_it_and_once() {
        let mut lanes = Lanes::new(1_000);
        let spot = spot(1, 1, 100);
        let here = spot.place();
        lanes.push(&spot, id(1), NOW, None);
        assert_eq!(lanes.room(here), Room::Window);
        lanes.mark_behind(&spot, NOW, Position(5));
        assert_eq!(
            (lanes.room(here), lanes.read_from(here)),
            (Room::Behind, None)
        );
        assert_eq!(take(&mut lanes), Some((here, id(1))));
        assert_eq!(
            (lanes.pick().map(|(place, _)| place), lanes.read_from(here)),
            (Some(here), Some(Position(5)))
        );
        lanes.push_behind(&spot, id(3), NOW, Position(12));
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
        lanes.push_behind(&spot, id(4), NOW, Position(13));
        lanes.note_commit();
        assert_eq!(lanes.read_from(here), Some(Position(13)));
        assert_eq!(lanes.note_read(here, Position(13), true), []);
        lanes.forget_if_empty(here);
        assert_eq!((lanes.pick().is_none(), lanes.lines()), (true, 0));
    }

    #[test]
    fn stale_entries_take_no_room() {
        let mut lanes = Lanes::new(2);
        let (idle_spot, busy) = (spot(1, 1, 100), spot(1, 2, 100).place());
        let idle = idle_spot.place();
        lanes.push(&idle_spot, id(1), NOW, None);
        lanes.push(&idle_spot, id(2), NOW, None);
        assert_eq!(
            (lanes.room(idle), lanes.room(busy)),
            (Room::Behind, Room::Window)
        );
        assert!(!lanes.leave(idle));
        assert_eq!((lanes.room(idle), lanes.in_window()), (Room::Window, 1));
        let kept = lanes.push(&idle_spot, id(3), NOW, None);
        let mut is_time = false;
        for n in 0..STALE_MAX + 8 {
            lanes.push(&idle_spot, id(n as u8), NOW, None);
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
