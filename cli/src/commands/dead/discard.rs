//! `tq dead discard`

use tq_client::DiscardDeadLettersResponse;

use crate::args::DeadDiscardArgs;
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};
use crate::units::Count;

pub(crate) async fn run(config: &Config, args: DeadDiscardArgs) -> anyhow::Result<Exit> {
    let DeadDiscardArgs {
        id,
        all,
        dry_run,
        filter,
    } = args;
    let which = super::which(id, all, filter)?;
    let client = connect(config).await?;
    let mut total = json::Discarded {
        dry_run,
        discarded: 0,
        skipped: 0,
    };
    let mut cursor = String::new();
    loop {
        let DiscardDeadLettersResponse {
            discarded,
            skipped,
            next,
        } = client
            .discard_dead_letters(which.clone(), dry_run, &cursor)
            .await?;
        total.discarded += u64::from(discarded);
        total.skipped += u64::from(skipped);
        cursor = next;
        if cursor.is_empty() {
            break;
        }
    }
    match config.output.value {
        Format::Table => {
            let verb = if dry_run {
                "would discard"
            } else {
                "discarded"
            };
            let letters = super::letters(total.discarded);
            output::line(format!("{verb} {letters}"))?;
            if total.skipped > 0 {
                output::note(format!("{} were not dead any more", Count(total.skipped)));
            }
        }
        Format::Json => json::print(&total)?,
    }
    Ok(Exit::Succeeded)
}
