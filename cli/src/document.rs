//! TOML files whose every key is known: reading them, with errors that name the line and the nearest key.

use std::path::Path;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::exit::Failure;

/// How alike two words must be (Jaro-Winkler, 0 to 1) for one to be offered instead of the other.
const LIKENESS: f64 = 0.75;

/// A table of a TOML file.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    path: &'a Path,
    text: &'a str,
    /// The table's own name, with a full stop behind it; empty for the root.
    prefix: &'a str,
    entries: &'a DeTable<'a>,
}

/// Reads the file at `path` as TOML, and hands its root table to `read`.
///
/// # Errors
/// Those of `read`, and where the text is not TOML.
pub(crate) fn parse<T>(
    path: &Path,
    text: &str,
    read: impl FnOnce(Table<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let root = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line(text, span.start));
        Failure::usage(format!("{}:{line}: {}", path.display(), error.message()))
    })?;
    read(Table {
        path,
        text,
        prefix: "",
        entries: root.get_ref(),
    })
}

impl<'a> Table<'a> {
    /// Refuses keys that are not in `known`, naming the nearest that is.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        for key in self.entries.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let refused = self.refuse(
                key.span().start,
                format!("`{}{name}` is not a key", self.prefix),
            );
            return Err(match nearest(name, known) {
                Some(near) => refused.hint(format!("did you mean `{near}`?")),
                None => refused.hint(format!("known here: {}", known.join(", "))),
            });
        }
        Ok(())
    }

    /// Hands the table under `key` to `read`; `None` if there is none.
    pub(crate) fn table<T>(
        &self,
        key: &str,
        read: impl FnOnce(Table<'_>) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let DeValue::Table(entries) = value.get_ref() else {
            return Err(self.mistyped(key, value, "a table"));
        };
        read(Table {
            prefix: &format!("{}{key}.", self.prefix),
            entries,
            ..*self
        })
        .map(Some)
    }

    /// The names of the entries, in the file's order.
    pub(crate) fn names(&self) -> Vec<&'a str> {
        let mut keys: Vec<_> = self.entries.keys().collect();
        keys.sort_by_key(|key| key.span().start);
        keys.into_iter().map(|key| key.get_ref().as_ref()).collect()
    }

    /// The value under `key`, a string or a whole number, read as its type reads itself; `None` if there is none.
    pub(crate) fn value<T: FromStr>(&self, key: &str) -> Result<Option<T>, Failure>
    where
        T::Err: std::fmt::Display,
    {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let parsed = match value.get_ref() {
            DeValue::String(text) => text.parse::<T>(),
            DeValue::Integer(number) => number.to_string().parse::<T>(),
            _ => return Err(self.mistyped(key, value, "a string or a whole number")),
        };
        parsed.map(Some).map_err(|error| {
            self.refuse(
                value.span().start,
                format!("`{}{key}`: {error}", self.prefix),
            )
        })
    }

    /// The value under `key`, `true` or `false`; `None` if there is none.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Failure> {
        match self.get(key).map(|value| (value, value.get_ref())) {
            None => Ok(None),
            Some((_, DeValue::Boolean(flag))) => Ok(Some(*flag)),
            Some((value, _)) => Err(self.mistyped(key, value, "`true` or `false`")),
        }
    }

    /// The list of strings under `key`; `None` if there is none.
    pub(crate) fn list(&self, key: &str) -> Result<Option<Vec<&'a str>>, Failure> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let text = |value: &'a Spanned<DeValue<'a>>| match value.get_ref() {
            DeValue::String(text) => Some(text.as_ref()),
            _ => None,
        };
        let texts = match value.get_ref() {
            DeValue::Array(values) => values.iter().map(text).collect(),
            _ => None,
        };
        match texts {
            Some(texts) => Ok(Some(texts)),
            None => Err(self.mistyped(key, value, "a list of strings")),
        }
    }

    /// An error about the value under `key`.
    pub(crate) fn invalid(&self, key: &str, reason: &str) -> Failure {
        let at = self.get(key).map_or(0, |value| value.span().start);
        self.refuse(at, format!("`{}{key}`: {reason}", self.prefix))
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let entry = self.entries.iter().find(|(name, _)| name.get_ref() == key);
        entry.map(|(_, value)| value)
    }

    fn mistyped(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> Failure {
        let found = value.get_ref().type_str();
        self.refuse(
            value.span().start,
            format!(
                "`{}{key}` is of type {found}, and has to be {expected}",
                self.prefix
            ),
        )
    }

    fn refuse(&self, at: usize, message: String) -> Failure {
        Failure::usage(format!(
            "{}:{}: {message}",
            self.path.display(),
            line(self.text, at)
        ))
    }
}

/// The word of `known` that is most like `word`, if one is.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |candidate: &str| strsim::jaro_winkler(word, candidate);
    known
        .iter()
        .copied()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|candidate| likeness(candidate) >= LIKENESS)
}

fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
