//! What a function may do beside computing: nothing, unless its module says so in `tq.toml`.

mod http;
mod keyvalue;
mod secret;
mod tcp;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::limits::{ENV_BYTES_MAX, ENV_MAX, GRANTS_MAX};

pub use http::{
    Destination, DestinationError, Host, HttpGrant, HttpGrantError, Scheme, is_method,
    is_never_allowed,
};
pub use keyvalue::BucketName;
pub use secret::{SecretGrant, SecretGrantError, SecretName};
pub use tcp::{TcpGrant, TcpGrantError};

/// What a function may do. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Clocks and randomness that are the same for every attempt of a task. Less than the real ones, so that it is a grant
    /// only in name.
    pub is_deterministic: bool,
    /// HTTP requests: to whom, and with which methods.
    pub http: BTreeSet<HttpGrant>,
    /// A directory of its own for each attempt, which is gone after it.
    pub has_scratch: bool,
    /// Buckets of its namespace that it may read and write.
    pub keyvalue: BTreeSet<BucketName>,
    /// TCP connections: to whom.
    pub tcp: BTreeSet<TcpGrant>,
    /// Secrets of its namespace, and what each is for.
    pub secrets: BTreeSet<SecretGrant>,
}

/// A grant that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// A variable has no name that programs could read.
    #[error(
        "`{name}` cannot be the name of an environment variable; use letters, digits and `_`, not beginning with a digit"
    )]
    EnvName {
        /// The name, cut.
        name: String,
    },
    /// A value that programs could not read.
    #[error("the value of environment variable `{name}` has a NUL in it")]
    EnvValue {
        /// The variable's name.
        name: String,
    },
    /// Too many variables.
    #[error("there are {count} environment variables, over the limit of {ENV_MAX}")]
    EnvCount {
        /// How many.
        count: usize,
    },
    /// They are too long.
    #[error(
        "the environment variables have {len} bytes together, over the limit of {ENV_BYTES_MAX}"
    )]
    EnvBytes {
        /// How long.
        len: usize,
    },
    /// A capability has too many entries.
    #[error("`{capability}` has {count} entries, over the limit of {GRANTS_MAX}")]
    Count {
        /// As `tq.toml` calls it.
        capability: &'static str,
        /// How many.
        count: usize,
    },
}

impl Grants {
    /// Whether nothing is granted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks everything that a text can say.
    ///
    /// # Errors
    /// The first [`GrantError`].
    pub fn check(&self) -> Result<(), GrantError> {
        let Self {
            env,
            is_deterministic: _,
            http,
            has_scratch: _,
            keyvalue,
            tcp,
            secrets,
        } = self;
        let counts = [
            ("http", http.len()),
            ("keyvalue", keyvalue.len()),
            ("tcp", tcp.len()),
            ("secrets", secrets.len()),
        ];
        for (capability, count) in counts {
            if count > GRANTS_MAX {
                return Err(GrantError::Count { capability, count });
            }
        }
        if env.len() > ENV_MAX {
            return Err(GrantError::EnvCount { count: env.len() });
        }
        let len = env.iter().map(|(name, value)| name.len() + value.len() + 2);
        let len = len.sum();
        if len > ENV_BYTES_MAX {
            return Err(GrantError::EnvBytes { len });
        }
        for (name, value) in env {
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name || name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit())
            {
                let name = name.chars().take(40).collect();
                return Err(GrantError::EnvName { name });
            }
            if value.contains('\0') {
                return Err(GrantError::EnvValue { name: name.clone() });
            }
        }
        Ok(())
    }

    /// What is granted here and not in `before`, each by itself, in the words that deployers are shown, without values that may
    /// be private.
    pub fn beyond<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = String> + use<'a> {
        let Self {
            env,
            // It takes something away.
            is_deterministic: _,
            http,
            has_scratch,
            keyvalue,
            tcp,
            secrets,
        } = self;
        let env = env.keys().filter(|name| !before.env.contains_key(*name));
        let env = env.map(|name| format!("env {name}"));
        let http = http
            .iter()
            .filter(|grant| !before.http.iter().any(|had| had.covers(grant)));
        let scratch = (*has_scratch && !before.has_scratch).then(|| "scratch".to_owned());
        let secrets = secrets
            .iter()
            .filter(|grant| !before.secrets.iter().any(|had| had.covers(grant)));
        env.chain(http.map(|grant| format!("http {grant}")))
            .chain(scratch)
            .chain(beyond("keyvalue", keyvalue, &before.keyvalue))
            .chain(beyond("tcp", tcp, &before.tcp))
            .chain(secrets.map(|grant| format!("secret {grant}")))
    }
}

/// The entries of a capability that were not there before.
fn beyond<'a, T: Ord + Display>(
    capability: &'static str,
    now: &'a BTreeSet<T>,
    before: &'a BTreeSet<T>,
) -> impl Iterator<Item = String> + use<'a, T> {
    now.difference(before)
        .map(move |entry| format!("{capability} {entry}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(env: &[(&str, &str)], expected: Result<(), &str>) {
        let grants = Grants {
            env: env
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            is_deterministic: true,
            ..Grants::default()
        };
        let got = grants.check().map_err(|error| error.to_string());
        assert_eq!(got.as_ref().copied().map_err(String::as_str), expected);
    }

    #[test]
    fn environment_is_what_programs_can_read() {
        check(&[("LANG", "C"), ("_a1", "")], Ok(()));
        check(
            &[("1A", "")],
            Err(
                "`1A` cannot be the name of an environment variable; use letters, digits and `_`, not beginning with a digit",
            ),
        );
        check(
            &[("A", "a\0b")],
            Err("the value of environment variable `A` has a NUL in it"),
        );
        let long = "x".repeat(ENV_BYTES_MAX);
        check(
            &[("A", &long)],
            Err("the environment variables have 16387 bytes together, over the limit of 16384"),
        );
    }

    #[test]
    fn only_what_was_not_covered_before_is_new() {
        let granting = |http: &[&str]| Grants {
            http: http.iter().map(|text| text.parse().unwrap()).collect(),
            ..Grants::default()
        };
        let before = granting(&["https://*.example.com", "GET https://a.example"]);
        let after = granting(&[
            "GET https://api.example.com",
            "GET https://a.example",
            "PUT https://a.example",
        ]);
        let beyond: Vec<String> = after.beyond(&before).collect();
        assert_eq!(beyond, ["http PUT https://a.example"]);

        let all = Grants {
            has_scratch: true,
            keyvalue: ["cache".parse().unwrap()].into(),
            tcp: ["db.example:5432".parse().unwrap()].into(),
            secrets: ["token for https://api.example".parse().unwrap()].into(),
            ..after.clone()
        };
        let beyond: Vec<String> = all.beyond(&after).collect();
        assert_eq!(
            beyond,
            [
                "scratch",
                "keyvalue cache",
                "tcp db.example:5432",
                "secret token for https://api.example"
            ]
        );
        assert_eq!(all.beyond(&all).count(), 0);
    }

    #[test]
    fn destinations_are_bounded() {
        let http = (0..=GRANTS_MAX).map(|n| format!("https://h{n}").parse().unwrap());
        let grants = Grants {
            http: http.collect(),
            ..Grants::default()
        };
        assert_eq!(
            grants.check().unwrap_err().to_string(),
            "`http` has 65 entries, over the limit of 64"
        );
    }
}
