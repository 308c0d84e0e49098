//! Labels of hosts, and labels that tasks ask for: `gpu=a100`, `zone=eu`.

use std::collections::BTreeMap;

use crate::limits::{LABEL_VALUE_BYTES_MAX, LABELS_MAX};
use crate::name::{self, NameError};

/// What a label's key is called in messages.
const KEY: &str = "key of a label";

/// Labels by their keys.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

/// A label that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// It has no `=`.
    #[error("label `{0}` has no value; write it as `KEY=VALUE`, such as `zone=eu`")]
    NoValue(String),
    /// Its key is no name.
    #[error(transparent)]
    Key(#[from] NameError),
    /// Its value is empty.
    #[error("label `{0}` has an empty value; give it one, or leave the label out")]
    Empty(String),
    /// Its value is longer than [`LABEL_VALUE_BYTES_MAX`].
    #[error(
        "label `{key}` has a value of {len} bytes, over the limit of {LABEL_VALUE_BYTES_MAX} bytes"
    )]
    TooLong {
        /// Its key.
        key: String,
        /// The length of its value.
        len: usize,
    },
    /// Its value has a character that cannot be printed, or that ends a label where several are listed.
    #[error(
        "label `{key}` has {found:?} in its value; use characters that can be printed, and no comma"
    )]
    Character {
        /// Its key.
        key: String,
        /// The first character that cannot stay.
        found: char,
    },
    /// Two labels have one key.
    #[error("label `{0}` is given twice; a key has one value")]
    Twice(String),
    /// There are too many.
    #[error("there are {0} labels, over the limit of {LABELS_MAX} labels")]
    TooMany(usize),
}

/// Reads `KEY=VALUE`, and checks both.
///
/// # Errors
/// [`LabelError`] says what the label has that it may not have.
pub fn parse(text: &str) -> Result<(&str, &str), LabelError> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| LabelError::NoValue(text.to_owned()))?;
    check(key, value)?;
    Ok((key, value))
}

/// Checks a label: its key as [`name::check`] does, its value for 1 to [`LABEL_VALUE_BYTES_MAX`] bytes of characters that
/// can be printed, without commas.
///
/// # Errors
/// [`LabelError`] says what the label has that it may not have.
pub fn check(key: &str, value: &str) -> Result<(), LabelError> {
    name::check(KEY, key)?;
    let key = || key.to_owned();
    if value.is_empty() {
        return Err(LabelError::Empty(key()));
    }
    if value.len() > LABEL_VALUE_BYTES_MAX {
        return Err(LabelError::TooLong {
            key: key(),
            len: value.len(),
        });
    }
    match value.chars().find(|c| c.is_control() || *c == ',') {
        Some(found) => Err(LabelError::Character { key: key(), found }),
        None => Ok(()),
    }
}

/// Gathers labels, and checks each of them and their number.
///
/// # Errors
/// [`LabelError`] of the first one that cannot be used.
pub fn gather<K, V>(labels: impl IntoIterator<Item = (K, V)>) -> Result<Labels, LabelError>
where
    K: AsRef<str>,
    V: AsRef<str>,
{
    let mut gathered = Labels::new();
    for (key, value) in labels {
        let (key, value) = (key.as_ref(), value.as_ref());
        check(key, value)?;
        if gathered.insert(key.into(), value.into()).is_some() {
            return Err(LabelError::Twice(key.to_owned()));
        }
    }
    match gathered.len() {
        count if count > LABELS_MAX => Err(LabelError::TooMany(count)),
        _ => Ok(gathered),
    }
}

/// Whether a host with these labels has each of `required`, with its value.
#[must_use]
pub fn meet(labels: &Labels, required: &Labels) -> bool {
    shared(labels, required) == required.len()
}

/// How many of `others` are among these labels, with their values.
#[must_use]
pub fn shared(labels: &Labels, others: &Labels) -> usize {
    let others = others.iter();
    others
        .filter(|(key, value)| labels.get(*key) == Some(value))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_label(text: &str, expected: Result<(&str, &str), &str>) {
        let got = parse(text).map_err(|error| error.to_string());
        assert_eq!(got.as_ref().copied().map_err(String::as_str), expected);
    }

    #[test]
    fn labels_are_a_key_and_a_value() {
        check_label("gpu=a100", Ok(("gpu", "a100")));
        check_label("kernel=6.1=b c", Ok(("kernel", "6.1=b c")));
        check_label(
            "gpu",
            Err("label `gpu` has no value; write it as `KEY=VALUE`, such as `zone=eu`"),
        );
        check_label("=a", Err("key of a label is empty; give it a name"));
        check_label(
            "gpu=",
            Err("label `gpu` has an empty value; give it one, or leave the label out"),
        );
        check_label(
            &format!("gpu={}", "a".repeat(129)),
            Err("label `gpu` has a value of 129 bytes, over the limit of 128 bytes"),
        );
        check_label(
            "gpu=a\nb",
            Err(
                "label `gpu` has '\\n' in its value; use characters that can be printed, and no comma",
            ),
        );
    }

    #[test]
    fn labels_are_few_and_each_is_given_once() {
        let many = (0..=LABELS_MAX).map(|number| (format!("k{number}"), "v"));
        assert_eq!(gather(many), Err(LabelError::TooMany(LABELS_MAX + 1)));
        let twice = gather([("zone", "eu"), ("zone", "us")]);
        assert_eq!(twice, Err(LabelError::Twice("zone".to_owned())));
        let two = gather([("zone", "eu"), ("gpu", "a100")]).expect("they are valid");
        assert_eq!(
            two.keys().map(|key| &**key).collect::<Vec<_>>(),
            ["gpu", "zone"]
        );
    }

    #[test]
    fn hosts_meet_what_is_required_with_its_value() {
        let labels = |pairs: &[(&str, &str)]| gather(pairs.iter().copied()).expect("valid");
        let host = labels(&[("zone", "eu"), ("gpu", "a100"), ("disk", "ssd")]);
        let check = |required: &[_], expected| {
            assert_eq!(meet(&host, &labels(required)), expected);
        };
        check(&[], true);
        check(&[("gpu", "a100"), ("zone", "eu")], true);
        check(&[("gpu", "h100")], false);
        check(&[("gpu", "a100"), ("arch", "arm64")], false);
        let preferred = labels(&[("gpu", "a100"), ("zone", "us")]);
        assert_eq!(shared(&host, &preferred), 1);
    }
}
