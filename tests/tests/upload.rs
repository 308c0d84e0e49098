//! An upload that is cut goes on where it was: by itself, by a second `tq deploy`, and by nobody else's.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tq_client::Component;
use tq_core::limits::{CHUNK_BYTES, CUT_UPLOADS_NAMESPACE_MAX};
use tq_proto::v1::module_service_client::ModuleServiceClient;
use tq_proto::v1::upload_module_request::Part;
use tq_proto::v1::{GetUploadRequest, UploadHeader, UploadModuleRequest, UploadModuleResponse};
use tq_tests::{Broker, Random, Tq, eventually, within};

const MIB: usize = 1 << 20;

/// A module of about so many bytes, which no other has.
fn module(len: usize, seed: u64) -> Bytes {
    let component = "(component
        (core module $main (func (export \"f\") (result i32) (i32.const 7)))
        (core instance $m (instantiate $main))
        (func (export \"seven\") (result u32) (canon lift (core func $m \"f\"))))";
    let mut bytes = wat::parse_str(component).expect("it is a component");
    let mut random = Random::new(seed);
    let noise = (0..len / 8).flat_map(|_| random.draw().to_le_bytes());
    // A custom section, its size and the length of its name in LEB128.
    let section: Vec<u8> = [5].into_iter().chain(*b"noise").chain(noise).collect();
    bytes.push(0);
    let mut left = section.len();
    while left >= 0x80 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend(section);
    bytes.into()
}

fn digest(bytes: &Bytes) -> Bytes {
    let component = Component::from_bytes(bytes.clone()).expect("it is not too large");
    Bytes::copy_from_slice(&component.digest())
}

fn header(namespace: &str, bytes: &Bytes, offset: u64) -> UploadHeader {
    UploadHeader {
        namespace: namespace.to_owned(),
        name: "big".to_owned(),
        size_bytes: bytes.len() as u64,
        digest: digest(bytes),
        offset_bytes: offset,
        ..UploadHeader::default()
    }
}

fn parts(header: UploadHeader, bytes: &Bytes) -> Vec<UploadModuleRequest> {
    let chunks = bytes.chunks(CHUNK_BYTES);
    let chunks = chunks.map(|chunk| Part::Chunk(bytes.slice_ref(chunk)));
    std::iter::once(Part::Header(header))
        .chain(chunks)
        .map(|part| UploadModuleRequest { part: Some(part) })
        .collect()
}

async fn service(broker: &Broker) -> ModuleServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(broker.url().to_owned()).expect("it is an address");
    ModuleServiceClient::new(endpoint.connect().await.expect("the broker serves"))
}

/// How many bytes the broker has of a cut upload.
async fn received(broker: &Broker, namespace: &str, bytes: &Bytes) -> u64 {
    let request = GetUploadRequest {
        namespace: namespace.to_owned(),
        digest: digest(bytes),
        size_bytes: bytes.len() as u64,
    };
    let answer = service(broker).await.get_upload(request).await;
    answer.expect("it answers").into_inner().received_bytes
}

/// Uploads what follows `offset`.
async fn upload(
    broker: &Broker,
    bytes: &Bytes,
    offset: u64,
) -> Result<UploadModuleResponse, Status> {
    let rest = bytes.slice(offset as usize..);
    let parts = parts(header("", bytes, offset), &rest);
    let answer = service(broker)
        .await
        .upload_module(stream::iter(parts))
        .await;
    answer.map(tonic::Response::into_inner)
}

/// Begins to upload, and cuts it after so many chunks, once they are on disk.
async fn cut(broker: &Broker, namespace: &str, bytes: &Bytes, chunks: usize) {
    let before = on_disk(broker.data_dir());
    let first = bytes.slice(..chunks * CHUNK_BYTES);
    let parts = parts(header(namespace, bytes, 0), &first);
    let parts = stream::iter(parts).chain(stream::pending());
    let mut service = service(broker).await;
    let mut call = JoinSet::new();
    call.spawn(async move { service.upload_module(parts).await.map(drop) });
    eventually("what was sent is on disk", async || {
        (on_disk(broker.data_dir()) >= before + first.len() as u64).then_some(())
    })
    .await;
    call.shutdown().await;
}

async fn cut_and_kept(broker: &Broker, namespace: &str, bytes: &Bytes, chunks: usize) {
    cut(broker, namespace, bytes, chunks).await;
    eventually("what came is kept", async || {
        let expected = (chunks * CHUNK_BYTES) as u64;
        (received(broker, namespace, bytes).await == expected).then_some(())
    })
    .await;
}

/// Bytes in files that have no name yet.
fn on_disk(data_dir: &Path) -> u64 {
    let folder = data_dir.join("broker/blobs/unfinished");
    let files = std::fs::read_dir(folder).expect("the folder is there");
    // One may go while the folder is read.
    let sizes = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
    sizes.sum()
}

async fn broker(folder: &Path) -> Broker {
    Broker::start(&folder.join("data")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upload_goes_on_where_it_was_cut() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = broker(folder.path()).await;
    let bytes = module(3 * MIB, 1);
    assert_eq!(received(&broker, "", &bytes).await, 0);
    cut_and_kept(&broker, "", &bytes, 8).await;
    let offset = received(&broker, "", &bytes).await;
    let answer = upload(&broker, &bytes, offset).await.expect("it is whole");
    let module = answer.module.expect("it is there");
    assert_eq!((module.version, module.size_bytes), (1, bytes.len() as u64));
    assert_eq!(received(&broker, "", &bytes).await, 0, "it is over");
    assert_eq!(on_disk(broker.data_dir()), 0);
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_is_for_the_same_bytes_of_the_same_namespace_alone() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = broker(folder.path()).await;
    let bytes = module(3 * MIB, 1);
    let changed = module(3 * MIB, 2);
    cut_and_kept(&broker, "", &bytes, 8).await;
    assert_eq!(received(&broker, "", &changed).await, 0);
    assert_eq!(received(&broker, "other", &bytes).await, 0);
    // Whoever claims it nevertheless is told to begin again, and takes nothing away.
    let offset = received(&broker, "", &bytes).await;
    for (namespace, bytes, offset) in [
        ("", &changed, offset),
        ("other", &bytes, offset),
        ("", &bytes, offset - 1),
        ("", &bytes, 1 << 40),
    ] {
        let parts = parts(
            header(namespace, bytes, offset),
            &Bytes::from_static(b"rest"),
        );
        let refused = service(&broker)
            .await
            .upload_module(stream::iter(parts))
            .await;
        let refused = refused.expect_err("there is no such upload");
        assert_eq!(refused.code(), Code::Aborted, "{refused}");
        assert!(refused.message().contains(&offset.to_string()), "{refused}");
    }
    assert_eq!(received(&broker, "", &bytes).await, offset);
    // What comes after it has to be the rest of it, or all of it goes.
    let wrong = changed.slice(offset as usize..);
    let parts = parts(header("", &bytes, offset), &wrong);
    let refused = service(&broker)
        .await
        .upload_module(stream::iter(parts))
        .await;
    let refused = refused.expect_err("it has another digest");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(received(&broker, "", &bytes).await, 0);
    assert_eq!(on_disk(broker.data_dir()), 0);
    upload(&broker, &bytes, 0).await.expect("it is whole");
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_uploads_are_bounded_and_go_with_the_broker() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut broker = broker(folder.path()).await;
    let modules: Vec<Bytes> = (0..=CUT_UPLOADS_NAMESPACE_MAX as u64)
        .map(|seed| module(MIB, seed))
        .collect();
    for bytes in &modules {
        cut_and_kept(&broker, "", bytes, 2).await;
    }
    assert_eq!(
        received(&broker, "", &modules[0]).await,
        0,
        "it was the oldest"
    );
    let kept = (2 * CHUNK_BYTES * CUT_UPLOADS_NAMESPACE_MAX) as u64;
    eventually("its file is gone", async || {
        (on_disk(broker.data_dir()) == kept).then_some(())
    })
    .await;
    broker.kill9_and_restart().await;
    assert_eq!(on_disk(broker.data_dir()), 0);
    for bytes in &modules {
        assert_eq!(received(&broker, "", bytes).await, 0);
    }
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_of_the_same_bytes_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = broker(folder.path()).await;
    let bytes = module(3 * MIB, 1);
    // Both are cut: what is longer stays.
    cut_and_kept(&broker, "", &bytes, 8).await;
    cut(&broker, "", &bytes, 3).await;
    eventually("the shorter one is gone", async || {
        (on_disk(broker.data_dir()) == (8 * CHUNK_BYTES) as u64).then_some(())
    })
    .await;
    let offset = received(&broker, "", &bytes).await;
    assert_eq!(offset, (8 * CHUNK_BYTES) as u64);
    // Both go on: one has it, and the other begins again.
    let (first, second) = tokio::join!(
        upload(&broker, &bytes, offset),
        upload(&broker, &bytes, offset)
    );
    let refused: Vec<_> = [first, second]
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert!(
        matches!(refused.as_slice(), [one] if one.code() == Code::Aborted),
        "{refused:?}"
    );
    // Clients do so by themselves.
    cut_and_kept(&broker, "", &module(3 * MIB, 2), 8).await;
    let path = folder.path().join("big.wasm");
    std::fs::write(&path, module(3 * MIB, 2)).expect("the folder can be written");
    let tq = broker.tq();
    tokio::join!(tq.deploy(&path, "big", &[]), tq.deploy(&path, "big", &[]));
    let module = broker
        .client()
        .await
        .module("big")
        .await
        .expect("it is there");
    assert_eq!(module.version, 2);
    assert_eq!(on_disk(broker.data_dir()), 0);
    broker.process.stop().await;
}

/// What a connection does after as many bytes as it may carry.
#[derive(Clone, Copy)]
enum Then {
    Closes,
    Swallows,
}

/// A way to the broker that breaks.
struct Wire {
    url: String,
    passed: Arc<AtomicU64>,
    /// Ends with this.
    _carries: JoinSet<()>,
}

impl Wire {
    /// Its first connections carry so many bytes to the broker each, and later ones all.
    async fn to(broker: &Broker, carried: &'static [u64], then: Then) -> Self {
        let broker: SocketAddr = broker
            .url()
            .trim_start_matches("http://")
            .parse()
            .expect("it is an address");
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let passed = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&passed);
        let mut carries = JoinSet::new();
        carries.spawn(async move {
            let mut connections = JoinSet::new();
            let mut carried = carried.iter();
            while let Ok((from, _)) = listener.accept().await {
                let most = carried.next().copied().unwrap_or(u64::MAX);
                let counted = Arc::clone(&counted);
                connections.spawn(async move {
                    // Either end may close it at any time.
                    carry(from, broker, most, &counted, then).await.ok();
                });
            }
        });
        Self {
            url: format!("http://{address}"),
            passed,
            _carries: carries,
        }
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

async fn carry(
    mut from: TcpStream,
    broker: SocketAddr,
    most: u64,
    passed: &AtomicU64,
    then: Then,
) -> io::Result<()> {
    let mut to = TcpStream::connect(broker).await?;
    let (mut asked, mut answers) = from.split();
    let (mut answered, mut asks) = to.split();
    let up = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut left = most;
        while left > 0 {
            let room = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = asked.read(&mut buffer[..room]).await?;
            if read == 0 {
                return Ok(());
            }
            asks.write_all(&buffer[..read]).await?;
            passed.fetch_add(read as u64, Ordering::Relaxed);
            left -= read as u64;
        }
        match then {
            Then::Closes => Ok(()),
            // As one in which everything is lost: whoever sends notices nothing.
            Then::Swallows => {
                while asked.read(&mut buffer).await? > 0 {}
                Ok(())
            }
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = tokio::io::copy(&mut answered, &mut answers) => ended.map(drop),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploy_goes_on_by_itself_over_a_connection_that_breaks() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = broker(folder.path()).await;
    let path = folder.path().join("big.wasm");
    std::fs::write(&path, module(16 * MIB, 1)).expect("the folder can be written");
    let wire = Wire::to(&broker, &[6 << 20, 6 << 20], Then::Closes).await;
    Tq::at(&wire.url).deploy(&path, "big", &[]).await;
    // From the beginning each time it would be 28 MiB. What is under way at a cut is lost, about one each.
    let passed = wire.passed();
    assert!(passed < 22 << 20, "{passed} bytes for 16 MiB");
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_deploy_goes_on_where_the_first_was_interrupted() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("big.wasm");
    std::fs::write(&path, module(8 * MIB, 1)).expect("the folder can be written");
    goes_on(folder.path(), &path, &path).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_deploy_goes_on_though_no_two_builds_make_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let source = folder.path().join("big");
    std::fs::create_dir(&source).expect("the folder can be written");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(source.join(name), bytes).expect("the folder can be written");
    };
    write("base.bin", &module(8 * MIB, 1));
    // A custom section of 14 bytes, eight of them drawn.
    write(
        "tq.toml",
        br#"[module]
artifact = "out.wasm"
build = """cp base.bin out.wasm; printf '\\000\\016\\005noise%s' $(od -An -N4 -tx1 /dev/urandom | tr -d ' ') >> out.wasm"""
"#,
    );
    goes_on(folder.path(), &source, &source.join("out.wasm")).await;
    let mark = source.join("out.wasm.upload").try_exists();
    assert!(!mark.expect("the folder can be read"), "it has ended");
}

/// Deploys what is at `path`, kills that when most of `artifact` has come, and deploys again.
async fn goes_on(folder: &Path, path: &Path, artifact: &Path) {
    let broker = broker(folder).await;
    let wire = Wire::to(&broker, &[6 << 20], Then::Swallows).await;
    let tq = Tq::at(&wire.url);
    let mut first = JoinSet::new();
    let (of_first, its_path) = (tq.clone(), path.to_owned());
    first.spawn(async move { of_first.deploy(&its_path, "big", &[]).await });
    eventually("most of it is on disk", async || {
        (on_disk(broker.data_dir()) >= 5 << 20).then_some(())
    })
    .await;
    // It is killed with what waits for it.
    first.shutdown().await;
    let bytes = Bytes::from(std::fs::read(artifact).expect("it was written"));
    eventually("what came is kept", async || {
        (received(&broker, "", &bytes).await >= 5 << 20).then_some(())
    })
    .await;
    let before = wire.passed();
    tq.deploy(path, "big", &[]).await;
    let passed = wire.passed() - before;
    assert!(passed < 4 << 20, "{passed} bytes for the rest of 8 MiB");
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploy_outlives_a_broker_that_is_killed_half_way() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut broker = broker(folder.path()).await;
    let path = folder.path().join("big.wasm");
    std::fs::write(&path, module(8 * MIB, 1)).expect("the folder can be written");
    let wire = Wire::to(&broker, &[4 << 20], Then::Swallows).await;
    let tq = Tq::at(&wire.url);
    let deploy = async {
        tq.deploy(&path, "big", &[]).await;
    };
    let killed = async {
        eventually("some of it is on disk", async || {
            (on_disk(broker.data_dir()) >= 3 << 20).then_some(())
        })
        .await;
        broker.kill9_and_restart().await;
    };
    within(
        "it is deployed",
        Box::pin(async { tokio::join!(deploy, killed) }),
    )
    .await;
    let module = broker
        .client()
        .await
        .module("big")
        .await
        .expect("it is there");
    assert_eq!(
        module.size_bytes,
        std::fs::metadata(&path).expect("it was written").len()
    );
    broker.process.stop().await;
}
