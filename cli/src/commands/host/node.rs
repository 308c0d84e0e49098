//! `tq host`: the node itself.

use tq_client::Remote;
use tq_host::Host;

use crate::commands::waiting;
use crate::config::Config;
use crate::exit::Exit;
use crate::nodes::{self, StopSignals};
use crate::output;
use crate::units::Size;

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let Remote { url: broker, tls } = nodes::remote(config)?;
    // Clients may leave the scheme out, so hosts may too.
    let broker = if broker.contains("://") {
        broker
    } else {
        format!("http://{broker}")
    };
    let name = &config.host_name.value;
    let data_dir = &config.host_data_dir.value;
    let mut host_config = tq_host::Config::new(
        broker.clone(),
        name.clone(),
        config.host_slots.value,
        data_dir.clone(),
    );
    host_config.credential = config.bearer()?;
    host_config.labels = config.host_labels.value.0.clone();
    host_config.memory_bytes = config.host_memory.value.map(|Size(bytes)| bytes);
    host_config.ceilings = config.host_ceilings.value.of_host();
    host_config.isolation = config.host_isolation.value.into();
    host_config.allowed_networks = config.host_allow_networks.value.0.clone();
    host_config.broker_tls = tls;
    host_config.metrics_listen = config.host_metrics_listen.value;
    host_config.metrics_tls = nodes::key_pair(
        ("--metrics-tls-cert", &config.host_metrics_tls_cert),
        ("--metrics-tls-key", &config.host_metrics_tls_key),
    )?;
    let metrics_scheme = match host_config.metrics_tls {
        Some(_) => "https",
        None => "http",
    };
    let mut stop = StopSignals::listen()?;
    let host = Host::start(host_config).await?;
    // A host whose broker is away waits for it, however long that takes.
    let mut failed = None;
    let is_ready = tokio::select! {
        () = host.ready() => true,
        error = host.failed() => {
            failed = Some(error);
            false
        }
        () = stop.next() => false,
        never = waiting::for_broker(&broker) => match never {},
    };
    if is_ready {
        let metrics = match host.metrics_address() {
            Some(address) => format!(", metrics at {metrics_scheme}://{address}/metrics"),
            None => String::new(),
        };
        output::note(format!(
            "tq host `{name}` is ready to work for {broker}, with its data in {}{metrics}",
            data_dir.display()
        ));
        failed = tokio::select! {
            error = host.failed() => Some(error),
            () = stop.next() => None,
        };
    }
    let exit = stop
        .shut_down(async {
            host.shutdown().await;
            Ok(())
        })
        .await;
    match failed {
        Some(error) => Err(error.into()),
        None => exit,
    }
}
