//! `tq dev`

use crate::config::{Config, Origin};
use crate::exit::Exit;
use crate::nodes::{Pair, StopSignals, check_listen};
use crate::output;

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let data_dir = &config.dev_data_dir.value;
    let listen = config.dev_listen.value;
    check_listen(listen)?;
    let networks = config.dev_allow_networks.value.0.clone();
    let mut stop = StopSignals::listen()?;
    let (slots, isolation) = (config.dev_slots.value, config.dev_isolation.value);
    let pair = tokio::select! {
        started = Pair::start(data_dir, listen, slots, isolation, networks) => started?,
        () = stop.next() => return Ok(Exit::Interrupted),
    };
    let url = pair.url();
    output::note(format!(
        "tq dev is ready at {url}, with its data in {}",
        data_dir.display()
    ));
    // Clients that are told nothing look at the default address.
    let address = match config.dev_listen.origin {
        Origin::Default => String::new(),
        Origin::Flag | Origin::Variable(_) | Origin::File(_) => {
            format!("export TQ_BROKER={url} && ")
        }
    };
    output::note(format!(
        "next, in another terminal: {address}tq new greet && cd greet && tq deploy && tq run greet '{{\"name\":\"Ada\"}}'"
    ));
    let failed = tokio::select! {
        error = pair.failed() => Some(error),
        () = stop.next() => None,
    };
    let exit = stop.shut_down(pair.shutdown()).await;
    match failed {
        Some(error) => Err(error),
        None => exit,
    }
}
