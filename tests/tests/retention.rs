//! What has ended can be deleted, and goes by itself when its time is over: with the real binary, over real sockets.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tq_client::{Code, Error, Watch};
use tq_tests::{Broker, Dev, Host, eventually, guest, within};

/// A `tq dev` that has the faults deployed.
async fn dev() -> (Dev, TempDir) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(&folder.path().join("data"), 4).await;
    dev.tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    (dev, folder)
}

/// Runs a call to its end, and returns its id.
async fn run(dev: &Dev, call: &str) -> String {
    let words = ["run", "--output", "json"].into_iter();
    let ran = dev.tq().run(words.chain(call.split(' '))).await;
    let task: Value = ran.json();
    task["id"].as_str().expect("it has an id").to_owned()
}

async fn exit_of(dev: &Dev, line: &str) -> (Option<i32>, String) {
    let ran = dev.tq().run(line.split(' ')).await;
    (ran.code, ran.stderr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_task_is_gone_and_a_live_one_is_refused() {
    let (dev, _folder) = dev().await;
    let id = run(&dev, "faults/log hello --idempotency-key k").await;
    let deleted = dev.tq().run(["task", "delete", &id]).await;
    assert_eq!(deleted.text(), format!("{id} deleted\n"));
    for verb in ["show", "logs", "delete", "redrive"] {
        let (code, said) = exit_of(&dev, &format!("task {verb} {id}")).await;
        assert_eq!(code, Some(3), "{verb}: {said}");
    }
    // The key is free for another request.
    let again = run(&dev, "faults/echo other --idempotency-key k").await;
    assert_ne!(again, id);
    let submitted = dev
        .tq()
        .run(["submit", "faults/echo", "x", "--delay", "1h"])
        .await;
    let live = submitted.text().trim().to_owned();
    let (code, said) = exit_of(&dev, &format!("task delete {live}")).await;
    assert_eq!(code, Some(4));
    assert!(
        said.contains("is scheduled: only a task that has ended can be deleted; cancel it first")
            && said.contains(&format!("hint: `tq task cancel {live}` ends it")),
        "{said}"
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_match_are_counted_and_deleted() {
    let (dev, _folder) = dev().await;
    let submit = ["submit", "faults/echo", "x", "--count", "1500", "--wait"];
    dev.tq().run(submit).await.ok();
    let dead = run(&dev, "faults/fail_fatal never").await;
    let count = async |line: &str| {
        let words = line.split(' ').chain(["--output", "json"]);
        let ran = dev
            .tq()
            .run(["task", "delete"].into_iter().chain(words))
            .await;
        ran.ok();
        ran.json()["deleted"].as_u64().expect("it counts")
    };
    assert_eq!(count("--state dead --ended-before 30d --dry-run").await, 0);
    assert_eq!(count("--state dead --dry-run").await, 1);
    assert_eq!(count("--function faults/echo --dry-run").await, 1_500);
    assert_eq!(count("--function faults/spin --dry-run").await, 0);
    assert_eq!(
        count("--function faults --ended-before 0ms --dry-run").await,
        1_501
    );
    assert_eq!(count("--state succeeded").await, 1_500);
    assert_eq!(count("--state succeeded").await, 0);
    let left = dev
        .tq()
        .run(["task", "list", "--all", "--output", "json"])
        .await;
    let left = left.json()["tasks"].as_array().expect("a list").clone();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["id"], dead.as_str());
    let (code, said) = exit_of(&dev, "task delete --function faults@1").await;
    assert!(
        code == Some(4) && said.contains("over all versions"),
        "{said}"
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn result_goes_before_its_task_and_says_when() {
    let (dev, _folder) = dev().await;
    let short = run(
        &dev,
        "faults/echo short --result-ttl 1s --idempotency-key s",
    )
    .await;
    let long = run(&dev, "faults/echo long").await;
    let show = async |id: &str| {
        let shown = dev.tq().run(["task", "show", id, "--output", "json"]).await;
        shown.ok();
        shown.json()
    };
    let gone = eventually("the result goes", async || {
        let task = show(&short).await;
        task["result"].is_null().then_some(task)
    });
    let gone = gone.await;
    let at = |field: &str| gone[field].as_u64().expect("it is a time");
    assert!(at("result_expired_ms") >= at("ended_ms") + 1_000, "{gone}");
    assert_eq!(
        (&gone["state"], at("result_bytes")),
        (&"succeeded".into(), 5)
    );
    let told = dev.tq().run(["task", "show", &short]).await.text();
    assert!(
        told.contains("gone since ") && told.contains(": its time was over"),
        "{told}"
    );
    assert_eq!(show(&long).await["result"], "long");
    let again = "run faults/echo short --result-ttl 1s --idempotency-key s";
    let (code, said) = exit_of(&dev, again).await;
    assert!(
        code == Some(1) && said.contains("succeeded, but its result is gone since"),
        "{said}"
    );
    let refused = exit_of(&dev, "run faults/echo x --result-ttl 10ms").await;
    assert!(
        refused.0 == Some(4)
            && refused
                .1
                .contains("result_ttl is 10 ms; it may be 1000 to 316224000000 ms"),
        "{refused:?}"
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn function_says_how_long_its_results_stay() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let module = folder.path().join("module");
    std::fs::create_dir(&module).expect("a folder can be made");
    std::fs::copy(guest::example("faults"), module.join("faults.wasm")).expect("it was built");
    let manifest = "[module]\nname = \"faults\"\nartifact = \"faults.wasm\"\n[function.echo]\nresult_ttl = \"90m\"\n";
    std::fs::write(module.join("tq.toml"), manifest).expect("it can be written");
    dev.tq()
        .run([std::ffi::OsStr::new("deploy"), module.as_os_str()])
        .await
        .ok();
    let id = run(&dev, "faults/echo x").await;
    let task = dev
        .client()
        .await
        .task(&id, false, false)
        .await
        .expect("it is there");
    assert_eq!(task.result_ttl_ms, Some(5_400_000));
    let id = run(&dev, "faults/log x").await;
    let task = dev
        .client()
        .await
        .task(&id, false, false)
        .await
        .expect("it is there");
    assert_eq!(task.result_ttl_ms, None);
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_its_time_goes_and_whoever_watches_from_before_is_told() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut broker = Broker::start(&folder.path().join("broker")).await;
    let host = Host::start(&broker, &folder.path().join("host"), "a", 2).await;
    let tq = broker.tq();
    let unknown = tq.run(["retention", "set", "--dead", "1d"]).await;
    assert_eq!(unknown.code, Some(3), "{}", unknown.stderr);
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    let shown = tq.run(["retention", "show", "--output", "json"]).await;
    let day = 86_400_000_u64;
    assert_eq!(
        shown.json(),
        serde_json::json!({
            "namespace": "default",
            "succeeded_ms": 7 * day,
            "dead_ms": 30 * day,
            "cancelled_ms": 7 * day,
            "expired_ms": 7 * day,
            "results_ms": null,
            "modules_ms": 30 * day,
        })
    );
    let refused = tq.run(["retention", "set", "--dead", "0s"]).await;
    assert_eq!(refused.code, Some(4));
    assert!(
        refused
            .stderr
            .contains("retention of dead tasks is 0 ms; it may be 1000 to"),
        "{}",
        refused.stderr
    );
    tq.run(["submit", "faults/echo", "x", "--count", "300", "--wait"])
        .await
        .ok();
    tq.run(["run", "faults/fail_fatal", "never"]).await;
    let client = broker.client().await;
    let set = ["retention", "set", "--succeeded", "1s", "--results", "2d"];
    let set = tq.run(set).await.text();
    assert!(
        set.contains("succeeded  1s") && set.contains("results    2d"),
        "{set}"
    );
    broker.kill9_and_restart().await;
    let shown = tq.run(["retention", "show"]).await.text();
    assert_eq!(shown, set, "it is on disk when it is answered");
    eventually("what succeeded goes", async || {
        let page = client.task_page(None, 0, "").await.ok()?;
        (page.tasks.len() == 1).then_some(())
    })
    .await;
    let page = client
        .task_page(None, 0, "")
        .await
        .expect("the broker serves");
    assert_eq!(page.tasks[0].outcome, "fatal_error");
    // From before what went, a watch would leave it out without a word.
    let mut watching = client.watch(Watch::All { after_seq: Some(0) }, false);
    let refused = within("the watch is refused", async {
        loop {
            if let Err(error) = watching.next().await {
                return error;
            }
        }
    });
    match refused.await {
        Error::Refused { code, message, .. } => {
            assert_eq!(code, Code::OutOfRange);
            assert!(
                message.contains("ends after sequence 0 were removed"),
                "{message}"
            );
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    // With the times of before, what ends stays.
    tq.run(["retention", "set", "--succeeded", "7d", "--results", "task"])
        .await
        .ok();
    tq.run(["run", "faults/echo", "x"]).await.ok();
    let page = client
        .task_page(None, 0, "")
        .await
        .expect("the broker serves");
    assert_eq!(page.tasks.len(), 2);
    host.process.stop().await;
    broker.process.stop().await;
}

/// The large files of a `tq dev` or a broker, by their names.
fn blobs(data_dir: &Path) -> BTreeSet<String> {
    let read = |folder: &Path| std::fs::read_dir(folder).expect("the folder can be read");
    let folders = read(&data_dir.join("broker/blobs")).map(|folder| folder.expect("it is there"));
    folders
        .flat_map(|folder| read(&folder.path()))
        .map(|file| {
            let name = file.expect("it is there").file_name();
            name.to_string_lossy().into_owned()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_data_goes_with_the_last_task_that_names_it() {
    let (dev, folder) = dev().await;
    let data = folder.path().join("data");
    let modules = blobs(&data);
    assert_eq!(modules.len(), 1);
    let echo = async |input: &str| {
        let words = ["run", "faults/echo", "-", "--output", "json"];
        let ran = dev.tq().run_with_input(words, input.as_bytes()).await;
        ran.ok();
        ran.json()["id"].as_str().expect("it has an id").to_owned()
    };
    // An echo: its payload and its result are one file, which both tasks share.
    let large = "x".repeat(100_000);
    let (first, second) = (echo(&large).await, echo(&large).await);
    let other = echo(&"y".repeat(100_000)).await;
    assert_eq!(blobs(&data).len(), 3);
    let delete = async |id: &str| dev.tq().run(["task", "delete", id]).await.ok();
    delete(&first).await;
    delete(&other).await;
    eventually("the file that nobody names goes", async || {
        (blobs(&data).len() == 2).then_some(())
    })
    .await;
    let shown = ["task", "show", &second, "--output", "json"];
    assert!(dev.tq().run(shown).await.json()["result"] == large.as_str());
    delete(&second).await;
    eventually("the other file goes too", async || {
        (blobs(&data) == modules).then_some(())
    })
    .await;
    // What went can come again.
    echo(&large).await;
    assert_eq!(blobs(&data).len(), 2);
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_that_no_task_needs_can_be_deleted() {
    let (dev, folder) = dev().await;
    let data = folder.path().join("data");
    let tq = dev.tq();
    let id = run(&dev, "faults/echo x").await;
    // Another module under the same name.
    tq.deploy(&guest::example("word-count"), "faults", &[])
        .await;
    assert_eq!(blobs(&data).len(), 2);
    let refused = [
        (
            "faults@1",
            4,
            "module `faults@1` is needed by 1 of the tasks",
        ),
        ("faults", 4, "module `faults` is needed by 1 of the tasks"),
        (
            "faults@2",
            4,
            "version 2 of module `faults` is its current one",
        ),
        (
            "faults@3",
            3,
            "module `faults` has no version 3; it has 1, 2",
        ),
        ("faults@x", 2, "`x` is not a version"),
        ("fault", 3, "did you mean `faults`"),
    ];
    for (module, expected, text) in refused {
        let (code, said) = exit_of(&dev, &format!("module delete {module}")).await;
        assert!(
            code == Some(expected) && said.contains(text),
            "{module}: {code:?} {said}"
        );
    }
    tq.run(["task", "delete", &id]).await.ok();
    let deleted = tq.run(["module", "delete", "faults@1"]).await;
    assert_eq!(deleted.text(), "faults@1 deleted\n");
    eventually("its file goes", async || {
        (blobs(&data).len() == 1).then_some(())
    })
    .await;
    let (code, said) = exit_of(&dev, "run faults@1/echo x").await;
    assert!(
        code == Some(3) && said.contains("module `faults` has no version 1; it has 2"),
        "{said}"
    );
    let deleted = tq
        .run(["module", "delete", "faults", "--output", "json"])
        .await;
    assert_eq!(
        deleted.json(),
        serde_json::json!({"module": "faults", "deleted": 1})
    );
    eventually("the last file goes", async || {
        blobs(&data).is_empty().then_some(())
    })
    .await;
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    run(&dev, "faults/echo x").await;
    dev.process.stop().await;
}
