//! `tq module …`

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum ModuleCommand {
    /// List modules
    #[command(after_help = "Example:\n  tq module list --output json")]
    List,
    /// Show one module: its functions, limits, versions, and the hosts that hold it
    #[command(after_help = "Examples:\n  tq module show greet\n  tq module show greet@2")]
    Show {
        /// NAME or NAME@VERSION
        name: String,
    },
    /// Point a module's name at an earlier version
    #[command(
        after_help = "Tasks that were submitted before keep the version that they were submitted to.

Examples:
  tq module rollback greet
  tq module rollback greet --to 3"
    )]
    Rollback {
        /// The module's name
        name: String,
        /// The version; the one before the current if it is not given
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..))]
        to: Option<u32>,
    },
    /// Print the JSON Schema of `tq.toml`, by which editors complete and check it
    #[command(
        after_help = "Editors that know the directive find it by the first line of tq.toml: `#:schema ./tq.schema.json`.

Example:
  tq module schema > tq.schema.json"
    )]
    Schema,
    /// Delete a version of a module, or the module, that no task needs any more
    #[command(
        after_help = "It is refused while the namespace has tasks of what is to go: those that have ended could still be redriven. Without a version, all \
                      versions go, with the name. Versions that nobody needs go by themselves: `tq retention show` says when.

Examples:
  tq module delete greet@3
  tq module delete greet"
    )]
    Delete {
        /// NAME or NAME@VERSION
        module: ModuleVersion,
    },
}

/// NAME or NAME@VERSION: a version of a module, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleVersion {
    pub(crate) name: String,
    pub(crate) version: Option<NonZeroU32>,
}

impl FromStr for ModuleVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, version)) = text.split_once('@') else {
            return Ok(Self {
                name: text.to_owned(),
                version: None,
            });
        };
        let number = version.parse();
        Ok(Self {
            name: name.to_owned(),
            version: Some(number.map_err(|_| format!("`{version}` is not a version"))?),
        })
    }
}

impl fmt::Display for ModuleVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version } = self;
        match version {
            Some(version) => write!(f, "{name}@{version}"),
            None => write!(f, "{name}"),
        }
    }
}
