//! Sizes, spans, counts and points in time, as people write them.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use tq_core::quantity::{COUNTS, SIZES, SPANS, quantity};

/// A number of bytes: `64MiB`, `1.5GiB`, `10MB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub u64);

/// A span of time in milliseconds: `30s`, `1.5h`, `200ms`. A unit has to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub u64);

/// A large number: `10_000_000`, `50G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub u64);

/// A point in time, in milliseconds since the Unix epoch: RFC 3339, or those milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub u64);

/// A point in time that may be given as a span from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// At this time.
    At(Moment),
    /// So long from now.
    In(Span),
}

/// So many in a span of time: `100/s`, `5/10s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// How many.
    pub(crate) tasks: u32,
    /// In which span.
    pub(crate) per: Span,
}

/// So many in a second: `100/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PerSecond(pub u32);

/// A value, or the word `none` to take one away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrNone<T> {
    /// It is taken away.
    None,
    /// It is this.
    Value(T),
}

/// A point in time that may be given as a span before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// At this time.
    At(Moment),
    /// So long ago.
    Ago(Span),
}

/// How long results are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultSpan {
    /// As long as their tasks.
    AsTasks,
    /// So long.
    For(Span),
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, SIZES).map(Self).ok_or_else(|| {
            format!("`{text}` is not a size; write it like `64MiB`, `1.5GB` or `4096`")
        })
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, SPANS).map(Self).ok_or_else(|| {
            format!("`{text}` is not a duration; write it like `30s`, `200ms` or `1.5h`")
        })
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, COUNTS)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a number; write it like `10_000_000` or `50G`"))
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse::<u64>().ok().or_else(|| {
            let timestamp = text.parse::<Timestamp>().ok()?;
            u64::try_from(timestamp.as_millisecond()).ok()
        });
        parsed.map(Self).ok_or_else(|| {
            format!(
                "`{text}` is not a time; write it like `2030-01-31T12:00:00Z`, or as milliseconds since 1970"
            )
        })
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(tasks, per)| {
            let tasks = quantity(tasks, COUNTS).and_then(|tasks| u32::try_from(tasks).ok())?;
            let per = per.trim();
            // `/s` is one of them.
            let one = per.starts_with(|c: char| !c.is_ascii_digit());
            let per = if one {
                format!("1{per}")
            } else {
                per.to_owned()
            };
            Some(Self {
                tasks,
                per: Span(quantity(&per, SPANS).filter(|ms| *ms > 0)?),
            })
        });
        parsed.filter(|rate| rate.tasks > 0).ok_or_else(|| {
            format!("`{text}` is not a rate; write it like `100/s`, `5/10s` or `1000/h`")
        })
    }
}

impl FromStr for PerSecond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(Rate {
                tasks,
                per: Span(1_000),
            }) => Ok(Self(tasks)),
            Ok(_) | Err(_) => Err(format!(
                "`{text}` is not a rate in seconds; write it like `100/s`"
            )),
        }
    }
}

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Count(self.0.into()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = self.per.to_string();
        // `1s` is said as `s`, but not `10s` as `0s`.
        let unit = per
            .strip_prefix('1')
            .filter(|rest| rest.starts_with(char::is_alphabetic));
        write!(f, "{}/{}", Count(self.tasks.into()), unit.unwrap_or(&per))
    }
}

impl<T: FromStr> FromStr for OrNone<T>
where
    T::Err: fmt::Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let parsed = text.parse().map(Self::Value);
        parsed.map_err(|error: T::Err| format!("{error}; or `none`"))
    }
}

impl FromStr for Deadline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(moment) = text.parse() {
            return Ok(Self::At(moment));
        }
        text.parse().map(Self::In).map_err(|_| {
            format!(
                "`{text}` is not a deadline; write it like `10m` (from now) or `2030-01-31T12:00:00Z`"
            )
        })
    }
}

impl FromStr for ResultSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "task" => Ok(Self::AsTasks),
            // On the wire, zero is as long as the task.
            _ => match text.parse() {
                Ok(Span(ms)) if ms > 0 => Ok(Self::For(Span(ms))),
                Ok(Span(_)) | Err(_) => Err(format!(
                    "`{text}` is not how long results can be kept; write it like `24h`, or `task` for as long as their tasks"
                )),
            },
        }
    }
}

impl Deadline {
    /// As a point in time, seen from `now_ms`.
    pub(crate) fn at_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(Moment(ms)) => ms,
            Self::In(Span(ms)) => now_ms.saturating_add(ms),
        }
    }
}

impl FromStr for Past {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(moment) = text.parse() {
            return Ok(Self::At(moment));
        }
        text.parse().map(Self::Ago).map_err(|_| {
            format!("`{text}` is not a time; write it like `2h` (ago) or `2030-01-31T12:00:00Z`")
        })
    }
}

impl Past {
    /// As a point in time, seen from `now_ms`.
    pub(crate) fn at_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(Moment(ms)) => ms,
            Self::Ago(Span(ms)) => now_ms.saturating_sub(ms),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        match SIZES
            .iter()
            .rev()
            .find(|(name, factor)| (name.ends_with("iB") || *name == "B") && bytes >= *factor)
        {
            Some((name, 1)) => write!(f, "{bytes} {name}"),
            Some((name, factor)) if bytes.is_multiple_of(*factor) => {
                write!(f, "{} {name}", bytes / factor)
            }
            Some((name, factor)) => write!(f, "{:.1} {name}", bytes as f64 / *factor as f64),
            None => write!(f, "0 B"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ms) = *self;
        let unit = SPANS
            .iter()
            .rev()
            .find(|(name, factor)| *name != "min" && ms >= *factor && ms.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) => write!(f, "{}{name}", ms / factor),
            None => write!(f, "{ms}ms"),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().map(Timestamp::from_millisecond) {
            Some(Ok(timestamp)) => write!(f, "{timestamp:.3}"),
            Some(Err(_)) | None => write!(f, "{} ms", self.0),
        }
    }
}

