//! Looking at a data directory, and accepting a loss in it, while no broker runs.

use std::path::Path;

use crate::config::store_of;
use crate::store::{self, Check, Repair};

/// Reads all of a store and compares it with its marks. Changes nothing.
///
/// # Errors
/// [`store::Error`] if there is no store, or a broker has it open. What is wrong with it is in the report.
pub fn check(data_dir: &Path) -> Result<Check, store::Error> {
    let (dir, options) = store_of(data_dir);
    store::check(&dir, &options)
}

/// Accepts that a store has less than it had acknowledged, so that it can be opened again.
///
/// # Errors
/// [`store::Error`] if there is no store, a broker has it open, or its tables themselves are damaged.
pub fn repair(data_dir: &Path) -> Result<Repair, store::Error> {
    let (dir, options) = store_of(data_dir);
    store::repair(&dir, &options)
}
