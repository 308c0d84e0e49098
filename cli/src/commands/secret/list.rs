//! `tq secret list`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config) -> anyhow::Result<Exit> {
    let secrets = connect(config).await?.secrets().await?;
    super::print(config, &secrets)?;
    Ok(Exit::Succeeded)
}
