//! What a test needs of the machine: without it, the test is skipped and says so, or fails if `TQ_STRICT` is 1.

use std::io::Write as _;

/// Says that a test is skipped.
///
/// # Panics
/// `TQ_STRICT` is 1.
pub fn skip(test: &str, lacking: &str) {
    let is_strict = std::env::var_os("TQ_STRICT").is_some_and(|value| value == "1");
    assert!(
        !is_strict,
        "{test} cannot be skipped under TQ_STRICT=1: {lacking}"
    );
    // Past the capture of the test runner: a test that did nothing must not look like one that passed.
    drop(writeln!(std::io::stderr(), "SKIPPED {test}: {lacking}"));
}

/// Whether `program` is installed.
#[must_use]
pub fn has_program(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
