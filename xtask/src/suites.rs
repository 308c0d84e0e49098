//! What a test runner says, counted by suite.

use std::collections::BTreeMap;

/// How tests, or stages, ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// One suite as its runner counts.
#[derive(Clone, Copy, Debug, Default)]
struct Suite {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Tests that said why they did nothing. For their runner they passed or, if they were told to be strict, failed.
    idle: u64,
}

/// Who runs the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// `cargo nextest run`. It shows what each test printed, with the summary of a `cargo test` of one test in it.
    Nextest,
    /// `cargo test`.
    Cargo,
}

/// Reads what a runner prints.
#[derive(Debug)]
pub(crate) struct Reader {
    runner: Runner,
    suites: BTreeMap<String, Suite>,
    /// The suite that the last line belongs to.
    current: String,
    /// The last test passed, and what follows is its output.
    in_passed: bool,
    skips: Vec<String>,
}

/// All that a runner said.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Every suite with its counts, by name.
    pub(crate) suites: Vec<(String, Counts)>,
    /// What tests said of why they did nothing: `TEST: WHAT IT LACKS`.
    pub(crate) skips: Vec<String>,
}

impl Reader {
    pub(crate) fn new(runner: Runner) -> Self {
        Self {
            runner,
            suites: BTreeMap::new(),
            current: String::new(),
            in_passed: false,
            skips: Vec::new(),
        }
    }

    /// Reads a line. The result is whether it is worth showing: the output of tests that passed is not.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        // `SKIPPED TEST: WHAT IT LACKS`, as tests/src/requirement.rs writes it.
        if let Some(skip) = line.trim().strip_prefix("SKIPPED ") {
            self.skips.push(skip.to_owned());
            self.suite().idle += 1;
            return true;
        }
        match (self.runner, nextest_status(line)) {
            (Runner::Nextest, Some((status, rest))) => {
                self.nextest(status, rest);
                true
            }
            (Runner::Nextest, None) => !self.in_passed,
            (Runner::Cargo, _) => {
                self.cargo(line);
                true
            }
        }
    }

    fn cargo(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            // `Running unittests src/lib.rs (target/release/deps/tq_core-0123456789abcdef)`
            ["Running", .., program] if program.starts_with('(') => {
                let name = program.rsplit('/').next().unwrap_or(program);
                let name = name.trim_end_matches(')');
                let name = name.rsplit_once('-').map_or(name, |(name, _hash)| name);
                name.clone_into(&mut self.current);
            }
            ["Doc-tests", name] => self.current = format!("{name} (documentation)"),
            // `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
            [
                "test",
                "result:",
                _,
                passed,
                "passed;",
                failed,
                "failed;",
                ignored,
                "ignored;",
                ..,
            ] => {
                let number = |word: &str| word.parse().unwrap_or(0);
                let suite = self.suite();
                suite.passed += number(passed);
                suite.failed += number(failed);
                suite.ignored += number(ignored);
            }
            _ => {}
        }
    }

    /// Reads `PASS` and `[   0.005s] (  1/123) tq-core id::tests::no_text_panics`.
    fn nextest(&mut self, status: &str, rest: &str) {
        self.in_passed = false;
        if status == "Summary" {
            // `[   3.055s] 10 tests run: 9 passed, 1 failed, 2 skipped`: the ones that are marked to be ignored.
            let ignored = rest.rsplit_once(" skipped").and_then(|(counts, _)| {
                let word = counts.rsplit(' ').next()?;
                word.parse::<u64>().ok()
            });
            if let Some(ignored) = ignored.filter(|ignored| *ignored > 0) {
                "(marked `#[ignore]`)".clone_into(&mut self.current);
                self.suite().ignored += ignored;
            }
            return;
        }
        // What is only slow, or will be tried again, is told again when it has ended.
        if matches!(status, "SLOW" | "TERMINATING" | "SETUP") || status.starts_with("TRY") {
            return;
        }
        let name = rest.split_once(") ").map_or(rest, |(_, name)| name);
        let name = name.split_whitespace().next().unwrap_or(name);
        name.clone_into(&mut self.current);
        if matches!(status, "PASS" | "LEAK") {
            self.suite().passed += 1;
            self.in_passed = true;
        } else {
            self.suite().failed += 1;
        }
    }

    fn suite(&mut self) -> &mut Suite {
        self.suites.entry(self.current.clone()).or_default()
    }

    /// All that was read. With `strict`, tests that did nothing have failed by themselves.
    pub(crate) fn finish(self, strict: bool) -> Outcome {
        let count = |suite: Suite| {
            let Suite {
                passed,
                failed,
                ignored,
                idle,
            } = suite;
            let idle = if strict { 0 } else { idle.min(passed) };
            Counts {
                passed: passed - idle,
                failed,
                skipped: ignored + idle,
            }
        };
        let suites = self.suites.into_iter();
        Outcome {
            suites: suites.map(|(name, suite)| (name, count(suite))).collect(),
            skips: self.skips,
        }
    }
}

