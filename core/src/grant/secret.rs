//! Which secrets a function has, and what for.

use std::fmt;
use std::str::FromStr;

use super::http::{Destination, HttpGrant, HttpGrantError};
use crate::name::{self, NameError};

/// The name of a secret of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        name::check("secret name", text)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Leave to use a secret: `NAME`, which the guest may read, or `NAME for [METHOD,... ]SCHEME://HOST[:PORT]`, which it never
/// sees: the host puts it into the headers of requests to there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretGrant {
    /// Which.
    pub name: SecretName,
    /// Where to, if the guest may not read it.
    to: Option<HttpGrant>,
}

/// A text that is no [`SecretGrant`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretGrantError {
    /// It does not begin with the name of a secret.
    #[error("{0}; write `NAME`, or `NAME for https://api.example.com`")]
    Name(#[from] NameError),
    /// What follows `for` is no destination.
    #[error(transparent)]
    Destination(#[from] HttpGrantError),
}

impl SecretGrant {
    /// Whether the guest may read it.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.to.is_none()
    }

    /// Whether it may go into the headers of a request with this method to there.
    #[must_use]
    pub fn goes_to(&self, method: &str, destination: &Destination) -> bool {
        let to = self.to.as_ref();
        to.is_some_and(|to| to.allows(method, destination))
    }

    /// Whether everything that `other` gives is given here.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let is_as_wide = match (&self.to, &other.to) {
            (Some(to), Some(other)) => to.covers(other),
            // Who reads it can send it wherever requests are granted, in the body too.
            (None, _) => true,
            (Some(_), None) => false,
        };
        self.name == other.name && is_as_wide
    }
}

impl FromStr for SecretGrant {
    type Err = SecretGrantError;

    fn from_str(text: &str) -> Result<Self, SecretGrantError> {
        let (name, to) = match text.split_once(" for ") {
            Some((name, to)) => (name, Some(to.parse()?)),
            None => (text, None),
        };
        Ok(Self {
            name: name.parse()?,
            to,
        })
    }
}

impl fmt::Display for SecretGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, to } = self;
        match to {
            Some(to) => write!(f, "{name} for {to}"),
            None => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> SecretGrant {
        text.parse().unwrap()
    }

    #[test]
    fn texts_are_read_as_they_are_written() {
        for text in ["stripe-key", "stripe-key for GET,POST https://*.stripe.com"] {
            assert_eq!(grant(text).to_string(), text);
        }
        let refused = |text: &str| text.parse::<SecretGrant>().unwrap_err().to_string();
        assert_eq!(
            refused("a key"),
            "secret name `a key` has the character ` `; use letters, digits, `-`, `_` and `.`, beginning with a letter or digit; write `NAME`, or `NAME for https://api.example.com`"
        );
        assert_eq!(
            refused("key for api.example.com"),
            "`api.example.com` cannot be granted: it has no scheme; write it like `https://api.example.com`"
        );
    }

    #[test]
    fn a_secret_goes_only_where_it_is_for() {
        let there = Destination::parse(super::super::Scheme::Https, "api.example.com").unwrap();
        let elsewhere = Destination::parse(super::super::Scheme::Https, "example.com").unwrap();
        let for_there = grant("key for POST https://api.example.com");
        assert!(for_there.goes_to("POST", &there));
        assert!(!for_there.goes_to("GET", &there));
        assert!(!for_there.goes_to("POST", &elsewhere));
        assert!(!for_there.is_readable());
        assert!(!grant("key").goes_to("POST", &there));
    }

    #[test]
    fn reading_is_more_than_sending() {
        let wide = grant("key for https://*.example.com");
        let narrow = grant("key for GET https://api.example.com");
        assert!(wide.covers(&narrow) && !narrow.covers(&wide));
        assert!(grant("key").covers(&wide) && !wide.covers(&grant("key")));
        assert!(!grant("other").covers(&wide));
    }
}
