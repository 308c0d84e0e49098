//! Access control: who is let in, what each role may do where, and that what was revoked ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::uri::PathAndQuery;
use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tq_client::{Client, Error, Watch, Watching};
use tq_proto::codec::Raw;
use tq_tests::{Broker, Guarded, Host, Tq, access_key_id, eventually, guest, replace, within};

/// What there is of a call, by its least role and by what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Namespace,
    All,
    Caller,
}

const HOST: &str = "host";
const ROLES: [&str; 5] = [HOST, "viewer", "submitter", "deployer", "admin"];

/// Every call: which role is the least that may make it, and what it is about. It is written down here a second time, apart from the
/// broker's own table, so that a slip there shows.
fn expected() -> BTreeMap<&'static str, (&'static str, About)> {
    use About::{All, Caller, Namespace};
    let groups: &[(&str, About, &[&str])] = &[
        (
            "viewer",
            Namespace,
            &[
                "TaskService/GetTask",
                "TaskService/ListTasks",
                "TaskService/ExportTasks",
                "TaskService/WatchTasks",
                "TaskService/GetTaskLogs",
                "TaskService/FollowTask",
                "DeadLetterService/ListDeadLetters",
                "DeadLetterService/ListSignatures",
                "DeadLetterService/GetDeadLetter",
                "ModuleService/GetModule",
                "ModuleService/ListModules",
                "QueueService/ListQueues",
                "QueueService/GetQueue",
                "ResilienceService/ListBreakers",
                "ResilienceService/GetBreaker",
                "RetentionService/GetRetention",
                "NamespaceService/GetNamespace",
                "NamespaceService/GetCost",
                "SecretService/ListSecrets",
                "WebhookService/GetWebhook",
                "WebhookService/ListWebhooks",
                "WebhookService/ListDeliveries",
                "KeyValueService/ListBuckets",
                "KeyValueService/ListKeys",
                "KeyValueService/GetValue",
            ],
        ),
        (
            "submitter",
            Namespace,
            &[
                "TaskService/Submit",
                "TaskService/CancelTask",
                "TaskService/CancelTasks",
                "TaskService/UpdateTask",
                "TaskService/RedriveTask",
                "TaskService/DeleteTask",
                "TaskService/DeleteTasks",
                "TaskService/ApplyToTasks",
                "DeadLetterService/RedriveDeadLetters",
                "DeadLetterService/DiscardDeadLetters",
                "DeadLetterService/RedriveWithPayload",
                "KeyValueService/SetValue",
                "KeyValueService/DeleteValue",
            ],
        ),
        (
            "deployer",
            Namespace,
            &[
                "ModuleService/UploadModule",
                "ModuleService/GetUpload",
                "ModuleService/RollbackModule",
                "ModuleService/DeleteModule",
                "QueueService/SetQueue",
                "QueueService/PauseQueue",
                "QueueService/ResumeQueue",
                "QueueService/DeleteQueue",
                "ResilienceService/ForceBreaker",
                "ResilienceService/ReleaseBreaker",
                "SecretService/SetSecret",
                "SecretService/DeleteSecret",
                "WebhookService/CreateWebhook",
                "WebhookService/PauseWebhook",
                "WebhookService/ResumeWebhook",
                "WebhookService/DeleteWebhook",
                "WebhookService/TestWebhook",
                "WebhookService/Redeliver",
                "KeyValueService/DeleteBucket",
            ],
        ),
        (
            "admin",
            Namespace,
            &[
                "RetentionService/SetRetention",
                "AccessService/ListAuditRecords",
            ],
        ),
        (
            "admin",
            Caller,
            &[
                "AccessService/CreateApiKey",
                "AccessService/ListApiKeys",
                "AccessService/RotateApiKey",
                "AccessService/RevokeApiKey",
            ],
        ),
        (
            "viewer",
            All,
            &[
                "HostService/ListHosts",
                "HostService/GetHost",
                "ResilienceService/GetOverload",
            ],
        ),
        (
            "admin",
            All,
            &[
                "HostService/PauseHost",
                "HostService/ResumeHost",
                "HostService/DrainHost",
                "HostService/RemoveHost",
                "NamespaceService/SetNamespace",
            ],
        ),
        (
            HOST,
            All,
            &[
                "HostLink/Session",
                "HostLink/FetchBlob",
                "HostLink/PutBlob",
                "HostLink/PutLogs",
                "HostLink/GetSecret",
                "HostLink/KeyValue",
            ],
        ),
        ("", Caller, &["AccessService/WhoAmI"]),
    ];
    let calls = groups.iter().flat_map(|(role, about, calls)| {
        let calls = calls.iter();
        calls.map(move |call| (*call, (*role, *about)))
    });
    calls.collect()
}

