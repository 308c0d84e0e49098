//! `tq webhook pause`, `resume`, `delete` and `redeliver`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn pause(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let webhook = connect(config).await?.pause_webhook(name).await?;
    super::print(config, &webhook)?;
    Ok(Exit::Succeeded)
}

pub(crate) async fn resume(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let webhook = connect(config).await?.resume_webhook(name).await?;
    super::print(config, &webhook)?;
    Ok(Exit::Succeeded)
}

pub(crate) async fn delete(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let webhook = connect(config).await?.delete_webhook(name).await?;
    super::print(config, &webhook)?;
    Ok(Exit::Succeeded)
}

pub(crate) async fn redeliver(config: &Config, name: &str, id: &str) -> anyhow::Result<Exit> {
    let webhook = connect(config).await?.redeliver(name, id).await?;
    super::print(config, &webhook)?;
    Ok(Exit::Succeeded)
}
