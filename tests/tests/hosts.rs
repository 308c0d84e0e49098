//! What operators do to hosts: nothing is lost by it, and nothing is run twice without need.

use tempfile::TempDir;
use tq_client::{Client, HostState, Task, TaskState, Watch};
use tq_tests::{Broker, Host, eventually, guest, within};

/// A broker, and where it is.
async fn broker() -> (TempDir, Broker, Client) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = Broker::start(&folder.path().join("broker")).await;
    let client = broker.client().await;
    (folder, broker, client)
}

async fn host(folder: &TempDir, broker: &Broker, name: &str, slots: u32) -> Host {
    Host::start(broker, &folder.path().join(name), name, slots).await
}

/// Deploys the example that sleeps, which hosts that are there compile.
async fn deploy(broker: &Broker, hosts: &[&str]) {
    let faults = guest::example("faults");
    broker.tq().deploy(&faults, "faults", &[]).await;
    broker.holds("faults", hosts).await;
}

async fn submit(broker: &Broker, milliseconds: &str, count: usize) -> Vec<String> {
    let count = count.to_string();
    let words = ["submit", "faults/sleep", milliseconds, "--count", &count];
    let submitted = broker.tq().run(words).await.text();
    submitted.lines().map(str::to_owned).collect()
}

async fn ended(client: &Client, ids: &[String]) -> Vec<Task> {
    let mut watching = client.watch(Watch::Ids(ids.to_vec()), true);
    let mut ended = Vec::new();
    while let Some(tasks) = within("the tasks end", watching.next())
        .await
        .expect("the broker is there")
    {
        ended.extend(tasks);
    }
    ended
}

/// Waits until a host has so many attempts.
async fn runs(client: &Client, name: &str, at_least: u32) {
    eventually("the host has attempts", async || {
        let host = client.host(name).await.expect("the host is known");
        (host.running >= at_least).then_some(())
    })
    .await;
}

/// Waits until a host has so many attempts, of which its slots have begun what they can: its runner process has the module.
async fn begins(client: &Client, host: &Host, name: &str, at_least: u32) {
    runs(client, name, at_least).await;
    eventually("the runner process has begun", async || {
        (!host.runners("default").is_empty()).then_some(())
    })
    .await;
}

