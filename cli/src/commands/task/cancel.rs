//! `tq task cancel`

use crate::commands::{connect, task};
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config, id: &str) -> anyhow::Result<Exit> {
    let cancelled = connect(config).await?.cancel_task(id).await?;
    task::print_state(config, &cancelled)?;
    Ok(Exit::Succeeded)
}
