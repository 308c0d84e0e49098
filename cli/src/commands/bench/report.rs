//! What was measured: one list of figures, from which the table, the JSON and the comparison are made.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::setting::Setting;
use crate::exit::{Exit, Failure};
use crate::output::{self, table};
use crate::units::{Count, Size, nanoseconds};

/// A run. Its JSON is an interface: fields are added, never renamed or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) setting: Setting,
    pub(crate) seed: u64,
    pub(crate) figures: Vec<Figure>,
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// `SCENARIO.WHAT`; never reused for something else.
    pub(crate) id: String,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    /// The figure that it is compared with, and its value.
    #[serde(default)]
    pub(crate) floor_id: Option<String>,
    #[serde(default)]
    pub(crate) floor: Option<f64>,
    /// The value over the floor's.
    #[serde(default)]
    pub(crate) share: Option<f64>,
    /// What tq wants it to be at least or at most, on two processors.
    #[serde(default)]
    pub(crate) goal: Option<f64>,
    /// Likewise, of the share.
    #[serde(default)]
    pub(crate) goal_share: Option<f64>,
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    #[serde(rename = "s")]
    Seconds,
    /// Tasks, messages, rows or calls, as the id says.
    #[serde(rename = "1/s")]
    PerSecond,
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "bytes/s")]
    BytesPerSecond,
    /// A part of a whole.
    #[serde(rename = "ratio")]
    Ratio,
}

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Figure {
    fn new(id: impl Into<String>, value: f64, unit: Unit, better: Better) -> Self {
        Self {
            id: id.into(),
            value,
            unit,
            better,
            floor_id: None,
            floor: None,
            share: None,
            goal: None,
            goal_share: None,
        }
    }

    /// So many a second.
    pub(crate) fn rate(id: impl Into<String>, count: u64, elapsed: Duration) -> Self {
        let value = count as f64 / elapsed.as_secs_f64().max(f64::EPSILON);
        Self::new(id, value, Unit::PerSecond, Better::Higher)
    }

    /// Bytes a second.
    pub(crate) fn byte_rate(id: impl Into<String>, bytes: u64, elapsed: Duration) -> Self {
        Self {
            unit: Unit::BytesPerSecond,
            ..Self::rate(id, bytes, elapsed)
        }
    }

    /// A time that something takes.
    pub(crate) fn time(id: impl Into<String>, value: Duration) -> Self {
        Self::new(id, value.as_secs_f64(), Unit::Seconds, Better::Lower)
    }

    /// The part of a time that falls to each of `count`.
    pub(crate) fn time_each(id: impl Into<String>, whole: Duration, count: u64) -> Self {
        let value = whole.as_secs_f64() / count.max(1) as f64;
        Self::new(id, value, Unit::Seconds, Better::Lower)
    }

    /// Bytes that something takes.
    pub(crate) fn bytes(id: impl Into<String>, value: u64) -> Self {
        Self::new(id, value as f64, Unit::Bytes, Better::Lower)
    }

    /// The part of some bytes that falls to each of `count`.
    pub(crate) fn bytes_each(id: impl Into<String>, whole: u64, count: u64) -> Self {
        let value = whole as f64 / count.max(1) as f64;
        Self::new(id, value, Unit::Bytes, Better::Lower)
    }

    /// A part of a whole, of which less is better.
    pub(crate) fn part(id: impl Into<String>, value: f64) -> Self {
        Self::new(id, value, Unit::Ratio, Better::Lower)
    }

    /// Sets it beside another figure of the same unit.
    #[must_use]
    pub(crate) fn beside(self, floor: &Self) -> Self {
        Self {
            floor_id: Some(floor.id.clone()),
            floor: Some(floor.value),
            share: (floor.value > 0.0).then(|| self.value / floor.value),
            ..self
        }
    }

    /// What it should be at least, or at most if less is better.
    #[must_use]
    pub(crate) fn goal(self, goal: f64) -> Self {
        Self {
            goal: Some(goal),
            ..self
        }
    }

    /// What its share of the floor should be.
    #[must_use]
    pub(crate) fn goal_share(self, goal: f64) -> Self {
        Self {
            goal_share: Some(goal),
            ..self
        }
    }

    /// Whether it is better than another one of the same thing.
    pub(crate) fn is_better_than(&self, other: &Self) -> bool {
        match self.better {
            Better::Higher => self.value > other.value,
            Better::Lower => self.value < other.value,
        }
    }

    /// Whether it meets its goals; `None` if it has none.
    fn is_met(&self) -> Option<bool> {
        let meets = |value: f64, goal: f64| match self.better {
            Better::Higher => value >= goal,
            Better::Lower => value <= goal,
        };
        let of_value = self.goal.map(|goal| meets(self.value, goal));
        let of_share = self.goal_share.zip(self.share);
        let of_share = of_share.map(|(goal, share)| meets(share, goal));
        [of_value, of_share]
            .into_iter()
            .flatten()
            .reduce(|all, next| all && next)
    }

    fn share_text(&self, share: f64) -> String {
        match self.better {
            Better::Higher => format!("{:.0} %", share * 100.0),
            Better::Lower => format!("{share:.2} ×"),
        }
    }

    fn row(&self) -> [String; 5] {
        let sign = match self.better {
            Better::Higher => '≥',
            Better::Lower => '≤',
        };
        let goals: Vec<String> = [
            self.goal
                .map(|goal| format!("{sign} {}", self.unit.text(goal))),
            self.goal_share
                .map(|goal| format!("{sign} {}", self.share_text(goal))),
            self.is_met()
                .map(|is_met| if is_met { "met" } else { "missed" }.to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();
        [
            self.id.clone(),
            self.unit.text(self.value),
            self.share
                .map(|share| self.share_text(share))
                .unwrap_or_default(),
            self.floor_id.clone().unwrap_or_default(),
            goals.join(", "),
        ]
    }
}

impl Unit {
    /// A value in the unit that keeps it short.
    pub(crate) fn text(self, value: f64) -> String {
        let whole = value.round().max(0.0) as u64;
        match self {
            Self::Seconds if value < 10e-6 => format!("{:.2} µs", value * 1e6),
            Self::Seconds => nanoseconds((value * 1e9).round().max(0.0) as u64),
            Self::PerSecond => format!("{} /s", Count(whole)),
            Self::Bytes => Size(whole).to_string(),
            Self::BytesPerSecond => format!("{}/s", Size(whole)),
            Self::Ratio => format!("{:.2} %", value * 100.0),
        }
    }
}

impl fmt::Display for Better {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
        })
    }
}

