//! Random histories keep what was promised; and a seed is one history.

use tq_simulation::{Options, run};

/// Histories of each test. There are several tests, so that they run beside each other.
const SEEDS: u64 = 500;

#[track_caller]
fn check(first: u64) {
    let (mut openings, mut refused) = (0, 0);
    for seed in first..first + SEEDS {
        match run(seed, Options::default()) {
            Ok(report) => {
                openings += report.openings;
                refused += report.refused;
            }
            Err(why) => panic!(
                "history {seed}: {why}\nsee it with `cargo xtask evidence simulation --first {seed} --seeds 1 --verbose`"
            ),
        }
    }
    assert!(openings > SEEDS / 4, "breakers open: {openings}");
    assert!(refused > SEEDS, "tasks are refused: {refused}");
}

#[test]
fn histories_keep_their_promises_1() {
    check(0);
}

#[test]
fn histories_keep_their_promises_2() {
    check(SEEDS);
}

#[test]
fn histories_keep_their_promises_3() {
    check(2 * SEEDS);
}

#[test]
fn histories_keep_their_promises_4() {
    check(3 * SEEDS);
}

#[test]
fn seed_is_a_history() {
    for seed in 0..20 {
        let once = run(seed, Options::default());
        let again = run(seed, Options::default());
        assert_eq!(once, again, "seed {seed}");
        assert!(once.is_ok_and(|report| report.attempts > 0));
    }
}
