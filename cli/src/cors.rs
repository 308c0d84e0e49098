//! Origins of web pages as they are typed: one flag each, or one text with commas between them.

use std::fmt;
use std::str::FromStr;

use tq_broker::{CorsOrigin, NoOrigin};

use crate::commas;

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OriginList(pub(crate) Vec<CorsOrigin>);

impl OriginList {
    /// What was typed one by one; `None` if that is nothing.
    pub(crate) fn gather(origins: &[CorsOrigin]) -> Option<Self> {
        (!origins.is_empty()).then(|| Self(origins.to_vec()))
    }
}

impl FromStr for OriginList {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        let origins = commas::parts(text).map(str::parse);
        origins.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for OriginList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        commas::write(f, &self.0)
    }
}
