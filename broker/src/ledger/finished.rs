//! The index of tasks that have ended, for searches: one row for those of a namespace that ended in one commit.
//!
//! An end costs it a few bytes in a row that it shares. A task that leaves its end behind, because it is redriven or
//! removed, is taken out of its row, so that the index leads to what has ended and to nothing else.

use std::collections::BTreeMap;

use tq_core::planted::{Bug, is_planted};
use tq_core::task::Task;
use tq_core::{TaskId, Timestamp};

use super::{Error, Ledger};
use crate::store::Batch;
use crate::tables::Namespace;
use crate::tables::key;
use crate::tables::row::{self, Beside};

/// What most rows of a commit take under load.
const ROW_BYTES: usize = 4 * 1024;

/// Tasks that are indexed at once in a store of an older build.
const CHUNK: usize = 50_000;

/// Where the row of a task that has ended is: the namespace, the time and the commit of its end.
pub(super) type Place = (Namespace, Timestamp, u64);

type Entries = BTreeMap<TaskId, Vec<u8>>;

/// What a step changes of the index.
#[derive(Default)]
pub(super) struct Changes {
    /// Rows that it writes: few, since what ends in a step ends at one time.
    entered: Vec<(Place, Vec<u8>)>,
    left: BTreeMap<Place, Vec<TaskId>>,
}

impl Changes {
    /// Takes note of a task that was at one place before the step and is at another now, if it was or is at any. Tasks come in the
    /// order of their ids.
    pub(super) fn note(&mut self, task: &Task, before: Option<Place>, after: Option<Place>) {
        if before == after {
            return;
        }
        if let Some(place) = before
            && !is_planted(Bug::FinishedStays)
        {
            self.left.entry(place).or_default().push(task.id);
        }
        if let Some(place) = after {
            let at = self.entered.iter().rposition(|(of, _)| *of == place);
            let at = at.unwrap_or_else(|| {
                self.entered.push((place, Vec::with_capacity(ROW_BYTES)));
                self.entered.len() - 1
            });
            if let Some((_, row)) = self.entered.get_mut(at) {
                row::encode_finished(task, row);
            }
        }
    }
}

/// Where a task is in the index. None if it has not ended.
pub(super) fn place(namespace: Namespace, task: &Task, beside: &Beside) -> Option<Place> {
    let at = task.state.ended_at()?;
    Some((namespace, at, beside.finished_in.unwrap_or(0)))
}

impl Ledger {
    /// Writes what a step changes.
    pub(super) fn write_finished(&self, changes: Changes, batch: &mut Batch) -> Result<(), Error> {
        let Changes { entered, left } = changes;
        for ((namespace, at, seq), row) in entered {
            // It is new: nothing else has ended in this commit.
            batch.put(key::finished(namespace, at, seq), row);
        }
        for (place, ids) in left {
            let mut entries = self.finished_at(place)?;
            for id in ids {
                entries.remove(&id);
            }
            put(place, &entries, batch);
        }
        Ok(())
    }

    fn finished_at(&self, (namespace, at, seq): Place) -> Result<Entries, Error> {
        let row = self.store.get(&key::finished(namespace, at, seq))?;
        let row = row.unwrap_or_default();
        let entries = row::decode_finished(&row);
        Ok(entries
            .map(|(finished, entry)| (finished.id, entry.to_vec()))
            .collect())
    }

    /// Indexes what has ended in a store of an older build.
    pub(super) fn recover_finished(&mut self) -> Result<(), Error> {
        if self.store.get(&key::finished_are_indexed())?.is_some() {
            return Ok(());
        }
        tracing::info!("indexing what has ended, once; a million tasks take some ten seconds");
        let mut chunk: BTreeMap<Place, Entries> = BTreeMap::new();
        let mut tasks = 0;
        self.each_task(TaskId([0; 16]), |ledger, namespace, record| {
            let Some(place) = place(namespace, &record.task, &record.beside) else {
                return Ok(());
            };
            let mut entry = Vec::new();
            row::encode_finished(&record.task, &mut entry);
            chunk
                .entry(place)
                .or_default()
                .insert(record.task.id, entry);
            tasks += 1;
            if tasks < CHUNK {
                return Ok(());
            }
            tasks = 0;
            ledger.index_finished(std::mem::take(&mut chunk))
        })?;
        self.index_finished(chunk)?;
        let nothing: &[u8] = &[];
        self.step
            .batch
            .put(key::finished_are_indexed(), nothing.to_vec());
        Ok(())
    }

    /// Adds entries to rows that may be there: tasks of one millisecond share one, and a crash may have come in between.
    fn index_finished(&mut self, chunk: BTreeMap<Place, Entries>) -> Result<(), Error> {
        let mut batch = Batch::default();
        for (place, entries) in chunk {
            let mut all = self.finished_at(place)?;
            all.extend(entries);
            put(place, &all, &mut batch);
        }
        if !batch.is_empty() {
            self.write_whole(batch)?;
        }
        Ok(())
    }
}

fn put((namespace, at, seq): Place, entries: &Entries, batch: &mut Batch) {
    let at = key::finished(namespace, at, seq);
    if entries.is_empty() {
        batch.delete(at);
    } else {
        let entries: Vec<_> = entries.values().map(Vec::as_slice).collect();
        batch.put(at, entries.concat());
    }
}
