//! `tq task logs`

use std::pin::pin;

use base64::Engine as _;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format};

pub(crate) async fn run(config: &Config, id: &str) -> anyhow::Result<Exit> {
    let mut chunks = pin!(connect(config).await?.task_logs(id).await?);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        match config.output.value {
            Format::Table => output::guest_text(&chunk.text)?,
            // One object a line: logs are a stream.
            Format::Json => {
                let text = match std::str::from_utf8(&chunk.text) {
                    Ok(text) => json!(text),
                    Err(_) => {
                        json!({"base64": base64::engine::general_purpose::STANDARD.encode(&chunk.text)})
                    }
                };
                output::line(json!({"attempt": chunk.attempt, "text": text}))?;
            }
        }
    }
    Ok(Exit::Succeeded)
}
