//! `tq key list`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let keys = connect(config).await?.api_keys().await?;
    super::print(config, &keys)?;
    Ok(Exit::Succeeded)
}