/// Whether a role is enough for one that is the least.
fn is_enough(role: &str, least: &str) -> bool {
    let rank = |role| ROLES.iter().position(|other| *other == role);
    match least {
        "" => true,
        HOST => role == HOST,
        _ => role != HOST && rank(role) >= rank(least),
    }
}

/// A call of the protocol, and a message for it that says nothing but which namespace it is about.
struct Described {
    name: String,
    path: PathAndQuery,
    input: String,
}

fn described(descriptors: &FileDescriptorSet) -> Vec<Described> {
    let services = descriptors
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(move |service| (file, service)));
    let calls = services.flat_map(|(file, service)| {
        service.method.iter().map(move |method| {
            let name = format!("{}/{}", service.name(), method.name());
            let path = format!("/{}.{name}", file.package());
            Described {
                path: path.parse().expect("it is a path"),
                input: method.input_type().to_owned(),
                name,
            }
        })
    });
    calls.collect()
}

/// A message of this type that names the namespace wherever it can, and nothing else.
fn naming(descriptors: &FileDescriptorSet, of: &str, namespace: &str, depth: u32) -> Bytes {
    let mut encoded = Vec::new();
    let Some(message) = message(descriptors, of).filter(|_| depth < 4) else {
        return Bytes::new();
    };
    let of_namespaces =
        message.name() == "GetNamespaceRequest" || message.name() == "SetNamespaceRequest";
    for field in &message.field {
        let (number, kind) = (field.number() as u32, field.r#type());
        let is_namespace = field.name() == "namespace" || (of_namespaces && field.name() == "name");
        if kind == Type::String && is_namespace {
            prost::encoding::string::encode(number, &namespace.to_owned(), &mut encoded);
        }
        let is_repeated = field.label() == prost_types::field_descriptor_proto::Label::Repeated;
        if kind == Type::Message && !is_repeated {
            let inner = naming(descriptors, field.type_name(), namespace, depth + 1);
            if !inner.is_empty() {
                prost::encoding::bytes::encode(number, &inner, &mut encoded);
            }
        }
    }
    encoded.into()
}

fn message<'a>(descriptors: &'a FileDescriptorSet, name: &str) -> Option<&'a DescriptorProto> {
    let mut messages = descriptors.file.iter().flat_map(|file| {
        let package = file.package();
        let messages = file.message_type.iter();
        messages.map(move |message| (format!(".{package}.{}", message.name()), message))
    });
    let found = messages.find(|(full, _)| full == name);
    found.map(|(_, message)| message)
}

async fn channel(broker: &Broker) -> Channel {
    let endpoint = Endpoint::from_shared(broker.url().to_owned()).expect("it is an address");
    endpoint.connect().await.expect("the broker serves")
}

/// Makes a call with one message, and returns how its answer begins.
async fn call(
    channel: &Channel,
    path: &PathAndQuery,
    key: Option<&str>,
    message: Bytes,
) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("the broker serves");
    let mut request = Request::new(stream::iter([message]));
    if let Some(key) = key {
        let value = format!("Bearer {key}").parse().expect("it is a key");
        request.metadata_mut().insert("authorization", value);
    }
    let answer = grpc.streaming(request, path.clone(), Raw);
    within("the call is answered", answer).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_for_its_roles_and_namespaces_alone() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let descriptors = FileDescriptorSet::decode(tq_proto::DESCRIPTORS).expect("they are");
    let calls = described(&descriptors);
    let expected = expected();
    let names: BTreeSet<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    let known: BTreeSet<&str> = expected.keys().copied().collect();
    assert_eq!(names, known, "a call is new: say here who may make it");
    let admin = guarded.client(&guarded.admin_key).await;
    // One of them is there, and one is not, which nobody else may learn.
    for namespace in ["acme", "beta"] {
        let client = admin.clone().with_namespace(namespace);
        let set = client.set_secret("some", "12345678".into()).await;
        set.expect("an administrator may");
    }
    let channel = channel(&guarded.broker).await;
    let mut tried = 0;
    for role in ROLES {
        let everywhere = guarded.key(role, &[]).await;
        let (of_one, foreign): (String, &[&str]) = match role {
            // A host's key is for all.
            HOST => (everywhere.clone(), &[]),
            _ => (guarded.key(role, &["acme"]).await, &["beta", "nowhere"]),
        };
        for Described { name, path, input } in &calls {
            let (least, about) = expected[name.as_str()];
            let of = |namespace| naming(&descriptors, input, namespace, 0);
            let refused = call(&channel, path, None, of("acme")).await;
            let code = refused.expect_err("nobody is known").code();
            assert_eq!(code, Code::Unauthenticated, "{name}");
            // Where, by which key, and whether that may be.
            let mut cases = vec![
                ("acme", &everywhere, is_enough(role, least)),
                (
                    "acme",
                    &of_one,
                    is_enough(role, least) && (about != About::All || role == HOST),
                ),
            ];
            let is_foreign_allowed = is_enough(role, least) && about == About::Caller;
            cases.extend(
                foreign
                    .iter()
                    .map(|name| (*name, &of_one, is_foreign_allowed)),
            );
            let mut denials = BTreeSet::new();
            for (namespace, key, may) in cases {
                tried += 1;
                let answer = call(&channel, path, Some(key), of(namespace)).await;
                let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
                let is_denied = code == Code::PermissionDenied;
                assert_ne!(code, Code::Unauthenticated, "{name} by {role}");
                assert_eq!(
                    is_denied, !may,
                    "{name} by {role} in {namespace}: {answer:?}"
                );
                if let Err(status) = answer
                    && foreign.contains(&namespace)
                    && is_denied
                {
                    denials.insert(status.message().replace(namespace, "it"));
                }
            }
            assert!(denials.len() <= 1, "{name} tells them apart: {denials:?}");
        }
    }
    assert!(tried > 1_000, "{tried}");
    guarded.broker.process.stop().await;
}

