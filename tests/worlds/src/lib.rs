//! Typed functions that nobody wrote, for tests and the fuzzer: types, values of them, and components that give back what they
//! are given.
//!
//! Everything is drawn from bytes, which end all choices when they end: what comes of them is always the same, and always
//! finite.

#[cfg(feature = "components")]
pub mod echo;
mod types;
mod values;

pub use types::{function, types};
pub use values::value;
