//! `tq host drain`

use std::time::Duration;

use tq_client::{Client, Host, HostState};

use crate::commands::connect;
use crate::commands::host::show;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::nodes::StopSignals;
use crate::output;
use crate::units::Span;

/// How often the broker is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) async fn run(
    config: &Config,
    name: &str,
    deadline: Span,
    no_wait: bool,
) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    let mut stop = StopSignals::listen()?;
    let host = client
        .drain_host(name, Duration::from_millis(deadline.0))
        .await?;
    if no_wait {
        return show::print(config, &host);
    }
    let drained = tokio::select! {
        drained = until_drained(&client, host) => drained?,
        () = stop.next() => {
            output::note(format!(
                "the drain of host `{name}` goes on\nhint: `tq host show {name}` says how far it is; `tq host resume {name}` ends it"
            ));
            return Ok(Exit::Interrupted);
        }
    };
    show::print(config, &drained)
}

/// Looks until the host is empty, and says how far it is whenever that has changed.
async fn until_drained(client: &Client, mut host: Host) -> anyhow::Result<Host> {
    let mut told = None;
    loop {
        match host.state() {
            HostState::Drained => return Ok(host),
            HostState::Draining => {}
            HostState::Unspecified
            | HostState::Connected
            | HostState::Silent
            | HostState::Paused
            | HostState::Quarantined => {
                let ended = format!("host `{}` does not drain any more", host.name);
                return Err(Failure::new(Exit::Ended, ended)
                    .hint("someone resumed it meanwhile; drain it again if that was a mistake")
                    .into());
            }
        }
        if told != Some(host.running) {
            told = Some(host.running);
            output::note(format!(
                "draining host `{}`: {} attempts left",
                host.name, host.running
            ));
        }
        tokio::time::sleep(LOOK).await;
        host = client.host(&host.name).await?;
    }
}
