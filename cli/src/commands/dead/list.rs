//! `tq dead list`

use tq_client::ListDeadLettersResponse;
use tq_core::limits::LIST_PAGE_MAX;

use crate::args::DeadListArgs;
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json, table};

pub(crate) async fn run(config: &Config, args: DeadListArgs) -> anyhow::Result<Exit> {
    let DeadListArgs {
        limit,
        cursor,
        filter,
    } = args;
    let client = connect(config).await?;
    let filter = super::filter(filter);
    let mut wanted = limit;
    let mut next = cursor.unwrap_or_default();
    let mut found = Vec::new();
    // Pages may be short or empty, and yet have a next one.
    loop {
        let page_limit = wanted.min(u32::try_from(LIST_PAGE_MAX).unwrap_or(u32::MAX));
        let page = client.dead_letter_page(filter.clone(), page_limit, &next);
        let ListDeadLettersResponse {
            dead_letters,
            next: further,
        } = page.await?;
        wanted = wanted.saturating_sub(u32::try_from(dead_letters.len()).unwrap_or(u32::MAX));
        found.extend(dead_letters);
        next = further;
        if wanted == 0 || next.is_empty() {
            break;
        }
    }
    match config.output.value {
        Format::Table => {
            table::print_dead_letters(&found)?;
            if !next.is_empty() {
                output::note(format!("there may be more: --cursor {next}"));
            }
        }
        Format::Json => json::print(&json::DeadLetterList::new(&found, &next))?,
    }
    Ok(Exit::Succeeded)
}
