//! Guests that a compiler made: `guest-examples/faults`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use tq_core::limits::BACKTRACE_BYTES_MAX;
use tq_core::{Limits, Outcome};
use tq_host::component::Ready;
use tq_host::runner::{Attempt, Failure, Finished};

use crate::{Host, attempt, ready, run};

static FAULTS: LazyLock<Arc<Ready>> = LazyLock::new(|| {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-examples");
    let target = std::env::var_os("TQ_GUESTS_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), PathBuf::from);
    // All of them: the command is the one of tests/src/guest.rs, so that neither replaces what the other reads.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--locked"])
        .args(["--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .current_dir(&workspace)
        .status()
        .unwrap();
    assert!(built.success(), "guest-examples do not build");
    let file = target.join("wasm32-wasip2/release/faults.wasm");
    ready(std::fs::read(file).unwrap())
});

fn call(function: &str, payload: &str, limits: Limits) -> (Finished, Host) {
    run(Attempt {
        function: function.to_owned(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        limits,
        ..attempt(1, FAULTS.clone())
    })
}

#[track_caller]
fn fails(function: &str, payload: &str, limits: Limits, outcome: Outcome) -> Failure {
    let (finished, _) = call(function, payload, limits);
    assert_eq!(finished.outcome, outcome, "{:?}", finished.failure);
    finished.failure.unwrap()
}

const LOG_BYTES: usize = Limits::DEFAULT.log_bytes as usize;

#[test]
fn panic_carries_its_message_and_where_it_was() {
    let failure = fails("panic", "no such colour", Limits::DEFAULT, Outcome::Trap);
    assert!(failure.message.starts_with("panicked at "), "{failure:?}");
    assert!(failure.message.ends_with("\nno such colour"), "{failure:?}");
    let backtrace = failure.backtrace.unwrap();
    assert!(
        backtrace.contains("core::panicking::panic_fmt"),
        "{backtrace}"
    );
    assert!(
        backtrace.contains("\nfaults::misbehaves::panic\n"),
        "{backtrace}"
    );
    assert!(backtrace.len() <= BACKTRACE_BYTES_MAX);
}

#[test]
fn allocating_without_end_is_a_memory_limit() {
    fails("grow", "", Limits::DEFAULT, Outcome::MemoryLimit);
}

#[test]
fn recursing_without_end_is_a_stack_overflow() {
    fails("recurse", "", Limits::DEFAULT, Outcome::StackOverflow);
}

#[test]
fn looping_without_end_is_a_timeout() {
    let limits = Limits {
        timeout_ms: 100,
        ..Limits::DEFAULT
    };
    fails("spin", "", limits, Outcome::Timeout);
}

#[test]
fn exit_of_a_handler_is_an_exit() {
    fails("exit", "", Limits::DEFAULT, Outcome::Exit);
}

#[test]
fn output_of_both_kinds_is_one_log() {
    let (finished, host) = call("chatty", "1", Limits::DEFAULT);
    assert_eq!(
        finished.outcome,
        Outcome::Succeeded,
        "{:?}",
        finished.failure
    );
    let cut = (2 << 20) - LOG_BYTES;
    assert!(
        host.log().contains(&format!("[tq: {cut} bytes")),
        "{}",
        host.log.len()
    );
}