/// What a refused command wrote.
async fn refused(tq: &Tq, words: &[&str]) -> String {
    let ran = tq.run(words).await;
    assert_eq!(ran.code, Some(4), "{words:?}: {}", ran.stderr);
    ran.stderr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tenants_and_their_host_work_and_see_nothing_of_each_other() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let host_key = guarded.key(HOST, &[]).await;
    let host_key_file = folder.path().join("host.key");
    std::fs::write(&host_key_file, &host_key).expect("the folder can be written");
    let host_dir = folder.path().join("host");
    let flags = ["--key-file", host_key_file.to_str().expect("it is text")];
    let host = Host::start_with(&guarded.broker, &host_dir, "h1", 2, &flags).await;
    let acme = guarded.tq(&guarded.key("deployer", &["acme"]).await);
    let beta = guarded.tq(&guarded.key("deployer", &["beta"]).await);
    let example = guest::example("faults");
    for tenant in [&acme, &beta] {
        tenant.deploy(&example, "work", &[]).await;
    }
    // The namespace is the key's: nobody has to name it.
    let ran = acme
        .run(["run", "work/echo", "mine", "--output", "json"])
        .await;
    let task = ran.json();
    assert_eq!(task["result"], "mine");
    let id = task["id"].as_str().expect("it has an id").to_owned();
    let nobodys = "0190c7e2-d3a4-7000-8000-000000000000";
    for words in [
        vec!["task", "show"],
        vec!["task", "cancel"],
        vec!["task", "redrive"],
        vec!["task", "delete"],
        vec!["task", "logs"],
        vec!["task", "watch"],
        vec!["dead", "show"],
    ] {
        let with = |id| {
            let words = words.iter().copied().chain([id]);
            words.collect::<Vec<_>>()
        };
        let (of_other, of_nobody) = (
            beta.run(with(id.as_str())).await,
            beta.run(with(nobodys)).await,
        );
        assert_eq!(of_other.code, Some(3), "{words:?}: {}", of_other.stderr);
        let text = of_other.stderr.replace(&id, nobodys);
        assert_eq!(text, of_nobody.stderr, "{words:?}");
    }
    let tasks = beta.run(["task", "list", "--output", "json"]).await.json();
    assert_eq!(tasks["tasks"].as_array().map(Vec::len), Some(0));
    let denied = refused(&beta, &["task", "list", "--namespace", "acme"]).await;
    let unknown = refused(&beta, &["task", "list", "--namespace", "nowhere"]).await;
    assert_eq!(denied.replace("acme", "nowhere"), unknown);
    for words in [
        vec!["host", "list"],
        vec!["overload"],
        vec!["namespace", "set", "beta", "--max-attempts", "9"],
        vec!["key", "list"],
        vec!["audit", "list"],
    ] {
        refused(&beta, &words).await;
    }
    let who = beta.run(["whoami", "--output", "json"]).await.json();
    assert_eq!(who["role"], "deployer");
    assert_eq!(who["namespaces"], serde_json::json!(["beta"]));
    host.process.stop().await;
    guarded.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrator_of_a_namespace_gives_no_more_than_is_theirs() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let acme = guarded.tq(&guarded.key("admin", &["acme"]).await);
    let beta_key = guarded.key("viewer", &["beta"]).await;
    let made = acme
        .run(["key", "create", "ci", "--role", "admin", "--for", "acme"])
        .await;
    let own = made.text().trim().to_owned();
    for (more, role) in [
        (vec![], "viewer"),
        (vec!["--for", "beta"], "viewer"),
        (vec!["--for", "acme", "--for", "beta"], "viewer"),
        (vec![], "host"),
    ] {
        let mut words = vec!["key", "create", "x", "--role", role];
        words.extend(more);
        refused(&acme, &words).await;
    }
    let listed = acme.run(["key", "list", "--output", "json"]).await.json();
    let namespaces = listed["keys"].as_array().expect("it is a list").iter();
    let namespaces: BTreeSet<String> = namespaces
        .map(|key| key["namespaces"].to_string())
        .collect();
    assert_eq!(namespaces, BTreeSet::from(["[\"acme\"]".to_owned()]));
    // Of a key that is not theirs they learn as much as of one that is not there.
    for words in [["key", "revoke"], ["key", "rotate"]] {
        let with = |id| [words[0], words[1], id];
        let of_other = acme.run(with(access_key_id(&beta_key))).await;
        let of_nobody = acme.run(with("0123456789abcdef")).await;
        assert_eq!((of_other.code, of_nobody.code), (Some(3), Some(3)));
        let text = of_other
            .stderr
            .replace(access_key_id(&beta_key), "0123456789abcdef");
        assert_eq!(text, of_nobody.stderr);
    }
    acme.run(["key", "revoke", access_key_id(&own)]).await.ok();
    let ran = guarded.tq(&own).run(["whoami"]).await;
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("the credential is not valid"),
        "{}",
        ran.stderr
    );
    guarded.broker.process.stop().await;
}

