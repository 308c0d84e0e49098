//! What an operator may do with a store that is not open: look at it, and accept what is left of it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use super::{
    Batch, Error, Level, Space, StoreId,
    fjall::{Layout, OpenOptions, Opened, cannot_open, cut, open_tables},
    journal,
    mark::{Mark, sync_directory},
    row::Row,
};

/// How far a repair moves the sequence beyond everything that is known. Hosts and clients may have seen commits that
/// the mark had not yet noted; no sequence that they saw is used for a second time.
const REPAIR_STEP: u64 = 1_000_000;

/// What a look at a store found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which store it is. `None` if that cannot be read.
    pub store_id: Option<StoreId>,
    /// The last commit that can be read, 0 if none can.
    pub seq: u64,
    /// How often the store was opened.
    pub generation: u32,
    /// Whether it was closed in order.
    pub is_clean: bool,
    /// The last commit that the marks know to be durable. `None` if there is no mark.
    pub marked: Option<u64>,
    /// Commits that the journals hold.
    pub journal_commits: u64,
    /// Pairs and their bytes in each space, in the order of [`Space::ALL`]. Empty if a problem kept them from being read.
    pub spaces: Vec<(Space, u64, u64)>,
    /// What is wrong. Empty for a store that would open.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What, where and by how much.
    pub what: String,
    /// Whether [`repair`] helps.
    pub is_repairable: bool,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self
            .store_id
            .map_or_else(|| "unreadable".to_owned(), |id| id.to_string());
        let end = if self.is_clean {
            "closed in order"
        } else {
            "not closed in order"
        };
        writeln!(
            f,
            "store {id}: commits up to {}, opened {} times, {end}",
            self.seq, self.generation
        )?;
        match self.marked {
            Some(marked) => writeln!(f, "mark: commits up to {marked} are durable")?,
            None => writeln!(f, "mark: none")?,
        }
        writeln!(f, "journals: {} commits", self.journal_commits)?;
        for (space, pairs, bytes) in &self.spaces {
            writeln!(f, "{}: {pairs} pairs, {bytes} bytes", space.name())?;
        }
        for problem in &self.problems {
            let remedy = if problem.is_repairable {
                "`tq admin repair` accepts the loss"
            } else {
                "restore a copy"
            };
            writeln!(f, "problem: {} ({remedy})", problem.what)?;
        }
        f.write_str(if self.problems.is_empty() {
            "no problems"
        } else {
            "the broker refuses to serve this store"
        })
    }
}

/// What a repair accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// Which store it is.
    pub store_id: StoreId,
    /// The last commit that is left.
    pub recovered: u64,
    /// The last commit that is known to have been durable; `recovered` if nothing says otherwise.
    pub expected: u64,
    /// The first and last of the acknowledged commits that are gone. `None` if none is known to be.
    pub lost: Option<(u64, u64)>,
    /// What was cut off from the journals, kept for whoever wants to look for what was in it.
    pub kept: Vec<PathBuf>,
    /// The sequence from which the store goes on.
    pub resumed: u64,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "store {}: commits up to {} are left of {}",
            self.store_id, self.recovered, self.expected
        )?;
        match self.lost {
            Some((first, last)) => writeln!(f, "lost: commits {first} to {last}")?,
            None => writeln!(f, "lost: nothing that is known")?,
        }
        for path in &self.kept {
            writeln!(f, "kept: what was cut off is in `{}`", path.display())?;
        }
        write!(f, "the store goes on from {}", self.resumed)
    }
}

