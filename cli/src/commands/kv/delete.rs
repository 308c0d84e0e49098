//! `tq kv delete`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};

pub(crate) async fn run(config: &Config, bucket: &str, key: Option<&str>) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    let (text, keys) = match key {
        Some(key) => {
            client.delete_value(bucket, key).await?;
            let key = key.escape_debug();
            (format!("key `{key}` of bucket `{bucket}` is deleted"), None)
        }
        None => {
            let keys = client.delete_bucket(bucket).await?;
            let text = format!("bucket `{bucket}` is deleted: it had {keys} keys");
            (text, Some(keys))
        }
    };
    match config.output.value {
        Format::Table => output::line(text)?,
        Format::Json => json::print(&json::KeyDeleted::new(bucket, key, keys))?,
    }
    Ok(Exit::Succeeded)
}