/// A watch of a client's namespace that is open: it has told of what has ended before.
async fn open(client: &Client) -> Watching {
    let mut watching = client.watch(Watch::All { after_seq: Some(0) }, false);
    let told = async {
        while let Some(ended) = watching.next().await.expect("the broker serves") {
            if !ended.is_empty() {
                return;
            }
        }
        panic!("a watch of all has no end");
    };
    within("the watch tells", told).await;
    watching
}

/// Waits for the end of a watch that nothing ends but the broker.
async fn ends(mut watching: Watching) -> Error {
    loop {
        if let Err(error) = watching.next().await {
            return error;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_or_rotated_out_or_has_expired_ends_on_open_streams_too() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let admin = guarded.tq(&guarded.admin_key);
    let [revoked, rotated, kept] = [
        guarded.key("viewer", &["acme"]).await,
        guarded.key("viewer", &["acme"]).await,
        guarded.key("viewer", &["acme"]).await,
    ];
    let host_key = guarded.key(HOST, &[]).await;
    let host_key_file = folder.path().join("host.key");
    std::fs::write(&host_key_file, &host_key).expect("the folder can be written");
    let flags = ["--key-file", host_key_file.to_str().expect("it is text")];
    let host_dir = folder.path().join("host");
    let mut host = Host::start_with(&guarded.broker, &host_dir, "h1", 2, &flags).await;
    let acme = admin.with_env("TQ_NAMESPACE", "acme");
    acme.deploy(&guest::example("faults"), "work", &[]).await;
    acme.run(["run", "work/echo", "x"]).await.ok();
    let words = [
        "key",
        "create",
        "short",
        "--role",
        "viewer",
        "--for",
        "acme",
        "--expires",
        "4s",
    ];
    let short = admin.run(words).await.text().trim().to_owned();
    let mut watches = Vec::new();
    for key in [&revoked, &rotated, &short] {
        watches.push(open(&guarded.client(key).await).await);
    }
    let mut goes_on = std::pin::pin!(ends(open(&guarded.client(&kept).await).await));
    admin
        .run(["key", "revoke", access_key_id(&revoked)])
        .await
        .ok();
    admin
        .run(["key", "rotate", access_key_id(&rotated), "--grace", "0s"])
        .await
        .ok();
    admin
        .run(["key", "revoke", access_key_id(&host_key)])
        .await
        .ok();
    let errors = tokio::select! {
        errors = within("the streams end", join_all(watches.into_iter().map(ends))) => errors,
        error = &mut goes_on => panic!("the other one ended: {error}"),
    };
    for error in errors {
        let Error::Refused { code, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(code, tq_client::Code::Unauthenticated);
    }
    let status = host.process.end().await;
    assert!(!status.success(), "{}", host.process.log());
    assert!(
        host.process.log().contains("refuses this host"),
        "{}",
        host.process.log()
    );
    guarded.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotated_key_has_two_texts_and_both_outlive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut guarded = Guarded::start(&folder.path().join("data")).await;
    let first = guarded.key("viewer", &["acme"]).await;
    let rotate = ["key", "rotate", access_key_id(&first), "--grace", "1h"];
    let second = guarded.tq(&guarded.admin_key).run(rotate).await.text();
    let second = second.trim().to_owned();
    assert_ne!(first, second);
    guarded.broker.kill9_and_restart().await;
    for key in [&first, &second] {
        guarded.tq(key).run(["task", "list"]).await.ok();
    }
    let third = guarded.tq(&guarded.admin_key).run(rotate).await.text();
    let code = guarded.tq(&first).run(["task", "list"]).await.code;
    assert_eq!(code, Some(4), "there are two, and not three");
    for key in [second.as_str(), third.trim()] {
        guarded.tq(key).run(["task", "list"]).await.ok();
    }
    guarded.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_goes_on_with_the_key_that_is_in_its_file_by_then() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let admin = guarded.tq(&guarded.admin_key);
    let key = guarded.key(HOST, &[]).await;
    let file = folder.path().join("host.key");
    replace(&file, &key);
    let flags = ["--key-file", file.to_str().expect("it is text")];
    let host_dir = folder.path().join("host");
    let mut host = Host::start_with(&guarded.broker, &host_dir, "h1", 2, &flags).await;
    admin.deploy(&guest::example("faults"), "work", &[]).await;
    let words = ["key", "rotate", access_key_id(&key), "--grace", "1s"];
    replace(&file, &admin.run(words).await.text());
    host.process.line("no session with the broker").await;
    let ran = admin.run(["run", "work/echo", "x"]).await;
    assert_eq!(ran.text().trim(), "x");
    host.process.stop().await;
    guarded.broker.process.stop().await;
}

#[tokio::test]
async fn key_is_not_sent_to_other_machines_without_tls() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("key");
    std::fs::write(&file, "tq_0123").expect("the folder can be written");
    let file = file.to_str().expect("it is text");
    let data_dir = folder.path().to_str().expect("it is text");
    // An address of documentation, at which nobody is: it is not even dialed.
    let host = ["host", "--broker", "http://192.0.2.1:7171"];
    let host = [&host[..], &["--data-dir", data_dir, "--key-file", file]].concat();
    let ran = Tq::default().run(host).await;
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("would go to `http://192.0.2.1:7171/` without TLS"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("--plaintext"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_control_is_turned_on_once_and_a_lost_key_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data_dir = folder.path().join("data");
    let guarded = Guarded::start(&data_dir).await;
    let path = data_dir.to_str().expect("it is text");
    let tq = Tq::default();
    // While a broker runs on it, nobody else has the directory.
    let ran = tq.run(["admin", "key", "--data-dir", path]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let ran = guarded.broker.tq().run(["whoami"]).await;
    assert_eq!(ran.code, Some(4));
    assert!(
        ran.stderr.contains("this broker wants a credential"),
        "{}",
        ran.stderr
    );
    guarded.broker.process.stop().await;
    let again = tq.run(["broker", "init", "--data-dir", path]).await;
    assert_eq!(again.code, Some(4), "{}", again.stderr);
    assert!(again.stderr.contains("tq admin key"), "{}", again.stderr);
    let other = tq.run(["admin", "key", "--data-dir", path]).await.text();
    let dev = tq.run(["dev", "--data-dir", path]).await;
    assert_eq!(dev.code, Some(2), "{}", dev.stderr);
    assert!(dev.stderr.contains("has access control"), "{}", dev.stderr);
    let broker = Broker::start(&data_dir).await;
    for key in [other.trim(), guarded.admin_key.as_str()] {
        let who = broker.tq().with_env("TQ_KEY", key);
        let who = who.run(["whoami", "--output", "json"]).await.json();
        assert_eq!(who["role"], "admin");
    }
    // What was done without a broker is in the audit log, too.
    let admin = broker.tq().with_env("TQ_KEY", other.trim());
    let records = export(&admin).await;
    let done: Vec<_> = records
        .iter()
        .map(|record| {
            let text = |field: &str| record[field].as_str().expect("it is text").to_owned();
            (text("principal"), text("call"), text("subject"))
        })
        .collect();
    let row = |call: &str, key: &str, name: &str| {
        let subject = format!("key {} ({name})", access_key_id(key));
        ("local".to_owned(), call.to_owned(), subject)
    };
    let expected = [
        row("tq broker init", &guarded.admin_key, "first"),
        row("tq admin key", other.trim(), "recovery"),
    ];
    assert_eq!(done, expected);
    admin.run(["audit", "verify"]).await.ok();
    broker.process.stop().await;
    let open = folder.path().join("open");
    let ran = tq
        .run([
            "admin",
            "key",
            "--data-dir",
            open.to_str().expect("it is text"),
        ])
        .await;
    assert_ne!(ran.code, Some(0), "there is nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tries_many_keys_waits_and_nobody_else_does() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let channel = channel(&guarded.broker).await;
    let path = PathAndQuery::from_static("/tq.v1.AccessService/WhoAmI");
    let wrong = format!("tq_0123456789abcdef_{}", "0".repeat(72));
    let mut codes = BTreeMap::new();
    for _ in 0..100 {
        let answer = call(&channel, &path, Some(&wrong), Bytes::new()).await;
        let status = answer.expect_err("it is no key");
        *codes.entry(status.code() as i32).or_insert(0) += 1;
        call(&channel, &path, Some(&guarded.admin_key), Bytes::new())
            .await
            .expect("a key that is one is let in all the same");
    }
    let waits = codes
        .get(&(Code::ResourceExhausted as i32))
        .copied()
        .unwrap_or(0);
    assert!(waits > 50, "{codes:?}");
    assert!(codes[&(Code::Unauthenticated as i32)] >= 10, "{codes:?}");
    let log = guarded.broker.process.log();
    assert!(log.contains("it is no key"), "{log}");
    assert!(log.matches("credential refused").count() < 40, "{log}");
    // Who is nobody does not reach the audit log, and is counted.
    let records = export(&guarded.tq(&guarded.admin_key)).await;
    assert!(
        records.iter().all(|record| record["principal"] != ""),
        "{records:?}"
    );
    let headers = format!(
        "host: 127.0.0.1\r\nauthorization: Bearer {}\r\n",
        guarded.admin_key
    );
    let metrics = http(&guarded.broker, &get("/metrics", &headers)).await;
    assert!(
        metrics.contains("tq_credentials_refused_total 100\n"),
        "{metrics}"
    );
    guarded.broker.process.stop().await;
}

/// All records of the audit log.
async fn export(tq: &Tq) -> Vec<serde_json::Value> {
    let text = tq.run(["audit", "export"]).await.text();
    let records = text.lines();
    records
        .map(|line| serde_json::from_str(line).expect("it is a record"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_whose_caller_goes_away_is_recorded_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let admin = guarded.tq(&guarded.admin_key);
    let key = guarded.key("deployer", &["acme"]).await;
    let channel = channel(&guarded.broker).await;
    let path = PathAndQuery::from_static("/tq.v1.QueueService/SetQueue");
    let mut given_up = 0;
    for number in 0..200 {
        let mut message = Vec::new();
        for (tag, text) in [(1, "acme".to_owned()), (2, format!("q{number}"))] {
            prost::encoding::string::encode(tag, &text, &mut message);
        }
        // Dropped before its answer, the call resets its stream.
        let patience = Duration::from_micros(100 * (number % 40));
        let call = call(&channel, &path, Some(&key), message.into());
        given_up += u32::from(timeout(patience, call).await.is_err());
    }
    assert!(given_up > 0, "all were answered in time");
    let acme = admin.with_env("TQ_NAMESPACE", "acme");
    let listed = acme.run(["queue", "list", "--output", "json"]).await.json();
    let queues = listed["queues"].as_array().expect("it is a list").iter();
    let queues: BTreeSet<String> = queues
        .map(|queue| format!("queue {}", queue["name"].as_str().expect("it has one")))
        .collect();
    assert!(queues.len() > 1, "{queues:?}");
    eventually("what was changed is recorded", async || {
        let records = export(&admin).await;
        let subjects = records.iter().map(|record| record["subject"].as_str());
        let subjects: BTreeSet<&str> = subjects.flatten().collect();
        queues
            .iter()
            .all(|queue| queue == "queue default" || subjects.contains(queue.as_str()))
            .then_some(())
    })
    .await;
    guarded.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_cannot_push_the_records_of_others_out() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let admin = guarded.tq(&guarded.admin_key);
    let viewer = guarded.key("viewer", &["acme"]).await;
    let submitter = guarded.key("submitter", &["acme"]).await;
    let channel = channel(&guarded.broker).await;
    let path = PathAndQuery::from_static("/tq.v1.TaskService/CancelTask");
    let began = Instant::now();
    let mut tries = 0;
    for _ in 0..30 {
        let calls = (0..30).map(|_| call(&channel, &path, Some(&viewer), Bytes::new()));
        for answer in join_all(calls).await {
            let denied = answer.expect_err("a viewer may not").code();
            assert_eq!(denied, Code::PermissionDenied);
            tries += 1;
        }
        // There is no such task.
        let failed = call(&channel, &path, Some(&submitter), Bytes::new()).await;
        failed.expect_err("it names no task");
    }
    // It has one back, which says what is missing.
    let (recorded, left_out) = eventually("another is recorded", async || {
        let denied = call(&channel, &path, Some(&viewer), Bytes::new()).await;
        denied.expect_err("a viewer may not");
        tries += 1;
        let records = export(&admin).await;
        let of = |key: &str| {
            let name = format!("key {} ", access_key_id(key));
            let own = records.iter().filter(move |record| {
                let who = record["principal"].as_str();
                who.is_some_and(|who| who.starts_with(&name))
            });
            own.collect::<Vec<_>>()
        };
        assert_eq!(of(&submitter).len(), 0, "what has failed changed nothing");
        let recorded = of(&viewer);
        let left_out = recorded.iter().map(|record| record["left_out"].as_u64());
        let left_out: u64 = left_out.flatten().sum();
        (left_out > 0).then_some((recorded.len() as u64, left_out))
    })
    .await;
    let allowed = 600 + began.elapsed().as_secs() + 1;
    assert!(
        recorded > 500 && recorded <= allowed,
        "{recorded}, {allowed}"
    );
    assert!(recorded + left_out <= tries, "{left_out} of {tries}");
    let verified = admin.run(["audit", "verify"]).await;
    verified.ok();
    guarded.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenant_sees_its_own_records_and_nothing_of_what_others_do() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let admin = guarded.tq(&guarded.admin_key);
    let acme_key = guarded.key("admin", &["acme"]).await;
    let acme = guarded.tq(&acme_key);
    let beta = guarded.tq(&guarded.key("admin", &["beta"]).await);
    for queue in ["a", "b", "c"] {
        acme.run(["queue", "set", queue]).await.ok();
        beta.run(["queue", "set", queue]).await.ok();
    }
    refused(&acme, &["queue", "pause", "a", "--namespace", "beta"]).await;
    for (tenant, namespace) in [(&acme, "acme"), (&beta, "beta")] {
        let mut subjects = Vec::new();
        let mut cursor = None;
        loop {
            let mut words = vec!["audit", "list", "--limit", "2", "--output", "json"];
            words.extend(["--namespace", namespace]);
            words.extend(
                cursor
                    .iter()
                    .flat_map(|cursor: &String| ["--cursor", cursor]),
            );
            let listed = tenant.run(words).await.json();
            for record in listed["records"].as_array().expect("it is a list") {
                assert_eq!(record["namespace"], namespace);
                for field in ["seq", "previous", "hash"] {
                    assert!(record[field].is_null(), "{field} says how much others do");
                }
                assert_eq!(record["outcome"], "ok");
                subjects.push(record["subject"].as_str().expect("it is text").to_owned());
            }
            match listed["next"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!(subjects, ["queue c", "queue b", "queue a"], "{namespace}");
    }
    refused(&acme, &["audit", "list", "--namespace", "beta"]).await;
    let records = export(&admin).await;
    let denied: Vec<_> = records
        .iter()
        .filter(|record| record["outcome"] == "permission_denied")
        .collect();
    assert_eq!(denied.len(), 2, "{denied:?}");
    let who = format!("key {} (admin)", access_key_id(&acme_key));
    for record in denied {
        assert_eq!(record["namespace"], "");
        assert_eq!(record["subject"], "namespace beta");
        assert_eq!(record["principal"], who);
    }
    guarded.broker.process.stop().await;
}

/// Sends an HTTP/1 request, and returns its answer.
async fn http(broker: &Broker, request: &str) -> String {
    let address = broker.url().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)
        .await
        .expect("the broker serves");
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("the broker reads");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    within("an answer", read).await.expect("it is text");
    answer
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_broker_keeps_web_pages_out_and_a_guarded_one_its_metrics() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let open = Broker::start(&folder.path().join("open")).await;
    for (headers, expected) in [
        ("host: 127.0.0.1\r\n", "200"),
        ("host: localhost:7171\r\n", "200"),
        ("host: rebound.example\r\n", "403"),
        ("host: localhost\r\norigin: https://evil.example\r\n", "403"),
        (
            "host: localhost\r\norigin: http://localhost:3000\r\n",
            "200",
        ),
    ] {
        let answer = http(&open, &get("/metrics", headers)).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{headers}: {answer}"
        );
    }
    open.process.stop().await;
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let viewer = guarded.key("viewer", &[]).await;
    let of_one = guarded.key("viewer", &["acme"]).await;
    for (authorization, expected) in [
        (String::new(), "401"),
        (format!("authorization: Bearer {viewer}\r\n"), "200"),
        (format!("authorization: Bearer {of_one}\r\n"), "403"),
    ] {
        let headers = format!("host: 127.0.0.1\r\n{authorization}");
        let answer = http(&guarded.broker, &get("/metrics", &headers)).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{answer}"
        );
    }
    guarded.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_log_has_every_change_and_tells_when_it_was_tampered_with() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut guarded = Guarded::start(&folder.path().join("data")).await;
    let admin = guarded.tq(&guarded.admin_key);
    let acme_key = guarded.key("admin", &["acme"]).await;
    let acme = guarded.tq(&acme_key);
    acme.deploy(&guest::example("faults"), "work", &[]).await;
    acme.run(["queue", "set", "mail", "--concurrency", "3"])
        .await
        .ok();
    let sender = acme.run_with_input(["secret", "set", "stripe"], b"very secret value");
    sender.await.ok();
    refused(&acme, &["queue", "pause", "mail", "--namespace", "beta"]).await;
    guarded.broker.kill9_and_restart().await;
    acme.run(["queue", "pause", "mail"]).await.ok();
    let listed = acme
        .run(["audit", "list", "--namespace", "acme", "--output", "json"])
        .await
        .json();
    let records = listed["records"].as_array().expect("it is a list");
    let seen: Vec<_> = records
        .iter()
        .map(|record| {
            let text = |field: &str| record[field].as_str().expect("it is text").to_owned();
            (text("call"), text("subject"), text("outcome"))
        })
        .collect();
    let row = |call: &str, subject: &str| (call.to_owned(), subject.to_owned(), "ok".to_owned());
    let expected = [
        row("QueueService/PauseQueue", "queue mail"),
        row("SecretService/SetSecret", "secret stripe"),
        row("QueueService/SetQueue", "queue mail"),
        row("ModuleService/UploadModule", "module work"),
    ];
    assert_eq!(seen, expected);
    let who = records[0]["principal"].as_str().expect("it is text");
    assert_eq!(who, format!("key {} (admin)", access_key_id(&acme_key)));
    let export = admin.run(["audit", "export"]).await.text();
    assert!(!export.contains("very secret value"));
    assert!(export.contains("\"permission_denied\""), "{export}");
    assert!(export.contains("AccessService/CreateApiKey"), "{export}");
    let verified = admin
        .run(["audit", "verify", "--output", "json"])
        .await
        .json();
    assert_eq!(verified["is_whole"], true);
    assert_eq!(verified["is_end_known"], true);
    assert_eq!(verified["first_seq"], 1);
    let head = verified["last_hash"]
        .as_str()
        .expect("it has one")
        .to_owned();

    let path = folder.path().join("audit.jsonl");
    let lines: Vec<&str> = export.lines().collect();
    let verify = async |lines: &[String], head: Option<&str>| {
        std::fs::write(&path, lines.join("\n")).expect("the folder can be written");
        let mut words = vec!["audit", "verify", path.to_str().expect("it is text")];
        words.extend(head.into_iter().flat_map(|head| ["--head", head]));
        let ran = Tq::default().run(words).await;
        (ran.code, ran.stderr)
    };
    let own = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| (*line).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(verify(&own(&lines), Some(&head)).await.0, Some(0));
    let (code, text) = verify(&own(&lines), None).await;
    assert_eq!(code, Some(0));
    assert!(text.contains("cannot be told from a file"), "{text}");
    let (code, text) = verify(&own(&lines[2..]), Some(&head)).await;
    assert_eq!(code, Some(1), "the front was cut off");
    assert!(text.contains("from 1 to 2 are missing"), "{text}");
    let mut altered = own(&lines);
    altered[1] = altered[1].replace("\"ok\"", "\"no\"");
    let (code, text) = verify(&altered, None).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("was altered"), "{text}");
    let mut removed = own(&lines);
    removed.remove(1);
    let (code, text) = verify(&removed, None).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("is missing"), "{text}");
    let (code, text) = verify(&own(&lines[..lines.len() - 1]), Some(&head)).await;
    assert_eq!(code, Some(1), "the end was cut off");
    assert!(text.contains("there is no record with the hash"), "{text}");
    guarded.broker.process.stop().await;
}
