//! Finding tasks: a filter says which, a sort says in which order, and a cursor where a page begins.
//!
//! Tasks that have ended are found by their index ([`row::Finished`](crate::tables::row::Finished)), in the order of
//! their ends or, after one pass over it, in another. All others are found by their call rows, in the order of their
//! submits. Whatever an index says, a task is only taken for what its own rows say.

mod cursor;
mod field;
mod filter;
mod presets;
mod scan;
mod value;

#[cfg(test)]
mod tests;

use std::str::FromStr;

use tq_core::Timestamp;
use tq_core::limits::FILTER_BYTES_MAX;
use xxhash_rust::xxh3::Xxh3;

pub use self::cursor::Cursor;
pub use self::field::States;
pub use self::filter::Filter;
pub use self::presets::{PRESETS, Preset};
pub use self::scan::{Budget, Found, Page, newest_id, scan};

/// Why there is nothing to search by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("filter: {what}, at character {at} of `{text}`")]
    Filter {
        /// The filter, as far as a message shows it.
        text: String,
        /// Where, from 1.
        at: usize,
        /// What is wrong there.
        what: String,
    },
    /// It is longer than [`FILTER_BYTES_MAX`].
    #[error("filter of {0} bytes is over the limit of {FILTER_BYTES_MAX} bytes")]
    TooLong(usize),
    /// No preset has this name.
    #[error("there is no preset `{0}`; presets are {names}", names = presets::names())]
    Preset(String),
    /// Nothing can be sorted so.
    #[error(
        "there is no sort `{0}`; a sort is `submitted`, `ended`, `duration`, `fuel`, `memory`, `priority` or `attempts`, with `-` before it for \
         the highest first"
    )]
    Sort(String),
    /// Tasks that have not ended are not kept in that order.
    #[error(
        "sort `{0}` is for tasks that have ended; add `state = ended AND` to the filter, or sort by `submitted`"
    )]
    Open(Sort),
    /// One pass would be over too many.
    #[error(
        "sort `{sort}` would look at more than {max} tasks that have ended; add `ended > -1h` or the like to the filter, or sort by `ended`",
        max = tq_core::limits::SORT_TASKS_MAX
    )]
    TooMany {
        /// By what.
        sort: Sort,
    },
    /// The cursor is none.
    #[error("cursor is not one that a search gave")]
    Cursor,
    /// The cursor belongs elsewhere.
    #[error("cursor is of another search; send it with the same filter, preset, sort and action")]
    OtherCursor,
}

/// By what tasks are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// When they were submitted.
    Submitted,
    /// When they ended.
    Ended,
    /// How long the last attempt took.
    Duration,
    /// What it used.
    Fuel,
    /// The most memory that it had.
    Memory,
    /// How urgent they are.
    Priority,
    /// How many attempts were started.
    Attempts,
}

/// In which order tasks are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub by: By,
    /// The highest first.
    pub is_descending: bool,
}

impl By {
    const ALL: [(&'static str, Self); 7] = [
        ("submitted", Self::Submitted),
        ("ended", Self::Ended),
        ("duration", Self::Duration),
        ("fuel", Self::Fuel),
        ("memory", Self::Memory),
        ("priority", Self::Priority),
        ("attempts", Self::Attempts),
    ];
}

impl FromStr for Sort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, is_descending) = match text.strip_prefix('-') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let found = By::ALL.iter().find(|(of, _)| *of == name);
        let (_, by) = found.ok_or_else(|| Error::Sort(text.chars().take(40).collect()))?;
        Ok(Self {
            by: *by,
            is_descending,
        })
    }
}

impl std::fmt::Display for Sort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minus = if self.is_descending { "-" } else { "" };
        let name = By::ALL.iter().find(|(_, by)| *by == self.by);
        write!(f, "{minus}{}", name.map_or("", |(name, _)| name))
    }
}

/// A search as it is asked for. What is empty is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Which tasks, in the language of [`Filter`].
    pub filter: &'a str,
    /// The name of a [`Preset`], which the filter narrows.
    pub preset: &'a str,
    /// In which order: a [`Sort`].
    pub sort: &'a str,
    /// What is done to what is found, by its number; searches for different ends have different cursors.
    pub action: i32,
}

/// Which tasks, and in which order.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    filter: Filter,
    sort: Sort,
    now: Timestamp,
    /// Tells it from others, so that cursors are not mixed up.
    print: u64,
}

impl Search {
    /// Reads what was asked for. `narrow` takes a part of it, by when the search began; what is relative counts from then
    /// too. That is `now` or, on later pages, when the first was asked for: `cursor` says so.
    ///
    /// # Errors
    /// [`Error`] says what cannot be read.
    pub fn new(
        asked: &Asked<'_>,
        narrow: impl FnOnce(Timestamp) -> Filter,
        cursor: Option<&Cursor>,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let Asked {
            filter,
            preset,
            sort,
            action,
        } = *asked;
        // A cursor comes from outside.
        let now = cursor.map_or(now, |cursor| cursor.now.min(now));
        if filter.len() > FILTER_BYTES_MAX {
            return Err(Error::TooLong(filter.len()));
        }
        let preset_of = match preset {
            "" => None,
            name => Some(presets::find(name)?),
        };
        let filter_of_preset = preset_of.map_or("", |preset| preset.filter);
        let both = Filter::parse(filter_of_preset, now)?.and(Filter::parse(filter, now)?);
        let narrowed = both.and(narrow(now));
        let has_ended = narrowed.has_ended();
        let sort_of = match (sort, preset_of) {
            ("", Some(preset)) if !preset.sort.is_empty() => preset.sort.parse()?,
            ("", _) => Sort {
                by: if has_ended { By::Ended } else { By::Submitted },
                is_descending: true,
            },
            (sort, _) => sort.parse()?,
        };
        if sort_of.by != By::Submitted && !has_ended {
            return Err(Error::Open(sort_of));
        }
        let mut print = Xxh3::new();
        for text in [filter, preset, sort] {
            print.update(text.as_bytes());
            print.update(&[0]);
        }
        print.update(&action.to_be_bytes());
        let search = Self {
            filter: narrowed,
            sort: sort_of,
            now,
            print: print.digest(),
        };
        match cursor {
            Some(cursor) if !cursor.fits(&search) => Err(Error::OtherCursor),
            Some(_) | None => Ok(search),
        }
    }

    /// When it began.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// In which order it finds tasks.
    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// Whether it takes nothing but tasks that have ended.
    pub fn has_ended(&self) -> bool {
        self.filter.has_ended()
    }
}
