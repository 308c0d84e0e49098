//! Ready tasks: where they wait, and the rows that lead to them.
//!
//! Tasks that became ready in one commit, in one place, share *ready rows*. A row is read as a whole when its turn comes
//! and goes when none of its tasks is ready by it any more; a task that has left before that is passed over.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tq_core::TaskId;
use tq_core::planted::{Bug, is_planted};
use tq_core::task::{State, Task};

use super::{Error, Ledger, Open};
use crate::dispatch::lanes::{Place, Room, Spot};
use crate::store::{Batch, Direction, Space};
use crate::tables::key::{self, Namespace, Position};
use crate::tables::row;

/// Tasks that one row leads to at most.
const ROW_TASKS_MAX: usize = 64;
/// Rows that are read at first when the window of a lane is empty. They are enough when they are full.
const ROWS_READ: usize = 4;
/// Positions that one commit can give, as a power of two.
const POSITION_BITS: u32 = 20;

/// The ready rows that a step makes.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    /// In the order of their positions.
    rows: Vec<FreshRow>,
    /// The row of each place that still takes tasks, by its index.
    growing: FxHashMap<Place, usize>,
    /// How many positions the step has given.
    positions: u64,
}

#[derive(Debug)]
struct FreshRow {
    place: Place,
    position: Position,
    ids: Vec<TaskId>,
    /// Its tasks are in the window.
    in_window: bool,
}

/// The ready rows whose tasks are in the window: where they are, and how many of their tasks are left.
pub(super) type Known = FxHashMap<Position, (Place, usize)>;

