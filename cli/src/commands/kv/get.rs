//! `tq kv get`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};

pub(crate) async fn run(config: &Config, bucket: &str, key: &str) -> anyhow::Result<Exit> {
    let found = connect(config).await?.value(bucket, key).await?;
    match config.output.value {
        Format::Table => output::result(&found.value)?,
        Format::Json => json::print(&json::KeyValue::new(bucket, key, &found))?,
    }
    Ok(Exit::Succeeded)
}
