//! Runner processes: what one of them may do, and what its end costs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tq_client::{Client, Task, TaskState};
use tq_tests::{Broker, Host, Subprocess, binary, eventually, guest, within};

/// A broker, one host, and the example that sleeps in each of these namespaces.
async fn nodes(slots: u32, namespaces: &[&str]) -> (TempDir, Broker, Host) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = Broker::start(&folder.path().join("broker")).await;
    let host = Host::start(&broker, &folder.path().join("host"), "only", slots).await;
    for namespace in namespaces {
        let flags = ["--namespace", namespace];
        let faults = guest::example("faults");
        broker.tq().deploy(&faults, "faults", &flags).await;
        let client = broker.client().await.with_namespace(namespace);
        eventually("the module is compiled", async || {
            let module = client.module("faults").await.expect("it is deployed");
            (!module.ready_on.is_empty()).then_some(())
        })
        .await;
    }
    (folder, broker, host)
}

async fn submit(broker: &Broker, namespace: &str, milliseconds: &str, count: usize) -> Vec<String> {
    let count = count.to_string();
    let words = [
        "submit",
        "--namespace",
        namespace,
        "faults/sleep",
        milliseconds,
        "--count",
        &count,
    ];
    let submitted = broker.tq().run(words).await.text();
    submitted.lines().map(str::to_owned).collect()
}

async fn task(client: &Client, id: &str) -> Task {
    let task = client.task(id, false, false).await;
    task.expect("the task is known")
}

async fn ended(client: &Client, id: &str) -> Task {
    eventually("the task ends", async || {
        let task = task(client, id).await;
        (task.ended_ms > 0).then_some(task)
    })
    .await
}

/// Waits until the newest attempt of a task, its `number`th, runs.
async fn runs(client: &Client, id: &str, number: usize) {
    eventually("the attempt runs", async || {
        let task = task(client, id).await;
        (task.state() == TaskState::Running && task.attempts.len() == number).then_some(())
    })
    .await;
}

