//! Traces that are switched on reach a collector, and one trace leads from the caller over the submit to the attempt.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tq_tests::{Dev, within};

/// A collector that passes on every span that it is sent.
struct Collector(mpsc::UnboundedSender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        for span in resources
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
        {
            self.0
                .send(span)
                .map_err(|_| Status::unavailable("the test is over"))?;
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (SocketAddr, mpsc::UnboundedReceiver<Span>) {
    let (sender, spans) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    let server =
        tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    #[expect(
        clippy::disallowed_methods,
        reason = "the collector lives as long as the test's run time"
    )]
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, spans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_caller_to_the_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let (address, mut spans) = collector().await;
    let endpoint = format!("http://{address}");
    let dev = Dev::start_with(
        &folder.path().join("data"),
        2,
        &["--otlp-endpoint", &endpoint],
    )
    .await;
    dev.tq()
        .deploy(&tq_tests::guest::example("faults"), "faults", &[])
        .await;
    let ran = dev
        .tq()
        .run(["run", "faults/echo", "traced", "--output", "json"])
        .await
        .json();
    let sent = ran["traceparent"].as_str().unwrap_or_default().to_owned();
    // A node that stops sends what it has left.
    dev.process.stop().await;

    let (mut submit, mut attempt) = (None, None);
    while submit.is_none() || attempt.is_none() {
        let span = within("a span", spans.recv())
            .await
            .expect("the collector is there");
        match span.name.as_str() {
            "submit task" => submit = Some(span),
            "run attempt" => attempt = Some(span),
            _ => {}
        }
    }
    let (submit, attempt) = (submit.unwrap(), attempt.unwrap());
    assert!(
        !submit.parent_span_id.is_empty(),
        "the caller's span is the parent of the submit"
    );
    assert_eq!(
        (&attempt.trace_id, &attempt.parent_span_id),
        (&submit.trace_id, &submit.span_id)
    );
    let hex: String = attempt
        .trace_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(
        sent.contains(&hex),
        "the task carries `{sent}`, and its attempt ran in trace {hex}"
    );
}
