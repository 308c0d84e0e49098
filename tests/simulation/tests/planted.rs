//! Bugs that are planted are found: by some of the first histories, none of which is broken without the bug.

#![expect(clippy::print_stdout, reason = "what finds a bug is worth seeing")]

use tq_core::planted::Bug;
use tq_simulation::{Options, run};

/// Histories in which a bug has to be found.
const SEEDS: u64 = 200;

#[test]
fn every_planted_bug_is_found() {
    // What breaks is expected here, and said below.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let options = Options {
            bug: Some(bug),
            ..Options::default()
        };
        let found = (0..SEEDS).find_map(|seed| Some((seed, run(seed, options).err()?)));
        match found {
            Some((seed, why)) => {
                let line = why.lines().next().unwrap_or_default();
                println!("{bug:?}: history {seed}: {line:.160}");
            }
            None => missed.push(bug),
        }
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "{SEEDS} histories miss {missed:?}");
}
