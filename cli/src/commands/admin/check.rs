//! `tq admin check`

use serde_json::{Value, json};
use tq_broker::store::Check;

use crate::args::AdminArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format};

pub(crate) fn run(config: &Config, args: &AdminArgs) -> anyhow::Result<Exit> {
    let check = tq_broker::admin::check(&args.data_dir)?;
    match config.output.value {
        Format::Table => output::line(&check)?,
        Format::Json => output::json::print(&report(&check))?,
    }
    Ok(if check.problems.is_empty() {
        Exit::Succeeded
    } else {
        Exit::Ended
    })
}

fn report(check: &Check) -> Value {
    let Check {
        store_id,
        seq,
        generation,
        is_clean,
        marked,
        journal_commits,
        spaces,
        problems,
    } = check;
    let space = |(space, pairs, bytes): &(tq_broker::store::Space, u64, u64)| json!({"name": space.name(), "pairs": pairs, "bytes": bytes});
    json!({
        "store": store_id.map(|id| id.to_string()),
        "seq": seq,
        "generation": generation,
        "is_clean": is_clean,
        "marked_seq": marked,
        "journal_commits": journal_commits,
        "spaces": spaces.iter().map(space).collect::<Vec<_>>(),
        "problems": problems.iter().map(|problem| json!({"what": problem.what, "is_repairable": problem.is_repairable})).collect::<Vec<_>>(),
    })
}
