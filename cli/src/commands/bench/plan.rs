//! What a run measures, and how much of it.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum as _;
use serde::Serialize;

use super::load::Amount;
use super::name;
use super::report::Report;
use crate::args::{BenchArgs, BenchScenario};
use crate::exit::Failure;
use crate::nodes::Isolation;
use crate::units::Count;

/// The most tasks that a size may name: the data directory of as many would fill a disk of 60 TB.
const SIZE_MAX: u64 = 100_000_000_000;

/// By how much less a quick run measures.
const QUICK: u32 = 10;

/// A run that makes sense.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// In the order in which they are measured, each once.
    pub(crate) scenarios: Vec<BenchScenario>,
    /// It starts its own nodes.
    pub(crate) is_own: bool,
    pub(crate) slots: u32,
    /// Where the host that is started runs guests.
    pub(crate) isolation: Isolation,
    pub(crate) seed: u64,
    /// A tenth of everything that no flag names.
    pub(crate) is_quick: bool,
    pub(crate) throughput: Amount,
    pub(crate) burst_tasks: u64,
    /// Tasks that `aged` times, before and after.
    pub(crate) aged_tasks: u64,
    pub(crate) passed: u64,
    /// Tasks that `backlog` times, before and after.
    pub(crate) backlog_tasks: u64,
    pub(crate) waiting: u64,
}

/// A line of `--list`.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) measures: String,
    /// What changes its size.
    pub(crate) flags: &'static [&'static str],
    pub(crate) is_standard: bool,
}

impl Listed {
    pub(crate) fn of(scenario: BenchScenario) -> Self {
        let value = scenario.to_possible_value();
        let help = value.as_ref().and_then(|value| value.get_help());
        Self {
            name: name(scenario),
            measures: help.map(ToString::to_string).unwrap_or_default(),
            flags: flags(scenario),
            is_standard: is_standard(scenario),
        }
    }
}

impl Plan {
    /// Checks that every flag has something to change. `is_own` says whether the run starts its own nodes; `slots` is what
    /// its host has if no flag says otherwise. What `old` measured is measured again, with its sizes and its seed, as far
    /// as no argument names others.
    ///
    /// # Errors
    /// A flag without effect, a size that is none, or a scenario that needs nodes of its own where it has none.
    pub(crate) fn of(
        args: &BenchArgs,
        is_own: bool,
        slots: u32,
        old: Option<&Report>,
    ) -> Result<Self, Failure> {
        let mut scenarios = args.scenarios.clone();
        if scenarios.is_empty()
            && let Some(old) = old
        {
            // One that this version does not know is left out.
            let known = |name: &String| BenchScenario::from_str(name, false).ok();
            scenarios.extend(old.setting.scenarios.iter().filter_map(known));
        }
        if scenarios.is_empty() {
            let all = BenchScenario::value_variants().iter().copied();
            let possible = |scenario: &BenchScenario| is_own || !needs_own(*scenario);
            scenarios.extend(all.filter(|one| is_standard(*one)).filter(possible));
        } else if !is_own
            && let Some(refused) = scenarios.iter().copied().find(|one| needs_own(*one))
        {
            let refused = name(refused);
            let message = format!("`{refused}` needs nodes of its own, and a broker was named");
            return Err(Failure::usage(message).hint("leave out --broker and TQ_BROKER"));
        }
        scenarios.sort_unstable();
        scenarios.dedup();
        for (flag, is_given) in [
            ("--tasks", args.tasks.is_some()),
            ("--seconds", args.seconds.is_some()),
            ("--waiting", args.waiting.is_some()),
            ("--passed", args.passed.is_some()),
        ] {
            if is_given && !scenarios.iter().any(|one| flags(*one).contains(&flag)) {
                return Err(without_effect(flag));
            }
        }
        for (flag, is_given) in [
            ("--slots", args.slots.is_some()),
            ("--isolation", args.isolation.is_some()),
        ] {
            if is_given && !is_own {
                let message = format!(
                    "{flag} has no effect: the hosts are those of the broker that was named"
                );
                return Err(Failure::usage(message).hint("leave it out"));
            }
        }
        let is_quick = args.quick || old.is_some_and(|old| old.setting.is_quick);
        let before = |name: &str| old.and_then(|old| old.setting.sizes.get(name).copied());
        let size = |flag: &str, given: Option<Count>, name: &str, default: u64| {
            let size = match given {
                Some(Count(size)) => size,
                None => before(name).unwrap_or_else(|| part(is_quick, default)),
            };
            if (1..=SIZE_MAX).contains(&size) {
                Ok(size)
            } else {
                let message = format!("{flag} is {size}; it may be 1 to {SIZE_MAX}");
                Err(Failure::usage(message))
            }
        };
        let tasks = |name, default| size("--tasks", args.tasks, name, default);
        let seconds = match args.tasks {
            Some(_) => None,
            None => args
                .seconds
                .map(u64::from)
                .or_else(|| before("throughput.seconds")),
        };
        let isolation_before = old.and_then(|old| old.setting.isolation.as_deref()?.parse().ok());
        let slots_before = old.and_then(|old| old.setting.slots);
        Ok(Self {
            is_own,
            slots: args.slots.or(slots_before).unwrap_or(slots),
            isolation: args
                .isolation
                .or(isolation_before)
                .unwrap_or(Isolation::Process),
            seed: args.seed.or(old.map(|old| old.seed)).unwrap_or(1),
            is_quick,
            throughput: match seconds {
                Some(seconds) => Amount::Time(Duration::from_secs(seconds)),
                None => Amount::Tasks(tasks("throughput.tasks", 200_000)?),
            },
            burst_tasks: tasks("burst.tasks", 20_000)?,
            aged_tasks: tasks("aged.tasks", 200_000)?,
            passed: size("--passed", args.passed, "aged.passed", 1_000_000)?,
            backlog_tasks: tasks("backlog.tasks", 50_000)?,
            waiting: size("--waiting", args.waiting, "backlog.waiting", 200_000)?,
            scenarios,
        })
    }

