//! `tq namespace show`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let settings = connect(config).await?.namespace_settings(name).await?;
    super::print(config, &settings)?;
    Ok(Exit::Succeeded)
}
