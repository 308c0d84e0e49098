//! Webhooks: what is told to an endpoint, and when it is told again.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::RetryPolicy;
use crate::grant::{Destination, DestinationError, Scheme};
use crate::limits::{
    WEBHOOK_ATTEMPTS_MAX, WEBHOOK_BACKOFF, WEBHOOK_BACKOFF_MAX, WEBHOOK_FUNCTIONS_MAX,
    WEBHOOK_URL_BYTES_MAX,
};
use crate::name::{self, NameError};
use crate::task::{Spec, State};

/// When a delivery that failed is tried again.
pub const RETRY: RetryPolicy = RetryPolicy {
    max_attempts: WEBHOOK_ATTEMPTS_MAX,
    backoff: WEBHOOK_BACKOFF,
    cap: WEBHOOK_BACKOFF_MAX,
};

/// What has happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// It has a result.
    Succeeded,
    /// It will not be tried again.
    Dead,
    /// Someone asked for its end.
    Cancelled,
    /// Its deadline passed.
    Expired,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Succeeded, Self::Dead, Self::Cancelled, Self::Expired];

    /// As it is called in filters and in what is sent.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "task.succeeded",
            Self::Dead => "task.dead",
            Self::Cancelled => "task.cancelled",
            Self::Expired => "task.expired",
        }
    }

    /// What it is that a task has come to this state; none if it has not ended.
    #[must_use]
    pub fn of(state: &State) -> Option<Self> {
        match state {
            State::Succeeded { .. } => Some(Self::Succeeded),
            State::Dead { .. } => Some(Self::Dead),
            State::Cancelled { .. } => Some(Self::Cancelled),
            State::Expired { .. } => Some(Self::Expired),
            State::Blocked { .. }
            | State::Scheduled { .. }
            | State::Ready { .. }
            | State::Running { .. } => None,
        }
    }
}

/// A text that is no [`Event`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no event `{0}`; there are `task.succeeded`, `task.dead`, `task.cancelled` and `task.expired`"
)]
pub struct NoEvent(String);

impl FromStr for Event {
    type Err = NoEvent;

    fn from_str(text: &str) -> Result<Self, NoEvent> {
        let event = Self::ALL.into_iter().find(|event| event.name() == text);
        event.ok_or_else(|| NoEvent(text.chars().take(80).collect()))
    }
}

/// Where a webhook is told: a URL of `http` or `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    destination: Destination,
}

/// A text that is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It does not begin with a scheme.
    #[error("the URL begins with neither `https://` nor `http://`")]
    Scheme,
    /// It is too long.
    #[error("the URL has {0} bytes, over the limit of {WEBHOOK_URL_BYTES_MAX} bytes")]
    TooLong(usize),
    /// It has a character that would be sent otherwise, or that no server is told.
    #[error("the URL has `{0}`; write it in percent-encoding, and leave out what follows a `#`")]
    Character(char),
    /// It names nobody.
    #[error("the URL names no endpoint: {0}")]
    Destination(#[from] DestinationError),
}

impl Endpoint {
    /// The URL, as it was given.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// To whom it leads.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.len() > WEBHOOK_URL_BYTES_MAX {
            return Err(EndpointError::TooLong(text.len()));
        }
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            return Err(EndpointError::Scheme);
        };
        let is_of_urls =
            |letter: &char| letter.is_ascii_graphic() && !"#\"<>\\^`{|}".contains(*letter);
        if let Some(other) = text.chars().find(|letter| !is_of_urls(letter)) {
            return Err(EndpointError::Character(other));
        }
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        Ok(Self {
            destination: Destination::parse(scheme, authority)?,
            url: text.to_owned(),
        })
    }
}

/// Functions whose tasks are told of, over all versions: one, or all of a module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Functions {
    module: String,
    /// None is all.
    function: Option<String>,
}

