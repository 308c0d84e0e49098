//! `tq run`

use clap::Args;

use super::call::CallArgs;

#[derive(Debug, Args)]
#[command(
    after_help = "The result goes to standard output as it is; why a task failed goes to standard error.
Interrupted, it prints the task's id, and the task goes on.

Examples:
  tq run greet '{\"name\":\"Ada\"}'
  tq run thumbnail @photo.jpg > small.png
  cargo metadata | tq run json-query - -- '.packages | length'
  tq run greet '{}' --output json | jq .attempts[0].usage"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) call: CallArgs,
}
