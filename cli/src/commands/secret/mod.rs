//! `tq secret …`

pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod set;

use tq_client::Secret;

use crate::config::Config;
use crate::output::{Format, json, table};

/// Shows secrets, without their values.
fn print(config: &Config, secrets: &[Secret]) -> anyhow::Result<()> {
    match config.output.value {
        Format::Table => table::print_secrets(secrets),
        Format::Json => json::print(&json::SecretList::new(secrets)),
    }
}
