//! `tq host pause`

use crate::commands::connect;
use crate::commands::host::show;
use crate::config::Config;
use crate::exit::Exit;

pub(crate) async fn run(config: &Config, name: &str) -> anyhow::Result<Exit> {
    let host = connect(config).await?.pause_host(name).await?;
    show::print(config, &host)
}
