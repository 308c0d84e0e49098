//! The one binary of tq.
fn main() {}
