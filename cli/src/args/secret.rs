//! `tq secret …`

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Set a secret to what comes by standard input, or is in a file
    #[command(
        after_help = "A line feed at the end of standard input is not a part of the secret; a file is taken as it is. A secret has from 8 bytes to 8 KiB. \
Functions whose module is granted it (`[capabilities] secrets` in tq.toml) get it from their next attempt on.

Examples:
  printenv STRIPE_KEY | tq secret set stripe-key
  tq secret set tls-key --file key.pem"
    )]
    Set {
        /// The secret's name
        name: String,
        /// Take it from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List secrets: their names, and when they were set; nobody is told their values
    #[command(after_help = "Example:\n  tq secret list --namespace tenant-7")]
    List,
    /// Delete a secret
    #[command(after_help = "Example:\n  tq secret delete stripe-key")]
    Delete {
        /// The secret's name
        name: String,
    },
}
