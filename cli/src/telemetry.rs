//! Logs to standard error and, where asked for, traces to a collector.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use anyhow::Context as _;
use clap::ValueEnum;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt as log};

use crate::config::Config;
use crate::exit::Failure;
use crate::output;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as ValueEnum>::from_str(text, false)
            .map_err(|_| format!("`{text}` is not a log format; use `text` or `json`"))
    }
}

/// What this process is, and so what it logs unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A broker or a host: its life is logged, and its traces are sent if a collector is named.
    Node,
    /// Everything else: only warnings.
    Client,
}

/// What has been switched on. Has to be shut down, so that the last traces are sent.
#[derive(Debug)]
pub(crate) struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Switches the log on, and traces if this is a node and a collector is named. Call inside of the run time, once.
///
/// # Errors
/// A filter or an endpoint that cannot be used.
pub(crate) fn start(config: &Config, role: Role) -> anyhow::Result<Telemetry> {
    let level = match role {
        // The store below the broker tells each of its steps at this level.
        Role::Node => "warn,tq=info,tq_broker=info,tq_host=info",
        Role::Client => "warn",
    };
    let directives = config.log_filter.value.as_deref().unwrap_or(level);
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Failure::usage(format!(
            "log filter `{directives}` ({}): {error}",
            config.log_filter.origin
        ))
        .hint("write it like `debug` or `info,tq_broker=debug`")
    })?;
    let is_colored = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = match config.log_format.value {
        LogFormat::Text => log::layer()
            .with_writer(io::stderr)
            .with_ansi(is_colored)
            .boxed(),
        LogFormat::Json => log::layer().json().with_writer(io::stderr).boxed(),
    };
    let traces = match (role, &config.otlp_endpoint.value) {
        (Role::Node, Some(endpoint)) => Some(provider(endpoint)?),
        (Role::Node, None) | (Role::Client, _) => None,
    };
    let spans = traces.as_ref().map(|provider| {
        // Traces have their own level, or a quiet log would mean no spans.
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("tq"))
            .with_filter(
                tracing_subscriber::filter::Targets::new()
                    .with_target("tq_broker", tracing::Level::DEBUG)
                    .with_target("tq_host", tracing::Level::DEBUG),
            )
    });
    tracing_subscriber::registry()
        .with(spans)
        .with(log.with_filter(filter))
        .init();
    Ok(Telemetry { traces })
}

fn provider(endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("traces cannot be sent to `{endpoint}`"))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("tq").build())
        .build();
    opentelemetry::global::set_tracer_provider(provider.clone());
    Ok(provider)
}

impl Telemetry {
    /// Sends what is left. After the nodes have stopped, and before the run time does. Blocks for at most a few seconds.
    pub(crate) fn shutdown(self) {
        let Self { traces } = self;
        if let Some(Err(error)) = traces.map(|provider| provider.shutdown()) {
            output::note(format!("warning: the last traces were not sent: {error}"));
        }
    }
}