impl Report {
    /// Reads what `--output json` printed.
    ///
    /// # Errors
    /// There is no such file, or it is something else.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let failure = Failure::new(Exit::NotFound, format!("there is no file `{shown}`"));
                return Err(failure
                    .hint("make one with `tq bench --output json > FILE`")
                    .into());
            }
            Err(error) => return Err(error).with_context(|| format!("failed to read `{shown}`")),
        };
        serde_json::from_slice(&text).map_err(|error| {
            Failure::usage(format!("`{shown}` is no report of `tq bench`: {error}"))
                .hint("make one with `tq bench --output json > FILE`")
                .into()
        })
    }

    /// The figure with this id, if it was measured.
    pub(crate) fn figure(&self, id: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.id == id)
    }

    /// Prints it for people.
    ///
    /// # Errors
    /// As [`output::data`].
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let Self {
            setting,
            seed,
            figures,
        } = self;
        setting.print(*seed)?;
        output::line("")?;
        table::print(
            ["figure", "value", "share", "of", "goal"],
            figures.iter().map(Figure::row),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn throughput() -> Figure {
        let floor = Figure::rate("engine.tasks_per_second", 100_000, Duration::from_secs(1));
        Figure::rate(
            "throughput.tasks_per_second",
            25_000,
            Duration::from_secs(1),
        )
        .beside(&floor)
        .goal(20_000.0)
        .goal_share(0.3)
    }

    #[test]
    fn figure_has_the_fields_that_scripts_rely_on() {
        let value = serde_json::to_value(throughput()).expect("it can be encoded");
        let expected = json!({
            "id": "throughput.tasks_per_second",
            "value": 25_000.0,
            "unit": "1/s",
            "better": "higher",
            "floor_id": "engine.tasks_per_second",
            "floor": 100_000.0,
            "share": 0.25,
            "goal": 20_000.0,
            "goal_share": 0.3,
        });
        assert_eq!(value, expected);
        let back: Figure = serde_json::from_value(value).expect("it can be decoded");
        assert_eq!(back, throughput());
    }

    #[track_caller]
    fn check(figure: &Figure, expected: [&str; 5]) {
        assert_eq!(figure.row(), expected);
    }

    #[test]
    fn row_says_what_a_figure_is_compared_with() {
        check(
            &throughput(),
            [
                "throughput.tasks_per_second",
                "25,000 /s",
                "25 %",
                "engine.tasks_per_second",
                "≥ 20,000 /s, ≥ 30 %, missed",
            ],
        );
        let bare = Figure::time("engine.cpu_per_task", Duration::from_micros(8));
        let slot = Figure::time("sandbox.cpu_per_task", Duration::from_micros(10)).beside(&bare);
        check(
            &slot.goal(12e-6).goal_share(1.4),
            [
                "sandbox.cpu_per_task",
                "10 µs",
                "1.25 ×",
                "engine.cpu_per_task",
                "≤ 12 µs, ≤ 1.40 ×, met",
            ],
        );
        check(
            &Figure::bytes("rest.resident", 3 << 20),
            ["rest.resident", "3 MiB", "", "", ""],
        );
    }

    #[test]
    fn file_that_is_no_report_is_refused() {
        let folder = tempfile::tempdir().expect("there is a folder");
        let path = folder.path().join("old.json");
        let refused = Report::read(&path).expect_err("it is not there");
        assert_eq!(crate::exit::code(&refused), Exit::NotFound);
        fs::write(&path, "{\"tasks\": []}").expect("it can be written");
        let refused = Report::read(&path).expect_err("it is something else");
        assert_eq!(crate::exit::code(&refused), Exit::Usage);
        let text = crate::exit::text(&refused);
        assert!(text.contains("is no report of `tq bench`"), "{text}");
    }
}
