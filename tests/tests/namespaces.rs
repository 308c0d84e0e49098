//! A namespace sees only its own: to each other, two of them are as two brokers.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use tq_client::{Client, Component, Error, NewTask, Submitted, Task, TaskState, Upload, Watch};
use tq_tests::{Dev, guest, within};

/// A broker with a host, and a client for each of two namespaces.
async fn two_namespaces(folder: &tempfile::TempDir) -> (Dev, Client, Client) {
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let client = dev.client().await;
    let ours = client.clone().with_namespace("ours");
    (dev, ours, client.with_namespace("theirs"))
}

async fn deploy(client: &Client, example: &str, name: &str) {
    let component = Component::read(&guest::example(example)).expect("it was built");
    let upload = Upload {
        name: name.to_owned(),
        ..Upload::default()
    };
    client
        .upload_module(component, upload, |_| {})
        .await
        .expect("the component is sound");
}

fn call(function: &str, payload: &str) -> NewTask {
    NewTask {
        function: function.to_owned(),
        payload: payload.to_owned().into(),
        ..NewTask::default()
    }
}

async fn submit(client: &Client, task: NewTask) -> Result<Submitted, Error> {
    Ok(client.submit(vec![task]).await?.remove(0))
}

/// Submits a task and waits for its end.
async fn run(client: &Client, task: NewTask) -> Task {
    let id = submit(client, task).await.expect("it is sound").id;
    let mut watching = client.watch(Watch::Ids(vec![id]), true);
    loop {
        let ended = within("the task ends", watching.next()).await;
        let ended = ended.expect("the broker serves");
        if let Some(task) = ended.expect("it has not ended before").pop() {
            return task;
        }
    }
}

