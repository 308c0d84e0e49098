//! What became of cases.

use serde::Serialize;

/// All cases that were run.
#[derive(Debug, Serialize)]
pub(crate) struct TestReport<'a> {
    /// In the order in which they ran.
    pub(crate) cases: Vec<TestedCase<'a>>,
    /// How many passed.
    pub(crate) passed: usize,
    /// How many did not.
    pub(crate) failed: usize,
}

/// One case.
#[derive(Debug, Serialize)]
pub(crate) struct TestedCase<'a> {
    pub(crate) name: &'a str,
    pub(crate) file: String,
    pub(crate) passed: bool,
    /// How it ended.
    pub(crate) outcome: &'a str,
    /// Why it did not pass.
    pub(crate) failures: &'a [String],
    pub(crate) wall_ns: u64,
    pub(crate) fuel: u64,
    pub(crate) memory_bytes_peak: u64,
    /// Its fuel in the baseline, if it is there.
    pub(crate) fuel_baseline: Option<u64>,
    /// The end of what it wrote to its log, if it did not pass.
    pub(crate) log: &'a str,
}
