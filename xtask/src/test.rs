//! `cargo xtask test`: what every change has to pass, on a developer's machine and in CI alike.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::suites::{Counts, Outcome, Reader, Runner};
use crate::toolchains;
use crate::tools::{self, FUZZ, Failed, SIMULATION, WASM, WORKSPACE, cargo, is_installed};

/// The workspace of the examples.
const EXAMPLES: &str = "guest-examples/Cargo.toml";

/// Runs every stage, then prints what became of each.
///
/// # Errors
/// A stage failed or, with `strict`, something was skipped.
pub(crate) fn run(strict: bool) -> Result<(), Failed> {
    let started = tools::now();
    let mut report = Report::new(strict);
    report.stages();
    report.print(started.elapsed());
    match report.verdict() {
        true => Ok(()),
        false => Err(Failed("not everything passed".to_owned())),
    }
}

/// A line of the table.
struct Row {
    name: String,
    took: Duration,
    counts: Counts,
    /// The suites inside, for a stage that runs tests.
    suites: Vec<(String, Counts)>,
}

struct Report {
    strict: bool,
    rows: Vec<Row>,
    /// What was skipped, why, and the fix.
    skips: Vec<String>,
}

impl Report {
    fn new(strict: bool) -> Self {
        Self {
            strict,
            rows: Vec::new(),
            skips: Vec::new(),
        }
    }

    fn stages(&mut self) {
        let strict = self.strict;
        if !self.stage("set-up", || set_up(strict)) {
            return;
        }
        if strict {
            // Tests say what is missing, one by one.
            self.stage("toolchains", toolchains::run);
        }
        self.format();
        self.lints();

        let guests = self.stage("build guests", || {
            // The very command of tests/src/guest.rs, so that the tests find everything built.
            let mut build = examples("build");
            tools::run(build.args(["--release", "--locked", "--target", WASM]))
        });
        let binary = self.stage("build tq", || {
            tools::run(&mut cargo(&["build", "--release"]))
        });
        // Tests would all say the same.
        if guests && binary {
            self.tests();
        }
    }

    fn format(&mut self) {
        if !is_installed("cargo-fmt") {
            return self.skip(
                "format: rustfmt is not there",
                "rustup component add rustfmt",
            );
        }
        self.stage("format", || {
            tools::run(&mut cargo(&["fmt", "--all", "--check"]))?;
            tools::run(&mut cargo(&[
                "fmt",
                "--all",
                "--check",
                "--manifest-path",
                EXAMPLES,
            ]))
        });
    }

    fn lints(&mut self) {
        if !is_installed("cargo-clippy") {
            return self.skip("lints: clippy is not there", "rustup component add clippy");
        }
        self.stage("lints", || {
            let lint = |mut command: Command, arguments: &[&str]| {
                command.arg("--release").args(arguments);
                tools::run(command.args(["--", "-D", "warnings"]))
            };
            lint(cargo(&["clippy"]), &["--workspace", "--all-targets"])?;
            // The SDK has code that only guests compile.
            let sdk = &["--package", "tq-sdk", "--target", WASM];
            lint(cargo(&["clippy"]), sdk)?;
            lint(examples("clippy"), &["--target", WASM])
        });
    }

    /// Runs the tests of some packages. `targets` are which of them, where cargo itself runs them.
    fn test(&mut self, name: &'static str, packages: &[&str], targets: &[&str]) {
        if is_installed("cargo-nextest") {
            let mut nextest = cargo(&["nextest", "run", "--release", "--no-fail-fast"]);
            nextest.args(packages);
            nextest.args(["--status-level", "pass", "--final-status-level", "none"]);
            // Of tests that passed, only what they say of why they did nothing is shown.
            nextest.args(["--success-output", "immediate", "--color", "never"]);
            self.suites(name, Runner::Nextest, nextest);
        } else {
            let mut test = cargo(&["test", "--release", "--no-fail-fast"]);
            test.args(packages).args(targets);
            self.suites(name, Runner::Cargo, test);
        }
    }

    fn tests(&mut self) {
        self.test("tests", WORKSPACE, &["--lib", "--bins", "--tests"]);
        let simulation = &["--package", SIMULATION, "--package", FUZZ];
        self.test("simulation", simulation, &["--tests"]);
        let mut documentation = cargo(&["test", "--release", "--doc", "--no-fail-fast"]);
        documentation.args(WORKSPACE);
        self.suites("documentation", Runner::Cargo, documentation);
        let mut test = examples("test");
        test.args(["--release", "--no-fail-fast"]);
        self.suites("examples", Runner::Cargo, test);
    }

