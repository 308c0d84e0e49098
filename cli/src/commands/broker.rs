//! `tq broker`

use tq_broker::access::jwt::Issuer;
use tq_broker::admin::{self, KeyError};
use tq_broker::{Broker, ServerFiles};

use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::nodes::{self, StopSignals};
use crate::output;

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let data_dir = &config.broker_data_dir.value;
    nodes::check_connects_by_no_tls(config, "`tq broker`")?;
    let tls = server_files(config)?;
    nodes::raise_open_files();
    let mut stop = StopSignals::listen()?;
    let mut settings = tq_broker::Config::new(data_dir.clone(), config.broker_listen.value);
    if let Some(key) = &config.broker_secrets_key.value {
        settings.secrets_key.clone_from(key);
    }
    settings
        .webhook_networks
        .clone_from(&config.broker_webhook_networks.value.0);
    settings.waiting_max = config.broker_max_waiting.value.get();
    settings.tokens = issuer(config)?;
    settings
        .cors_origins
        .clone_from(&config.broker_cors_origins.value.0);
    let scheme = if tls.is_some() { "https" } else { "http" };
    settings.tls = tls;
    settings.plaintext = config.broker_plaintext.value;
    let broker = Broker::start(settings).await.map_err(explained)?;
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

/// Whose tokens are taken. What is said of them is said whole.
fn issuer(config: &Config) -> Result<Option<Issuer>, Failure> {
    let settings = (
        &config.broker_jwt_issuer.value,
        &config.broker_jwt_audience.value,
        &config.broker_jwt_keys.value,
    );
    match settings {
        (None, None, None) => Ok(None),
        (Some(name), Some(audience), Some(keys)) => Ok(Some(Issuer {
            name: name.clone(),
            audience: audience.clone(),
            keys: keys.0.clone(),
        })),
        _ => Err(Failure::usage(
            "tokens are taken if --jwt-issuer, --jwt-audience and --jwt-keys are all given",
        )
        .hint("give the others, or none of them")),
    }
}

/// Turns access control on.
pub(crate) fn init(config: &Config) -> anyhow::Result<Exit> {
    let data_dir = &config.broker_data_dir.value;
    let key = admin::init(data_dir).map_err(|error| match error {
        KeyError::HasAccessControl(_) => {
            let hint = format!(
                "`tq admin key --data-dir {}` makes another key of an administrator, while the broker is stopped",
                data_dir.display()
            );
            anyhow::Error::from(Failure::new(Exit::Refused, error.to_string()).hint(hint))
        }
        other => other.into(),
    })?;
    output::line(key)?;
    output::note(format!(
        "access control is on for {}; the key on standard output is of an administrator for all namespaces, and shown this once",
        data_dir.display()
    ));
    output::note(
        "next: start `tq broker`, give your clients the key by TQ_KEY or --key-file, and make others with `tq key create`",
    );
    Ok(Exit::Succeeded)
}

fn explained(error: tq_broker::Error) -> anyhow::Error {
    match error {
        tq_broker::Error::NotLoopback(_) => Failure::usage(error.to_string())
            .hint("`tq broker init` turns access control on; a tunnel such as `ssh -L` reaches a loopback address from elsewhere")
            .into(),
        tq_broker::Error::NoTls(_) => Failure::usage(error.to_string())
            .hint("give --tls-cert and --tls-key; behind a proxy that speaks TLS, --plaintext")
            .into(),
        tq_broker::Error::TokensForNothing(_) => Failure::usage(error.to_string())
            .hint("`tq broker init` turns access control on")
            .into(),
        other => other.into(),
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
