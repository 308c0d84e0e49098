//! What the README promises to a stranger: `tq dev`, and in another terminal `tq new greet && cd greet && tq deploy &&
//! tq run greet …`, with no other step.

use tq_tests::Dev;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_crate_is_deployed_and_greets() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let here = dev.tq().inside(folder.path());
    here.run(["new", "greet"]).await.ok();
    let inside = dev.tq().inside(&folder.path().join("greet"));
    let deployed = inside.run(["deploy"]).await.text();
    assert!(deployed.starts_with("greet@1  sha256:"), "{deployed}");
    assert!(deployed.contains("memory 128 MiB"), "{deployed}");
    // As in a stranger's shell: into the new crate, not to where whoever runs this test builds.
    let built = folder
        .path()
        .join("greet/target/wasm32-wasip2/release/greet.wasm");
    assert!(built.is_file(), "`{}` was not built", built.display());

    let greeting = inside
        .run(["run", "greet", r#"{"name":"Ada"}"#])
        .await
        .text();
    assert!(greeting.contains("Ada"), "{greeting}");
    let again = inside.run(["deploy"]).await.text();
    assert!(again.starts_with("greet@1 (unchanged)"), "{again}");
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_survive_a_restart_of_dev() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let dev = Dev::start(&data, 2).await;
    dev.tq()
        .deploy(&tq_tests::guest::example("faults"), "faults", &[])
        .await;
    let id = dev
        .tq()
        .run(["submit", "faults/echo", "kept", "--wait"])
        .await
        .text();
    let id = id.lines().next().unwrap_or_default().to_owned();
    dev.process.stop().await;

    let dev = Dev::start(&data, 2).await;
    let shown = dev
        .tq()
        .run(["task", "show", &id, "--output", "json"])
        .await
        .json();
    assert_eq!(
        (&shown["state"], &shown["result"]),
        (&"succeeded".into(), &"kept".into())
    );
    dev.process.stop().await;
}
