//! What the store's bytes mean: keys and rows.
//!
//! Kinds of keys and tags of rows are listed here and never reused. Rows are protobuf messages, so that fields can be
//! added; a change of meaning needs a new format version.

pub mod dead;
pub mod key;
pub mod row;

pub use key::{Namespace, Position};
