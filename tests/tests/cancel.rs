//! Cancelling: one task or many, whatever they do, and at the moment in which they succeed.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tq_client::{Client, NewTask, Task, TaskState, Watch};
use tq_tests::{Dev, Random, eventually, guest, within};

async fn dev(flags: &[&str]) -> (Dev, TempDir) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start_with(&folder.path().join("data"), 4, flags).await;
    dev.tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    // Compiled before anything is cancelled.
    dev.tq().run(["run", "faults/echo", "x"]).await.ok();
    (dev, folder)
}

fn call(function: &str, payload: &str) -> NewTask {
    NewTask {
        function: function.to_owned(),
        payload: payload.to_owned().into(),
        ..NewTask::default()
    }
}

async fn submit(client: &Client, tasks: Vec<NewTask>) -> Vec<String> {
    let submitted = client.submit(tasks).await.expect("the tasks are taken");
    submitted.into_iter().map(|task| task.id).collect()
}

async fn count(client: &Client, state: TaskState) -> usize {
    let page = client.task_page(Some(state), 1_000, "").await;
    page.expect("the broker is there").tasks.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_matches_is_cancelled_and_nothing_else() {
    let (dev, _folder) = dev(&[]).await;
    let (tq, client) = (dev.tq(), dev.client().await);
    tq.run(["queue", "set", "imports"]).await.ok();
    let waiting = |count, queue: &str| {
        let task = NewTask {
            delay_ms: Some(3_600_000),
            queue: queue.to_owned(),
            ..call("faults/echo", "x")
        };
        vec![task; count]
    };
    for _ in 0..2 {
        submit(&client, waiting(750, "imports")).await;
    }
    submit(&client, waiting(3, "")).await;
    submit(&client, vec![call("faults/sleep", "29000"); 2]).await;
    eventually("two run", async || {
        (count(&client, TaskState::Running).await == 2).then_some(())
    })
    .await;
    let said = async |flags: &[&str]| {
        let words = ["task", "cancel"].into_iter().chain(flags.iter().copied());
        tq.run(words).await.text()
    };
    let dry = said(&["--queue", "imports", "--dry-run"]).await;
    assert_eq!(
        dry,
        "1,500 tasks would be cancelled, 0 would be told to stop\n"
    );
    assert_eq!(count(&client, TaskState::Cancelled).await, 0);
    let cancelled = said(&["--queue", "imports"]).await;
    assert_eq!(cancelled, "1,500 tasks cancelled, 0 told to stop\n");
    assert_eq!(count(&client, TaskState::Scheduled).await, 3);
    let other = said(&["--function", "faults/echo", "--state", "ready"]).await;
    assert_eq!(other, "0 tasks cancelled, 0 told to stop\n");
    let early = said(&["--submitted-before", "1h"]).await;
    assert_eq!(early, "0 tasks cancelled, 0 told to stop\n");
    let all = said(&["--all"]).await;
    assert_eq!(all, "3 tasks cancelled, 2 told to stop\n");
    eventually("all have ended", async || {
        (count(&client, TaskState::Running).await == 0).then_some(())
    })
    .await;
    for (flags, code, message) in [
        (&["--state", "dead"][..], 2, "invalid value 'dead'"),
        (&[], 2, "required arguments were not provided"),
        (&["--function", "faults@2"], 4, "names a version"),
    ] {
        let words = ["task", "cancel"].into_iter().chain(flags.iter().copied());
        let refused = tq.run(words).await;
        assert_eq!(refused.code, Some(code), "{}", refused.stderr);
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
    }
    dev.process.stop().await;
}

/// Cancels come at random around the moment in which their tasks succeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_that_races_a_success_leaves_one_end() {
    const TASKS: usize = 10_000;
    const AT_ONCE: usize = 100;
    let (dev, _folder) = dev(&[]).await;
    let client = dev.client().await;
    let seed = RandomState::new().hash_one(0);
    let mut random = Random::new(seed);
    let mut watching = client.watch_ends(Watch::All { after_seq: None }, false);
    within("the watch begins", watching.next())
        .await
        .expect("the broker is there");
    let mut ends: HashMap<String, TaskState> = HashMap::new();
    for _ in 0..TASKS / AT_ONCE {
        let ids = submit(&client, vec![call("faults/echo", "x"); AT_ONCE]).await;
        // The first ones have begun by now; how far the others get depends on how many are cancelled before them.
        let mut order = ids;
        order.sort_by_cached_key(|_| random.draw());
        let cancels = futures_util::stream::iter(order)
            .map(async |id| client.cancel_task(&id).await.is_ok())
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<bool>>();
        within("they are cancelled", cancels).await;
        let mut of_round = 0;
        while of_round < AT_ONCE {
            let ended = within("they end", watching.next()).await;
            let ended: Vec<Task> = ended.expect("the broker is there").unwrap_or_default();
            for task in ended {
                of_round += 1;
                let before = ends.insert(task.id.clone(), task.state());
                assert_eq!(before, None, "seed {seed}: {} ended twice", task.id);
            }
        }
    }
    let of = |state| ends.values().filter(|end| **end == state).count();
    let (succeeded, cancelled) = (of(TaskState::Succeeded), of(TaskState::Cancelled));
    assert_eq!(succeeded + cancelled, TASKS);
    assert!(
        succeeded > 0 && cancelled > 0,
        "seed {seed}: there was no race: {succeeded} succeeded, {cancelled} were cancelled"
    );
    // Nobody was told of anything else than what is kept.
    for (id, end) in ends.iter().take(200) {
        let task = client.task(id, false, false).await.expect("it is there");
        assert_eq!(task.state(), *end, "{id}");
    }
    dev.process.stop().await;
}

