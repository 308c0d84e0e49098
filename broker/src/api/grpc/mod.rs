//! `tq.v1` over gRPC.

mod access;
mod arriving;
mod audit;
mod blocking;
mod convert;
mod dead_letters;
mod function_filter;
mod hosts;
mod keyvalue;
mod link;
mod modules;
mod namespaces;
mod payloads;
mod queues;
mod reads;
mod request;
mod resilience;
mod retention;
mod secrets;
#[cfg(feature = "simulation")]
pub mod simulation;
mod tasks;
mod typed;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tq_core::Grants;
use tq_core::limits::MESSAGE_BYTES_MAX;
use tq_proto::v1::access_service_server::AccessServiceServer;
use tq_proto::v1::dead_letter_service_server::DeadLetterServiceServer;
use tq_proto::v1::host_link_server::HostLinkServer;
use tq_proto::v1::host_service_server::HostServiceServer;
use tq_proto::v1::key_value_service_server::KeyValueServiceServer;
use tq_proto::v1::module_service_server::ModuleServiceServer;
use tq_proto::v1::namespace_service_server::NamespaceServiceServer;
use tq_proto::v1::queue_service_server::QueueServiceServer;
use tq_proto::v1::resilience_service_server::ResilienceServiceServer;
use tq_proto::v1::retention_service_server::RetentionServiceServer;
use tq_proto::v1::secret_service_server::SecretServiceServer;
use tq_proto::v1::task_service_server::TaskServiceServer;
use tq_proto::v1::webhook_service_server::WebhookServiceServer;

use crate::access::{Guard, Tokens, guard};
use crate::api::rest::{self, CorsOrigin};
use crate::api::status::ApiError;
use crate::blobs::Blobs;
use crate::dispatch::message::AttemptRef;
use crate::ledger::{Command, Handle, lock, wall};
use crate::secrets::Vault;
use crate::webhooks::Sender;

pub(super) use convert::task_out;

/// What every service works with.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) ledger: Handle,
    pub(crate) blobs: Blobs,
    pub(crate) vault: Arc<Vault>,
    /// Sends what webhooks tell.
    pub(crate) hooks: Arc<Sender>,
    /// Lets in so many searches at once.
    pub(crate) searches: Arc<Semaphore>,
    /// Long streams end when the broker stops.
    pub(crate) stop: CancellationToken,
}

impl Context {
    /// What an attempt was granted that asks for something while it runs.
    async fn granted(&self, attempt: AttemptRef) -> Result<Arc<Grants>, Status> {
        let granted = self.ledger.ask(|reply| Command::Granted(attempt, reply));
        let granted = granted.await.map_err(ApiError::from)?;
        Ok(granted.map_err(ApiError::from)?)
    }
}

/// Every route of the broker: `tq.v1` with reflection and health, `/v1` for pages of `origins` too, and `/metrics`. Among `calls` are those that go on even if their caller
/// goes away.
///
/// # Panics
/// If the generated descriptors are not what they were generated to be.
pub(crate) async fn routes(
    context: Context,
    tokens: Option<Arc<Tokens>>,
    origins: &[CorsOrigin],
    calls: TaskTracker,
) -> Router {
    let ledger = context.ledger.clone();
    let (health, health_service) = tonic_health::server::health_reporter();
    // For good: a broker that answers at all serves, and one that cannot serve stops.
    health
        .set_serving::<TaskServiceServer<tasks::Tasks>>()
        .await;
    health
        .set_serving::<ModuleServiceServer<modules::Modules>>()
        .await;
    health
        .set_serving::<HostServiceServer<hosts::Hosts>>()
        .await;
    health
        .set_serving::<QueueServiceServer<queues::Queues>>()
        .await;
    health
        .set_serving::<DeadLetterServiceServer<dead_letters::DeadLetters>>()
        .await;
    health
        .set_serving::<NamespaceServiceServer<namespaces::Namespaces>>()
        .await;
    health
        .set_serving::<ResilienceServiceServer<resilience::Resilience>>()
        .await;
    health
        .set_serving::<RetentionServiceServer<retention::Retentions>>()
        .await;
    health
        .set_serving::<SecretServiceServer<secrets::Secrets>>()
        .await;
    health
        .set_serving::<AccessServiceServer<access::Access>>()
        .await;
    health
        .set_serving::<WebhookServiceServer<webhooks::Webhooks>>()
        .await;
    health
        .set_serving::<KeyValueServiceServer<keyvalue::KeyValues>>()
        .await;
    health.set_serving::<HostLinkServer<link::Link>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tq_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let grpc = tonic::service::Routes::builder()
        .routes()
        .add_service(
            TaskServiceServer::new(tasks::Tasks(context.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            ModuleServiceServer::new(modules::Modules::new(context.clone()))
                .max_decoding_message_size(modules::UPLOAD_MESSAGE_BYTES_MAX),
        )
        .add_service(QueueServiceServer::new(queues::Queues(context.clone())))
        .add_service(ResilienceServiceServer::new(resilience::Resilience(
            context.clone(),
        )))
        .add_service(RetentionServiceServer::new(retention::Retentions(
            context.clone(),
        )))
        .add_service(HostServiceServer::new(hosts::Hosts(context.clone())))
        .add_service(
            DeadLetterServiceServer::new(dead_letters::DeadLetters(context.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(NamespaceServiceServer::new(namespaces::Namespaces(
            context.clone(),
        )))
        .add_service(KeyValueServiceServer::new(keyvalue::KeyValues(
            context.clone(),
        )))
        .add_service(AccessServiceServer::new(access::Access(context.clone())))
        .add_service(SecretServiceServer::new(secrets::Secrets(context.clone())))
        .add_service(WebhookServiceServer::new(webhooks::Webhooks(
            context.clone(),
        )))
        .add_service(
            HostLinkServer::new(link::Link(context)).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(health_service)
        .add_service(
            reflection()
                .build_v1()
                .expect("generated descriptors decode"),
        )
        .add_service(
            reflection()
                .build_v1alpha()
                .expect("generated descriptors decode"),
        )
        .prepare()
        .into_axum_router();
    let of_metrics = ledger.clone();
    let metrics = move || {
        let shared = of_metrics.shared();
        let counters = *lock(&shared.counters);
        shared.admission.tend(wall());
        let text = shared.metrics.encode(&counters);
        async move {
            (
                [(
                    CONTENT_TYPE,
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                )],
                text,
            )
        }
    };
    let gate = Guard::new(ledger, tokens, calls);
    let services = Router::new()
        .route("/metrics", get(metrics))
        .merge(grpc)
        .layer(from_fn_with_state(gate, guard));
    // Beside the gate: what comes this way goes through it as the call that it is.
    rest::routes(&services, origins).merge(services)
}
