//! A store that has lost what it acknowledged says so and does not serve: never fewer tasks in silence.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use tq_tests::{Broker, Host, Tq, guest};

/// Copies a folder as a backup does that knows nothing of tq.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let to = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).expect("the file can be copied");
        }
    }
}

/// The mark beside a data directory.
fn mark_beside(data: &Path) -> PathBuf {
    let mut path = data.as_os_str().to_owned();
    path.push(".mark");
    path.into()
}

/// `tq admin VERB` on a data directory.
async fn admin(verb: &str, data: &Path) -> (Option<i32>, String) {
    let ran = Tq::default()
        .run(["admin", verb, "--data-dir", &data.display().to_string()])
        .await;
    (
        ran.code,
        format!("{}{}", String::from_utf8_lossy(&ran.stdout), ran.stderr),
    )
}

async fn submit(broker: &Broker, count: usize) {
    let ids = broker
        .tq()
        .run([
            "submit",
            "faults/echo",
            "payload",
            "--count",
            &count.to_string(),
        ])
        .await
        .text();
    assert_eq!(ids.lines().count(), count);
}

async fn tasks(broker: &Broker) -> usize {
    broker
        .tq()
        .run(["task", "list", "--all", "--output", "json"])
        .await
        .json()["tasks"]
        .as_array()
        .map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_journal_is_refused_and_can_be_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut broker = Broker::start(&data).await;
    broker
        .tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    for _ in 0..20 {
        submit(&broker, 10).await;
    }
    broker.process.kill9().await;

    let tables = data.join("broker/store/tables");
    let journals = fs::read_dir(&tables)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jnl"));
    let journal = journals
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&journal)
        .unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut bytes = [0; 16];
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.write_all(&bytes.map(|byte| !byte)).unwrap();
    drop(file);

    let (code, said) = Broker::refused(&data).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!(
            "error: journal `{}` is damaged at byte ",
            journal.display()
        )),
        "{said}"
    );
    assert!(said.contains("were acknowledged; restore the data directory, or accept the loss with `tq admin repair`"), "{said}");
    let (code, said) = admin("check", &data).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("problem: journal `")
            && said.contains("the broker refuses to serve this store"),
        "{said}"
    );
    // To look is not to accept.
    assert_eq!(Broker::refused(&data).await.0, Some(1));

    let (code, said) = admin("repair", &data).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\nlost: commits "), "{said}");
    let (code, said) = admin("check", &data).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no problems"), "{said}");
    broker.restart().await;
    let left = tasks(&broker).await;
    assert!(
        left < 200 && left.is_multiple_of(10),
        "{left} of 200 tasks are left, which were submitted ten at a time"
    );
    // What is left goes on, and new tasks are taken.
    submit(&broker, 5).await;
    let host = Host::start(&broker, &folder.path().join("host"), "a", 2).await;
    broker.tq().run(["run", "faults/echo", "x"]).await.ok();
    host.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_copy_of_the_data_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let mut broker = Broker::start(&data).await;
    broker
        .tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    submit(&broker, 10).await;
    let pid_of_first = broker.process.pid();
    broker.process.kill9().await;
    copy(&data, &backup);
    broker.restart().await;
    assert_ne!(broker.process.pid(), pid_of_first);
    submit(&broker, 10).await;
    broker.process.kill9().await;
    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);

    let (code, said) = Broker::refused(&data).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("an older copy of it was put back")
            && said.contains("put the newest copy back"),
        "{said}"
    );
    let (code, said) = admin("check", &data).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("problem: "), "{said}");
    admin("repair", &data).await;
    broker.restart().await;
    assert_eq!(tasks(&broker).await, 10);
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_copy_with_its_mark_is_refused_by_what_hosts_saw() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backup, host_data) = (
        folder.path().join("data"),
        folder.path().join("backup"),
        folder.path().join("host"),
    );
    let mut broker = Broker::start(&data).await;
    broker
        .tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    broker.process.kill9().await;
    copy(&data, &backup);
    broker.restart().await;
    let host = Host::start(&broker, &host_data, "a", 2).await;
    for _ in 0..20 {
        broker.tq().run(["run", "faults/echo", "x"]).await.ok();
    }
    host.process.stop().await;
    broker.process.kill9().await;
    fs::remove_dir_all(&data).unwrap();
    fs::remove_file(mark_beside(&data)).unwrap();
    copy(&backup, &data);

    // Nothing on this disk says that the copy is old. The host knows more.
    broker.restart().await;
    let mut host = Host::launch(&broker, &host_data, "a", 2);
    let status = broker.process.end().await;
    let said = broker.process.log();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: the broker had to stop: host saw commit ")
            && said.contains(": it was rolled back; "),
        "{said}"
    );

    admin("repair", &data).await;
    broker.restart().await;
    // The host has gone on trying, and takes the broker that goes on beyond what it saw.
    host.process.line("is ready to work").await;
    broker.tq().run(["run", "faults/echo", "x"]).await.ok();
    host.process.stop().await;
    broker.process.stop().await;
}
