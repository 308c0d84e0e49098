//! `tq new`

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tq new greet
  tq new greet --path ~/src/greet")]
pub(crate) struct NewArgs {
    /// Name of the module and of its crate
    pub(crate) name: String,
    /// Folder to make; `./NAME` if it is not given
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
}
