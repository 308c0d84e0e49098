//! What other programs rely on: reflection, health and metrics.

use std::collections::BTreeSet;

use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tq_client::NewTask;
use tq_tests::{Dev, guest, metrics, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_names_every_service_and_describes_it() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 1).await;
    let channel = Endpoint::from_shared(dev.url().to_owned())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = ServerReflectionClient::new(channel);
    let ask = |message: MessageRequest| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let asked = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "tq.v1.TaskService".to_owned(),
        )),
    ];
    let mut answers = client
        .server_reflection_info(futures_util::stream::iter(asked))
        .await
        .unwrap()
        .into_inner();
    let listed = within("the services", answers.message())
        .await
        .unwrap()
        .unwrap()
        .message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed else {
        panic!("{listed:?}")
    };
    let names: BTreeSet<&str> = listed
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for name in [
        "grpc.health.v1.Health",
        "tq.v1.DeadLetterService",
        "tq.v1.HostLink",
        "tq.v1.HostService",
        "tq.v1.ModuleService",
        "tq.v1.NamespaceService",
        "tq.v1.TaskService",
    ] {
        assert!(names.contains(name), "{names:?}");
    }
    let described = within("the file", answers.message())
        .await
        .unwrap()
        .unwrap()
        .message_response;
    let Some(MessageResponse::FileDescriptorResponse(files)) = described else {
        panic!("{described:?}")
    };
    assert!(
        files
            .file_descriptor_proto
            .iter()
            .any(|file| file.windows(10).any(|part| part == b"SubmitResp")),
        "it describes Submit"
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_that_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 1).await;
    let channel = Endpoint::from_shared(dev.url().to_owned())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = HealthClient::new(channel);
    // No name is the broker as a whole, which is what probes ask for.
    let answer = client
        .check(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    let unknown = client
        .check(HealthCheckRequest {
            service: "tq.v1.Nothing".to_owned(),
        })
        .await;
    assert_eq!(
        unknown.expect_err("there is no such service").code(),
        tonic::Code::NotFound
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 1).await;
    dev.tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    for (call, code) in [
        ("run faults/echo a", 0),
        ("run faults/echo b", 0),
        ("run faults/fail_fatal c", 1),
        // Refused by the ledger, and before it.
        ("run faults/echo d --deadline 2020-01-01T00:00:00Z", 4),
        ("run faults/nothing e", 3),
        ("run faults/echo f --fuel 0", 4),
    ] {
        assert_eq!(
            dev.tq().run(call.split(' ')).await.code,
            Some(code),
            "{call}"
        );
    }
    // A request is counted once, whatever its tasks are.
    let bad = NewTask {
        function: "faults/echo".to_owned(),
        priority: Some(300),
        ..NewTask::default()
    };
    let client = dev.client().await;
    client
        .submit(vec![bad; 3])
        .await
        .expect_err("there is no such priority");
    for (name, expected) in [
        ("tq_tasks_submitted_total", "3"),
        ("tq_submits_refused_total", "4"),
        ("tq_tasks{state=\"succeeded\"}", "2"),
        ("tq_tasks{state=\"dead\"}", "1"),
        ("tq_tasks{state=\"ready\"}", "0"),
        ("tq_tasks_ended_total{state=\"succeeded\"}", "2"),
        ("tq_attempts_settled_total{outcome=\"fatal_error\"}", "1"),
        ("tq_attempts_dispatched_total", "3"),
        ("tq_attempts_fenced_total", "0"),
        ("tq_attempt_duration_seconds_count", "3"),
        ("tq_hosts_connected", "1"),
        ("tq_invariant_violations_total", "0"),
    ] {
        assert_eq!(
            metrics::sample(dev.url(), name).await.to_string(),
            expected,
            "{name}"
        );
    }
    let text = metrics::text(dev.url()).await;
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(
        text.contains(&format!(
            "tq_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        )),
        "{text}"
    );
    dev.process.stop().await;
}
