//! `tq retention set`

use std::time::Duration;

use tq_client::RetentionChange;

use crate::args::RetentionArgs;
use crate::commands::{connect, retention};
use crate::config::Config;
use crate::exit::Exit;
use crate::units::{ResultSpan, Span};

pub(crate) async fn run(config: &Config, args: RetentionArgs) -> anyhow::Result<Exit> {
    let RetentionArgs {
        succeeded,
        dead,
        cancelled,
        expired,
        results,
        modules,
    } = args;
    let span = |Span(ms)| Duration::from_millis(ms);
    let change = RetentionChange {
        succeeded: succeeded.map(span),
        dead: dead.map(span),
        cancelled: cancelled.map(span),
        expired: expired.map(span),
        results: results.map(|results| match results {
            ResultSpan::AsTasks => Duration::ZERO,
            ResultSpan::For(ms) => span(ms),
        }),
        modules: modules.map(span),
    };
    let changed = connect(config).await?.set_retention(change).await?;
    retention::print(config, &changed)?;
    Ok(Exit::Succeeded)
}
