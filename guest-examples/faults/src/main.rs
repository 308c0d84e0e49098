//! Every way in which a task can end, on demand.

mod behaves;
mod buckets;
mod connections;
mod files;
mod misbehaves;
mod requests;
mod secrets;

fn main() {}
