//! Labels of a host as they are typed: one flag each, or one text with commas between them.

use std::fmt;
use std::str::FromStr;

use tq_core::label::{self, LabelError, Labels};

use crate::commas;

/// One label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    key: String,
    value: String,
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let (key, value) = label::parse(text)?;
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelList(pub(crate) Labels);

impl LabelList {
    /// Gathers what was typed one by one; `None` if that is nothing.
    ///
    /// # Errors
    /// [`LabelError`] if there are too many, or two of one key.
    pub(crate) fn gather(labels: &[Label]) -> Result<Option<Self>, LabelError> {
        if labels.is_empty() {
            return Ok(None);
        }
        let labels = labels.iter().map(|label| (&label.key, &label.value));
        Ok(Some(Self(label::gather(labels)?)))
    }
}

impl FromStr for LabelList {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let labels = commas::parts(text)
            .map(label::parse)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self(label::gather(labels)?))
    }
}

impl fmt::Display for LabelList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.0.iter().map(|(key, value)| format!("{key}={value}"));
        commas::write(f, pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        let list: LabelList = "zone=eu, gpu=a100,".parse().expect("it is a list");
        assert_eq!(list.to_string(), "gpu=a100,zone=eu");
        assert_eq!(list.to_string().parse(), Ok(list));
        assert_eq!("".parse(), Ok(LabelList::default()));
        let refused = "zone"
            .parse::<LabelList>()
            .map_err(|error| error.to_string());
        assert_eq!(
            refused,
            Err("label `zone` has no value; write it as `KEY=VALUE`, such as `zone=eu`".to_owned())
        );
    }

    #[test]
    fn flags_are_gathered() {
        let flags = ["zone=eu", "gpu=a100"].map(|text| text.parse().expect("it is a label"));
        let list = LabelList::gather(&flags).expect("they are valid");
        assert_eq!(
            list.map(|list| list.to_string()).as_deref(),
            Some("gpu=a100,zone=eu")
        );
        assert_eq!(LabelList::gather(&[]), Ok(None));
        let twice = ["zone=eu", "zone=us"].map(|text| text.parse().expect("it is a label"));
        assert!(LabelList::gather(&twice).is_err());
    }
}
