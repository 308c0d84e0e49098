//! `tq queue show`

use crate::commands::{connect, queue};
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let found = connect(config).await?.queue(name).await?;
    queue::print(config, &found)?;
    Ok(Exit::Succeeded)
}
