//! `tq test`

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(
    after_help = "Cases are files `cases/NAME.json` in the module's folder. Each is run as in production: in a sandbox of its own, under the limits and
with the grants of tq.toml. Requests are answered by the case, and nothing reaches a network. Clocks and randomness are the same
each time, so that fuel repeats. docs/guides/testing.md says what a case may have.

Where the folder has a `fuel.json`, a case that needs over 5 % more fuel than it says fails.

Examples:
  tq test
  tq test images crop                   the cases of images/cases/ whose names have `crop` in them
  tq test --update-baseline             write fuel.json, or renew it
  tq test --output json > report.json

Exit codes: 0 if all cases pass, 1 if one fails, 2 if one is not valid, 3 if there is none."
)]
pub(crate) struct TestArgs {
    /// The module's folder, or a component with `cases` beside it
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Run only cases with this in their names
    pub(crate) filter: Option<String>,
    /// What cases may use of fuel [default: `fuel.json` in the module's folder, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) fuel_baseline: Option<PathBuf>,
    /// Take what the cases that pass use of fuel for what they may use
    #[arg(long)]
    pub(crate) update_baseline: bool,
}
