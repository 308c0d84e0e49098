//! Looking for what a search takes, page by page, with a bounded number of looks.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tq_core::limits::{ID_AHEAD_MAX, LIST_SCAN_MAX, SEARCH_ENTRIES_MAX, SORT_TASKS_MAX};
use tq_core::task::Lease;
use tq_core::{TaskId, Timestamp};

use super::cursor::Place;
use super::filter::Range;
use super::{By, Cursor, Error, Search};
use crate::store::{self, Direction, Key, Pair, Read, Space};
use crate::tables::row::{self, Finished, Record};
use crate::tables::{Namespace, key};

/// Rows of the index that are read at once; one may have the ends of a whole commit.
const PAGE: usize = 64;
/// Tasks that are read at once.
const CHUNK: usize = 500;
/// An id begins with the time at which the ledger took its task in, which is that much later than its submit, or earlier,
/// at most.
const ID_AHEAD_MS: u64 = ID_AHEAD_MAX.as_secs() * 1_000;

/// A page of what was found.
#[derive(Debug)]
pub struct Page {
    /// The tasks, in the order of the search.
    pub found: Vec<Found>,
    /// Where the next page begins; none if nothing is left to look at.
    pub next: Option<Cursor>,
}

/// A task that was found.
pub type Found = Record;

/// How much one page may look at.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Tasks that are read.
    pub tasks: usize,
    /// Entries of the index.
    pub entries: usize,
    /// Entries of the index, by a search that has to look at all of them before the first task.
    pub sorted: usize,
}

impl Budget {
    /// That of a request.
    pub const REQUEST: Self = Self {
        tasks: LIST_SCAN_MAX,
        entries: SEARCH_ENTRIES_MAX,
        sorted: SORT_TASKS_MAX,
    };
}

/// Where tasks are looked for.
pub(super) struct Tasks<'a> {
    pub(super) store: &'a dyn Read,
    pub(super) namespace: Namespace,
    /// The newest claim of a task: it may be newer than what is read.
    pub(super) claim: &'a dyn Fn(TaskId) -> Option<Lease>,
}

/// At most `max` tasks behind a cursor, which is one of this search's.
///
/// # Errors
/// The store's; that rows make no sense; [`Error::TooMany`].
pub fn scan<E: From<store::Error> + From<row::Error> + From<Error>>(
    store: &dyn Read,
    namespace: Namespace,
    claim: &dyn Fn(TaskId) -> Option<Lease>,
    search: &Search,
    cursor: Option<&Cursor>,
    max: usize,
    budget: Budget,
) -> Result<Page, E> {
    let place = cursor.map(|cursor| cursor.place);
    let tasks = Tasks {
        store,
        namespace,
        claim,
    };
    let mut page = Walk {
        tasks,
        search,
        max,
        budget,
        found: Vec::new(),
    };
    let is_empty = search.filter.bounds().states.is_empty();
    let next = match (search.has_ended(), search.sort.by) {
        // It contradicts itself.
        _ if is_empty => None,
        (false, _) => page.submitted::<E>(place)?,
        (true, By::Ended) => page.ended::<E>(place)?,
        (true, _) => page.ranked::<E>(place)?,
    };
    Ok(Page {
        found: page.found,
        next: next.map(|place| Cursor::new(search, place)),
    })
}