impl Ledger {
    /// Puts a ready task into its line: into memory if it is next to be run there, behind as a row if not.
    /// `needs_row` is false for a task that recovery finds without one.
    pub(super) fn enqueue(&mut self, id: TaskId, needs_row: bool) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let State::Ready { since } = open.task.state else {
            return;
        };
        let (namespace, before) = (open.namespace, open.beside.position);
        let spec = Arc::clone(&open.task.spec);
        let spot = self.spot(namespace, &spec);
        let place = spot.place();
        let room = self.lanes.room(place);
        let in_window = room == Room::Window;
        let position =
            (needs_row || !in_window).then(|| self.fresh_row(id, place, in_window, before));
        let ticket = match position {
            Some(position) if !in_window => {
                self.lanes.push_behind(&spot, id, since, position);
                None
            }
            Some(_) | None => Some(self.lanes.push(&spot, id, since, position)),
        };
        self.ask_anew(namespace, Some(place));
        let needs = Arc::clone(&spot.conditions.needs);
        if let Some(open) = self.open.get_mut(&id) {
            open.beside.position = position;
            open.in_window = ticket;
            open.spot = Some(spot);
        }
        if self
            .step
            .fed
            .last()
            .is_none_or(|last| !Arc::ptr_eq(last, &needs))
        {
            self.step.fed.push(needs);
        }
    }

    /// Whether a task that waited before and waits now does so in the same line, so that it stays where it is.
    pub(super) fn keeps_its_place(
        &mut self,
        namespace: Namespace,
        id: TaskId,
        before: &Task,
    ) -> bool {
        let Some(open) = self.open.get(&id).filter(|_| is_ready(before)) else {
            return false;
        };
        let spec = Arc::clone(&open.task.spec);
        self.spot(namespace, &before.spec).place() == self.spot(namespace, &spec).place()
    }

    /// Puts a task into a row that the step makes. Returns its position, which is after every other that was ever given
    /// and not the one `before`.
    fn fresh_row(
        &mut self,
        id: TaskId,
        place: Place,
        in_window: bool,
        before: Option<Position>,
    ) -> Position {
        let Fresh {
            rows,
            growing,
            positions,
        } = &mut self.step.ready;
        let row = growing.get(&place).and_then(|index| rows.get_mut(*index));
        if let Some(row) = row
            && row.in_window == in_window
            && row.ids.len() < ROW_TASKS_MAX
            && before != Some(row.position)
        {
            row.ids.push(id);
            return row.position;
        }
        *positions += 1;
        let position = Position((self.store.seq() + 1) << POSITION_BITS | *positions);
        growing.insert(place, rows.len());
        rows.push(FreshRow {
            place,
            position,
            ids: vec![id],
            in_window,
        });
        position
    }

    /// Takes the first task of a place that is still ready, into memory. None if what was read of it was not ready any
    /// more; there may be more to read.
    pub(super) fn take_first(&mut self, place: Place) -> Result<Option<TaskId>, Error> {
        let first = self.find_first(place)?;
        if let Some(id) = first {
            self.lanes.pop(place);
            self.leave_window(id);
        }
        Ok(first)
    }

    /// The task that [`Self::take_first`] would take, which is in memory then.
    pub(super) fn find_first(&mut self, place: Place) -> Result<Option<TaskId>, Error> {
        if let Some(from) = self.lanes.read_from(place) {
            self.read_behind(place, from)?;
        }
        while let Some((id, ticket)) = self.lanes.front(place) {
            let open = self.open.get(&id);
            if open.is_some_and(|open| open.in_window == Some(ticket)) {
                return Ok(Some(id));
            }
            self.lanes.pop(place);
        }
        Ok(None)
    }

    /// Takes a task out of the window, whose entry is stale from now on.
    pub(super) fn leave_window(&mut self, id: TaskId) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if open.in_window.take().is_none() {
            return;
        }
        let Some(place) = open.spot.as_ref().map(Spot::place) else {
            return;
        };
        if self.lanes.leave(place) {
            let open = &self.open;
            self.lanes.sweep(place, |id, ticket| {
                open.get(&id)
                    .is_some_and(|open| open.in_window == Some(ticket))
            });
        }
    }

    /// Reads the next rows behind the window of a place.
    fn read_behind(&mut self, place: Place, from: Position) -> Result<(), Error> {
        let prefix = key::ready_prefix(place.lane, place.priority);
        let wanted = self.lanes.refill();
        let skipped = u64::from(is_planted(Bug::ReadyRowSkipped)) << POSITION_BITS;
        let begin = Position(from.0 + skipped);
        let mut start = key::ready(place.lane, place.priority, begin).bytes;
        let mut limit = ROWS_READ;
        let mut read_to = from;
        let mut rows = Vec::new();
        let mut tasks = 0;
        let reached_end = loop {
            let pairs =
                self.store
                    .scan(Space::Index, &prefix, &start, Direction::Ascending, limit)?;
            let is_last = pairs.len() < limit;
            for pair in pairs {
                if tasks >= wanted {
                    break;
                }
                start = [&pair.key[..], &[0]].concat();
                if let Some((_, _, position)) = key::ready_of(&pair.key) {
                    let ids: Vec<_> = row::decode_ready(&pair.value).collect();
                    tasks += ids.len();
                    read_to = position;
                    rows.push((position, ids));
                }
            }
            if is_last || tasks >= wanted {
                break is_last && tasks < wanted;
            }
            limit = (limit * 4).min(wanted);
        };
        for (position, ids) in &rows {
            self.load_all(place.lane.namespace, ids)?;
            let count = ids
                .iter()
                .filter(|id| self.is_led_to(**id, *position))
                .count();
            if count == 0 {
                let key = key::ready(place.lane, place.priority, *position);
                self.step.batch.delete(key);
            } else {
                self.ready_rows.insert(*position, (place, count));
            }
        }
        for (position, ids) in self.lanes.note_read(place, read_to, reached_end) {
            self.step.ready.note_read(place, position);
            rows.push((position, ids));
        }
        for (position, ids) in rows {
            for id in ids {
                if let Some(open) = self.open.get(&id)
                    && is_ready_at(open, position)
                    && open.in_window.is_none()
                {
                    self.enter_window(id, Some(position));
                }
            }
        }
        self.lanes.forget_if_empty(place);
        Ok(())
    }

    /// Puts a ready task into the window of its line.
    pub(super) fn enter_window(&mut self, id: TaskId, position: Option<Position>) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let State::Ready { since } = open.task.state else {
            return;
        };
        let (namespace, spec) = (open.namespace, Arc::clone(&open.task.spec));
        let spot = self.spot(namespace, &spec);
        let ticket = self.lanes.push(&spot, id, since, position);
        if let Some(open) = self.open.get_mut(&id) {
            open.in_window = Some(ticket);
            open.spot = Some(spot);
        }
    }

    /// Whether a row at a position leads to a task, or did before the step.
    fn is_led_to(&self, id: TaskId, position: Position) -> bool {
        match self.step.ready_before(id) {
            Some(before) => before == Some(position),
            None => self
                .open
                .get(&id)
                .is_some_and(|open| is_ready_at(open, position)),
        }
    }

    /// Notes that a task is not ready any more by the row at `position`, which goes with its last one.
    pub(super) fn leave_ready_row(&mut self, position: Position, batch: &mut Batch) {
        if let Some((place, left)) = self.ready_rows.get_mut(&position) {
            *left = left.saturating_sub(1);
            if *left == 0 || is_planted(Bug::ReadyRowGoesEarly) {
                batch.delete(key::ready(place.lane, place.priority, position));
                self.ready_rows.remove(&position);
            }
        }
    }

    /// Writes the ready rows that a step has made.
    pub(super) fn write_ready_rows(&mut self, fresh: Fresh, batch: &mut Batch) {
        for row in fresh.rows {
            let FreshRow {
                place,
                position,
                ids,
                in_window,
            } = row;
            let is_left = |id: &&TaskId| {
                self.open
                    .get(*id)
                    .is_some_and(|open| is_ready_at(open, position))
            };
            let left = ids.iter().filter(is_left).count();
            if left > 0 && (in_window || !is_planted(Bug::ReadyRowForgotten)) {
                let key = key::ready(place.lane, place.priority, position);
                batch.put(key, row::encode_ready(&ids));
                if in_window {
                    self.ready_rows.insert(position, (place, left));
                }
            }
        }
    }
}

impl Fresh {
    /// Notes that the tasks of a row are in the window from now on: it takes no more.
    fn note_read(&mut self, place: Place, position: Position) {
        self.growing.remove(&place);
        if let Ok(index) = self
            .rows
            .binary_search_by_key(&position, |row| row.position)
        {
            self.rows[index].in_window = true;
        }
    }
}

/// Whether a task is ready.
pub(super) fn is_ready(task: &Task) -> bool {
    matches!(task.state, State::Ready { .. })
}

/// Whether a task is ready by the row at a position.
fn is_ready_at(open: &Open, position: Position) -> bool {
    is_ready(&open.task) && open.beside.position == Some(position)
}
