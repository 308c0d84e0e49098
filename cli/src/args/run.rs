//! `tq run`

use clap::Args;

use super::call::CallArgs;

#[derive(Debug, Args)]
#[command(
    after_help = "The result goes to standard output as it is; why a task failed goes to standard error.
Interrupted, it prints the task's id, and the task goes on.

With --local, FUNCTION is PATH or PATH/FUNCTION, where PATH is a component or the folder of a module, which is built as by `tq deploy`.
A broker and a host are there for this one call, with nothing in them: no secrets, and empty buckets. A function reaches the
networks that `tq dev` lets it reach.

Examples:
  tq run greet '{\"name\":\"Ada\"}'
  tq run thumbnail @photo.jpg > small.png
  cargo metadata | tq run json-query - -- '.packages | length'
  tq run greet '{}' --output json | jq .attempts[0].usage
  tq run --local . '{\"name\":\"Ada\"}'
  tq run --local images/resize @photo.jpg --timeout 2s > small.jpg"
)]
pub(crate) struct RunArgs {
    /// Run what is in a folder or a file, without a broker that has to be there
    #[arg(long, conflicts_with_all = ["priority", "idempotency_key", "unique_key", "result_ttl", "queue", "require", "prefer", "concurrency_key"])]
    pub(crate) local: bool,
    #[command(flatten)]
    pub(crate) call: CallArgs,
}
