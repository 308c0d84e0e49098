//! Limits of an attempt as they are typed: by name, each in its own unit.

use std::fmt;
use std::str::FromStr;

use tq_client::{LimitOverrides, Limits as Shown};
use tq_core::limits::Unit;
use tq_core::{Limits, each_limit};

use crate::commas;
use crate::document;
use crate::units::{Count, Size, Span};

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    name: &'static str,
    value: u64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write it as `NAME=VALUE`, such as `random=1MiB`";
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("limit `{text}` has no value; {example}"))?;
        let known: Vec<&str> = names().collect();
        let (name, unit, _) = Limits::DEFAULT
            .rows()
            .find(|(known, _, _)| *known == name)
            .ok_or_else(|| match document::nearest(name, &known) {
                Some(near) => format!("`{name}` is not a limit; did you mean `{near}`?"),
                None => format!("`{name}` is not a limit; known are {}", known.join(", ")),
            })?;
        let value = Amount::parse(unit, value)?.0;
        Ok(Self { name, value })
    }
}

/// The names of all limits, as in `tq.toml`.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    Limits::DEFAULT.rows().map(|(name, _, _)| name)
}

/// Gathers what was typed one by one, over what was named otherwise.
///
/// # Errors
/// Names the limit that was given twice.
pub(crate) fn gather(limits: &[Limit], named: &mut LimitOverrides) -> Result<(), String> {
    for Limit { name, value } in limits {
        let slot = slots(named).find(|(known, _, _)| known == name);
        if let Some((_, _, slot)) = slot
            && slot.replace(*value).is_some()
        {
            return Err(format!("limit `{name}` is given twice"));
        }
    }
    Ok(())
}

/// The most that a host lets an attempt have of each limit that is named.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ceilings(LimitOverrides);

impl Ceilings {
    /// Gathers what was typed one by one; `None` if that is nothing.
    ///
    /// # Errors
    /// Names the limit that was given twice.
    pub(crate) fn gather(limits: &[Limit]) -> Result<Option<Self>, String> {
        let mut named = LimitOverrides::default();
        gather(limits, &mut named)?;
        Ok((!limits.is_empty()).then_some(Self(named)))
    }

    /// As a host takes them.
    pub(crate) fn of_host(&self) -> tq_core::limits::LimitOverrides {
        macro_rules! fields {
            ($($field:ident)+) => { tq_core::limits::LimitOverrides { $($field: self.0.$field,)+ } };
        }
        each_limit!(fields)
    }
}

impl FromStr for Ceilings {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limits = commas::parts(text)
            .map(str::parse)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::gather(&limits)?.unwrap_or_default())
    }
}

impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut named = self.0;
        let named =
            slots(&mut named).filter_map(|(name, unit, value)| Some((name, unit, (*value)?)));
        let texts = named.map(|(name, unit, value)| {
            // Without the commas that people are shown in large numbers.
            let value = match unit {
                Unit::Count => value.to_string(),
                Unit::Bytes | Unit::Millis => Amount(value).shown(unit).replace(' ', ""),
            };
            format!("{name}={value}")
        });
        commas::write(f, texts)
    }
}

/// Name, unit and place of each limit.
pub(crate) fn slots(
    named: &mut LimitOverrides,
) -> impl Iterator<Item = (&'static str, Unit, &mut Option<u64>)> {
    macro_rules! places {
        ($($field:ident)+) => { [$(&mut named.$field,)+] };
    }
    let places = each_limit!(places);
    let rows = Limits::DEFAULT.rows().zip(places);
    rows.map(|((name, unit, _), place)| (name, unit, place))
}

/// The limits that are not the default, and those that people look for first.
pub(crate) fn shown(limits: &Shown) -> String {
    macro_rules! values {
        ($($field:ident)+) => { [$(limits.$field,)+] };
    }
    const ALWAYS: usize = 3;
    let rows = Limits::DEFAULT.rows().zip(each_limit!(values)).enumerate();
    let texts: Vec<String> = rows
        .filter(|(index, ((_, _, default), value))| *index < ALWAYS || default != value)
        .map(|(_, ((name, unit, _), value))| format!("{name} {}", Amount(value).shown(unit)))
        .collect();
    texts.join(", ")
}

/// A number in the unit of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount(pub(crate) u64);

impl Amount {
    /// Reads a number as people write those of this unit.
    ///
    /// # Errors
    /// What is expected.
    pub(crate) fn parse(unit: Unit, text: &str) -> Result<Self, String> {
        Ok(Self(match unit {
            Unit::Count => text.parse::<Count>()?.0,
            Unit::Bytes => text.parse::<Size>()?.0,
            Unit::Millis => text.parse::<Span>()?.0,
        }))
    }

    /// As people are shown it.
    pub(crate) fn shown(self, unit: Unit) -> String {
        let shown: &dyn fmt::Display = match unit {
            Unit::Count => &Count(self.0),
            Unit::Bytes => &Size(self.0),
            Unit::Millis => &Span(self.0),
        };
        shown.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_read_as_they_are_written() {
        let text = "fuel=20000000000,memory=64MiB,timeout=5m";
        let ceilings: Ceilings = " timeout=5m, memory=64MiB,fuel=20G,"
            .parse()
            .expect("they are ceilings");
        assert_eq!(ceilings.to_string(), text);
        assert_eq!(text.parse(), Ok(ceilings));
        assert_eq!("".parse(), Ok(Ceilings::default()));
        let twice = "memory=1MiB,memory=2MiB".parse::<Ceilings>();
        assert_eq!(twice, Err("limit `memory` is given twice".to_owned()));
    }

    #[track_caller]
    fn check(texts: &[&str], expected: Result<LimitOverrides, &str>) {
        let mut named = LimitOverrides::default();
        let got = texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<Limit>, _>>()
            .and_then(|limits| gather(&limits, &mut named));
        let got = got.map(|()| named);
        assert_eq!(
            got.as_ref().copied().map_err(String::as_str),
            expected.as_ref().copied().map_err(|error| *error)
        );
    }

    #[test]
    fn each_limit_has_its_own_unit() {
        let named = LimitOverrides {
            random_bytes: Some(1 << 20),
            host_calls: Some(5_000),
            timeout_ms: Some(10_000),
            ..LimitOverrides::default()
        };
        check(&["random=1MiB", "host_calls=5k", "timeout=10s"], Ok(named));
        check(
            &["random"],
            Err("limit `random` has no value; write it as `NAME=VALUE`, such as `random=1MiB`"),
        );
        check(
            &["handels=1"],
            Err("`handels` is not a limit; did you mean `handles`?"),
        );
        check(&["log=1KiB", "log=2KiB"], Err("limit `log` is given twice"));
        check(
            &["timeout=5"],
            Err("`5` is not a duration; write it like `30s`, `200ms` or `1.5h`"),
        );
    }
}
