//! Queues, their limits and their order, through the command line and real nodes.

use std::path::Path;

use serde_json::Value;
use tq_client::{Client, NewTask, QueueOrder, QueueSettings, Task, TaskState, Watch};
use tq_tests::{Dev, eventually, guest, within};

async fn dev(folder: &tempfile::TempDir, slots: u32) -> (Dev, Client) {
    let dev = Dev::start(&folder.path().join("data"), slots).await;
    dev.tq()
        .deploy(&guest::example("faults"), "work", &[])
        .await;
    let client = dev.client().await;
    (dev, client)
}

async fn queue(dev: &Dev, name: &str) -> Value {
    let shown = dev
        .tq()
        .run(["queue", "show", name, "--output", "json"])
        .await;
    shown.ok();
    shown.json()
}

async fn submit(dev: &Dev, flags: &[&str]) -> Vec<String> {
    let submitted = dev.tq().run([&["submit"], flags].concat()).await;
    submitted.ok();
    submitted.text().lines().map(str::to_owned).collect()
}

/// The tasks when all of them have ended.
async fn ended(client: &Client, ids: &[String]) -> Vec<Task> {
    let mut watching = client.watch(Watch::Ids(ids.to_vec()), false);
    within("the tasks end", async {
        while watching.next().await.expect("the broker serves").is_some() {}
    })
    .await;
    let mut tasks = Vec::new();
    for id in ids {
        tasks.push(client.task(id, false, false).await.expect("it is there"));
    }
    tasks
}

