//! `tq task wait`

use std::pin::pin;

use tokio::signal;
use tq_client::{Client, TaskState, Watch};

use crate::commands::{connect, waiting};
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};

pub(crate) async fn run(config: &Config, ids: Vec<String>) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    until_ended(config, &client, ids).await
}

/// Waits until all of these tasks have ended, printing each as it does.
pub(crate) async fn until_ended(
    config: &Config,
    client: &Client,
    ids: Vec<String>,
) -> anyhow::Result<Exit> {
    let mut watching = client.watch(Watch::Ids(ids), false);
    let mut exit = Exit::Succeeded;
    let mut note = pin!(waiting::for_tasks(client));
    loop {
        let ended = tokio::select! {
            ended = watching.next() => ended?,
            never = &mut note => match never {},
            interrupted = signal::ctrl_c() => {
                interrupted?;
                output::note("interrupted; the tasks go on");
                return Ok(Exit::Interrupted);
            }
        };
        let Some(ended) = ended else {
            return Ok(exit);
        };
        for task in ended {
            if task.state() != TaskState::Succeeded {
                exit = Exit::Ended;
            }
            match config.output.value {
                Format::Table => {
                    let state = json::state(task.state());
                    output::line(format!("{} {state} {}", task.id, task.outcome).trim_end())?;
                }
                // One object a line: they come one after the other.
                Format::Json => output::line(serde_json::to_string(&json::Task::from(&task))?)?,
            }
        }
    }
}
