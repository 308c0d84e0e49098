//! `tq task logs`, `tq logs`

use std::pin::pin;

use futures_util::StreamExt as _;
use tokio::signal;
use tq_client::{Client, LogChunk};

use crate::args::LogsArgs;
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};

pub(crate) async fn run(config: &Config, args: &LogsArgs) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    if args.follow {
        return follow(config, &client, &args.id).await;
    }
    let mut chunks = pin!(client.task_logs(&args.id).await?);
    while let Some(chunk) = chunks.next().await {
        print(config, &chunk?)?;
    }
    Ok(Exit::Succeeded)
}

async fn follow(config: &Config, client: &Client, id: &str) -> anyhow::Result<Exit> {
    let mut following = client.follow(id, true);
    loop {
        let update = tokio::select! {
            update = following.next() => update?,
            interrupted = signal::ctrl_c() => {
                interrupted?;
                return Ok(Exit::Interrupted);
            }
        };
        let Some(update) = update else {
            return Ok(Exit::Succeeded);
        };
        for chunk in &update.log {
            print(config, chunk)?;
        }
    }
}

fn print(config: &Config, chunk: &LogChunk) -> anyhow::Result<()> {
    match config.output.value {
        Format::Table => output::guest_text(&chunk.text)?,
        // One object a line: logs are a stream.
        Format::Json => output::line(serde_json::to_string(&json::LogChunk::from(chunk))?)?,
    }
    Ok(())
}