/// Checks that a task has succeeded, that it was run once, and that nothing counted against it. Returns whether it was
/// handed back before that, by a host that had not begun it.
#[track_caller]
fn ran_once(task: &Task) -> bool {
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    assert_eq!(task.losses, 0, "{task:?}");
    let (last, before) = task.attempts.split_last().expect("it was run");
    assert_eq!(last.outcome, "succeeded", "{task:?}");
    for attempt in before {
        assert_eq!(attempt.outcome, "host_drained", "{task:?}");
        let usage = attempt.usage.as_ref().expect("usage is told");
        assert_eq!(
            (usage.wall_ns, usage.fuel),
            (0, 0),
            "it had not begun: {task:?}"
        );
    }
    !before.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_under_load_loses_nothing_and_runs_nothing_twice() {
    let (folder, broker, client) = broker().await;
    let first = host(&folder, &broker, "first", 4).await;
    let second = host(&folder, &broker, "second", 4).await;
    deploy(&broker, &["first", "second"]).await;
    // Until the first ones have ended, a host takes as many again as it has slots.
    let ids = submit(&broker, "1500", 30).await;
    begins(&client, &first, "first", 8).await;
    let drained = broker
        .tq()
        .run([
            "host",
            "drain",
            "first",
            "--deadline",
            "30s",
            "--output",
            "json",
        ])
        .await;
    drained.ok();
    assert!(
        drained.stderr.contains("draining host `first`: "),
        "{}",
        drained.stderr
    );
    let shown = drained.json();
    assert_eq!(
        (&shown["state"], &shown["running"]),
        (&"drained".into(), &0.into())
    );
    let tasks = ended(&client, &ids).await;
    assert_eq!(tasks.len(), ids.len());
    let handed_back = tasks.iter().filter(|task| ran_once(task)).count();
    assert!(
        handed_back > 0,
        "what waited on the host went to the other one at once"
    );
    let of = |name: &str| {
        let last = tasks.iter().filter_map(|task| task.attempts.last());
        last.filter(|attempt| attempt.host == name).count()
    };
    assert!(of("first") > 0 && of("second") > 0);
    // It gets nothing more, over a restart of either side, until it is resumed.
    let mut broker = broker;
    broker.kill9_and_restart().await;
    second.process.stop().await;
    eventually("the drained host is back", async || {
        let host = client.host("first").await.ok()?;
        (host.connected && host.state() == HostState::Drained).then_some(())
    })
    .await;
    let waits = submit(&broker, "1", 1).await;
    let task = client
        .task(&waits[0], false, false)
        .await
        .expect("it is there");
    assert_eq!(task.state(), TaskState::Ready);
    broker.tq().run(["host", "resume", "first"]).await.ok();
    assert!(!ran_once(&ended(&client, &waits).await[0]));
    first.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_at_the_deadline_of_a_drain_is_stopped_and_run_elsewhere() {
    let (folder, broker, client) = broker().await;
    let first = host(&folder, &broker, "first", 2).await;
    deploy(&broker, &["first"]).await;
    let ids = submit(&broker, "8000", 2).await;
    runs(&client, "first", 2).await;
    let second = host(&folder, &broker, "second", 2).await;
    let drain = ["host", "drain", "first", "--deadline", "300ms"];
    let drained = broker.tq().run(drain).await.text();
    assert!(drained.contains("drained"), "{drained}");
    for task in ended(&client, &ids).await {
        let history: Vec<_> = task
            .attempts
            .iter()
            .map(|attempt| (attempt.host.as_str(), attempt.outcome.as_str()))
            .collect();
        assert_eq!(
            history,
            [("first", "host_drained"), ("second", "succeeded")],
            "{task:?}"
        );
        assert_eq!(task.losses, 0, "{task:?}");
    }
    // The host has stopped what was taken from it, and ends at once.
    first.process.stop().await;
    second.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_that_is_told_to_end_hands_back_what_it_has_not_begun() {
    let (folder, broker, client) = broker().await;
    let first = host(&folder, &broker, "first", 2).await;
    deploy(&broker, &["first"]).await;
    let ids = submit(&broker, "3000", 4).await;
    begins(&client, &first, "first", 4).await;
    first.process.stop().await;
    let second = host(&folder, &broker, "second", 4).await;
    let tasks = ended(&client, &ids).await;
    let handed_back = tasks.iter().filter(|task| ran_once(task)).count();
    assert_eq!(handed_back, 2, "two ran and two waited: {tasks:?}");
    second.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_shown_paused_resumed_and_removed() {
    let (folder, mut broker, client) = broker().await;
    let flags = [
        "--label", "gpu=a100", "--label", "zone=eu", "--memory", "8GiB",
    ];
    let place = folder.path().join("first");
    let mut first = Host::start_with(&broker, &place, "first", 2, &flags).await;
    deploy(&broker, &["first"]).await;
    let tq = broker.tq();
    let shown = tq
        .run(["host", "show", "first", "--output", "json"])
        .await
        .json();
    assert_eq!(shown["labels"]["gpu"], "a100");
    assert_eq!(
        (&shown["state"], &shown["reason"]),
        (&"connected".into(), &().into())
    );
    assert_eq!(shown["memory_bytes"], 8_u64 << 30);
    let listed = tq.run(["host", "list"]).await.text();
    assert!(
        listed.contains("gpu=a100,zone=eu") && listed.contains("of 8 GiB"),
        "{listed}"
    );

    tq.run(["host", "pause", "first"]).await.ok();
    broker.kill9_and_restart().await;
    let ids = submit(&broker, "1", 1).await;
    eventually("the host is back", async || {
        client.host("first").await.ok()?.connected.then_some(())
    })
    .await;
    let paused = tq.run(["host", "show", "first"]).await.text();
    assert!(
        paused.contains("paused") && paused.contains("`tq host resume`"),
        "{paused}"
    );
    let waits = client
        .task(&ids[0], false, false)
        .await
        .expect("it is there");
    assert_eq!(waits.state(), TaskState::Ready);
    tq.run(["host", "resume", "first"]).await.ok();
    assert!(!ran_once(&ended(&client, &ids).await[0]));

    let removed = tq.run(["host", "remove", "first"]).await.text();
    assert!(removed.contains("host `first` is removed"), "{removed}");
    let status = first.process.end().await;
    assert_eq!(status.code(), Some(1), "{}", first.process.log());
    assert!(
        first.process.log().contains("`tq host remove`"),
        "{}",
        first.process.log()
    );
    for verb in ["show", "pause", "resume", "drain", "remove"] {
        let refused = tq.run(["host", verb, "first"]).await;
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(
            refused
                .stderr
                .contains("there is no host `first`\nhint: `tq host list`"),
            "{refused:?}"
        );
    }
    // Its name is free.
    let again = host(&folder, &broker, "first", 1).await;
    assert!(
        client
            .host("first")
            .await
            .expect("it is there")
            .labels
            .is_empty()
    );
    let drained = tq.run(["host", "drain", "first"]).await;
    drained.ok();
    let refused = tq.run(["host", "pause", "first"]).await;
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(
        refused.stderr.contains("hint: `tq host resume`"),
        "{refused:?}"
    );
    again.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_cannot_have_is_refused() {
    let tq = tq_tests::Tq::default();
    for (words, expected) in [
        ("host --label gpu", "label `gpu` has no value"),
        ("host --label a=b --label a=c", "label `a` is given twice"),
        (
            "host --memory 1KiB",
            "memory of a host is 1024 bytes; it may be 65536 to",
        ),
        (
            "host drain a --deadline 25h",
            "deadline of a drain is 90000000 ms; it may be 0 to 86400000 ms",
        ),
    ] {
        let (_folder, broker) = match words.contains("drain") {
            true => {
                let (folder, broker, _) = broker().await;
                (Some(folder), Some(broker))
            }
            false => (None, None),
        };
        let tq = broker.as_ref().map_or_else(|| tq.clone(), Broker::tq);
        let refused = tq.run(words.split(' ')).await;
        assert_ne!(refused.code, Some(0), "{words}");
        assert!(
            refused.stderr.contains(expected),
            "{words}: {}",
            refused.stderr
        );
    }
}
