//! Set-up, tests and evidence runs of tq.
fn main() {}
