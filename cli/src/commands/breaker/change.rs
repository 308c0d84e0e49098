//! `tq breaker force` and `release`

use tq_client::Forced;

use crate::args::{BreakerForceArgs, ForcedArg};
use crate::commands::{breaker, connect};
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn force(config: &Config, args: BreakerForceArgs) -> anyhow::Result<Exit> {
    let BreakerForceArgs {
        function,
        state,
        reason,
    } = args;
    let forced = match state {
        ForcedArg::Open => Forced::Open,
        ForcedArg::Closed => Forced::Closed,
    };
    let client = connect(config).await?;
    let changed = client.force_breaker(&function, forced, &reason).await?;
    breaker::print(config, &changed)?;
    Ok(Exit::Succeeded)
}

pub(crate) async fn release(config: &Config, function: &str) -> anyhow::Result<Exit> {
    let released = connect(config).await?.release_breaker(function).await?;
    breaker::print(config, &released)?;
    Ok(Exit::Succeeded)
}