/// Takes `        PASS [   0.005s] …` apart: nextest writes the status up to the twelfth column. What tests print is
/// indented by four, so that they would have to imitate it on purpose.
fn nextest_status(line: &str) -> Option<(&str, &str)> {
    let (status, rest) = line.split_at_checked(12)?;
    let rest = rest.strip_prefix(' ')?;
    let status = status.trim_start();
    let is_status = rest.starts_with('[') && status.starts_with(|c: char| c.is_ascii_uppercase());
    is_status.then_some((status, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        runner: Runner,
        text: &str,
        strict: bool,
        expected: &[(&str, [u64; 3])],
        hidden: &[&str],
    ) -> Outcome {
        let mut reader = Reader::new(runner);
        let not_shown: Vec<_> = text.lines().filter(|line| !reader.line(line)).collect();
        let outcome = reader.finish(strict);
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, [passed, failed, skipped])| {
                let (passed, failed, skipped) = (*passed, *failed, *skipped);
                let counts = Counts {
                    passed,
                    failed,
                    skipped,
                };
                ((*name).to_owned(), counts)
            })
            .collect();
        assert_eq!(outcome.suites, expected);
        assert_eq!(not_shown, hidden);
        outcome
    }

    const NEXTEST: &str = "
    Finished `release` profile [optimized + debuginfo] target(s) in 0.21s
    Starting 5 tests across 3 binaries (1 test skipped)
        PASS [   0.005s] (1/5) tq-core id::tests::no_text_panics
        PASS [   0.005s] (2/5) tq-tests::syncs acknowledged_is_synced
  stderr ───

    SKIPPED syncs: strace is not there: apt-get install strace
    test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.34s
        SLOW [> 60.000s] (───────) tq-tests::durability kills
        FAIL [   0.010s] (3/5) tq-tests::durability kills
  stdout ───
    lost a task
 TRY 1 SIGKL [   0.010s] (4/5) tq-host it
     SIGSEGV [   0.010s] (4/5) tq-host it
        LEAK [   0.010s] (5/5) tq-core x
────────────
     Summary [   3.055s] 5 tests run: 3 passed (1 slow, 1 leaky), 2 failed, 1 skipped
";

    #[test]
    fn nextest_is_counted_by_suite_and_the_output_of_passed_tests_hidden() {
        let hidden = [
            "  stderr ───",
            "",
            "    test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.34s",
            "────────────",
        ];
        let outcome = check(
            Runner::Nextest,
            NEXTEST,
            false,
            &[
                ("(marked `#[ignore]`)", [0, 0, 1]),
                ("tq-core", [2, 0, 0]),
                ("tq-host", [0, 1, 0]),
                ("tq-tests::durability", [0, 1, 0]),
                ("tq-tests::syncs", [0, 0, 1]),
            ],
            &hidden,
        );
        assert_eq!(
            outcome.skips,
            ["syncs: strace is not there: apt-get install strace"]
        );
    }

    #[test]
    fn strict_tests_that_did_nothing_have_failed_by_themselves() {
        let text = "
        FAIL [   0.005s] (1/1) tq-tests::syncs acknowledged_is_synced
  stderr ───
    SKIPPED syncs: strace is not there: apt-get install strace
";
        let outcome = check(
            Runner::Nextest,
            text,
            true,
            &[("tq-tests::syncs", [0, 1, 0])],
            &[],
        );
        assert_eq!(outcome.skips.len(), 1);
    }

    #[test]
    fn cargo_test_is_counted_by_suite() {
        let text = "
     Running unittests src/lib.rs (target/release/deps/tq_core-0123456789abcdef)
test id::tests::no_text_panics ... ok
test result: ok. 21 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.36s
     Running tests/syncs.rs (target/release/deps/syncs-0123456789abcdef)
SKIPPED syncs: strace is not there: apt-get install strace
test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s
   Doc-tests tq_sdk
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s
";
        check(
            Runner::Cargo,
            text,
            false,
            &[
                ("syncs", [0, 2, 1]),
                ("tq_core", [21, 0, 1]),
                ("tq_sdk (documentation)", [3, 0, 0]),
            ],
            &[],
        );
    }
}
