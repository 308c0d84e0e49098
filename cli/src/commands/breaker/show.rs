//! `tq breaker show`

use crate::commands::{breaker, connect};
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config, function: &str) -> anyhow::Result<Exit> {
    let found = connect(config).await?.breaker(function).await?;
    breaker::print(config, &found)?;
    Ok(Exit::Succeeded)
}
