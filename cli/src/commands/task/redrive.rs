//! `tq task redrive`

use crate::commands::{connect, task};
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config, id: &str) -> anyhow::Result<Exit> {
    let redriven = connect(config).await?.redrive_task(id).await?;
    task::print_state(config, &redriven)?;
    Ok(Exit::Succeeded)
}