    /// How many of something there are, of which there usually are so many.
    pub(crate) fn count(&self, usually: u64) -> u64 {
        part(self.is_quick, usually)
    }

    /// How long something is measured that usually takes so long.
    pub(crate) fn span(&self, usually: Duration) -> Duration {
        if self.is_quick {
            usually / QUICK
        } else {
            usually
        }
    }

    /// The names of what is measured.
    pub(crate) fn names(&self) -> Vec<String> {
        self.scenarios
            .iter()
            .map(|scenario| name(*scenario))
            .collect()
    }

    /// The sizes that count for this run, by name.
    pub(crate) fn sizes(&self) -> BTreeMap<String, u64> {
        let of = |scenario: BenchScenario| match scenario {
            BenchScenario::Throughput => match self.throughput {
                Amount::Tasks(tasks) => vec![("throughput.tasks", tasks)],
                Amount::Time(span) => vec![("throughput.seconds", span.as_secs())],
            },
            BenchScenario::Burst => vec![("burst.tasks", self.burst_tasks)],
            BenchScenario::Backlog => vec![
                ("backlog.tasks", self.backlog_tasks),
                ("backlog.waiting", self.waiting),
            ],
            BenchScenario::Aged => {
                vec![
                    ("aged.tasks", self.aged_tasks),
                    ("aged.passed", self.passed),
                ]
            }
            // Under the name of the one that its flag is of.
            BenchScenario::Search => vec![("aged.passed", self.passed)],
            BenchScenario::Floors
            | BenchScenario::Latency
            | BenchScenario::HalfLoad
            | BenchScenario::FanIn
            | BenchScenario::Payloads
            | BenchScenario::ColdStart
            | BenchScenario::Tenants
            | BenchScenario::Waiting
            | BenchScenario::Long
            | BenchScenario::Connections
            | BenchScenario::Access
            | BenchScenario::Rest => Vec::new(),
        };
        let sizes = self.scenarios.iter().flat_map(|scenario| of(*scenario));
        sizes.map(|(name, size)| (name.to_owned(), size)).collect()
    }
}

fn part(is_quick: bool, usually: u64) -> u64 {
    if is_quick {
        usually.div_ceil(QUICK.into())
    } else {
        usually
    }
}

/// The flags that change how much a scenario does.
fn flags(scenario: BenchScenario) -> &'static [&'static str] {
    match scenario {
        BenchScenario::Throughput => &["--tasks", "--seconds"],
        BenchScenario::Burst => &["--tasks"],
        BenchScenario::Backlog => &["--tasks", "--waiting"],
        BenchScenario::Aged => &["--tasks", "--passed"],
        BenchScenario::Search => &["--passed"],
        BenchScenario::Floors
        | BenchScenario::Latency
        | BenchScenario::HalfLoad
        | BenchScenario::FanIn
        | BenchScenario::Payloads
        | BenchScenario::ColdStart
        | BenchScenario::Tenants
        | BenchScenario::Waiting
        | BenchScenario::Long
        | BenchScenario::Connections
        | BenchScenario::Access
        | BenchScenario::Rest => &[],
    }
}

/// Whether it is measured when nothing is named.
fn is_standard(scenario: BenchScenario) -> bool {
    match scenario {
        BenchScenario::Aged | BenchScenario::Search => false,
        BenchScenario::Floors
        | BenchScenario::Throughput
        | BenchScenario::Latency
        | BenchScenario::HalfLoad
        | BenchScenario::Burst
        | BenchScenario::FanIn
        | BenchScenario::Payloads
        | BenchScenario::ColdStart
        | BenchScenario::Backlog
        | BenchScenario::Tenants
        | BenchScenario::Waiting
        | BenchScenario::Long
        | BenchScenario::Connections
        | BenchScenario::Access
        | BenchScenario::Rest => true,
    }
}