/// How many of the tasks ran at once at most, by when their attempts were handed out and settled.
fn at_once(tasks: &[Task]) -> usize {
    let attempts: Vec<_> = tasks.iter().flat_map(|task| &task.attempts).collect();
    let running = |at: u64| {
        let runs = |start: u64, end: u64| start <= at && at < end;
        attempts
            .iter()
            .filter(|attempt| runs(attempt.started_ms, attempt.ended_ms))
            .count()
    };
    attempts
        .iter()
        .map(|attempt| running(attempt.started_ms))
        .max()
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_set_up_paused_resumed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, client) = dev(&folder, 4).await;
    let set = [
        "queue",
        "set",
        "mail",
        "--concurrency",
        "2",
        "--rate",
        "500/s",
        "--burst",
        "20",
    ];
    dev.tq().run(set).await.ok();
    dev.tq().run(["queue", "pause", "mail"]).await.ok();
    let ids = submit(
        &dev,
        &["work/sleep", "20", "--queue", "mail", "--count", "10"],
    )
    .await;
    // Whatever else is there is not held up.
    let beside = dev.tq().run(["run", "work/echo", "beside"]).await;
    assert_eq!(beside.text(), "beside");
    let shown = queue(&dev, "mail").await;
    assert_eq!(
        (&shown["ready"], &shown["closed"], &shown["rate"]["burst"]),
        (&10.into(), &"paused".into(), &20.into())
    );
    assert!(shown["oldest_ready_ms"].as_u64().is_some());
    let busy = dev.tq().run(["queue", "delete", "mail"]).await;
    assert_eq!(busy.code, Some(4));
    assert!(
        busy.stderr.contains("10 waiting and 0 running"),
        "{}",
        busy.stderr
    );

    dev.tq().run(["queue", "resume", "mail"]).await.ok();
    let tasks = ended(&client, &ids).await;
    assert!(
        tasks
            .iter()
            .all(|task| task.state() == TaskState::Succeeded),
        "{tasks:?}"
    );
    assert!(at_once(&tasks) <= 2, "{tasks:?}");
    let listed = dev.tq().run(["queue", "list"]).await.text();
    assert!(
        listed.contains("mail") && listed.contains("default"),
        "{listed}"
    );
    dev.tq().run(["queue", "delete", "mail"]).await.ok();
    let gone = dev
        .tq()
        .run(["submit", "work/echo", "x", "--queue", "mail"])
        .await;
    assert_eq!(gone.code, Some(3));
    assert!(
        gone.stderr.contains("set it up with `tq queue set mail`"),
        "{}",
        gone.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_limits_itself_by_a_key_of_its_payload() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, client) = dev(&folder, 4).await;
    let source = folder.path().join("module");
    std::fs::create_dir(&source).unwrap();
    std::fs::copy(guest::example("faults"), source.join("faults.wasm")).unwrap();
    let manifest = r#"
        [module]
        name = "shop"
        build = "true"
        artifact = "faults.wasm"
        [function.fail_after]
        concurrency = 1
        concurrency_key = "/message"
        max_attempts = 2
    "#;
    std::fs::write(source.join("tq.toml"), manifest).unwrap();
    dev.tq().deploy(Path::new(&source), "shop", &[]).await;
    let call = |customer: &str| NewTask {
        function: "shop/fail_after".to_owned(),
        payload: format!(r#"{{"message":"{customer}","after_ms":1}}"#).into(),
        ..NewTask::default()
    };
    let tasks = ["a", "a", "a", "b", "a", "b"].map(call);
    let submitted = client.submit(tasks.to_vec()).await.unwrap();
    let ids: Vec<_> = submitted.into_iter().map(|task| task.id).collect();
    let tasks = ended(&client, &ids).await;
    for customer in ["a", "b"] {
        let key = format!("shop/fail_after:{customer}");
        let of_key = |task: &&Task| task.concurrency.as_ref().is_some_and(|it| it.key == key);
        let of_key: Vec<_> = tasks.iter().filter(of_key).cloned().collect();
        assert!(!of_key.is_empty());
        assert_eq!(at_once(&of_key), 1, "{of_key:?}");
    }
    let lacking = dev.tq().run(["run", "shop/fail_after", "{}"]).await;
    assert_eq!(lacking.code, Some(4), "{}", lacking.stderr);
    assert!(
        lacking
            .stderr
            .contains("at `/message`, by which `shop/fail_after` limits concurrency"),
        "{}",
        lacking.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_tasks_go_in_the_order_of_their_queue_and_can_be_moved() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, client) = dev(&folder, 1).await;
    let one = |order| QueueSettings {
        order: Some(order),
        concurrency: Some(1),
        rate: None,
    };
    client
        .set_queue("steps", one(QueueOrder::Fifo))
        .await
        .unwrap();
    client
        .set_queue("ranks", one(QueueOrder::Priority))
        .await
        .unwrap();
    for (name, expected) in [("steps", [0, 1, 2, 3]), ("ranks", [3, 1, 2, 0])] {
        client.pause_queue(name).await.unwrap();
        let mut ids = Vec::new();
        for priority in ["100", "110", "110", "100"] {
            let flags = ["work/echo", "x", "--queue", name, "--priority", priority];
            ids.extend(submit(&dev, &flags).await);
        }
        let first = ["task", "update", &ids[3], "--priority", "120"];
        dev.tq().run(first).await.ok();
        client.resume_queue(name).await.unwrap();
        let tasks = ended(&client, &ids).await;
        let mut order: Vec<usize> = (0..4).collect();
        order.sort_by_key(|n| {
            (
                tasks[*n].attempts[0].ended_ms,
                tasks[*n].attempts[0].started_ms,
            )
        });
        // Of two that were settled in one millisecond nothing is known.
        let at = |n: usize| tasks[n].attempts[0].started_ms;
        assert!(
            expected.array_windows().all(|[a, b]| at(*a) <= at(*b)),
            "{name}: {order:?}, {tasks:?}"
        );
    }
    let refused = client.set_queue("steps", one(QueueOrder::Priority)).await;
    refused.expect("nothing of it is ready any more");
    let off = submit(&dev, &["work/echo", "x", "--delay", "1h"]).await;
    let now = ["task", "update", &off[0], "--delay", "0s"];
    dev.tq().run(now).await.ok();
    let tasks = ended(&client, &off).await;
    assert_eq!(tasks[0].state(), TaskState::Succeeded);
    let late = dev
        .tq()
        .run(["task", "update", &off[0], "--priority", "3"])
        .await;
    assert_eq!(late.code, Some(4));
    assert!(late.stderr.contains("has ended"), "{}", late.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_that_no_host_has_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, client) = dev(&folder, 2).await;
    let flags = [
        "work/echo",
        "x",
        "--require",
        "gpu=a100",
        "--priority",
        "255",
        "--count",
        "500",
    ];
    let unmet = submit(&dev, &flags).await;
    let same_key = [
        "work/sleep",
        "300",
        "--concurrency-key",
        "k",
        "--priority",
        "255",
        "--count",
        "50",
    ];
    submit(&dev, &same_key).await;
    for n in 0..20 {
        let ran = dev.tq().run(["run", "work/echo", &n.to_string()]).await;
        assert_eq!(ran.text(), n.to_string());
    }
    let shown = client.task(&unmet[0], false, false).await.unwrap();
    assert_eq!(shown.state(), TaskState::Ready);
    // Whoever takes the label away lets it go.
    let anywhere = ["task", "update", &unmet[0], "--require", "none"];
    dev.tq().run(anywhere).await.ok();
    let freed = eventually("it runs where it may", async || {
        let task = client.task(&unmet[0], false, false).await.ok()?;
        (task.state() == TaskState::Succeeded).then_some(task)
    });
    freed.await;
}
