//! `tq key create`

use std::time::Duration;

use tq_client::{NewApiKey, Role};

use crate::args::{KeyCreateArgs, RoleArg};
use crate::commands::connect;
use crate::config::Config;
use crate::exit::{Exit, Failure};

pub(crate) async fn run(config: &Config, args: KeyCreateArgs) -> anyhow::Result<Exit> {
    let KeyCreateArgs {
        name,
        role,
        namespaces,
        expires,
    } = args;
    if expires.is_some_and(|expires| expires.0 == 0) {
        let refused = Failure::usage("--expires is 0s, and the key would hold for no time");
        return Err(refused
            .hint("leave it out for a key that holds until it is revoked")
            .into());
    }
    let key = NewApiKey {
        name,
        role: match role {
            RoleArg::Host => Role::Host,
            RoleArg::Viewer => Role::Viewer,
            RoleArg::Submitter => Role::Submitter,
            RoleArg::Deployer => Role::Deployer,
            RoleArg::Admin => Role::Admin,
        },
        namespaces,
        expires_after: expires.map(|expires| Duration::from_millis(expires.0)),
    };
    let (key, text) = connect(config).await?.create_api_key(key).await?;
    super::print_text(config, &key, &text)?;
    Ok(Exit::Succeeded)
}
