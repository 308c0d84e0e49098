//! `tq key revoke`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config, id: &str) -> anyhow::Result<Exit> {
    let revoked = connect(config).await?.revoke_api_key(id).await?;
    super::print(config, &[revoked])?;
    Ok(Exit::Succeeded)
}