/// Whether it restarts nodes, looks into their processes, or needs so many slots.
fn needs_own(scenario: BenchScenario) -> bool {
    match scenario {
        BenchScenario::ColdStart
        | BenchScenario::Backlog
        | BenchScenario::Waiting
        | BenchScenario::Long
        | BenchScenario::Access
        | BenchScenario::Rest => true,
        BenchScenario::Floors
        | BenchScenario::Throughput
        | BenchScenario::Latency
        | BenchScenario::HalfLoad
        | BenchScenario::Burst
        | BenchScenario::FanIn
        | BenchScenario::Payloads
        | BenchScenario::Tenants
        | BenchScenario::Connections
        | BenchScenario::Aged
        | BenchScenario::Search => false,
    }
}

fn without_effect(flag: &str) -> Failure {
    let all = BenchScenario::value_variants().iter();
    let names: Vec<String> = all
        .filter(|scenario| flags(**scenario).contains(&flag))
        .map(|scenario| format!("`{}`", name(*scenario)))
        .collect();
    Failure::usage(format!("{flag} has no effect on what is measured")).hint(format!(
        "it belongs to {}; name one of them, or leave it out",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::commands::bench::setting::Setting;

    fn plan(line: &str, is_own: bool) -> Result<Plan, Failure> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("the line is valid");
        let Command::Bench(args) = cli.command else {
            panic!("`{line}` is another command");
        };
        Plan::of(&args, is_own, 4, None)
    }

    #[track_caller]
    fn check_refused(line: &str, is_own: bool, expected: &str) {
        let refused = plan(line, is_own).expect_err("it makes no sense");
        assert_eq!(refused.to_string(), expected);
    }

    #[test]
    fn flags_without_effect_are_refused() {
        check_refused(
            "tq bench latency --tasks 5",
            true,
            "--tasks has no effect on what is measured",
        );
        check_refused(
            "tq bench --passed 5",
            true,
            "--passed has no effect on what is measured",
        );
        check_refused(
            "tq bench backlog throughput --waiting 0",
            true,
            "--waiting is 0; it may be 1 to 100000000000",
        );
        check_refused(
            "tq bench throughput --slots 9",
            false,
            "--slots has no effect: the hosts are those of the broker that was named",
        );
        check_refused(
            "tq bench throughput rest",
            false,
            "`rest` needs nodes of its own, and a broker was named",
        );
    }

    #[test]
    fn scenarios_are_measured_once_and_in_order() {
        let plan = plan("tq bench aged latency throughput latency --tasks 2k", true);
        let plan = plan.expect("it makes sense");
        let expected = [
            BenchScenario::Throughput,
            BenchScenario::Latency,
            BenchScenario::Aged,
        ];
        assert_eq!(plan.scenarios, expected);
        let sizes = plan.sizes().into_iter().collect::<Vec<_>>();
        let expected = [
            ("aged.passed", 1_000_000),
            ("aged.tasks", 2_000),
            ("throughput.tasks", 2_000),
        ]
        .map(|(name, size)| (name.to_owned(), size));
        assert_eq!(sizes, expected);
    }

    #[test]
    fn quick_run_measures_a_tenth_of_what_no_flag_names() {
        let plan =
            plan("tq bench burst backlog --quick --waiting 7", true).expect("it makes sense");
        assert_eq!((plan.burst_tasks, plan.waiting), (2_000, 7));
        assert_eq!((plan.count(1_000), plan.count(1)), (100, 1));
        assert_eq!(
            plan.span(Duration::from_secs(1)),
            Duration::from_millis(100)
        );
    }

    #[test]
    fn comparison_measures_the_same_again_unless_it_is_told_otherwise() {
        let first = "tq bench throughput burst --tasks 2k --seed 9 --slots 3";
        let plan = plan(first, true).expect("it makes sense");
        let folder = Path::new(".");
        let old = Report {
            setting: Setting::of_this_machine(folder, None, &plan),
            seed: plan.seed,
            figures: Vec::new(),
        };
        let again = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).expect("the line is valid");
            let Command::Bench(args) = cli.command else {
                panic!("`{line}` is another command");
            };
            Plan::of(&args, true, 4, Some(&old)).expect("it makes sense")
        };
        let same = again("tq bench");
        assert_eq!(same.scenarios, plan.scenarios);
        assert_eq!((same.seed, same.slots), (9, 3));
        assert_eq!(same.sizes(), plan.sizes());
        let other = again("tq bench burst latency --tasks 5 --seed 1");
        assert_eq!(
            other.scenarios,
            [BenchScenario::Latency, BenchScenario::Burst]
        );
        assert_eq!((other.seed, other.burst_tasks, other.slots), (1, 5, 3));
    }

    #[test]
    fn standard_run_measures_what_it_can() {
        let own = plan("tq bench", true).expect("it makes sense").scenarios;
        assert!(own.contains(&BenchScenario::Rest), "{own:?}");
        assert!(!own.contains(&BenchScenario::Aged), "{own:?}");
        let others = plan("tq bench", false).expect("it makes sense").scenarios;
        assert!(others.contains(&BenchScenario::Tenants), "{others:?}");
        assert!(!others.contains(&BenchScenario::Rest), "{others:?}");
    }
}
