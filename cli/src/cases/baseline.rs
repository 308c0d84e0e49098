//! What cases used of fuel when somebody looked, so that it does not grow unseen.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::exit::Failure;

/// Where it is, below a module's folder, unless something else is named.
pub(crate) const FILE: &str = "fuel.json";
/// By how much fuel may change, in percent of what it was.
const CHANGE_PERCENT: u128 = 5;

/// Fuel by case.
#[derive(Debug)]
pub(crate) struct Baseline {
    path: PathBuf,
    fuel: BTreeMap<String, u64>,
}

/// What has become of a case's fuel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is what it was, give or take a little: this.
    Same(u64),
    /// There is more of it, from this.
    Grown(u64),
    /// There is less of it, from this.
    Fallen(u64),
    /// Nobody has looked before.
    New,
}

impl Baseline {
    /// Reads the file; if it is not there, `None`.
    ///
    /// # Errors
    /// It cannot be read, or is no baseline.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let shown = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::usage(format!("failed to read `{shown}`: {error}"))),
        };
        let no_baseline = |why: String| {
            Failure::usage(format!("{shown}: {why}"))
                .hint("a baseline is written by `tq test --update-baseline`: {\"CASE\": FUEL, …}")
        };
        let value: Value =
            serde_json::from_str(&text).map_err(|error| no_baseline(error.to_string()))?;
        let entries = value.as_object();
        let entries = entries.ok_or_else(|| no_baseline("it is no object".to_owned()))?;
        let fuel = entries.iter().map(|(case, fuel)| match fuel.as_u64() {
            Some(fuel) => Ok((case.clone(), fuel)),
            None => Err(no_baseline(format!(
                "`{case}` is {fuel}, and has to be a whole number"
            ))),
        });
        Ok(Some(Self {
            path: path.to_owned(),
            fuel: fuel.collect::<Result<_, _>>()?,
        }))
    }

    /// One of which nothing is known yet.
    pub(crate) fn empty(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            fuel: BTreeMap::new(),
        }
    }

    /// What has become of the fuel of this case.
    pub(crate) fn change(&self, case: &str, fuel: u64) -> Change {
        let Some(before) = self.fuel.get(case).copied() else {
            return Change::New;
        };
        let (now, was) = (u128::from(fuel) * 100, u128::from(before));
        if now > was * (100 + CHANGE_PERCENT) {
            Change::Grown(before)
        } else if now < was * (100 - CHANGE_PERCENT) {
            Change::Fallen(before)
        } else {
            Change::Same(before)
        }
    }

    /// Takes what a case uses now for what it may use.
    pub(crate) fn set(&mut self, case: &str, fuel: u64) {
        self.fuel.insert(case.to_owned(), fuel);
    }

    /// Forgets cases that are not there any more.
    pub(crate) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.fuel.retain(|case, _| is_there(case));
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(&self.fuel)?;
        text.push('\n');
        fs::write(&self.path, text).map_err(|error| {
            Failure::usage(format!(
                "failed to write `{}`: {error}",
                self.path.display()
            ))
            .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: u64, now: u64, expected: Change) {
        let mut baseline = Baseline::empty(Path::new(FILE));
        baseline.set("a", before);
        assert_eq!(baseline.change("a", now), expected);
    }

    #[test]
    fn a_change_is_more_than_five_percent() {
        check(1_000, 1_050, Change::Same(1_000));
        check(1_000, 1_051, Change::Grown(1_000));
        check(1_000, 950, Change::Same(1_000));
        check(1_000, 949, Change::Fallen(1_000));
        check(u64::MAX, u64::MAX, Change::Same(u64::MAX));
        check(0, 1, Change::Grown(0));
        assert_eq!(Baseline::empty(Path::new(FILE)).change("a", 1), Change::New);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join(FILE);
        assert!(Baseline::read(&path).expect("it is not there").is_none());
        let mut baseline = Baseline::empty(&path);
        baseline.set("b", 2);
        baseline.set("a/x", 1);
        baseline.keep(|case| case != "b");
        baseline.write().expect("the disk takes it");
        assert_eq!(
            fs::read_to_string(&path).expect("it is there"),
            "{\n  \"a/x\": 1\n}\n"
        );
        let read = Baseline::read(&path)
            .expect("it is valid")
            .expect("it is there");
        assert_eq!(read.fuel, baseline.fuel);
        for text in ["[]", "{\"a\": -1}", "{"] {
            fs::write(&path, text).expect("the disk takes it");
            assert!(Baseline::read(&path).is_err(), "{text}");
        }
    }
}