/// Looks at a store that is not open and changes none of its data: reads its journals, compares it with its marks, and
/// reads every pair in it, so that every checksum is checked. (The engine may trim and compact its files meanwhile.)
///
/// # Errors
/// [`Error::Missing`] if there is no store, [`Error::Locked`] if it is open, [`Error::Io`] if it cannot be read. What is
/// wrong with the store itself is in [`Check::problems`].
pub fn check(dir: &Path, options: &OpenOptions) -> Result<Check, Error> {
    let layout = existing(dir, options)?;
    let _lock = layout.lock()?;
    let marks = layout.marks()?;
    let scan = if layout.has_tables()? {
        journal::scan(&layout.tables)?
    } else {
        journal::Scan::default()
    };
    let mut report = Check {
        store_id: None,
        seq: scan.last.map_or(0, |last| last.seq),
        generation: scan.last.map_or(0, |last| last.generation),
        is_clean: scan.last.is_some_and(|last| last.clean),
        marked: None,
        journal_commits: scan.commits,
        spaces: Vec::new(),
        problems: Vec::new(),
    };
    let known = scan
        .last
        .map(|last| last.store_id)
        .or_else(|| marks.inner.map(|mark| mark.store_id));
    report.store_id = known;
    report.marked = known
        .and_then(|store_id| marks.of(store_id))
        .map(|mark| mark.seq);
    if !layout.has_tables()? {
        report.problems.push(Problem {
            what: format!("`{}` is gone", layout.tables.display()),
            is_repairable: false,
        });
        return Ok(report);
    }
    if let Some(damage) = &scan.damage {
        // fjall would cut the journal here, so it is not opened.
        report.problems.push(problem(&Error::Damaged {
            path: damage.path.clone(),
            offset: damage.offset,
            what: damage.what,
            recovered: report.seq,
            expected: report.marked.unwrap_or(0).max(damage.durable),
        }));
        return Ok(report);
    }
    let Opened { engine, row } = match open_tables(&layout, &scan) {
        Ok(opened) => opened,
        Err(error @ (Error::Corrupt { .. } | Error::OtherFormat { .. })) => {
            report.problems.push(problem(&error));
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let Row {
        store_id,
        generation,
        seq,
        clean,
        ..
    } = row;
    let mark = marks.of(store_id);
    report = Check {
        store_id: Some(store_id),
        generation,
        seq,
        is_clean: clean,
        marked: mark.map(|mark| mark.seq),
        ..report
    };
    if let Some(mark) = marks.inner.filter(|mark| mark.store_id != store_id) {
        report.problems.push(problem(&Error::Mixed {
            path: layout.dir.clone(),
            marked: mark.store_id,
            found: store_id,
        }));
    }
    if let Some(mark) = mark.filter(|mark| seq < mark.seq || generation < mark.generation) {
        report.problems.push(problem(&Error::RolledBack {
            path: layout.dir.clone(),
            recovered: seq,
            expected: mark.seq,
            recovered_generation: generation,
            expected_generation: mark.generation,
        }));
    }
    for space in Space::ALL {
        match engine.read_all(space) {
            Ok((pairs, bytes)) => report.spaces.push((space, pairs, bytes)),
            Err(error) => report.problems.push(Problem {
                what: format!("{} cannot be read to its end: {error}", space.name()),
                is_repairable: false,
            }),
        }
    }
    Ok(report)
}

/// Accepts a store as it is, with what it has lost: cuts its journals off at the first damage (what is cut off is kept
/// beside the tables), moves its sequence beyond every one that was ever used, and writes new marks. Whoever holds a
/// newer copy should put that back instead. What is whole is left as it is.
///
/// # Errors
/// [`Error::Corrupt`] if the tables themselves are damaged: no repair invents what they held. Otherwise as [`check`].
pub fn repair(dir: &Path, options: &OpenOptions) -> Result<Repair, Error> {
    let layout = existing(dir, options)?;
    let _lock = layout.lock()?;
    let marks = layout.marks()?;
    if !layout.has_tables()? {
        return Err(Error::Corrupt {
            path: layout.dir,
            what: "its tables are gone".to_owned(),
        });
    }
    let scan = journal::scan(&layout.tables)?;
    let mut kept = Vec::new();
    let mut durable = 0;
    if scan.newer.is_none()
        && let Some(damage) = &scan.damage
    {
        durable = damage.durable;
        kept.push(cut(&layout, damage)?);
        // A later journal holds changes to what is now missing. Applied alone they would be wrong.
        for path in &damage.later {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let aside = layout.dir.join(format!("cut-{name}-0"));
            fs::rename(path, &aside).map_err(|source| Error::Io {
                doing: "move journal",
                path: path.clone(),
                source,
            })?;
            kept.push(aside);
        }
        for directory in [&layout.tables, &layout.dir] {
            sync_directory(directory).map_err(|source| Error::Io {
                doing: "sync",
                path: directory.clone(),
                source,
            })?;
        }
    }
    let Opened { engine, row } = open_tables(&layout, &scan)?;
    for space in Space::ALL {
        engine
            .read_all(space)
            .map_err(|error| cannot_open(&layout, error))?;
    }
    let mark = marks.of(row.store_id);
    let expected = mark.map_or(0, |mark| mark.seq).max(durable).max(row.seq);
    let generation = row.generation.max(mark.map_or(0, |mark| mark.generation));
    let resumed = expected + REPAIR_STEP;
    let accepted = Row {
        generation,
        seq: resumed,
        previous: row.seq,
        durable: row.seq,
        clean: false,
        ..row
    };
    engine
        .commit(&accepted, &Batch::new(), Level::Disk)
        .map_err(|source| Error::Engine {
            doing: "write the repair",
            source,
        })?;
    drop(engine);
    let mark = Mark {
        store_id: row.store_id,
        generation,
        seq: resumed,
        clean: false,
    };
    for path in [&layout.mark, &layout.mark_beside] {
        mark.write(path).map_err(|source| Error::Io {
            doing: "write mark",
            path: path.clone(),
            source,
        })?;
    }
    Ok(Repair {
        store_id: row.store_id,
        recovered: row.seq,
        expected,
        lost: (expected > row.seq).then_some((row.seq + 1, expected)),
        kept,
        resumed,
    })
}

fn existing(dir: &Path, options: &OpenOptions) -> Result<Layout, Error> {
    let layout = Layout::new(dir, options)?;
    if layout.has_tables()? || layout.marks()?.inner.is_some() {
        Ok(layout)
    } else {
        Err(Error::Missing { path: layout.dir })
    }
}

fn problem(error: &Error) -> Problem {
    Problem {
        what: error.to_string(),
        is_repairable: error.is_repairable(),
    }
}
