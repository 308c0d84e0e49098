//! `tq key rotate`

use std::time::Duration;

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::units::Span;

pub(crate) async fn run(config: &Config, id: &str, grace: Span) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    let (key, text) = client
        .rotate_api_key(id, Duration::from_millis(grace.0))
        .await?;
    super::print_text(config, &key, &text)?;
    Ok(Exit::Succeeded)
}
