//! `tq admin repair`

use serde_json::{Value, json};
use tq_broker::store::Repair;

use crate::args::AdminArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format};

pub(crate) fn run(config: &Config, args: &AdminArgs) -> anyhow::Result<Exit> {
    let repair = tq_broker::admin::repair(&args.data_dir)?;
    match config.output.value {
        Format::Table => output::line(&repair)?,
        Format::Json => output::json::print(&report(&repair))?,
    }
    Ok(Exit::Succeeded)
}

fn report(repair: &Repair) -> Value {
    let Repair {
        store_id,
        recovered,
        expected,
        lost,
        kept,
        resumed,
    } = repair;
    json!({
        "store": store_id.to_string(),
        "recovered_seq": recovered,
        "expected_seq": expected,
        "lost_seqs": lost.map(|(first, last)| [first, last]),
        "kept": kept,
        "resumed_seq": resumed,
    })
}
