//! `tq queue set`, `pause`, `resume` and `delete`

use tq_client::{QueueOrder, QueueSettings, Rate};

use crate::args::{OrderArg, QueueSetArgs};
use crate::commands::{connect, queue};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::units::OrNone;

pub(crate) async fn set(config: &Config, args: QueueSetArgs) -> anyhow::Result<Exit> {
    let QueueSetArgs {
        name,
        concurrency,
        rate,
        burst,
        order,
    } = args;
    let rate = match (rate, burst) {
        (None, None) => None,
        (None | Some(OrNone::None), Some(_)) => {
            return Err(Failure::usage("--burst needs a --rate, such as `--rate 100/s`").into());
        }
        (Some(OrNone::None), None) => Some(Rate::default()),
        (Some(OrNone::Value(rate)), burst) => Some(Rate {
            tasks: rate.tasks,
            per_ms: rate.per.0,
            burst: burst.unwrap_or(0),
        }),
    };
    let settings = QueueSettings {
        order: order.map(|order| match order {
            OrderArg::Priority => QueueOrder::Priority,
            OrderArg::Fifo => QueueOrder::Fifo,
        }),
        concurrency: concurrency.map(|limit| match limit {
            OrNone::None => 0,
            OrNone::Value(limit) => limit.get(),
        }),
        rate,
    };
    let changed = connect(config).await?.set_queue(&name, settings).await?;
    queue::print(config, &changed)?;
    Ok(Exit::Succeeded)
}

pub(crate) async fn pause(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let paused = connect(config).await?.pause_queue(name).await?;
    queue::print(config, &paused)?;
    Ok(Exit::Succeeded)
}

pub(crate) async fn resume(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let resumed = connect(config).await?.resume_queue(name).await?;
    queue::print(config, &resumed)?;
    Ok(Exit::Succeeded)
}

pub(crate) async fn delete(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let deleted = connect(config).await?.delete_queue(name).await?;
    match config.output.value {
        Format::Table => output::line(format!("queue `{}` is deleted", deleted.name))?,
        Format::Json => queue::print(config, &deleted)?,
    }
    Ok(Exit::Succeeded)
}
