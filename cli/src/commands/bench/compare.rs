//! Two reports side by side.

use serde::Serialize;
use serde_json::Value;

use super::report::{Better, Report, Unit};
use super::setting::Setting;
use crate::output::{self, table};

/// Figures that differ by less say nothing: measurements on a machine that is shared differ by as much.
const NOISE: f64 = 0.05;
/// Other work of the machine that differs by less is the same.
const LOAD_NOISE: f64 = 0.5;

/// What has changed between two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    /// Where the set-ups differ. With any of these, figures may differ for another reason than tq itself.
    differences: Vec<Difference>,
    figures: Vec<Compared>,
}

/// One thing of the set-up.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Difference {
    what: String,
    old: Value,
    new: Value,
}

/// One figure in both.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Compared {
    id: String,
    unit: Unit,
    better: Better,
    /// Absent if only the other run measured it.
    old: Option<f64>,
    new: Option<f64>,
    /// New over old.
    ratio: Option<f64>,
    verdict: Verdict,
}

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Better,
    Worse,
    /// Within what measurements differ by anyway.
    Same,
    /// One of the two did not measure it.
    Missing,
}

impl Comparison {
    /// In the order of the new report; what only the old one has comes last.
    pub(crate) fn of(old: &Report, new: &Report) -> Self {
        let mut differences = differences(&old.setting, &new.setting);
        if old.seed != new.seed {
            differences.push(Difference {
                what: "seed".to_owned(),
                old: old.seed.into(),
                new: new.seed.into(),
            });
        }
        let only_old = old
            .figures
            .iter()
            .filter(|figure| new.figure(&figure.id).is_none());
        let figures = new.figures.iter().chain(only_old).map(|figure| {
            let value = |report: &Report| report.figure(&figure.id).map(|figure| figure.value);
            Compared::new(
                &figure.id,
                figure.unit,
                figure.better,
                value(old),
                value(new),
            )
        });
        Self {
            differences,
            figures: figures.collect(),
        }
    }

    /// Prints it for people.
    ///
    /// # Errors
    /// As [`output::data`].
    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let Self {
            differences,
            figures,
        } = self;
        if differences.is_empty() {
            output::line("the set-ups are the same")?;
        } else {
            output::line("the set-ups differ, and figures may for that reason:")?;
            table::print(
                ["setting", "old", "new"],
                differences
                    .iter()
                    .map(|Difference { what, old, new }| [what.clone(), plain(old), plain(new)]),
            )?;
        }
        output::line("")?;
        table::print(
            ["figure", "old", "new", "ratio", ""],
            figures.iter().map(Compared::row),
        )
    }
}

impl Verdict {
    fn of(better: Better, old: f64, new: f64) -> Self {
        let is_same = (new - old).abs() <= NOISE * old.abs();
        match better {
            _ if is_same => Self::Same,
            Better::Higher if new > old => Self::Better,
            Better::Lower if new < old => Self::Better,
            Better::Higher | Better::Lower => Self::Worse,
        }
    }
}

impl Compared {
    fn new(id: &str, unit: Unit, better: Better, old: Option<f64>, new: Option<f64>) -> Self {
        let ratio = old
            .zip(new)
            .and_then(|(old, new)| (old > 0.0).then(|| new / old));
        let verdict = match (old, new) {
            (Some(old), Some(new)) => Verdict::of(better, old, new),
            (None, _) | (_, None) => Verdict::Missing,
        };
        Self {
            id: id.to_owned(),
            unit,
            better,
            old,
            new,
            ratio,
            verdict,
        }
    }

    fn row(&self) -> [String; 5] {
        let value = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| self.unit.text(value))
        };
        let verdict = match self.verdict {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Same => "",
            Verdict::Missing => "not in both",
        };
        [
            self.id.clone(),
            value(self.old),
            value(self.new),
            self.ratio
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            verdict.to_owned(),
        ]
    }
}

