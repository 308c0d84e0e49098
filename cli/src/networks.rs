//! Networks as they are typed: one flag each, or one text with commas between them.

use std::fmt;
use std::str::FromStr;

use tq_host::egress::{Network, NetworkError};

use crate::commas;

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkList(pub(crate) Vec<Network>);

impl NetworkList {
    /// What was typed one by one; `None` if that is nothing.
    pub(crate) fn gather(networks: &[Network]) -> Option<Self> {
        (!networks.is_empty()).then(|| Self(networks.to_vec()))
    }
}

impl FromStr for NetworkList {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let networks = commas::parts(text).map(str::parse);
        networks.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for NetworkList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        commas::write(f, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_written_with_commas() {
        let list: NetworkList = "127.0.0.1/32, fd00::/8,".parse().expect("it is a list");
        assert_eq!(list.to_string(), "127.0.0.1/32,fd00::/8");
        assert_eq!("".parse(), Ok(NetworkList::default()));
        assert!("127.0.0.1".parse::<NetworkList>().is_err());
    }
}
