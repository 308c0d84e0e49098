//! `tq dead signatures`

use std::cmp::Reverse;

use tq_client::ListSignaturesResponse;

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json, table};

pub(crate) async fn run(config: &Config, limit: u32) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    let mut found = Vec::new();
    let mut next = String::new();
    loop {
        let ListSignaturesResponse {
            signatures,
            next: further,
        } = client.signature_page(&next).await?;
        found.extend(signatures);
        next = further;
        if next.is_empty() {
            break;
        }
    }
    // Of those of which there are too many to count, the last to have come.
    found.sort_by_key(|kind| Reverse((kind.count, kind.last_ms)));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len().saturating_sub(limit);
    found.truncate(limit);
    match config.output.value {
        Format::Table => {
            table::print_signatures(&found)?;
            if more > 0 {
                output::note(format!("{more} more signatures; --limit shows them"));
            }
        }
        Format::Json => json::print(&json::SignatureList::new(&found, more))?,
    }
    Ok(Exit::Succeeded)
}
