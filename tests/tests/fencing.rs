//! A host that dies or hangs loses its work to another; what it says afterwards changes nothing.

use tempfile::TempDir;
use tq_client::{Client, HostState, Task, TaskState, Watch};
use tq_tests::{Broker, Host, eventually, guest, metrics, within};

struct Setting {
    folder: TempDir,
    broker: Broker,
    client: Client,
    /// The host that the tasks start on.
    first: Host,
}

/// A broker, and a first host that alone has `count` sleeping tasks running.
async fn running_on_first(count: usize, milliseconds: &str) -> (Setting, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = Broker::start(&folder.path().join("broker")).await;
    let slots = u32::try_from(count).expect("a few");
    let first = Host::start(&broker, &folder.path().join("first"), "first", slots).await;
    broker
        .tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    let submitted = broker
        .tq()
        .run([
            "submit",
            "faults/sleep",
            milliseconds,
            "--count",
            &count.to_string(),
        ])
        .await
        .text();
    let ids: Vec<String> = submitted.lines().map(str::to_owned).collect();
    let client = broker.client().await;
    eventually("all tasks run on the first host", async || {
        let running = client
            .task_page(Some(TaskState::Running), 100, "")
            .await
            .expect("the broker is there")
            .tasks;
        (running.len() == count && running.iter().all(|task| task.attempts[0].host == "first"))
            .then_some(())
    })
    .await;
    (
        Setting {
            folder,
            broker,
            client,
            first,
        },
        ids,
    )
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

/// Each attempt's host and outcome.
fn history(task: &Task) -> Vec<(&str, &str)> {
    task.attempts
        .iter()
        .map(|attempt| (attempt.host.as_str(), attempt.outcome.as_str()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_hosts_work_is_finished_by_another() {
    let (mut setting, ids) = running_on_first(3, "4000").await;
    let second = Host::start(
        &setting.broker,
        &setting.folder.path().join("second"),
        "second",
        3,
    )
    .await;
    setting.first.process.kill9().await;
    let tasks = ended(&setting.client, &ids).await;
    assert_eq!(tasks.len(), 3);
    for task in tasks {
        assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
        assert_eq!(
            history(&task),
            [("first", "host_lost"), ("second", "succeeded")],
            "{task:?}"
        );
        assert_eq!(
            (task.losses, task.result.as_deref()),
            (1, Some(b"4000".as_slice())),
            "{task:?}"
        );
    }
    second.process.stop().await;
    setting.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_that_comes_back_at_once_has_its_work_again_without_a_wait() {
    let (mut setting, ids) = running_on_first(2, "1000").await;
    setting.first.kill9_and_restart().await;
    let tasks = ended(&setting.client, &ids).await;
    for task in tasks {
        assert_eq!(
            history(&task),
            [("first", "host_lost"), ("first", "succeeded")],
            "{task:?}"
        );
        // The new incarnation ends the leases of the old one: nobody waits ten seconds for them to run out.
        let gap = task.attempts[1].started_ms - task.attempts[0].started_ms;
        assert!(gap < 9_000, "{task:?}");
    }
    setting.first.process.stop().await;
    setting.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_outcomes_of_a_host_that_hung_are_fenced() {
    let (setting, ids) = running_on_first(2, "3000").await;
    let url = setting.broker.url().to_owned();
    let second = Host::start(
        &setting.broker,
        &setting.folder.path().join("second"),
        "second",
        2,
    )
    .await;
    assert!(metrics::sample(&url, "tq_attempts_fenced_total").await < 1.0);
    setting.first.process.sigstop();
    let before = ended(&setting.client, &ids).await;
    for task in &before {
        assert_eq!(
            history(task),
            [("first", "host_lost"), ("second", "succeeded")],
            "{task:?}"
        );
    }

    setting.first.process.sigcont();
    // Its guests wake, find their time long over, and their outcomes reach the broker.
    eventually("both late outcomes are fenced", async || {
        (metrics::sample(&url, "tq_attempts_fenced_total").await >= 2.0).then_some(())
    })
    .await;
    for task in before {
        let after = setting
            .client
            .task(&task.id, true, false)
            .await
            .expect("it is there");
        assert_eq!(after, task);
    }
    eventually("the first host is back", async || {
        let hosts = setting.client.hosts().await.expect("the broker is there");
        hosts
            .iter()
            .any(|host| {
                host.name == "first" && host.state() == HostState::Connected && host.running == 0
            })
            .then_some(())
    })
    .await;
    // It is of use again: alone, it runs what comes.
    second.process.stop().await;
    let greeting = setting
        .broker
        .tq()
        .run(["run", "faults/echo", "back"])
        .await;
    assert_eq!(greeting.text(), "back");
    setting.first.process.stop().await;
    setting.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_host_of_one_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(&folder.path().join("broker")).await;
    let first = Host::start(&broker, &folder.path().join("first"), "same", 1).await;
    let mut second = Host::launch(&broker, &folder.path().join("second"), "same", 1);
    second
        .process
        .line("a host named `same` is connected already; give this one another name")
        .await;
    // It takes the place of the first one when that has gone.
    first.process.stop().await;
    second.process.line("is ready to work").await;
    second.process.stop().await;
    broker.process.stop().await;
}
