//! What is wrong is refused with a sentence that says what and by how much, and leaves nothing behind.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tq_client::{Code, Error, NewTask};
use tq_core::limits::{CHUNK_BYTES, MODULE_BYTES_MAX, PAYLOAD_BYTES_MAX};
use tq_proto::v1::module_service_client::ModuleServiceClient;
use tq_proto::v1::upload_module_request::Part;
use tq_proto::v1::{UploadHeader, UploadModuleRequest};
use tq_tests::{Broker, Dev, Ran, eventually, guest};

/// What a refused command wrote, without its hint.
#[track_caller]
fn check(ran: &Ran, code: i32, expected: &str) {
    let error = ran
        .stderr
        .split("\nhint: ")
        .next()
        .unwrap_or_default()
        .trim_end();
    assert_eq!(
        (ran.code, error),
        (Some(code), format!("error: {expected}").as_str()),
        "`{}` wrote: {}",
        ran.line,
        ran.stderr
    );
    assert!(
        ran.stdout.is_empty(),
        "`{}` printed: {}",
        ran.line,
        String::from_utf8_lossy(&ran.stdout)
    );
}

/// The files under `folder`, at any depth.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort();
    found
}

const UNKNOWN_IMPORT: &str = r#"
(component
  (import "acme:weather/report@1.0.0" (instance (export "today" (func (result string)))))
  (core module $main (func (export "run") (result i32) i32.const 0))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
"#;

const NOTHING_TO_CALL: &str = "(component)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_are_no_task_modules_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let broker = Broker::start(&data).await;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let faults = std::fs::read(guest::example("faults")).unwrap();
    let before = files(&data.join("broker/blobs"));
    for (path, expected) in [
        (write("empty.wasm", b""), "module is empty"),
        (
            write("text.wasm", b"hello\n"),
            r"module is not WebAssembly: it is text, beginning with `hello\n`; upload the component in its binary form",
        ),
        (
            write("wat.wasm", b"(component)"),
            "module is not WebAssembly: it is text, beginning with `(component)`; upload the component in its binary form",
        ),
        (
            // How every compiled form of wasmtime begins.
            write("cut.cwasm", b"\x7fELF\x02\x01\x01\xc8"),
            "module is a compiled form (`.cwasm`), which hosts make for themselves; upload the component itself",
        ),
        (
            write(
                "program.wasm",
                b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0",
            ),
            "module is not WebAssembly: it is a native program or library (ELF); build it for wasm32-wasip2",
        ),
        (
            write("core.wasm", b"\0asm\x01\0\0\0"),
            "core module exports no `_start`, so it is no program of WASI preview 1; it exports nothing; give it a main function, or build it for wasm32-wasip2",
        ),
    ] {
        let ran = broker
            .tq()
            .run([
                "deploy".as_ref(),
                path.as_os_str(),
                "--name".as_ref(),
                "bad".as_ref(),
            ])
            .await;
        check(&ran, 4, expected);
    }
    for (path, parts) in [
        (
            write("cut.wasm", &faults[..faults.len() / 2]),
            ["module is cut off or damaged", "byte 0x"],
        ),
        (
            guest::written(folder.path(), "import", UNKNOWN_IMPORT),
            ["acme:weather/report@1.0.0", "tq does not offer"],
        ),
        (
            guest::written(folder.path(), "nothing", NOTHING_TO_CALL),
            ["tq:task/handler", "wasi:cli/run"],
        ),
    ] {
        let ran = broker
            .tq()
            .run([
                "deploy".as_ref(),
                path.as_os_str(),
                "--name".as_ref(),
                "bad".as_ref(),
            ])
            .await;
        assert_eq!(ran.code, Some(4), "{}", ran.stderr);
        assert!(
            parts.iter().all(|part| ran.stderr.contains(part)),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(files(&data.join("broker/blobs")), before);
    assert_eq!(
        broker
            .tq()
            .run(["module", "list", "--output", "json"])
            .await
            .json()["modules"],
        serde_json::json!([])
    );
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upload_whose_bytes_are_not_what_it_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let broker = Broker::start(&data).await;
    let bytes = Bytes::from(std::fs::read(guest::example("faults")).unwrap());
    let before = files(&data.join("broker/blobs"));
    let channel = Endpoint::from_shared(broker.url().to_owned())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = ModuleServiceClient::new(channel);
    let len = bytes.len() as u64;
    for (size_bytes, digest, expected) in [
        (len, vec![7; 32], "sha256:0707"),
        (len, vec![7; 31], "31"),
        (len + 1, vec![7; 32], "bytes"),
        (1 << 40, vec![7; 32], "67108864"),
    ] {
        let header = UploadHeader {
            name: "bad".to_owned(),
            size_bytes,
            digest: digest.into(),
            ..UploadHeader::default()
        };
        let chunks: Vec<_> = bytes
            .chunks(1 << 18)
            .map(|chunk| Part::Chunk(bytes.slice_ref(chunk)))
            .collect();
        let parts = std::iter::once(Part::Header(header))
            .chain(chunks)
            .map(|part| UploadModuleRequest { part: Some(part) });
        let refused = client
            .upload_module(futures_util::stream::iter(parts.collect::<Vec<_>>()))
            .await
            .expect_err("it is wrong");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(expected), "{refused}");
    }
    // What is too short may have been cut, and is kept in case that it goes on.
    assert_eq!(files(&data.join("broker/blobs")).len(), before.len() + 1);
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_take_disk_while_they_arrive_and_leave_one_when_given_up() {
    const UPLOADS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let broker = Broker::start(&data).await;
    let blobs = data.join("broker/blobs");
    let channel = Endpoint::from_shared(broker.url().to_owned())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let before = broker.process.resident_bytes();
    let header = UploadHeader {
        name: "big".to_owned(),
        size_bytes: MODULE_BYTES_MAX as u64,
        digest: vec![7; 32].into(),
        ..UploadHeader::default()
    };
    let chunk = Part::Chunk(vec![0; CHUNK_BYTES].into());
    let chunks = MODULE_BYTES_MAX / CHUNK_BYTES - 1;
    let mut uploads = JoinSet::new();
    for _ in 0..UPLOADS {
        // All but the last chunk, and then not a word.
        let parts = std::iter::once(Part::Header(header.clone()))
            .chain(std::iter::repeat_n(chunk.clone(), chunks))
            .map(|part| UploadModuleRequest { part: Some(part) });
        let parts = futures_util::stream::iter(parts).chain(futures_util::stream::pending());
        let mut client = ModuleServiceClient::new(channel.clone());
        uploads.spawn(async move { client.upload_module(parts).await });
    }
    eventually("what came is on disk", async || {
        let written: u64 = files(&blobs)
            .iter()
            .filter_map(|path| path.metadata().ok())
            .map(|file| file.len())
            .sum();
        (written == (UPLOADS * chunks * CHUNK_BYTES) as u64).then_some(())
    })
    .await;
    let grown = broker.process.resident_bytes().saturating_sub(before);
    assert!(
        grown < MODULE_BYTES_MAX as u64,
        "{UPLOADS} uploads under way cost {grown} bytes of memory"
    );
    uploads.shutdown().await;
    // They are of the same bytes, so that one is enough for the next to go on from.
    eventually("one is left", async || {
        (files(&blobs).len() == 1).then_some(())
    })
    .await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_cannot_be_made_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 1).await;
    let tq = dev.tq();
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    for (call, code, expected) in [
        (
            "run faults/ecko a",
            3,
            "module `faults` has no function `ecko`; did you mean `echo`",
        ),
        (
            "run faults a",
            4,
            "module `faults` has 58 functions, so name one: `faults/ask_too_much`",
        ),
        (
            "run faults@9/echo a",
            3,
            "module `faults` has no version 9; it has 1",
        ),
        (
            "run fault/echo a",
            3,
            "namespace `default` has no module `fault`; did you mean `faults`",
        ),
        (
            "run faults/echo a --fuel 0",
            4,
            "fuel is 0; it may be 1 to 100000000000000",
        ),
        (
            "run faults/echo a --fuel 20G",
            4,
            "fuel is 20000000000, over the function's limit of 10000000000",
        ),
        (
            "run faults/echo a --timeout 48h",
            4,
            "timeout is 172800000 ms, over the function's limit of 30000 ms",
        ),
        (
            "run faults/echo a --max-attempts 0",
            4,
            "max_attempts is 0; it may be 1 to 100",
        ),
        (
            "run faults/echo @/nonexistent/payload",
            3,
            "failed to read the payload from `/nonexistent/payload`: No such file or directory (os error 2)",
        ),
        (
            "run faults/echo a --namespace UPPER!",
            4,
            "namespace `UPPER!` has the character `!`; use letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
        ),
        (
            "task show nope",
            4,
            "`nope` is not a task id; expected a UUID such as 0198c9a4-7f1e-7c3a-b1de-5a0e6f2d9c41",
        ),
        (
            "task cancel 01a20321-ef81-7000-8000-fd1d8b6b6aa6",
            3,
            "namespace `default` has no task 01a20321-ef81-7000-8000-fd1d8b6b6aa6",
        ),
        (
            "module rollback faults",
            4,
            "module `faults` has no version before 1",
        ),
    ] {
        check(&tq.run(call.split(' ')).await, code, expected);
    }
    let past = tq
        .run("run faults/echo a --deadline 2020-01-01T00:00:00Z".split(' '))
        .await;
    assert_eq!(past.code, Some(4), "{}", past.stderr);
    assert!(
        past.stderr
            .contains("the deadline 1577836800000 ms has passed already"),
        "{}",
        past.stderr
    );
    // What is no command line at all is told by the parser, with exit code 2.
    for (call, part) in [
        ("run faults/echo a --priority 300", "300 is not in 0..=255"),
        ("run faults/echo a --memory 1TiB", "`1TiB` is not a size"),
        ("run faults/echo a --bogus", "unexpected argument '--bogus'"),
        (
            "task list --state sleeping",
            "[possible values: blocked, scheduled, ready",
        ),
        ("broker --listen nowhere", "invalid socket address"),
    ] {
        let ran = tq.run(call.split(' ')).await;
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert_eq!(
        tq.run(["task", "list", "--output", "json"]).await.json()["tasks"],
        serde_json::json!([])
    );
    dev.process.stop().await;

    let nobody = tq.run(["task", "list"]).await;
    assert_eq!(nobody.code, Some(5), "{}", nobody.stderr);
    assert!(
        nobody.stderr.contains("cannot be reached")
            && nobody.stderr.contains("hint: start one with `tq dev`"),
        "{}",
        nobody.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payload_over_the_limit_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let broker = Broker::start(&data).await;
    broker
        .tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    let before = files(&data.join("broker/blobs"));
    let over = vec![b'x'; PAYLOAD_BYTES_MAX + 1];
    let path = folder.path().join("over");
    std::fs::write(&path, &over).unwrap();
    let ran = broker
        .tq()
        .run(["submit", "faults/echo", &format!("@{}", path.display())])
        .await;
    check(
        &ran,
        2,
        &format!(
            "`{}` has 8388609 bytes, over the limit of 8388608 bytes for a payload",
            path.display()
        ),
    );

    // The broker does not rely on its clients.
    let client = broker.client().await;
    let task = NewTask {
        function: "faults/echo".into(),
        payload: over.into(),
        idempotency_key: "key".into(),
        ..NewTask::default()
    };
    let refused = client
        .submit(vec![task])
        .await
        .expect_err("it is too large");
    assert!(
        matches!(
            &refused,
            Error::Refused {
                code: Code::InvalidArgument,
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("8388609") && refused.to_string().contains("8388608"),
        "{refused}"
    );
    assert!(!refused.is_retryable(), "{refused}");
    let many = vec![
        NewTask {
            function: "faults/echo".into(),
            ..NewTask::default()
        };
        1_001
    ];
    let refused = client.submit(many).await.expect_err("they are too many");
    assert!(
        refused.to_string().contains("1001") && refused.to_string().contains("1000"),
        "{refused}"
    );

    assert!(
        client
            .task_page(None, 10, "")
            .await
            .unwrap()
            .tasks
            .is_empty()
    );
    assert_eq!(files(&data.join("broker/blobs")), before);
    // All or nothing: a good task beside a bad one is not submitted either.
    let good = NewTask {
        function: "faults/echo".into(),
        ..NewTask::default()
    };
    let bad = NewTask {
        function: "faults/echo".into(),
        priority: Some(300),
        ..NewTask::default()
    };
    let refused = client
        .submit(vec![good, bad])
        .await
        .expect_err("one of them is bad");
    assert!(
        refused.to_string().contains("300") && refused.to_string().contains("255"),
        "{refused}"
    );
    assert!(
        client
            .task_page(None, 10, "")
            .await
            .unwrap()
            .tasks
            .is_empty()
    );
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_key_for_another_call_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(&folder.path().join("data")).await;
    let tq = broker.tq();
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    let submit = async |payload: &str| {
        tq.run(["submit", "faults/echo", payload, "--idempotency-key", "k"])
            .await
    };
    let first = submit("a").await.text();
    assert_eq!(submit("a").await.text(), first);
    let other = submit("b").await;
    assert_eq!(other.code, Some(4), "{}", other.stderr);
    assert!(
        other.stderr.contains("`k`") && other.stderr.contains(first.trim()),
        "{}",
        other.stderr
    );
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_directories_that_cannot_be_served_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = data.join("broker").join("store");
    let broker = Broker::start(&data).await;
    let (code, said) = Broker::refused(&data).await;
    let expected = format!(
        "error: `{}` is in use by another broker; stop that one first, or choose another data directory\n",
        store.display()
    );
    assert_eq!((code, said.as_str()), (Some(1), expected.as_str()));
    // The first one has not noticed.
    broker
        .tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    broker.process.stop().await;

    tq_broker::store::conformance::change_format(&store, 7_000).unwrap();
    let (code, said) = Broker::refused(&data).await;
    assert_eq!(code, Some(1), "{said}");
    let expected = format!("`{}` has format 7000, ", store.display());
    assert!(
        said.contains(&expected) && said.contains("start it with the newer tq that wrote it"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_that_others_can_reach_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for node in ["broker", "dev"] {
        let ran = tq_tests::Tq::default()
            .run([
                node,
                "--listen",
                "0.0.0.0:0",
                "--data-dir",
                &data.display().to_string(),
            ])
            .await;
        check(
            &ran,
            2,
            "listening on `0.0.0.0:0` is refused: it is not a loopback address, and this broker has no access control",
        );
    }
    assert!(
        !data.try_exists().unwrap(),
        "a refused start leaves no data directory behind"
    );
}
