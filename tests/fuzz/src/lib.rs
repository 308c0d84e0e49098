//! Targets for a fuzzer: everything in tq that reads bytes of others.
//!
//! Each takes any bytes at all. It must not panic, overflow, or take without bound; what it finds in the bytes is checked where there
//! is something to be said of it. `cargo xtask evidence fuzz` drives them with LLVM's fuzzer; `cargo test -p tq-fuzz` gives
//! them the cases that once broke something (`cases/TARGET/`) and some random ones.

mod modules;
mod rows;
mod texts;
mod typed;
mod wire;

/// A target: its name, and what it does with some bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("uploads", uploads),
    ("wire", wire::read),
    ("rows", rows::read),
    ("texts", texts::read),
    ("modules", modules::run),
    ("typed", typed::read),
];

/// What a broker reads of an upload before it takes it.
fn uploads(bytes: &[u8]) {
    if let Ok(inspected) = tq_broker::modules::inspect(bytes, &[]) {
        assert!(!inspected.functions.is_empty(), "it offers nothing");
    }
}

/// Takes the first byte off, as a choice among so many.
fn choice(bytes: &[u8], of: usize) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    Some((usize::from(*first) % of, rest))
}
