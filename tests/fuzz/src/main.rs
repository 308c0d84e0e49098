//! Drives one target with LLVM's fuzzer: `TQ_FUZZ_TARGET=NAME fuzz [ARGUMENTS]`, see its `-help=1`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tq_fuzz::TARGETS;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("TQ_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let (_, target) = found.unwrap_or_else(|| {
        panic!(
            "TQ_FUZZ_TARGET is `{wanted}`; it is one of {}",
            names.join(", ")
        )
    });
    *target
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
