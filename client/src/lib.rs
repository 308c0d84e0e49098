//! The typed Rust client of tq.
