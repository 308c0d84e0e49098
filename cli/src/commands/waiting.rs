//! What is said to somebody who waits for something that cannot come by itself.

use std::convert::Infallible;
use std::future;
use std::time::Duration;

use tq_client::{Client, HostState};

use crate::output;

/// How long a wait may take before the reason is looked for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says, if nobody is there to run tasks, that this is so. Never resolves: it stands beside a wait for tasks.
pub(crate) async fn for_tasks(client: &Client) -> Infallible {
    tokio::time::sleep(PATIENCE).await;
    // If the hosts cannot be asked for, the wait itself tells why.
    if let Ok(hosts) = client.hosts().await
        && !hosts
            .iter()
            .any(|host| host.state() == HostState::Connected)
    {
        let url = client.url();
        output::note(format!(
            "still waiting: broker at `{url}` has no host, so nothing runs\n\
             hint: start one with `tq host --broker {url}` in another terminal; `tq dev` has one of its own"
        ));
    }
    future::pending().await
}

/// Says that the broker is not there yet. Never resolves: it stands beside a host's wait for its broker.
pub(crate) async fn for_broker(url: &str) -> Infallible {
    tokio::time::sleep(PATIENCE).await;
    output::note(format!(
        "still waiting: no session with a broker at `{url}` yet; it is tried again and again\n\
         hint: if none runs there, start one with `tq broker`, or name another with --broker URL or TQ_BROKER"
    ));
    future::pending().await
}
