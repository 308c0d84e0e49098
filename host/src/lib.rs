//! The node that runs guests.

pub mod component;
mod imports;
pub mod runner;
pub mod sandbox;
