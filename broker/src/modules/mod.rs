//! Uploaded modules: what a component is, what it offers and what it asks for.

pub mod inspect;
mod nearest;
pub mod placement;
pub mod registry;
pub mod typed;

pub use inspect::{Entry, Function, Inspected, Kind, inspect};
pub use nearest::nearest;
pub use registry::{Module, Registry};
pub use typed::{Typed, Uncallable};
