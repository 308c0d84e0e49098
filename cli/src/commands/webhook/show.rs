//! `tq webhook show`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let webhook = connect(config).await?.webhook(name).await?;
    super::print(config, &webhook)?;
    Ok(Exit::Succeeded)
}
