//! Where a task may run, and beside what: its queue, the hosts that suit it, and its concurrency key.

use crate::limits::{
    CONCURRENCY_KEY_BYTES_MAX, CONCURRENCY_MAX, LABEL_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX,
};
use crate::name::{self, NameError};

/// The queue of everything that names none.
pub const DEFAULT_QUEUE: &str = "default";

/// Under which conditions a task may run, beside its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Its queue; empty is [`DEFAULT_QUEUE`].
    pub queue: String,
    /// Labels that a host has to have.
    pub required: Labels,
    /// Labels of hosts that are taken first.
    pub preferred: Labels,
    /// Tasks that it does not run beside.
    pub concurrency: Option<Concurrency>,
}

/// At most so many tasks of one key run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// What they have in common, in their namespace: 1 to [`CONCURRENCY_KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// How many of them run: 1 to [`CONCURRENCY_MAX`].
    pub limit: u32,
}

/// Names with a value each, in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Vec<(String, String)>);

/// Why something is no [`Placement`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There are too many labels.
    #[error("there are {0} labels; there may be {LABELS_MAX}")]
    TooManyLabels(usize),
    /// A label stands twice.
    #[error("label `{0}` is given twice, with different values; give it one")]
    LabelTwice(String),
    /// The value of a label cannot be used.
    #[error(
        "label `{label}` has a value of {len} bytes; it may have 1 to {LABEL_BYTES_MAX} printable ASCII characters"
    )]
    LabelValue {
        /// The label's name.
        label: String,
        /// The length of its value.
        len: usize,
    },
    /// A concurrency key is too long or empty.
    #[error("concurrency key has {0} bytes; it may have 1 to {CONCURRENCY_KEY_BYTES_MAX}")]
    Key(usize),
    /// A concurrency limit is out of its range.
    #[error("concurrency limit is {0}; it may be 1 to {CONCURRENCY_MAX}")]
    Limit(u32),
}

impl Placement {
    /// The name of its queue.
    #[must_use]
    pub fn queue(&self) -> &str {
        if self.queue.is_empty() {
            DEFAULT_QUEUE
        } else {
            &self.queue
        }
    }
}

impl Concurrency {
    /// Checks a key and its limit.
    ///
    /// # Errors
    /// [`PlacementError`] names what is out of its range.
    pub fn new(key: String, limit: u32) -> Result<Self, PlacementError> {
        if key.is_empty() || key.len() > CONCURRENCY_KEY_BYTES_MAX {
            return Err(PlacementError::Key(key.len()));
        }
        if !(1..=CONCURRENCY_MAX).contains(&limit) {
            return Err(PlacementError::Limit(limit));
        }
        Ok(Self { key, limit })
    }
}

impl Labels {
    /// Checks labels, and puts them into their order.
    ///
    /// # Errors
    /// [`PlacementError`] says which of them cannot be used.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, PlacementError> {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort();
        pairs.dedup();
        if pairs.len() > LABELS_MAX {
            return Err(PlacementError::TooManyLabels(pairs.len()));
        }
        if let Some([(label, _), _]) = pairs.array_windows().find(|[a, b]| a.0 == b.0) {
            return Err(PlacementError::LabelTwice(label.clone()));
        }
        for (label, value) in &pairs {
            name::check("label", label)?;
            let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
            if value.is_empty() || value.len() > LABEL_BYTES_MAX || !value.bytes().all(printable) {
                return Err(PlacementError::LabelValue {
                    label: label.clone(),
                    len: value.len(),
                });
            }
        }
        Ok(Self(pairs))
    }

    /// Names and values, in the order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(label, value)| (label.as_str(), value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether each of `required` is here, with its value.
    #[must_use]
    pub fn have(&self, required: &Self) -> bool {
        self.shared(required) == required.0.len()
    }

    /// How many of `others` are here, with their values.
    #[must_use]
    pub fn shared(&self, others: &Self) -> usize {
        let has = |pair: &&(String, String)| self.0.binary_search(pair).is_ok();
        others.0.iter().filter(has).count()
    }
}

const _: () = assert!(LABEL_BYTES_MAX <= NAME_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Result<Labels, String> {
        let pairs = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        Labels::new(pairs).map_err(|error| error.to_string())
    }

    #[test]
    fn hosts_have_what_is_required_with_its_value() {
        let host = labels(&[("zone", "eu"), ("gpu", "a100"), ("disk", "ssd")]).expect("valid");
        let check = |required: &[_], expected| {
            assert_eq!(host.have(&labels(required).expect("valid")), expected);
        };
        check(&[], true);
        check(&[("gpu", "a100"), ("zone", "eu")], true);
        check(&[("gpu", "h100")], false);
        check(&[("gpu", "a100"), ("arch", "arm64")], false);
        let preferred = labels(&[("gpu", "a100"), ("zone", "us")]).expect("valid");
        assert_eq!(host.shared(&preferred), 1);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let value =
            "label `a` has a value of 0 bytes; it may have 1 to 128 printable ASCII characters";
        assert_eq!(labels(&[("a", "")]), Err(value.to_owned()));
        assert_eq!(
            labels(&[("a", "1"), ("a", "2")]),
            Err("label `a` is given twice, with different values; give it one".to_owned())
        );
        let twice = labels(&[("a", "1"), ("a", "1")]);
        assert_eq!(twice.map(|labels| labels.iter().len()), Ok(1));
        assert_eq!(
            Concurrency::new(String::new(), 1),
            Err(PlacementError::Key(0))
        );
        assert_eq!(
            Concurrency::new("k".into(), 0).map_err(|error| error.to_string()),
            Err("concurrency limit is 0; it may be 1 to 1000000".to_owned())
        );
    }
}