/// A measured time, in the unit that keeps it short: `830 µs`, `12.3 ms`, `4.56 s`.
pub(crate) fn nanoseconds(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..10_000 => format!("{:.1} µs", ns as f64 / 1e3),
        10_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// The wall clock, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    #[track_caller]
    fn check<T: FromStr<Err = String> + PartialEq + Debug>(text: &str, expected: Option<T>) {
        assert_eq!(text.parse::<T>().ok(), expected, "{text}");
    }

    #[test]
    fn sizes_are_exact() {
        check("4096", Some(Size(4096)));
        check("64MiB", Some(Size(64 << 20)));
        check("64 mib", Some(Size(64 << 20)));
        check("1.5KiB", Some(Size(1536)));
        check("1.5B", None::<Size>);
        check("10MB", Some(Size(10_000_000)));
        check("", None::<Size>);
        check("MiB", None::<Size>);
        check("1..5KiB", None::<Size>);
        check("-1", None::<Size>);
        check("99999999999GiB", None::<Size>);
    }

    #[test]
    fn spans_need_a_unit() {
        check("200ms", Some(Span(200)));
        check("30s", Some(Span(30_000)));
        check("1.5h", Some(Span(5_400_000)));
        check("2m", Some(Span(120_000)));
        check("30", None::<Span>);
        check("1.2345ms", None::<Span>);
        check("1 year", None::<Span>);
    }

    #[test]
    fn counts_have_underscores_and_suffixes() {
        check("10_000_000", Some(Count(10_000_000)));
        check("50G", Some(Count(50_000_000_000)));
        check("_1", None::<Count>);
        check("1x", None::<Count>);
    }

    #[test]
    fn times_are_rfc_3339_or_milliseconds() {
        check("1767225600000", Some(Moment(1_767_225_600_000)));
        check("2026-01-01T01:00:00+01:00", Some(Moment(1_767_225_600_000)));
        check("1901-01-01T00:00:00Z", None::<Moment>);
        check("tomorrow", None::<Moment>);
        check("10m", Some(Deadline::In(Span(600_000))));
        check("5", Some(Deadline::At(Moment(5))));
        check("soon", None::<Deadline>);
        check("30d", Some(Past::Ago(Span(30 * 86_400_000))));
        check("5", Some(Past::At(Moment(5))));
        check("long ago", None::<Past>);
        check("task", Some(ResultSpan::AsTasks));
        check("1h", Some(ResultSpan::For(Span(3_600_000))));
        check("0s", None::<ResultSpan>);
        assert_eq!(Past::Ago(Span(2_000)).at_ms(5_000), 3_000);
        assert_eq!(Past::Ago(Span(2_000)).at_ms(1_000), 0);
    }

    #[test]
    fn what_is_printed_can_be_read() {
        assert_eq!(Size(128 << 20).to_string(), "128 MiB");
        assert_eq!(Size(77_304).to_string(), "75.5 KiB");
        assert_eq!(Size(0).to_string(), "0 B");
        assert_eq!(Span(90_000).to_string(), "90s");
        assert_eq!(Span(300_000).to_string(), "5m");
        assert_eq!(Span(0).to_string(), "0ms");
        assert_eq!(Count(10_000_000_000).to_string(), "10,000,000,000");
        assert_eq!(
            Moment(1_767_225_600_000).to_string(),
            "2026-01-01T00:00:00.000Z"
        );
        assert_eq!(nanoseconds(12_345_678), "12.3 ms");
        assert_eq!(nanoseconds(830_000), "830 µs");
    }

    #[test]
    fn rates_read_as_people_write_them() {
        let rate = |tasks, ms| {
            Ok(Rate {
                tasks,
                per: Span(ms),
            })
        };
        assert_eq!("100/s".parse(), rate(100, 1_000));
        assert_eq!("5/10s".parse(), rate(5, 10_000));
        assert_eq!("1k/h".parse(), rate(1_000, 3_600_000));
        let refused = "`100` is not a rate; write it like `100/s`, `5/10s` or `1000/h`";
        for text in ["100", "0/s", "5/0s", "5/x", "/s"] {
            let refused = refused.replace("100` is", &format!("{text}` is"));
            assert_eq!(text.parse::<Rate>(), Err(refused));
        }
        for text in ["100/s", "5/10s", "1,000/h", "3/200ms"] {
            let rate: Rate = text.replace(',', "").parse().expect("it is a rate");
            assert_eq!(rate.to_string(), text);
        }
        assert_eq!("1k/s".parse(), Ok(PerSecond(1_000)));
        assert_eq!(PerSecond(1_000).to_string(), "1,000/s");
        let refused = "`60/m` is not a rate in seconds; write it like `100/s`";
        assert_eq!("60/m".parse::<PerSecond>(), Err(refused.to_owned()));
        assert_eq!("none".parse::<OrNone<Rate>>(), Ok(OrNone::None));
        assert_eq!(
            "x".parse::<OrNone<Rate>>(),
            Err(
                "`x` is not a rate; write it like `100/s`, `5/10s` or `1000/h`; or `none`"
                    .to_owned()
            )
        );
    }
}
