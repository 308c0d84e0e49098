//! `tq new`

use std::path::PathBuf;

use clap::Args;

use crate::toolchain::Language;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tq new greet
  tq new greet --lang python
  tq new greet --path ~/src/greet")]
pub(crate) struct NewArgs {
    /// Name of the module, and of its crate or package
    pub(crate) name: String,
    /// Language to write it in
    #[arg(long, value_name = "LANGUAGE", value_enum, default_value = "rust")]
    pub(crate) lang: Language,
    /// Folder to make; `./NAME` if it is not given
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
}