/// Every field that is not the same in both, so that one that is added cannot be forgotten here.
fn differences(old: &Setting, new: &Setting) -> Vec<Difference> {
    let fields = |setting: &Setting| match serde_json::to_value(setting) {
        Ok(Value::Object(mut fields)) => {
            // How much each scenario did counts one by one.
            if let Some(Value::Object(sizes)) = fields.remove("sizes") {
                fields.extend(
                    sizes
                        .into_iter()
                        .map(|(name, size)| (format!("sizes.{name}"), size)),
                );
            }
            // The figures themselves show it.
            fields.remove("scenarios");
            fields
        }
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (mut old, new) = (fields(old), fields(new));
    let mut differences = Vec::new();
    for (what, new) in new {
        let old = old.remove(&what).unwrap_or_default();
        let is_same = match (what.as_str(), old.as_f64(), new.as_f64()) {
            ("load_before" | "others_processors", Some(old), Some(new)) => {
                (old - new).abs() <= LOAD_NOISE
            }
            _ => old == new,
        };
        if !is_same {
            differences.push(Difference { what, old, new });
        }
    }
    let gone = old.into_iter().map(|(what, old)| Difference {
        what,
        old,
        new: Value::Null,
    });
    differences.extend(gone);
    differences
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::commands::bench::report::Figure;

    fn report(figures: Vec<Figure>) -> Report {
        let setting = Setting {
            version: "0.1.0".to_owned(),
            build: "release".to_owned(),
            processor: "a".to_owned(),
            processors: 2,
            memory_bytes: 1,
            kernel: "Linux 6".to_owned(),
            file_system: "ext4".to_owned(),
            load_before: 0.1,
            nodes: "own".to_owned(),
            slots: Some(4),
            isolation: Some("process".to_owned()),
            scenarios: Vec::new(),
            is_quick: false,
            sizes: BTreeMap::from([("throughput.tasks".to_owned(), 1_000)]),
            others_processors: Some(0.1),
        };
        Report {
            setting,
            seed: 1,
            figures,
        }
    }

    #[track_caller]
    fn check(better: Better, old: Option<f64>, new: Option<f64>, expected: Verdict) {
        let compared = Compared::new("a", Unit::PerSecond, better, old, new);
        assert_eq!(compared.verdict, expected, "{compared:?}");
    }

    #[test]
    fn better_depends_on_the_figure_and_noise_is_nothing() {
        check(Better::Higher, Some(100.0), Some(110.0), Verdict::Better);
        check(Better::Lower, Some(100.0), Some(110.0), Verdict::Worse);
        check(Better::Lower, Some(100.0), Some(50.0), Verdict::Better);
        check(Better::Higher, Some(100.0), Some(96.0), Verdict::Same);
        check(Better::Higher, None, Some(96.0), Verdict::Missing);
        check(Better::Lower, Some(0.0), Some(1.0), Verdict::Worse);
        check(Better::Lower, Some(0.0), Some(0.0), Verdict::Same);
    }

    #[test]
    fn figures_of_either_run_are_listed() {
        let old = report(vec![
            Figure::time("gone.p50", Duration::from_millis(2)),
            Figure::time("latency.p50", Duration::from_millis(2)),
        ]);
        let new = report(vec![
            Figure::time("latency.p50", Duration::from_millis(1)),
            Figure::time("new.p50", Duration::from_millis(1)),
        ]);
        let rows: Vec<_> = Comparison::of(&old, &new)
            .figures
            .iter()
            .map(Compared::row)
            .collect();
        let expected = [
            ["latency.p50", "2.0 ms", "1.0 ms", "0.50", "better"],
            ["new.p50", "-", "1.0 ms", "-", "not in both"],
            ["gone.p50", "2.0 ms", "-", "-", "not in both"],
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn set_ups_that_differ_are_named() {
        let old = report(Vec::new());
        let mut new = old.clone();
        assert_eq!(Comparison::of(&old, &new).differences, []);
        new.setting.load_before = 0.4;
        assert_eq!(Comparison::of(&old, &new).differences, []);
        new.setting.load_before = 2.0;
        new.setting.others_processors = Some(0.5);
        new.setting.slots = None;
        new.setting.sizes = BTreeMap::from([("backlog.waiting".to_owned(), 5)]);
        new.seed = 2;
        let named: Vec<_> = Comparison::of(&old, &new)
            .differences
            .into_iter()
            .map(|difference| difference.what)
            .collect();
        let expected = [
            "load_before",
            "sizes.backlog.waiting",
            "slots",
            "sizes.throughput.tasks",
            "seed",
        ];
        assert_eq!(named, expected);
    }
}
