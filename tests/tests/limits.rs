//! What an attempt may have and do, as it is deployed, lowered and capped: through the binary, to the guest.

use tq_tests::{Dev, guest, within};

const MANIFEST: &str = r#"
[module]
name = "work"
artifact = "work.wasm"
[limits]
host_calls = 5000
[capabilities]
env = { GREETING = "hello" }
[function.randomness]
deterministic = true
"#;

/// A folder with the example `faults` and a manifest of its own.
fn module(folder: &tempfile::TempDir, manifest: &str) -> String {
    let place = folder.path().join("module");
    std::fs::create_dir_all(&place).expect("the folder can be made");
    std::fs::copy(guest::example("faults"), place.join("work.wasm")).expect("it was built");
    std::fs::write(place.join("tq.toml"), manifest).expect("the disk takes it");
    place.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capabilities_are_granted_shown_and_refused_by_version() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let tq = dev.tq();
    let bare = module(
        &folder,
        "[module]\nname = \"work\"\nartifact = \"work.wasm\"\n",
    );
    tq.run(["deploy", &bare]).await.ok();
    let nothing = tq.run(["run", "work/variable", "GREETING"]).await;
    assert_eq!(nothing.text(), "");

    let place = module(&folder, MANIFEST);
    let refused = tq.run(["deploy", &place, "--deny-new-capabilities"]).await;
    assert_eq!(refused.code, Some(4));
    let expected = "the current version of module `work` is not granted: env GREETING";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    let deployed = tq.run(["deploy", &place]).await.text();
    assert!(
        deployed.contains("newly granted: env GREETING\n"),
        "{deployed}"
    );
    let again = tq.run(["deploy", &place, "--deny-new-capabilities"]).await;
    assert!(again.text().contains("(unchanged)"));
    let shown = tq.run(["module", "show", "work", "--output", "json"]).await;
    let shown = shown.json();
    let mut functions = shown["functions"].as_array().unwrap().iter();
    let function = functions.find(|function| function["name"] == "randomness");
    let expected = serde_json::json!({"env": ["GREETING"], "deterministic": true, "http": [], "scratch": false, "keyvalue": [], "tcp": [], "secrets": []});
    assert_eq!(function.unwrap()["capabilities"], expected);
    assert_eq!(function.unwrap()["limits"]["host_calls"], 5_000);

    let said = tq.run(["run", "work/variable", "GREETING"]).await;
    assert_eq!(said.text().trim(), "hello");
    // Each task has randomness of its own, the same in each of its attempts: they are compared inside.
    let (first, second) = (
        tq.run(["run", "work/randomness"]).await,
        tq.run(["run", "work/randomness"]).await,
    );
    assert_ne!(first.text(), second.text());
    // The version that a task was submitted to decides.
    tq.run(["module", "rollback", "work"]).await.ok();
    let nothing = tq.run(["run", "work/variable", "GREETING"]).await;
    assert_eq!(nothing.text(), "");
    within("it stops", dev.process.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ceilings_of_a_namespace_hold_for_what_is_deployed_and_what_was() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let tq = dev.tq();
    let place = module(&folder, MANIFEST);
    tq.run(["deploy", &place]).await.ok();
    let set = ["namespace", "set", "default", "--ceiling", "host_calls=1k"];
    let set = tq.run(set).await;
    assert!(set.text().contains("ceiling.host_calls"));

    let refused = tq.run(["deploy", &place]).await;
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    let expected = "host_calls is 5000, over the namespace's ceiling of 1000";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    let id = tq.run(["submit", "work/echo", "x"]).await.text();
    let shown = tq
        .run(["task", "show", id.trim(), "--output", "json"])
        .await
        .json();
    assert_eq!(shown["limits"]["host_calls"], 1_000);

    let reset = ["namespace", "set", "default", "--no-ceiling", "host_calls"];
    let reset = tq.run(reset).await;
    assert!(!reset.text().contains("ceiling"));
    tq.run(["deploy", &place]).await.ok();
    let unknown = ["namespace", "set", "default", "--no-ceiling", "hostcalls"];
    assert_eq!(tq.run(unknown).await.code, Some(4));

    // A call lowers what it may have, and is told where that ends.
    let lowered = ["run", "work/variable", "A", "--limit", "host_calls=100"];
    tq.run(lowered).await.ok();
    let raised = ["run", "work/variable", "A", "--limit", "host_calls=6000"];
    let raised = tq.run(raised).await;
    let expected = "host_calls is 6000, over the function's limit of 5000";
    assert!(raised.stderr.contains(expected), "{}", raised.stderr);
    within("it stops", dev.process.stop()).await;
}
