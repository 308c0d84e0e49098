//! `tq secret delete`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let deleted = connect(config).await?.delete_secret(name).await?;
    super::print(config, &[deleted])?;
    Ok(Exit::Succeeded)
}