#[track_caller]
fn check_not_found<T>(answer: Result<T, Error>, expected: &str) {
    match answer.map(drop) {
        Err(Error::NotFound { message, .. }) => {
            assert!(message.contains(expected), "{message}");
        }
        other => panic!("expected that it is not found, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_another_namespace_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, ours, theirs) = two_namespaces(&folder).await;
    deploy(&ours, "faults", "work").await;
    deploy(&theirs, "faults", "work").await;
    let succeeded = run(&ours, call("work/log", "our secret")).await;
    let dead = run(&ours, call("work/fail_fatal", "our secret")).await;
    let delayed = NewTask {
        delay_ms: Some(3_600_000),
        ..call("work/echo", "our secret")
    };
    let waiting = submit(&ours, delayed).await.unwrap().id;
    let our_states = [
        (succeeded.id.as_str(), TaskState::Succeeded),
        (dead.id.as_str(), TaskState::Dead),
        (waiting.as_str(), TaskState::Scheduled),
    ];
    // Of one that was never used there is not even a number.
    let unused = ours.clone().with_namespace("unused");

    for stranger in [&theirs, &unused] {
        for (id, _) in our_states {
            let expected = format!("namespace `{}` has no task {id}", stranger.namespace());
            check_not_found(stranger.task(id, true, true).await, &expected);
            check_not_found(stranger.cancel_task(id).await, &expected);
            check_not_found(stranger.redrive_task(id).await, &expected);
            check_not_found(stranger.task_logs(id).await, &expected);
            let mut watching = stranger.watch(Watch::Ids(vec![id.to_owned()]), true);
            let answer = within("a watch is refused", watching.next()).await;
            check_not_found(answer, &expected);
        }
        // Nor does a cursor of ours lead there.
        let page = ours.task_page(None, 1, "").await.unwrap();
        assert!(!page.next.is_empty(), "there are more");
        let page = stranger.task_page(None, 10, &page.next).await.unwrap();
        assert_eq!((page.tasks.len(), page.next.as_str()), (0, ""));
        let page = stranger.task_page(None, 10, "").await.unwrap();
        assert_eq!((page.tasks.len(), page.next.as_str()), (0, ""));
    }
    let shown = dev
        .tq()
        .run(["task", "show", &waiting, "--namespace", "theirs"])
        .await;
    assert_eq!(shown.code, Some(3), "{}", shown.stderr);

    // Every end since the broker started, up to one of their own.
    let mut watching = theirs.watch(Watch::All { after_seq: Some(0) }, true);
    let their_task = run(&theirs, call("work/echo", "theirs")).await.id;
    let told = within("their task is told", async {
        let mut told = BTreeSet::new();
        while !told.contains(&their_task) {
            let ended = watching.next().await.unwrap();
            told.extend(ended.expect("it goes on").into_iter().map(|task| task.id));
        }
        told
    });
    assert_eq!(told.await, BTreeSet::from([their_task.clone()]));
    let listed = theirs.task_page(None, 10, "").await.unwrap().tasks;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, their_task);

    // Nothing of ours was touched, and we do see it.
    for (id, state) in our_states {
        let task = ours.task(id, false, true).await.unwrap();
        assert_eq!(task.state(), state, "{id}");
        assert_eq!(task.payload.as_deref(), Some(&b"our secret"[..]), "{id}");
    }
    let logs = ours.task_logs(&succeeded.id).await.unwrap();
    let logged: Vec<u8> = logs
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .flat_map(|chunk| chunk.expect("the broker serves").text)
        .collect();
    assert!(String::from_utf8_lossy(&logged).contains("our secret"));
    assert_eq!(ours.cancel_task(&waiting).await.unwrap().id, waiting);
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_idempotency_key_in_two_namespaces_is_two_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, ours, theirs) = two_namespaces(&folder).await;
    deploy(&ours, "faults", "work").await;
    deploy(&theirs, "faults", "work").await;
    let keyed = |payload: &str| NewTask {
        idempotency_key: "key".to_owned(),
        ..call("work/echo", payload)
    };
    let our_task = submit(&ours, keyed("a")).await.unwrap();
    // Another request under the key, which would be a conflict in one namespace.
    let their_task = submit(&theirs, keyed("b")).await.unwrap();
    assert!(!our_task.existed && !their_task.existed);
    assert_ne!(our_task.id, their_task.id);
    for (client, payload, first) in [(&ours, "a", our_task), (&theirs, "b", their_task)] {
        let again = submit(client, keyed(payload)).await.unwrap();
        assert_eq!((again.id, again.existed), (first.id, true));
    }
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_of_one_name_are_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (dev, ours, theirs) = two_namespaces(&folder).await;
    deploy(&ours, "word-count", "work").await;
    deploy(&ours, "faults", "work").await;
    deploy(&ours, "faults", "only-ours").await;
    deploy(&theirs, "word-count", "work").await;
    let listed = async |client: &Client| -> Vec<(String, u32, usize)> {
        let modules = client.modules().await.unwrap();
        let row = |module: tq_client::Module| (module.name, module.version, module.versions.len());
        modules.into_iter().map(row).collect()
    };
    let our_work = |version| ("work".to_owned(), version, 2);
    let only_ours = ("only-ours".to_owned(), 1, 1);
    let their_work = vec![("work".to_owned(), 1, 1)];
    assert_eq!(listed(&ours).await, [only_ours.clone(), our_work(2)]);
    assert_eq!(listed(&theirs).await, their_work);
    let digest = async |client: &Client| client.module("work").await.unwrap().digest;
    assert_ne!(digest(&ours).await, digest(&theirs).await);

    let no_module = "namespace `theirs` has no module `only-ours`";
    check_not_found(theirs.module("only-ours").await, no_module);
    check_not_found(theirs.module("work@2").await, "has no version 2; it has 1");
    check_not_found(theirs.rollback_module("only-ours", 0).await, no_module);
    check_not_found(
        theirs.rollback_module("work", 2).await,
        "has no version 2; it has 1",
    );
    check_not_found(
        submit(&theirs, call("only-ours/echo", "x")).await,
        no_module,
    );
    // The name is one of theirs, the function of our module under it.
    check_not_found(
        submit(&theirs, call("work/echo", "x")).await,
        "module `work` has no function `echo`",
    );
    let echoed = run(&ours, call("work/echo", "x")).await;
    assert_eq!(echoed.result.as_deref(), Some(&b"x"[..]));

    // Our rollback is not theirs; both now have the same component, each as its own version.
    assert_eq!(ours.rollback_module("work", 0).await.unwrap().version, 1);
    assert_eq!(listed(&ours).await, [only_ours, our_work(1)]);
    assert_eq!(listed(&theirs).await, their_work);
    assert_eq!(digest(&ours).await, digest(&theirs).await);
    dev.process.stop().await;
}
