//! `tq key …` and `tq audit …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::units::{Past, Span};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Runs tasks: for `tq host`
    Host,
    /// Looks, and changes nothing
    Viewer,
    /// As `viewer`, and submits tasks and acts on them
    Submitter,
    /// As `submitter`, and deploys modules and sets up what they run with
    Deployer,
    /// As `deployer`, and decides who may do what
    Admin,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key, and print it: it is shown this once
    #[command(
        after_help = "The key is for the namespaces that are named, and for all of them if none is. A key of a host is for all.

Examples:
  tq key create ci --role deployer --for acme > ci.key
  tq key create worker --role host > host.key
  tq key create alice --role viewer --for acme --for beta --expires 30d"
    )]
    Create(KeyCreateArgs),
    /// List keys: what they are for, and when they were used last; nobody is told their texts
    #[command(after_help = "Example:\n  tq key list")]
    List,
    /// Give a key another text, and print that; the one before holds on for a while
    #[command(
        after_help = "Examples:\n  tq key rotate 0190c7e2d3a4b5f6 > ci.key\n  tq key rotate 0190c7e2d3a4b5f6 --grace 0s"
    )]
    Rotate {
        /// The key's id, as `tq key list` shows it
        id: String,
        /// How long the text before holds on, up to 30d
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        grace: Span,
    },
    /// End a key for good; what goes on with it ends within 5 seconds
    #[command(after_help = "Example:\n  tq key revoke 0190c7e2d3a4b5f6")]
    Revoke {
        /// The key's id, as `tq key list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyCreateArgs {
    /// A name for people; several keys may have the same
    pub(crate) name: String,
    /// What it is for
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: RoleArg,
    /// A namespace that it is for; may be given again
    #[arg(long = "for", value_name = "NAMESPACE")]
    pub(crate) namespaces: Vec<String>,
    /// It ends after so long, up to 3650d; without this, when it is revoked
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires: Option<Span>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what was done, the newest first
    #[command(
        after_help = "Without --namespace it is everything, for whom all namespaces are.

Examples:
  tq audit list --since 1d
  tq audit list --namespace acme --call Module --who ci
  tq audit list --output json"
    )]
    List(AuditListArgs),
    /// Print all records, the oldest first, one JSON object a line
    #[command(after_help = "Example:\n  tq audit export > audit.jsonl")]
    Export,
    /// Check that no record was altered or removed: of the broker, or of an export
    #[command(
        after_help = "Exit code 1 if the chain is broken. It prints the numbers of the oldest and newest record, and the hash of the newest: keep that elsewhere, and give it as \
--head later. Without it, a chain that was written anew as a whole is not told from the one that it was, nor an export from which the newest records were removed.

Examples:
  tq audit verify
  tq audit verify audit.jsonl --head 5891b5b5…"
    )]
    Verify {
        /// An export to check, in place of the broker's records
        file: Option<PathBuf>,
        /// A hash of a record that has to be there: 64 hexadecimal digits
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AuditListArgs {
    /// Only from then on: a time, or a span before now
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Past>,
    /// Only before then: a time, or a span before now
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Past>,
    /// Only of callers with this in their names
    #[arg(long, value_name = "TEXT")]
    pub(crate) who: Option<String>,
    /// Only calls with this in their names, such as `UploadModule`
    #[arg(long, value_name = "TEXT")]
    pub(crate) call: Option<String>,
    /// How many
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Where to go on: the `next` of the list before
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
}
