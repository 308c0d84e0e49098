//! Which TCP connections a function may open.

use std::fmt;
use std::str::FromStr;

use super::http::{DestinationError, Host, split};

/// Leave to connect to one port of one host: `HOST:PORT`, with an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpGrant {
    /// To whom.
    pub host: Host,
    /// At which port, from 1.
    pub port: u16,
}

/// A text that is no [`TcpGrant`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be granted: {reason}")]
pub struct TcpGrantError {
    text: String,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("it has no port; write it like `db.example.com:5432`")]
    NoPort,
    #[error("write a host and a port only, like `db.example.com:5432`")]
    Url,
    #[error(transparent)]
    Destination(#[from] DestinationError),
}

impl FromStr for TcpGrant {
    type Err = TcpGrantError;

    fn from_str(text: &str) -> Result<Self, TcpGrantError> {
        parse(text).map_err(|reason| TcpGrantError {
            text: text.chars().take(120).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<TcpGrant, Reason> {
    if text.contains('/') {
        return Err(Reason::Url);
    }
    if text.contains('@') {
        return Err(Reason::Destination(DestinationError::UserInfo));
    }
    let (host, port) = split(text)?;
    Ok(TcpGrant {
        host: host.parse()?,
        port: port.ok_or(Reason::NoPort)?,
    })
}

impl fmt::Display for TcpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        write!(f, "{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let got = text.parse::<TcpGrant>();
        let got = got
            .map(|grant| grant.to_string())
            .map_err(|error| error.to_string());
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(got, expected);
    }

    #[test]
    fn host_and_port_are_granted() {
        check("DB.example.com:5432", Ok("db.example.com:5432"));
        check("10.1.2.3:6379", Ok("10.1.2.3:6379"));
        check("[fd00::1]:6379", Ok("[fd00::1]:6379"));
    }

    #[test]
    fn anything_else_is_refused() {
        check(
            "db.example.com",
            Err(
                "`db.example.com` cannot be granted: it has no port; write it like `db.example.com:5432`",
            ),
        );
        check(
            "tcp://db.example.com:5432",
            Err(
                "`tcp://db.example.com:5432` cannot be granted: write a host and a port only, like `db.example.com:5432`",
            ),
        );
        check(
            "db:0",
            Err("`db:0` cannot be granted: its port is none; a port is a number from 1 to 65535"),
        );
        check(
            "*.example.com:80",
            Err(
                "`*.example.com:80` cannot be granted: its host has characters that a name cannot have; write a name in its ASCII form (`xn--…`), and an IPv6 address in brackets",
            ),
        );
    }
}
