//! `tq key …`

pub(crate) mod create;
pub(crate) mod list;
pub(crate) mod revoke;
pub(crate) mod rotate;

use tq_client::ApiKey;

use crate::config::Config;
use crate::output::{self, Format, json, table};

/// Shows keys, without their texts.
fn print(config: &Config, keys: &[ApiKey]) -> anyhow::Result<()> {
    match config.output.value {
        Format::Table => table::print_access_keys(keys),
        Format::Json => json::print(&json::KeyInfoList::new(keys)),
    }
}

/// Prints a key's text by itself, so that it can be written to a file, and the rest beside it.
fn print_text(config: &Config, key: &ApiKey, text: &str) -> anyhow::Result<()> {
    match config.output.value {
        Format::Table => {
            output::line(text)?;
            output::note(format!(
                "key {} ({}); its text is on standard output, and shown this once",
                key.id, key.name
            ));
            Ok(())
        }
        Format::Json => json::print(&json::KeyWithText::new(key, text)),
    }
}
