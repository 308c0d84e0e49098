//! Core modules: programs for WASI preview 1 and modules with a world of their own are deployed as they are.

use serde_json::json;
use tq_tests::{Dev, guest, within};

/// A program for preview 1 that copies what it reads from its standard input, up to a page, to its output.
const CAT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "_start")
        ;; One buffer: where it is, and how long.
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (i32.const 65536))
        (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))))"#;

async fn program_runs(isolation: &str) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let flags = ["--isolation", isolation];
    let dev = Dev::start_with(&folder.path().join("data"), 2, &flags).await;
    let program = guest::written(folder.path(), "cat", CAT);
    let program = program.display().to_string();
    let deployed = dev.tq().run(["deploy", &program]).await;
    let told = deployed.text();
    assert!(
        told.contains("made of a program for WASI preview 1"),
        "{told}"
    );
    let ran = dev.tq().run(["run", "cat", "as it came in"]).await;
    assert_eq!(ran.text().trim_end(), "as it came in");
    let again = dev.tq().run(["deploy", "--output", "json", &program]).await;
    let again = again.json();
    assert_eq!(
        (
            &again["adapted"],
            &again["unchanged"],
            &again["module"]["version"]
        ),
        (&json!(true), &json!(true), &json!(1)),
        "{again}"
    );
    within("it stops", dev.process.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn program_for_preview_1_runs_in_one_process() {
    program_runs("none").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn program_for_preview_1_runs_in_runner_processes() {
    program_runs("process").await;
}
