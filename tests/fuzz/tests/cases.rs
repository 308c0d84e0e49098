//! What once broke something does so no more, and neither do some random bytes.

#![expect(
    clippy::print_stdout,
    reason = "a test that fails shows what it had given"
)]

use std::fs;
use std::path::Path;

use tq_fuzz::TARGETS;

/// Random inputs for each target.
const RANDOM: usize = 200;

/// The cases of a target that are kept, by name.
fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("cases")
        .join(target);
    let Ok(entries) = fs::read_dir(&folder) else {
        return Vec::new(); // It has none.
    };
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    paths
        .map(|path| {
            let bytes = fs::read(&path).expect("the file can be read");
            (path.display().to_string(), bytes)
        })
        .collect()
}

#[test]
fn cases_that_are_kept_break_nothing() {
    for (name, target) in TARGETS {
        for (path, bytes) in kept(name) {
            println!("{path}");
            target(&bytes);
        }
    }
}

#[test]
fn random_bytes_break_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for (name, target) in TARGETS {
        for at in 0..RANDOM {
            println!("{name} {at}");
            let len = random.usize(..4096);
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
            target(&bytes);
        }
    }
}
