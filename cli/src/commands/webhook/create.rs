//! `tq webhook create`

use tq_client::NewWebhook;

use crate::args::WebhookCreateArgs;
use crate::commands::connect;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::{self, Format, json};

pub(crate) async fn run(config: &Config, args: WebhookCreateArgs) -> anyhow::Result<Exit> {
    let WebhookCreateArgs {
        name,
        url,
        events,
        functions,
    } = args;
    let new = NewWebhook {
        name,
        url,
        events,
        functions,
    };
    let (webhook, secret) = connect(config).await?.create_webhook(new).await?;
    match config.output.value {
        Format::Table => {
            // By itself, so that it can be written to a file.
            output::line(&secret)?;
            output::note(format!(
                "webhook {} is made; the secret that it signs with is on standard output, and shown this once",
                webhook.name
            ));
            output::note(format!(
                "next: tq webhook test {} sends a first event",
                webhook.name
            ));
        }
        Format::Json => json::print(&json::WebhookWithSecret::new(&webhook, &secret))?,
    }
    Ok(Exit::Succeeded)
}