struct Walk<'a> {
    tasks: Tasks<'a>,
    search: &'a Search,
    max: usize,
    budget: Budget,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn direction(&self) -> Direction {
        match self.search.sort.is_descending {
            true => Direction::Descending,
            false => Direction::Ascending,
        }
    }

    /// Goes through all tasks in the order of their submits.
    fn submitted<E: From<store::Error> + From<row::Error>>(
        &mut self,
        after: Option<Place>,
    ) -> Result<Option<Place>, E> {
        let Range { from, to } = self.search.filter.bounds().submitted;
        let (lowest, highest) = (
            id_at(from.saturating_sub(ID_AHEAD_MS), u8::MIN),
            number(newest_id(Timestamp(to))),
        );
        let last = match after {
            Some(Place::Submitted(id)) => Some(number(id)),
            Some(_) | None => None,
        };
        let is_descending = self.search.sort.is_descending;
        let mut next = match (is_descending, last) {
            (true, None) => Some(highest),
            (true, Some(last)) => last.checked_sub(1).map(|next| next.min(highest)),
            (false, None) => Some(lowest),
            (false, Some(last)) => last.checked_add(1).map(|next| next.max(lowest)),
        };
        let mut left = self.budget.tasks;
        while let Some(from) = next.filter(|id| (lowest..=highest).contains(id)) {
            if left == 0 {
                let looked_at = match is_descending {
                    true => from.saturating_add(1),
                    false => from.saturating_sub(1),
                };
                return Ok(Some(Place::Submitted(id_of(looked_at))));
            }
            let limit = (self.max - self.found.len()).clamp(16, 1_000).min(left);
            let pairs = self.tasks.store.scan(
                Space::Calls,
                &key::tasks(self.tasks.namespace),
                &key::call(self.tasks.namespace, id_of(from)).bytes,
                self.direction(),
                limit,
            )?;
            left -= pairs.len();
            let is_last = pairs.len() < limit;
            let claims: Vec<_> = pairs
                .iter()
                .map(|pair| (self.tasks.claim)(key::task_of(&pair.key)?.1))
                .collect();
            let records = row::with_states::<E>(self.tasks.store, &pairs)?;
            for (record, claim) in records.into_iter().zip(claims) {
                let record = record.claimed(claim);
                let id = record.task.id;
                let at = number(id);
                next = match is_descending {
                    true => at.checked_sub(1),
                    false => at.checked_add(1),
                };
                if (lowest..=highest).contains(&at) && self.search.filter.takes(&record.task) {
                    self.found.push(record);
                    if self.found.len() == self.max {
                        return Ok(Some(Place::Submitted(id)));
                    }
                }
            }
            if is_last {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Goes through tasks that have ended, in the order of their ends.
    fn ended<E: From<store::Error> + From<row::Error>>(
        &mut self,
        after: Option<Place>,
    ) -> Result<Option<Place>, E> {
        let mut rows = Rows::new(&self.tasks, self.search, after);
        let (mut entries, mut read) = (0, 0);
        // What the rows read so far may have for the page, and not yet looked up.
        let mut wanted = Vec::new();
        let mut last = after;
        loop {
            let pairs = rows.next(&self.tasks)?;
            let is_last = pairs.is_empty();
            for pair in &pairs {
                let Some((_, at, seq)) = key::finished_of(&pair.key) else {
                    continue;
                };
                let mut of_row: Vec<_> = row::decode_finished(&pair.value)
                    .filter(|(finished, _)| self.is_behind(after, (at, seq, finished.id)))
                    .collect();
                if self.search.sort.is_descending {
                    of_row.reverse();
                }
                entries += of_row.len();
                let may_fit = of_row
                    .iter()
                    .filter(|(finished, _)| self.may_take(finished, at));
                wanted
                    .extend(may_fit.map(|(finished, _)| {
                        (finished.id, at, Place::Ended(at, seq, finished.id))
                    }));
                let end = of_row.last().map(|(finished, _)| (at, seq, finished.id));
                let is_full = entries >= self.budget.entries;
                let enough = CHUNK.min((self.max - self.found.len()).max(16));
                if wanted.len() >= enough || is_full {
                    read += wanted.len();
                    if let Some(full) = self.look_up::<E>(&std::mem::take(&mut wanted))? {
                        return Ok(Some(full));
                    }
                    last = end.map_or(last, |(at, seq, id)| Some(Place::Ended(at, seq, id)));
                    if is_full || read >= self.budget.tasks {
                        return Ok(last);
                    }
                }
            }
            if is_last {
                return self.look_up::<E>(&wanted);
            }
        }
    }

    /// Adds those of some tasks to the page that are to be found: each by its id, with when it ended and where it is in the order.
    /// Returns where the page is full.
    fn look_up<E: From<store::Error> + From<row::Error>>(
        &mut self,
        tasks: &[(TaskId, Timestamp, Place)],
    ) -> Result<Option<Place>, E> {
        for tasks in tasks.chunks(CHUNK) {
            let ids: Vec<_> = tasks.iter().map(|(id, ..)| *id).collect();
            let records = row::find_tasks::<E>(self.tasks.store, self.tasks.namespace, &ids)?;
            for ((_, at, place), record) in tasks.iter().zip(records) {
                if record.is_some_and(|record| self.take(record, *at))
                    && self.found.len() == self.max
                {
                    return Ok(Some(*place));
                }
            }
        }
        Ok(None)
    }

    /// Whether a task that ended at a time is to be found: it may have been redriven since its entry was read.
    fn take(&mut self, record: Record, ended_at: Timestamp) -> bool {
        let task = &record.task;
        let is_taken = task.state.ended_at() == Some(ended_at) && self.search.filter.takes(task);
        if is_taken {
            self.found.push(record);
        }
        is_taken
    }

    fn may_take(&self, finished: &Finished<'_>, ended_at: Timestamp) -> bool {
        self.search.filter.verdict(finished, ended_at) != Some(false)
    }

    fn is_behind(&self, after: Option<Place>, entry: (Timestamp, u64, TaskId)) -> bool {
        match after {
            Some(Place::Ended(at, seq, id)) if self.search.sort.is_descending => {
                entry < (at, seq, id)
            }
            Some(Place::Ended(at, seq, id)) => entry > (at, seq, id),
            Some(_) | None => true,
        }
    }

    /// Goes through all entries once, and looks up those that come first by a number.
    fn ranked<E: From<store::Error> + From<row::Error> + From<Error>>(
        &mut self,
        after: Option<Place>,
    ) -> Result<Option<Place>, E> {
        let sort = self.search.sort;
        // Some may turn out not to fit.
        let keep = self.max.saturating_mul(2).max(100);
        // By rank, the first one first: descending numbers are turned around.
        let rank = |number: u64, id: TaskId| match sort.is_descending {
            true => (u64::MAX - number, Reverse(Some(id)), None),
            false => (number, Reverse(None), Some(id)),
        };
        let begin = match after {
            Some(Place::Ranked(number, id)) => Some(rank(number, id)),
            Some(_) | None => None,
        };
        let mut first = BTreeMap::new();
        let mut rows = Rows::new(&self.tasks, self.search, None);
        let (mut entries, mut is_cut) = (0, false);
        loop {
            let pairs = rows.next(&self.tasks)?;
            if pairs.is_empty() {
                break;
            }
            for pair in &pairs {
                let Some((_, at, _)) = key::finished_of(&pair.key) else {
                    continue;
                };
                for (finished, _) in row::decode_finished(&pair.value) {
                    entries += 1;
                    let number = number_of(sort.by, &finished);
                    let rank = rank(number, finished.id);
                    let is_behind = begin.is_none_or(|begin| rank > begin);
                    let is_full = first.len() == keep;
                    let is_first =
                        !is_full || first.last_key_value().is_some_and(|(last, _)| rank < *last);
                    if is_behind && is_first && self.may_take(&finished, at) {
                        let place = Place::Ranked(number, finished.id);
                        first.insert(rank, (finished.id, at, place));
                        if is_full {
                            first.pop_last();
                            is_cut = true;
                        }
                    } else if is_behind && is_full {
                        is_cut = true;
                    }
                }
            }
            if entries > self.budget.sorted {
                return Err(Error::TooMany { sort }.into());
            }
        }
        let first: Vec<_> = first.into_values().collect();
        if let Some(full) = self.look_up::<E>(&first)? {
            return Ok(Some(full));
        }
        let last = first.last().filter(|_| is_cut);
        Ok(last.map(|(_, _, place)| *place))
    }
}

/// Rows of the index of tasks that have ended, as far as the bounds of a search go.
struct Rows {
    direction: Direction,
    ended: Range,
    from: Option<Vec<u8>>,
}

impl Rows {
    fn new(tasks: &Tasks<'_>, search: &Search, after: Option<Place>) -> Self {
        let ended = search.filter.bounds().ended;
        let place = |at: u64, seq| key::finished(tasks.namespace, Timestamp(at), seq).bytes;
        let begin = match (after, search.sort.is_descending) {
            (Some(Place::Ended(at, seq, _)), true) => {
                place(at.0, seq).min(place(ended.to, u64::MAX))
            }
            (Some(Place::Ended(at, seq, _)), false) => place(at.0, seq).max(place(ended.from, 0)),
            (_, true) => place(ended.to, u64::MAX),
            (_, false) => place(ended.from, 0),
        };
        Self {
            direction: match search.sort.is_descending {
                true => Direction::Descending,
                false => Direction::Ascending,
            },
            ended,
            from: (!ended.is_empty()).then_some(begin),
        }
    }

    /// The next rows; none if there are no more.
    fn next(&mut self, tasks: &Tasks<'_>) -> Result<Vec<Pair>, store::Error> {
        let Some(from) = self.from.take() else {
            return Ok(Vec::new());
        };
        let prefix = key::finished_in(tasks.namespace);
        let space = Space::Index;
        let mut pairs = tasks
            .store
            .scan(space, &prefix, &from, self.direction, PAGE)?;
        let is_last = pairs.len() < PAGE;
        let Range { from, to } = self.ended;
        let found = pairs.len();
        pairs.retain(|pair| {
            key::finished_of(&pair.key).is_some_and(|(_, at, _)| (from..=to).contains(&at.0))
        });
        let is_over = pairs.len() < found;
        self.from = match pairs.last() {
            Some(last) if !is_last && !is_over => match self.direction {
                Direction::Ascending => Some([&last.key[..], &[0]].concat()),
                Direction::Descending => before(&last.key),
            },
            Some(_) | None => None,
        };
        Ok(pairs)
    }
}

/// The highest key of the same length before one. None if there is none.
fn before(key: &[u8]) -> Option<Vec<u8>> {
    let mut key = Key::new(Space::Index, key).bytes;
    for byte in key.iter_mut().rev() {
        match byte.checked_sub(1) {
            Some(less) => {
                *byte = less;
                return Some(key);
            }
            None => *byte = u8::MAX,
        }
    }
    None
}

/// The number that a search sorts by.
fn number_of(by: By, finished: &Finished<'_>) -> u64 {
    match by {
        By::Submitted | By::Ended => finished.submitted_at.0,
        By::Duration => finished.wall_ns,
        By::Fuel => finished.fuel,
        By::Memory => finished.memory_bytes,
        By::Priority => finished.priority.0.into(),
        By::Attempts => finished.attempts.into(),
    }
}

fn number(id: TaskId) -> u128 {
    u128::from_be_bytes(id.0)
}

fn id_of(number: u128) -> TaskId {
    TaskId(number.to_be_bytes())
}

/// The highest id that a task may have which was submitted at a time.
pub fn newest_id(at: Timestamp) -> TaskId {
    id_of(id_at(at.0.saturating_add(ID_AHEAD_MS), u8::MAX))
}

/// The lowest or the highest id of a time, which an id begins with.
fn id_at(ms: u64, fill: u8) -> u128 {
    let mut id = [fill; 16];
    // Times that an id has no room for are later than all ids.
    let ms = ms.min((1 << 48) - 1);
    id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    u128::from_be_bytes(id)
}
