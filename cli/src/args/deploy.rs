//! `tq deploy`

use std::path::PathBuf;

use clap::Args;

use super::attempt::{LimitArgs, RetryArgs};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tq deploy                                       the crate in this folder, with its tq.toml
  tq deploy examples/thumbnail --memory 256MiB
  tq deploy jaq.wasm --name jaq                   a component that was built elsewhere

Flags win over tq.toml.")]
pub(crate) struct DeployArgs {
    /// A folder with a Cargo.toml or a tq.toml, or a component
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Name of the module; else the one in tq.toml, the crate's or the file's
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Refuse it if a function would get a capability that it does not have in the current version
    #[arg(long)]
    pub(crate) deny_new_capabilities: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) retry: RetryArgs,
}