/// A text that is no [`Functions`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; functions are named by MODULE/FUNCTION or MODULE, over all versions")]
pub struct FunctionsError(#[from] NameError);

impl Functions {
    fn have(&self, spec: &Spec) -> bool {
        let Self { module, function } = self;
        let is_it = |function: &String| *function == spec.function;
        *module == spec.module && function.as_ref().is_none_or(is_it)
    }
}

impl FromStr for Functions {
    type Err = FunctionsError;

    fn from_str(text: &str) -> Result<Self, FunctionsError> {
        let (module, function) = match text.split_once('/') {
            Some((module, function)) => (module, Some(function)),
            None => (text, None),
        };
        name::check("module name", module)?;
        if let Some(function) = function {
            // Those of typed functions have more characters than names do.
            if !name::is_function(function) {
                name::check("function name", function)?;
            }
        }
        Ok(Self {
            module: module.to_owned(),
            function: function.map(str::to_owned),
        })
    }
}

impl fmt::Display for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.module)?;
        match &self.function {
            Some(function) => write!(f, "/{function}"),
            None => Ok(()),
        }
    }
}

/// Which events a webhook tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// None of them is all.
    pub events: BTreeSet<Event>,
    /// None of them is all; at most [`WEBHOOK_FUNCTIONS_MAX`].
    pub functions: BTreeSet<Functions>,
}

/// A filter names too many functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a webhook names {0} functions, over the limit of {WEBHOOK_FUNCTIONS_MAX}; name modules")]
pub struct TooManyFunctions(usize);

impl Filter {
    /// Checks that it names no more functions than it may.
    ///
    /// # Errors
    /// [`TooManyFunctions`] with their number.
    pub fn check(&self) -> Result<(), TooManyFunctions> {
        match self.functions.len() {
            len if len > WEBHOOK_FUNCTIONS_MAX => Err(TooManyFunctions(len)),
            _ => Ok(()),
        }
    }

    /// Whether an event of a task is told.
    #[must_use]
    pub fn takes(&self, event: Event, spec: &Spec) -> bool {
        let Self { events, functions } = self;
        (events.is_empty() || events.contains(&event))
            && (functions.is_empty() || functions.iter().any(|of| of.have(spec)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<&str, &str>) {
        let got = url.parse::<Endpoint>();
        let got = got.map(|endpoint| endpoint.destination().to_string());
        let got = got.map_err(|error| error.to_string());
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(got, expected, "{url}");
    }

    #[test]
    fn endpoints_are_read_by_one_parser() {
        check("https://A.example/hook?x=%20", Ok("https://a.example"));
        check("https://a.example?x", Ok("https://a.example"));
        check("http://127.0.0.1:8080/", Ok("http://127.0.0.1:8080"));
        let scheme = "the URL begins with neither `https://` nor `http://`";
        check("ftp://a.example", Err(scheme));
        check("a.example", Err(scheme));
        for (url, letter) in [
            ("https://a.example/#x", '#'),
            ("https://a.example/ä", 'ä'),
            ("https://a.example/ x", ' '),
            ("https://a.example\\@b.example", '\\'),
            ("https://a.example/\r\nx", '\r'),
        ] {
            let expected = format!(
                "the URL has `{letter}`; write it in percent-encoding, and leave out what follows a `#`"
            );
            check(url, Err(&expected));
        }
        let none = |why| format!("the URL names no endpoint: {why}");
        check("https:///x", Err(&none(DestinationError::Empty)));
        check(
            "https://a@b.example",
            Err(&none(DestinationError::UserInfo)),
        );
        check("https://0x7f.1/", Err(&none(DestinationError::Number)));
    }

    #[test]
    fn events_are_called_as_they_are_read() {
        for event in Event::ALL {
            assert_eq!(event.name().parse(), Ok(event));
        }
        assert!("task.started".parse::<Event>().is_err());
    }

    #[test]
    fn functions_are_written_as_they_are_read() {
        for text in ["a", "a/b", "a/b:c/d@0.1.0#e"] {
            assert_eq!(text.parse::<Functions>().unwrap().to_string(), text);
        }
        for text in ["", "a/", "/b", "a@1/b"] {
            assert!(text.parse::<Functions>().is_err(), "{text}");
        }
    }
}
