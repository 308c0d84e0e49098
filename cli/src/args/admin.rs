//! `tq admin …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Check a broker's data directory, without changing it; exit code 1 if something is wrong
    #[command(after_help = "Example:\n  tq admin check --data-dir .tq")]
    Check(AdminArgs),
    /// Accept what a damaged or rolled-back data directory has lost, so that a broker serves it again
    #[command(
        after_help = "Keep a copy of the directory first.\n\nExample:\n  tq admin repair --data-dir .tq"
    )]
    Repair(AdminArgs),
    /// Make another key of an administrator, and print it: for whoever has lost theirs
    #[command(after_help = "Example:\n  tq admin key --data-dir /var/lib/tq > admin.key")]
    Key(AdminArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// What `tq broker` or `tq dev` was given as its data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}
