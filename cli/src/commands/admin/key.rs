//! `tq admin key`

use crate::args::AdminArgs;
use crate::exit::Exit;
use crate::output;

pub(crate) fn run(args: &AdminArgs) -> anyhow::Result<Exit> {
    output::line(tq_broker::admin::new_admin_key(&args.data_dir)?)?;
    Ok(Exit::Succeeded)
}