    /// Runs a stage that passes or fails as a whole. The result is whether it passed.
    fn stage(&mut self, name: &str, work: impl FnOnce() -> Result<(), Failed>) -> bool {
        eprintln!("\n== {name}");
        let started = tools::now();
        let done = work();
        if let Err(Failed(why)) = &done {
            eprintln!("{name}: {why}");
        }
        let counts = match done {
            Ok(()) => Counts {
                passed: 1,
                ..Counts::default()
            },
            Err(_) => Counts {
                failed: 1,
                ..Counts::default()
            },
        };
        self.push(name, started.elapsed(), counts, Vec::new());
        done.is_ok()
    }

    /// Runs a stage of tests.
    fn suites(&mut self, name: &str, runner: Runner, mut command: Command) {
        eprintln!("\n== {name}");
        let started = tools::now();
        command.env("CARGO_TERM_COLOR", "never");
        if self.strict {
            command.env("TQ_STRICT", "1");
        }
        let mut reader = Reader::new(runner);
        let ended = tools::read(&mut command, |line| {
            if reader.line(line) {
                eprintln!("{line}");
            }
        });
        let Outcome { suites, skips } = reader.finish(self.strict);
        let mut counts = sum(suites.iter().map(|(_, counts)| *counts));
        let passed = ended.unwrap_or_else(|Failed(why)| {
            eprintln!("{name}: {why}");
            false
        });
        // Tests that did not compile have no counts.
        if !passed && counts.failed == 0 {
            counts.failed = 1;
        }
        self.skips.extend(skips);
        self.push(name, started.elapsed(), counts, suites);
    }

    fn skip(&mut self, what: &str, fix: &str) {
        self.skips.push(format!("{what}; fix: {fix}"));
        let name = what.split(':').next().unwrap_or(what);
        let counts = Counts {
            skipped: 1,
            ..Counts::default()
        };
        self.push(name, Duration::ZERO, counts, Vec::new());
    }

    fn push(&mut self, name: &str, took: Duration, counts: Counts, suites: Vec<(String, Counts)>) {
        eprintln!("== {name}: {}", seconds(took));
        self.rows.push(Row {
            name: name.to_owned(),
            took,
            counts,
            suites,
        });
    }

    fn total(&self) -> Counts {
        sum(self.rows.iter().map(|row| row.counts))
    }

    fn verdict(&self) -> bool {
        let has_skips = self.total().skipped > 0 || !self.skips.is_empty();
        self.total().failed == 0 && !(self.strict && has_skips)
    }

    fn print(&self, took: Duration) {
        let line = |name: &str, took: &str, counts: &Counts| {
            let Counts {
                passed,
                failed,
                skipped,
            } = counts;
            println!("{name:<40} {took:>9} {passed:>7} {failed:>7} {skipped:>8}");
        };
        println!(
            "\n{:<40} {:>9} {:>7} {:>7} {:>8}",
            "stage, suite", "time", "passed", "failed", "skipped"
        );
        for row in &self.rows {
            line(&row.name, &seconds(row.took), &row.counts);
            let suites = row.suites.iter();
            for (suite, counts) in suites.filter(|(_, counts)| *counts != Counts::default()) {
                line(&format!("  {suite}"), "", counts);
            }
        }
        let mut skips = self.skips.clone();
        skips.sort();
        skips.dedup();
        for skip in skips {
            println!("skipped: {skip}");
        }
        if self.strict && self.total().failed == 0 && !self.verdict() {
            println!("--strict: what was skipped counts as failed");
        }
        let Counts {
            passed,
            failed,
            skipped,
        } = self.total();
        println!(
            "{} in all\n{passed} passed, {failed} failed, {skipped} skipped",
            seconds(took)
        );
    }
}

/// Has the target that guests are built for and, with `strict`, the packages that tests need, where that takes no question.
fn set_up(strict: bool) -> Result<(), Failed> {
    if !tools::has_wasm() {
        let fix = format!("rustup target add {WASM}");
        if !is_installed("rustup") {
            return Err(Failed(format!(
                "rustc has no standard library for {WASM}, and rustup is not there to install it; with rustup: `{fix}`"
            )));
        }
        let mut command = Command::new("rustup");
        command
            .args(["target", "add", WASM])
            .current_dir(tools::root());
        tools::run(&mut command)?;
    }
    if strict {
        tools::install("strace")?;
    }
    Ok(())
}

/// A command of cargo in the workspace of the examples. Built guests are where tests/src/guest.rs looks for them too.
fn examples(what: &str) -> Command {
    let target = std::env::var_os("TQ_GUESTS_TARGET_DIR")
        .map_or_else(|| "guest-examples/target".into(), PathBuf::from);
    let mut command = cargo(&[what, "--manifest-path", EXAMPLES, "--target-dir"]);
    command.arg(target);
    command
}

fn sum(all: impl Iterator<Item = Counts>) -> Counts {
    all.fold(Counts::default(), |sum, counts| Counts {
        passed: sum.passed + counts.passed,
        failed: sum.failed + counts.failed,
        skipped: sum.skipped + counts.skipped,
    })
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}
