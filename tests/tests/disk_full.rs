//! A disk that fills up: what brings new work is refused while there is still room for what runs to be settled.

use std::fs::File;
use std::path::{Path, PathBuf};

use tq_client::{Code, Component, Error, NewTask, TaskState, Upload, Watch};
use tq_core::limits::FREE_BYTES_FLOOR;
use tq_tests::{Broker, Disk, Host, eventually, guest, requirement, within};

const DISK_BYTES: u64 = FREE_BYTES_FLOOR + (624 << 20);

/// Takes all of `disk` but `free` bytes.
fn fill(disk: &Disk, free: u64) -> Ballast {
    let path = disk.path().join("ballast");
    let now = rustix::fs::statvfs(disk.path()).expect("the disk is mounted");
    let len = (now.f_bavail * now.f_frsize).saturating_sub(free);
    let file = File::create(&path).expect("the disk can be written");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len)
        .expect("there is room");
    Ballast(path)
}

struct Ballast(PathBuf);

impl Ballast {
    fn remove(self) {
        std::fs::remove_file(self.0).expect("it is there");
    }
}

/// How many files there are in the folders of `folder`.
fn files(folder: &Path) -> usize {
    let read = |folder: &Path| std::fs::read_dir(folder).expect("the folder can be read");
    read(folder)
        .map(|inner| read(&inner.expect("the folder can be read").path()).count())
        .sum()
}

#[track_caller]
fn check_refused(refused: &Error) {
    assert!(
        matches!(
            refused,
            Error::Refused {
                code: Code::ResourceExhausted,
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains(&FREE_BYTES_FLOOR.to_string()),
        "{refused}"
    );
    assert!(
        refused
            .hint()
            .is_some_and(|hint| hint.contains("free some space")),
        "{refused:?}"
    );
}

fn call(function: &str, payload: &str) -> Vec<NewTask> {
    vec![NewTask {
        function: format!("faults/{function}"),
        payload: payload.to_owned().into(),
        ..NewTask::default()
    }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_refuses_new_work_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path(), DISK_BYTES) else {
        return requirement::skip("disk_full", Disk::LACKING);
    };
    let broker = Broker::start(&disk.path().join("broker")).await;
    let host = Host::start(&broker, &folder.path().join("host"), "a", 8).await;
    broker
        .tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    broker.holds("faults", &["a"]).await;
    let client = broker.client().await;
    let mut running = Vec::new();
    for _ in 0..8 {
        running.extend(client.submit(call("sleep", "3000")).await.unwrap());
    }
    let mut ids: Vec<String> = running.into_iter().map(|task| task.id).collect();

    // Waits for a slot, and ends with a result that is a file.
    let result_bytes = 100_000;
    let large = client
        .submit(call("big_result", &result_bytes.to_string()))
        .await
        .unwrap();
    ids.extend(large.into_iter().map(|task| task.id));

    let blobs = broker.data_dir().join("broker/blobs");
    let before = files(&blobs);
    let ballast = fill(&disk, FREE_BYTES_FLOOR / 2);
    // The broker looks at the disk ten times a second, and takes in what it is asked for in between.
    eventually("work is refused", async || {
        match client.submit(call("echo", "x")).await {
            Ok(tasks) => {
                ids.extend(tasks.into_iter().map(|task| task.id));
                None
            }
            Err(_) => Some(()),
        }
    })
    .await;
    let large_payload = "x".repeat(100_000);
    for payload in ["x", &large_payload] {
        let refused = client
            .submit(call("echo", payload))
            .await
            .expect_err("the disk is full");
        check_refused(&refused);
    }
    let ran = broker.tq().run(["submit", "faults/echo", "x"]).await;
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    let module = guest::example("word-count");
    let upload = Upload {
        name: "word-count".to_owned(),
        ..Upload::default()
    };
    let refused = client
        .upload_module(Component::read(&module).unwrap(), upload, |_| {})
        .await
        .expect_err("the disk is full");
    check_refused(&refused);
    assert_eq!(files(&blobs), before, "nothing is left behind");

    // What was taken in is settled, and can be looked at and cancelled.
    let mut watching = client.watch(Watch::Ids(ids.clone()), true);
    let mut settled = 0;
    while let Some(tasks) = within("running tasks settle", watching.next())
        .await
        .unwrap()
    {
        assert!(
            tasks
                .iter()
                .all(|task| task.state() == TaskState::Succeeded),
            "{tasks:?}"
        );
        settled += tasks.len();
    }
    assert_eq!(settled, ids.len());
    assert_eq!(files(&blobs), before + 1, "the large result is a file");
    assert_eq!(
        client.task_page(None, 100, "").await.unwrap().tasks.len(),
        ids.len()
    );

    ballast.remove();
    broker.tq().run(["run", "faults/echo", "x"]).await.ok();
    let ran = broker
        .tq()
        .run_with_input(["run", "faults/echo", "-"], large_payload.as_bytes())
        .await;
    assert!(ran.text() == large_payload, "it comes back as it was");
    broker.tq().deploy(&module, "word-count", &[]).await;
    host.process.stop().await;
    broker.process.stop().await;
}
