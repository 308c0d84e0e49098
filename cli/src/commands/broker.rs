//! `tq broker`

use tq_broker::Broker;

use crate::config::Config;
use crate::exit::Exit;
use crate::nodes::{StopSignals, check_listen, url};
use crate::output;

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let data_dir = &config.broker_data_dir.value;
    check_listen(config.broker_listen.value)?;
    let mut stop = StopSignals::listen()?;
    let mut settings = tq_broker::Config::new(data_dir.clone(), config.broker_listen.value);
    if let Some(key) = &config.broker_secrets_key.value {
        settings.secrets_key.clone_from(key);
    }
    settings.waiting_max = config.broker_max_waiting.value.get();
    let broker = Broker::start(settings).await?;
    output::note(format!(
        "tq broker is ready at {}, with its data in {}",
        url(broker.address()),
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
