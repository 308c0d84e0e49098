//! Following a task live: its log and its progress, over hosts and restarts of the broker.

use serde_json::Value;
use tempfile::TempDir;
use tq_client::Client;
use tq_tests::{Broker, Dev, Host, Tq, guest, within};

/// Submits a call of `faults/steps`, and returns the task's id.
async fn submit(tq: &Tq, payload: &str) -> String {
    let submitted = tq.run(["submit", "faults/steps", payload]).await;
    submitted.text().trim().to_owned()
}

/// Follows a task until it says that it is so far, in percent.
async fn until(client: &Client, id: &str, percent: f64) {
    let mut following = client.follow(id, false);
    let reached = async {
        while let Some(update) = following.next().await.expect("the broker is there") {
            if update
                .progress
                .is_some_and(|progress| progress.fraction * 100.0 >= percent)
            {
                return;
            }
        }
        panic!("the task ended before");
    };
    within("the task gets there", reached).await;
}

fn steps(steps: impl IntoIterator<Item = u32>) -> String {
    steps
        .into_iter()
        .map(|step| format!("step {step}\n"))
        .collect()
}

/// A broker, and a host that alone has the faults.
async fn nodes(folder: &TempDir) -> (Broker, Host) {
    let broker = Broker::start(&folder.path().join("broker")).await;
    let first = Host::start(&broker, &folder.path().join("first"), "first", 1).await;
    broker
        .tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    broker.holds("faults", &["first"]).await;
    (broker, first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_whose_host_is_killed_goes_on_at_its_checkpoint_and_is_followed_over_both() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, mut first) = nodes(&folder).await;
    let (tq, client) = (broker.tq(), broker.client().await);
    let id = submit(&tq, r#"{"count": 20, "step_ms": 20, "hold_at": 13}"#).await;
    let (logs, watch) = (["logs", "--follow", &id], ["task", "watch", &id]);
    let kill = async {
        until(&client, &id, 65.0).await;
        let second = Host::start(&broker, &folder.path().join("second"), "second", 1).await;
        first.process.kill9().await;
        second
    };
    let (followed, watched, second) = tokio::join!(tq.run(logs), tq.run(watch), kill);
    let task = tq
        .run(["task", "show", &id, "--output", "json"])
        .await
        .json();
    let resumed_after = task["result"]
        .as_str()
        .and_then(|result| result.parse().ok());
    let resumed_after: u32 = resumed_after.expect("a number");
    assert!((12..=13).contains(&resumed_after), "{task}");
    let notice =
        "[tq: attempt 1 ended as host_lost on host first: what it wrote last may be missing]\n";
    let log = steps(1..=13) + notice + &steps(resumed_after + 1..=20);
    assert_eq!(followed.text(), log);
    assert_eq!(tq.run(["logs", &id]).await.text(), log);
    let watched = watched.text();
    let of_log = watched.lines().filter(|line| line.starts_with(['s', '[']));
    let of_log =
        of_log.filter(|line| !line.starts_with("scheduled") && !line.starts_with("succeeded"));
    assert_eq!(of_log.collect::<Vec<_>>(), log.lines().collect::<Vec<_>>());
    for said in [
        "running: attempt 1 on host first\n",
        "progress: 65 % step 13 of 20\n",
        "attempt 1 on host first ended: host_lost",
        "running: attempt 2 on host second\n",
        "attempt 2 on host second ended: succeeded\n",
    ] {
        assert_eq!(watched.matches(said).count(), 1, "{said}: {watched}");
    }
    assert!(watched.ends_with("\nsucceeded\n"), "{watched}");
    second.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_that_restarts_loses_no_line_unsaid_and_doubles_none() {
    let folder = tempfile::tempdir().unwrap();
    let (mut broker, first) = nodes(&folder).await;
    let (tq, client) = (broker.tq(), broker.client().await);
    let id = submit(&tq, r#"{"count": 60, "step_ms": 20}"#).await;
    let words = ["logs", "-f", &id, "--output", "json"];
    let restart = async {
        until(&client, &id, 20.0).await;
        broker.kill9_and_restart().await;
    };
    let (followed, ()) = tokio::join!(tq.run(words), restart);
    let mut last = 0;
    let mut is_marked = false;
    for line in followed.text().lines() {
        let chunk: Value = serde_json::from_str(line).expect("a line is an object");
        let text = chunk["text"].as_str().expect("the log is text");
        if chunk["notice"] == true {
            is_marked = true;
            continue;
        }
        // The first line behind a gap may lack its beginning.
        let whole = text
            .lines()
            .skip(usize::from(is_marked && !text.starts_with("step")));
        for line in whole {
            let step: u32 = line.strip_prefix("step ").expect("a step").parse().unwrap();
            assert!(
                step == last + 1 || step > last && is_marked,
                "{step} follows {last}"
            );
            is_marked = false;
            last = step;
        }
    }
    assert_eq!(last, 60);
    first.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_followed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 1).await;
    let tq = dev.tq();
    let unknown = "01980c5e-0000-7000-8000-000000000000";
    for words in [&["logs", "-f", unknown][..], &["task", "watch", unknown]] {
        let ran = tq.run(words).await;
        assert_eq!(ran.code, Some(3), "{}", ran.line);
        assert!(ran.stderr.contains("has no task"), "{}", ran.stderr);
    }
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_ends_with_the_task_and_says_how() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 1).await;
    let tq = dev.tq();
    tq.deploy(&guest::example("faults"), "faults", &["--backoff", "1ms"])
        .await;
    let id = tq.run(["submit", "faults/flaky", "2"]).await.text();
    let watched = tq.run(["task", "watch", id.trim()]).await;
    assert!(
        watched
            .text()
            .ends_with("attempt 2 on host local ended: succeeded\nsucceeded\n"),
        "{}",
        watched.text()
    );
    let id = tq.run(["submit", "faults/fail_fatal", "no"]).await.text();
    let words = ["task", "watch", id.trim(), "--no-log", "--output", "json"];
    let watched = tq.run(words).await;
    assert_eq!(watched.code, Some(1), "{}", watched.stderr);
    let text = String::from_utf8_lossy(&watched.stdout);
    let last = text.lines().last().unwrap_or_default();
    let last: Value = serde_json::from_str(last).expect("a line is an object");
    assert_eq!(last["task"]["outcome"], "fatal_error", "{last}");
    dev.process.stop().await;
}
