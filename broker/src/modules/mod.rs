//! Uploaded modules: what a component is, what it offers and what it asks for.

pub mod inspect;
mod nearest;
pub mod placement;
pub mod registry;
mod schemas;
pub mod typed;

pub use inspect::{Entry, Function, Inspected, Kind, adapt_world, inspect};
pub use nearest::nearest;
pub use registry::{Module, Registry};
pub use schemas::Schemas;
pub use typed::{Typed, Uncallable};
