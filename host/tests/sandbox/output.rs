//! What guests write: logs, progress, checkpoints.

use bytes::Bytes;
use tq_core::limits::CHECKPOINT_BYTES_MAX;
use tq_core::{Limits, Outcome};
use tq_host::runner::{Attempt, Event};

use crate::guests::{handler_that, program, writes};
use crate::{Host, attempt, check, ready, run};

/// This process's own memory in use, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

const LOG_BYTES: usize = Limits::DEFAULT.log_bytes as usize;

#[test]
fn flood_of_logs_is_cut_and_harmless() {
    let before = resident_kib();
    let chatty = ready(writes("$get-stderr", 800 * 256));
    let (finished, host) = run(attempt(1, chatty));
    assert_eq!(
        finished.outcome,
        Outcome::Succeeded,
        "{:?}",
        finished.failure
    );
    let cut = (800 << 20) - LOG_BYTES;
    assert!(
        host.log()
            .contains(&format!("[tq: {cut} bytes of this log were cut here]"))
    );
    assert!(host.log.len() < LOG_BYTES + 100);
    // Other tests run meanwhile, whose largest results and memories are a few times 8 MiB.
    let grown = resident_kib() - before;
    assert!(grown < 200 << 10, "grew by {grown} KiB");
}

#[test]
fn standard_output_of_a_handler_is_its_log() {
    let wasm = handler_that(
        "(i32.store (i32.const 2048) (i32.const 0x0a216968))
         (call $write (call $get-stdout) (i32.const 2048) (i32.const 4) (i32.const 1024))",
    );
    let (finished, host) = run(attempt(1, ready(wasm)));
    assert_eq!(finished.outcome, Outcome::Trap);
    assert_eq!(host.log(), "hi!\n");
    assert!(
        finished
            .failure
            .unwrap()
            .message
            .ends_with("its log ends with:\nhi!")
    );
}

#[test]
fn exit_shows_the_end_of_the_log() {
    let wasm = program(
        "(func $run (result i32)
           (i32.store (i32.const 2048) (i32.const 0x0a216968))
           (call $write (call $get-stderr) (i32.const 2048) (i32.const 4) (i32.const 1024))
           (i32.const 1))",
    );
    check(
        wasm,
        Limits::DEFAULT,
        Outcome::Exit,
        "exited with code 1; its log ends with:\nhi!",
    );
}

#[test]
fn log_lines_have_their_level() {
    let wasm = handler_that(
        "(i32.store (i32.const 2048) (i32.const 0x21216968))
         (call $log (i32.const 3) (i32.const 2048) (i32.const 4))",
    );
    let (_, host) = run(attempt(1, ready(wasm)));
    assert_eq!(host.log(), "warn: hi!!\n");
}

#[test]
fn log_and_progress_of_a_running_guest_are_seen() {
    let wasm = handler_that(
        "(i32.store (i32.const 2048) (i32.const 0x0a216968))
         (call $write (call $get-stderr) (i32.const 2048) (i32.const 4) (i32.const 1024))
         (call $progress (f64.const 7) (i32.const 2048) (i32.const 2))
         (call $save (i32.const 2048) (i32.const 3) (i32.const 1024))
         (call $block (call $sleep (i64.const 3600000000000)))",
    );
    let mut host = Host::new();
    host.start(attempt(5, ready(wasm)));
    let (mut log, mut progress, mut checkpoint) = (None, None, None);
    while log.is_none() || progress.is_none() || checkpoint.is_none() {
        match host.event() {
            Event::Log { epoch, text } => log = Some((epoch.0, text)),
            Event::Progress {
                epoch,
                fraction,
                note,
            } => progress = Some((epoch.0, fraction, note)),
            Event::Checkpoint { epoch, state } => checkpoint = Some((epoch.0, state)),
            Event::Finished(finished) => panic!("{finished:?}"),
        }
    }
    assert_eq!(log, Some((5, Bytes::from_static(b"hi!\n"))));
    assert_eq!(progress, Some((5, 1.0, "hi".to_owned())));
    assert_eq!(checkpoint, Some((5, Bytes::from_static(b"hi!"))));
}

#[test]
fn checkpoint_survives_a_failure_and_comes_back() {
    let saves = handler_that("(call $save (i32.const 0) (i32.const 3) (i32.const 1024))");
    let (_, host) = run(attempt(1, ready(saves)));
    let [Event::Checkpoint { state, .. }] = &host.others[..] else {
        panic!("{:?}", host.others);
    };
    assert_eq!(state.len(), 3);
    let loads = handler_that(
        "(call $load (i32.const 1024))
         (if (i32.eqz (i32.load8_u (i32.const 1024))) (then unreachable))
         (i32.store (i32.const 2056) (i32.load (i32.const 1028)))
         (i32.store (i32.const 2060) (i32.load (i32.const 1032)))
         (i32.store8 (i32.const 2048) (i32.const 0))
         (return (i32.const 2048))",
    );
    let (finished, _) = run(Attempt {
        checkpoint: Some(Bytes::from_static(b"where it was")),
        ..attempt(2, ready(loads))
    });
    assert_eq!(finished.result.as_deref(), Some(b"where it was".as_slice()));
}

#[test]
fn checkpoint_over_its_limit_is_told_to_the_guest() {
    // Returns what the call said: the case, and the limit.
    let wasm = handler_that(&format!(
        "(drop (memory.grow (i32.const 100)))
         (call $save (i32.const 0) (i32.const {}) (i32.const 1024))
         (i32.store8 (i32.const 2048) (i32.const 0))
         (i32.store (i32.const 2056) (i32.const 1024))
         (i32.store (i32.const 2060) (i32.const 24))
         (return (i32.const 2048))",
        CHECKPOINT_BYTES_MAX + 1
    ));
    let (finished, host) = run(attempt(1, ready(wasm)));
    let said = finished.result.unwrap();
    assert_eq!(said[0], 1);
    assert_eq!(said[8], 0);
    assert_eq!(said[16..24], (CHECKPOINT_BYTES_MAX as u64).to_le_bytes());
    assert!(host.others.is_empty(), "{:?}", host.others);
}

#[test]
fn failure_after_a_refused_checkpoint_is_a_checkpoint_limit() {
    let wasm =
        handler_that("(call $save (i32.const 0) (i32.const 11) (i32.const 1024)) unreachable");
    let limits = Limits {
        checkpoint_bytes: 10,
        ..Limits::DEFAULT
    };
    let (finished, host) = run(Attempt {
        limits,
        ..attempt(1, ready(wasm))
    });
    assert_eq!(finished.outcome, Outcome::CheckpointLimit);
    let message = finished.failure.unwrap().message;
    assert!(
        message.starts_with("a checkpoint of 11 bytes is over the limit of 10 bytes"),
        "{message}"
    );
    assert!(host.others.is_empty(), "{:?}", host.others);
}

#[test]
fn progress_in_a_loop_is_thinned_out() {
    let wasm = handler_that(
        "(loop $more (call $progress (f64.const 0.5) (i32.const 0) (i32.const 0)) (br $more))",
    );
    let mut host = Host::new();
    host.start(Attempt {
        limits: Limits {
            timeout_ms: 350,
            ..Limits::DEFAULT
        },
        ..attempt(1, ready(wasm))
    });
    assert_eq!(host.finished().outcome, Outcome::Timeout);
    assert!((1..=4).contains(&host.others.len()), "{:?}", host.others);
}
