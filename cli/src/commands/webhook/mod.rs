//! `tq webhook …`

pub(crate) mod change;
pub(crate) mod create;
pub(crate) mod deliveries;
pub(crate) mod list;
pub(crate) mod show;
pub(crate) mod test;

use tq_client::Webhook;

use crate::config::Config;
use crate::output::{Format, json, table};

/// Shows one webhook.
fn print(config: &Config, webhook: &Webhook) -> anyhow::Result<()> {
    match config.output.value {
        Format::Table => table::print_webhook(webhook),
        Format::Json => json::print(&json::WebhookInfo::new(webhook)),
    }
}