tq_tests::everywhere! {
    task_is_cancelled_whatever_it_does
}

async fn task_is_cancelled_whatever_it_does(isolation: &str) {
    // Takes connections, as far as the system does that by itself, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await;
    let silent = silent.expect("a port can be had");
    let to = silent.local_addr().expect("it is bound");
    let flags = ["--allow-network", "127.0.0.1/32", "--isolation", isolation];
    let (dev, folder) = dev(&flags).await;
    let (tq, client) = (dev.tq(), dev.client().await);
    for name in ["faults", "fetch"] {
        let grants = format!("[capabilities]\nhttp = [\"http://{to}\"]\ntcp = [\"{to}\"]\n");
        let place = guest::placed(folder.path(), name, &grants);
        tq.run(["deploy", &place]).await.ok();
    }
    let url = format!("{{\"url\": \"http://{to}/\"}}");
    let to = to.to_string();
    for (function, payload) in [
        ("faults/spin", ""),
        ("faults/sleep", "29000"),
        ("faults/tcp_read", &*to),
        ("fetch", &*url),
    ] {
        let ids = submit(&client, vec![call(function, payload)]).await;
        let id = &ids[0];
        eventually("the task runs", async || {
            let task = client.task(id, false, false).await.expect("it is there");
            (task.state() == TaskState::Running).then_some(())
        })
        .await;
        tq.run(["task", "cancel", id]).await.ok();
        let watched = tq.run(["task", "watch", id]).await;
        assert_eq!(watched.code, Some(1), "{function}: {}", watched.stderr);
        let task = client.task(id, false, false).await.expect("it is there");
        assert_eq!(task.state(), TaskState::Cancelled, "{function}: {task:?}");
        assert_eq!(
            task.attempts[0].outcome, "cancelled",
            "{function}: {task:?}"
        );
        // It did not end by itself, which takes any of them half a minute.
        let usage = task.attempts[0].usage.expect("it ran");
        assert!(usage.wall_ns < 20_000_000_000, "{function}: {usage:?}");
    }
    dev.process.stop().await;
}