/// Waits for a runner process of the namespace that is none of these.
async fn another(host: &Host, namespace: &str, than: &[Subprocess]) -> Subprocess {
    eventually("a runner process of the namespace runs", async || {
        let runners = host.runners(namespace);
        runners.into_iter().find(|runner| !than.contains(runner))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_that_crashes_its_runner_alone_dies_and_harms_nobody() {
    let (_folder, broker, host) = nodes(4, &["evil", "good"]).await;
    let pid = host.process.pid();
    let evil = broker.client().await.with_namespace("evil");
    let good = broker.client().await.with_namespace("good");
    let crasher = &submit(&broker, "evil", "600000", 1).await[0];
    let beside = submit(&broker, "evil", "1500", 2).await;
    let other = &submit(&broker, "good", "3000", 1).await[0];
    for id in [crasher, &beside[0], &beside[1]] {
        runs(&evil, id, 1).await;
    }
    runs(&good, other, 1).await;

    // The first time it crashes with what runs beside it, and from then on alone.
    let mut seen = vec![another(&host, "evil", &[]).await];
    seen[0].kill9();
    for strike in 1..=3 {
        runs(&evil, crasher, strike + 1).await;
        // Those that ran beside it are suspects as well, each in a process of its own, until they have succeeded.
        for id in &beside {
            let task = ended(&evil, id).await;
            assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
            assert_eq!(task.attempts[0].outcome, "runner_crashed", "{task:?}");
        }
        let alone = eventually("nothing but the crasher runs", async || {
            let mut runners = host.runners("evil");
            runners.retain(|runner| !seen.contains(runner) && !runner.is_gone());
            match &runners[..] {
                [only] => Some(only.clone()),
                _ => None,
            }
        })
        .await;
        alone.kill9();
        seen.push(alone);
    }
    let dead = ended(&evil, crasher).await;
    assert_eq!(dead.state(), TaskState::Dead, "{dead:?}");
    assert_eq!(dead.outcome, "runner_crashed", "{dead:?}");
    assert_eq!(dead.attempts.len(), 4, "{dead:?}");
    let failure = dead.attempts[3].failure.as_ref().expect("it is told");
    assert!(failure.message.contains("SIGKILL"), "{failure:?}");
    let shown = broker
        .tq()
        .run(["task", "show", "--namespace", "evil", crasher])
        .await;
    let shown = shown.text();
    assert!(shown.contains("crashed its runner alone"), "{shown}");

    // Who ran in another process noticed nothing, and the host is the same.
    let other = ended(&good, other).await;
    assert_eq!(other.attempts.len(), 1, "{other:?}");
    assert_eq!(other.state(), TaskState::Succeeded, "{other:?}");
    assert_eq!(host.process.pid(), pid);
    let after = &submit(&broker, "evil", "1", 1).await[0];
    assert_eq!(ended(&evil, after).await.state(), TaskState::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crashed_runner_had_not_begun_is_run_by_another_and_not_suspected() {
    let (_folder, broker, host) = nodes(1, &["one"]).await;
    let client = broker.client().await.with_namespace("one");
    let first = &submit(&broker, "one", "2000", 1).await[0];
    runs(&client, first, 1).await;
    // Sent ahead, as far as the host takes more than it has slots for.
    let waiting = submit(&broker, "one", "1", 3).await;
    eventually("the host holds what waits", async || {
        let held = client.host("only").await.expect("it is known").running;
        (held > 1).then_some(())
    })
    .await;
    another(&host, "one", &[]).await.kill9();
    let first = ended(&client, first).await;
    assert_eq!(first.attempts[0].outcome, "runner_crashed", "{first:?}");
    for id in &waiting {
        let task = ended(&client, id).await;
        assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
        assert_eq!(task.attempts.len(), 1, "{task:?}");
        assert_eq!(task.losses, 0, "{task:?}");
    }
}

/// A host in this process, whose runners are replaced after three attempts and ended when idle for a moment.
async fn brief(folder: &TempDir, broker: &Broker) -> tq_host::Host {
    let mut config = tq_host::Config::new(broker.url(), "brief", 1, folder.path().join("brief"));
    config.compiler.program = binary();
    config.isolation = tq_host::Isolation::Processes(tq_host::processes::Program {
        program: binary(),
        attempts: 3,
        age_min: Duration::ZERO,
        idle: Duration::from_millis(100),
        ..tq_host::processes::Program::default()
    });
    let host = tq_host::Host::start(config).await;
    let host = host.unwrap_or_else(|error| panic!("{error}"));
    within("the host is welcomed", host.ready()).await;
    host
}

/// A metric without labels.
fn metric(host: &tq_host::Host, name: &str) -> u64 {
    let text = host.metrics();
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(found, _)| *found == name);
    let (_, value) = found.expect("the metric is there");
    value.parse().expect("it is a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_are_replaced_after_their_attempts_and_end_when_idle() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = Broker::start(&folder.path().join("broker")).await;
    let host = brief(&folder, &broker).await;
    let faults = guest::example("faults");
    broker.tq().deploy(&faults, "faults", &[]).await;
    broker.holds("faults", &["brief"]).await;
    // One has waited since the start, and another one tried the module out and is gone.
    assert_eq!(metric(&host, "tq_runners_started_total"), 1);
    let client = broker.client().await;
    for id in &submit(&broker, "default", "1", 7).await {
        assert_eq!(ended(&client, id).await.state(), TaskState::Succeeded);
    }
    // Three for seven attempts, and the next one.
    assert_eq!(metric(&host, "tq_runners_started_total"), 4);
    eventually("only the one that waits is left", async || {
        (metric(&host, "tq_runners") == 1).then_some(())
    })
    .await;
    assert_eq!(metric(&host, "tq_runner_crashes_total"), 0);
    // It is used the next time.
    let again = &submit(&broker, "default", "1", 1).await[0];
    assert_eq!(ended(&client, again).await.state(), TaskState::Succeeded);
    assert_eq!(metric(&host, "tq_runners_started_total"), 5);
    within("the host ends", host.shutdown()).await;
}

/// What a process says of itself in `/proc/PID/status`.
fn status(runner: &Subprocess) -> BTreeMap<String, String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", runner.pid));
    let status = status.expect("the process is there");
    let fields = status.lines().filter_map(|line| line.split_once(':'));
    fields
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// What a process has open; nothing unless root asks, since it cannot be inspected.
fn open_files(runner: &Subprocess) -> Option<Vec<String>> {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", runner.pid)).ok()?;
    let target = |path: &Path| std::fs::read_link(path).ok();
    let targets = folder.filter_map(|entry| target(&entry.ok()?.path()));
    Some(targets.map(|target| target.display().to_string()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runner_has_three_pipes_and_no_sockets_and_is_confined_for_good() {
    let (_folder, broker, host) = nodes(1, &["one"]).await;
    let client = broker.client().await.with_namespace("one");
    let id = &submit(&broker, "one", "600000", 1).await[0];
    runs(&client, id, 1).await;
    let runner = another(&host, "one", &[]).await;
    let status = status(&runner);
    // A filter of system calls, which none can be taken from: what it kills is in host/tests/confine.rs.
    assert_eq!(status["Seccomp"], "2");
    assert_eq!(status["Seccomp_filters"], "3");
    assert_eq!(status["NoNewPrivs"], "1");
    if let Some(open) = open_files(&runner) {
        let count = |prefix: &str| open.iter().filter(|file| file.starts_with(prefix)).count();
        // Of its own: the note of what runs, and images of memories; and the engine's view of its own pages.
        let (memory, pages) = (
            count("/memfd:"),
            count(&format!("/proc/{}/pagemap", runner.pid)),
        );
        assert_eq!(count("socket:"), 0, "{open:?}");
        assert_eq!(count("pipe:"), open.len() - memory - pages, "{open:?}");
        assert!(pages <= 1, "{open:?}");
    }
    let environment = std::fs::read(format!("/proc/{}/environ", runner.pid));
    if let Ok(environment) = environment {
        assert!(environment.is_empty(), "{environment:?}");
    }
    let cancelled = client.cancel_task(id).await;
    cancelled.expect("it can be cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_end_with_their_host_however_it_ends() {
    let (_folder, broker, mut host) = nodes(2, &["one", "two"]).await;
    for namespace in ["one", "two"] {
        let client = broker.client().await.with_namespace(namespace);
        let id = &submit(&broker, namespace, "600000", 1).await[0];
        runs(&client, id, 1).await;
        another(&host, namespace, &[]).await;
    }
    let children = host.process.children();
    // Those of the namespaces, and the one that waits to be used.
    assert_eq!(children.len(), 3, "{children:?}");
    host.process.kill9().await;
    eventually("the runner processes are gone", async || {
        children.iter().all(Subprocess::is_gone).then_some(())
    })
    .await;
}
