//! Large data as files: modules, and payloads and results beyond what a row holds.
//!
//! A blob's name is the SHA-256 digest of its bytes, so that it never changes and the same bytes are kept once. A row that
//! names a blob is written only after the blob is on disk, and a blob is removed only when no row names it. Between the
//! two, whoever is about to have it named has a [`Hold`] on it.

mod collector;
mod cut;
mod files;
mod holds;
mod unnamed;

pub(crate) use collector::Collector;
pub use files::{Blobs, Checked, Error, FileError, Reader, Upload};
pub use holds::Hold;
pub use unnamed::Unnamed;
