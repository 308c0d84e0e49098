//! `tq retention show`

use crate::commands::{connect, retention};
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let found = connect(config).await?.retention().await?;
    retention::print(config, &found)?;
    Ok(Exit::Succeeded)
}
