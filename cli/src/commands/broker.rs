//! `tq broker`

use tq_broker::{Broker, ServerFiles};

use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::nodes::{self, StopSignals, check_listen};
use crate::output;

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let data_dir = &config.broker_data_dir.value;
    check_listen(config.broker_listen.value)?;
    nodes::check_connects_by_no_tls(config, "`tq broker`")?;
    let tls = server_files(config)?;
    nodes::raise_open_files();
    let mut stop = StopSignals::listen()?;
    let mut settings = tq_broker::Config::new(data_dir.clone(), config.broker_listen.value);
    if let Some(key) = &config.broker_secrets_key.value {
        settings.secrets_key.clone_from(key);
    }
    settings.waiting_max = config.broker_max_waiting.value.get();
    let scheme = if tls.is_some() { "https" } else { "http" };
    settings.tls = tls;
    settings.plaintext = config.broker_plaintext.value;
    let broker = Broker::start(settings).await?;
    output::note(format!(
        "tq broker is ready at {scheme}://{}, with its data in {}",
        broker.address(),
        data_dir.display()
    ));
    let failed = tokio::select! {
        error = broker.failed() => Some(error),
        () = stop.next() => None,
    };
    let exit = stop.shut_down(async { Ok(broker.shutdown().await?) }).await;
    match failed {
        Some(error) => Err(error.into()),
        None => exit,
    }
}

/// What it serves TLS with, if it does.
fn server_files(config: &Config) -> Result<Option<ServerFiles>, Failure> {
    let own = nodes::key_pair(
        ("--tls-cert", &config.broker_tls_cert),
        ("--tls-key", &config.broker_tls_key),
    )?;
    let client_ca = config.broker_tls_client_ca.value.clone();
    match own {
        Some(_) if config.broker_plaintext.value => Err(Failure::usage(
            "--plaintext contradicts --tls-cert: the broker speaks TLS or does not",
        )
        .hint(
            "leave out --plaintext, or the certificate if a proxy in front of the broker has it",
        )),
        Some(own) => Ok(Some(ServerFiles { own, client_ca })),
        None if client_ca.is_some() => Err(Failure::usage(
            "--tls-client-ca has no effect without a certificate of the broker's own",
        )
        .hint("give --tls-cert and --tls-key too")),
        None => Ok(None),
    }
}
