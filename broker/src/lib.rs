//! The node that remembers and decides.

pub mod store;
