//! Clients that are made of nothing of ours: a stock gRPC library in Python, which asks the broker what it understands.

use tq_tests::toolchains::{FIX, run_client};
use tq_tests::{Dev, guest, requirement};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_deploys_runs_and_watches_by_reflection() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(&folder.path().join("data"), 1).await;
    let address = dev.url().trim_start_matches("http://");
    let component = guest::example("faults");
    let component = component.to_str().expect("it is text");
    let script = guest::source().join("tests/clients/run_task.py");
    let script = script.to_str().expect("it is text");
    let words = [script, address, component, "faults/echo", "grüß dich"];
    let ran = run_client("python", words, folder.path()).await;
    match ran {
        Some(ran) => assert_eq!(
            ran.text(),
            "faults@1\nTASK_STATE_SUCCEEDED\ngrüß dich\n",
            "{}",
            ran.stderr
        ),
        None => requirement::skip(
            "python_deploys_runs_and_watches_by_reflection",
            &format!("gRPC for Python is not there: {FIX}"),
        ),
    }
    dev.process.stop().await;
}
