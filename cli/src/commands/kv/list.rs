//! `tq kv list`

use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json, table};

pub(crate) async fn run(
    config: &Config,
    bucket: Option<&str>,
    after: Option<String>,
) -> anyhow::Result<Exit> {
    let client = connect(config).await?;
    match bucket {
        None => {
            let buckets = client.buckets().await?;
            match config.output.value {
                Format::Table => table::print_buckets(&buckets)?,
                Format::Json => json::print(&json::BucketList::new(&buckets))?,
            }
        }
        Some(bucket) => {
            let page = client.keys(bucket, after).await?;
            match config.output.value {
                Format::Table => {
                    table::print_keys(&page.keys)?;
                    if let Some(next) = &page.next {
                        let next = next.escape_debug();
                        output::note(format!("there are more; go on with --after '{next}'"));
                    }
                }
                Format::Json => json::print(&json::KeyList::new(&page))?,
            }
        }
    }
    Ok(Exit::Succeeded)
}
