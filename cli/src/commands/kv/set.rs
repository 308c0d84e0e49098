//! `tq kv set`

use std::io::{self, IsTerminal as _, Read as _};

use anyhow::Context as _;
use bytes::Bytes;
use tq_core::limits::KEYVALUE_VALUE_BYTES_MAX;

use crate::commands::connect;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format, json};

pub(crate) async fn run(
    config: &Config,
    bucket: &str,
    key: &str,
    value: Option<String>,
) -> anyhow::Result<Exit> {
    let value = match value.filter(|value| value != "-") {
        Some(value) => Bytes::from(value),
        None => from_standard_input(bucket, key)?,
    };
    let len = value.len() as u64;
    let client = connect(config).await?;
    client.set_value(bucket, key, value).await?;
    match config.output.value {
        Format::Table => output::line(format!(
            "key `{}` of bucket `{bucket}` is set to {len} bytes",
            key.escape_debug()
        ))?,
        Format::Json => json::print(&json::KeySet::new(bucket, key, len))?,
    }
    Ok(Exit::Succeeded)
}

/// What is piped in, as it is.
fn from_standard_input(bucket: &str, key: &str) -> anyhow::Result<Bytes> {
    let input = io::stdin();
    if input.is_terminal() {
        let failed = Failure::usage("the value is read from standard input, which is a terminal");
        return Err(failed
            .hint(format!("tq kv set {bucket} {key} VALUE"))
            .into());
    }
    let mut value = Vec::new();
    // One byte more is enough to know that it is too long, which the broker says.
    let most = KEYVALUE_VALUE_BYTES_MAX as u64 + 1;
    let read = input.lock().take(most).read_to_end(&mut value);
    read.context("failed to read the value from standard input")?;
    Ok(value.into())
}
