//! `tq webhook …`

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// Make a webhook, and print the secret that it signs with
    #[command(
        after_help = "What ends from then on is told by a signed POST (https://www.standardwebhooks.com), at least once, and again for hours if it \
fails. The secret is shown this once. Endpoints are on the internet and have `https`; `tq broker --webhook-allow-network` opens others.

Examples:
  tq webhook create orders --url https://example.com/hooks/tq > webhook.secret
  tq webhook create pager --url https://example.com/pager --event task.dead --function images"
    )]
    Create(WebhookCreateArgs),
    /// List webhooks
    #[command(after_help = "Example:\n  tq webhook list --namespace tenant-7")]
    List,
    /// Show a webhook, and how it does
    #[command(after_help = "Example:\n  tq webhook show orders")]
    Show {
        /// The webhook's name
        name: String,
    },
    /// Let a webhook do nothing until it is resumed; what ends meanwhile is told then
    #[command(after_help = "Example:\n  tq webhook pause orders")]
    Pause {
        /// The webhook's name
        name: String,
    },
    /// Let a webhook go on, with everything that it has to deliver at once
    #[command(after_help = "Example:\n  tq webhook resume orders")]
    Resume {
        /// The webhook's name
        name: String,
    },
    /// Delete a webhook, with what it has to deliver
    #[command(after_help = "Example:\n  tq webhook delete orders")]
    Delete {
        /// The webhook's name
        name: String,
    },
    /// Send an event `ping` now, and show what came of it
    #[command(after_help = "Exit code 1 if the endpoint did not take it.

Example:
  tq webhook test orders")]
    Test {
        /// The webhook's name
        name: String,
    },
    /// List the newest attempts to deliver something
    #[command(after_help = "Examples:
  tq webhook deliveries orders
  tq webhook deliveries orders --failed --limit 200 --output json")]
    Deliveries {
        /// The webhook's name
        name: String,
        /// Only those that failed
        #[arg(long)]
        failed: bool,
        /// At most so many
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: u32,
    },
    /// Deliver an event of the log again, under the id that it had
    #[command(
        after_help = "Example:\n  tq webhook redeliver orders msg_1_2041_019a2c1e-7d3c-7aa0-8f1e-2b6f0c9d4e5a"
    )]
    Redeliver {
        /// The webhook's name
        name: String,
        /// The event's id, as `tq webhook deliveries` lists it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct WebhookCreateArgs {
    /// The webhook's name
    pub(crate) name: String,
    /// Where it sends
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// Tell only this: task.succeeded, task.dead, task.cancelled or task.expired; may be given again
    #[arg(long = "event", value_name = "EVENT")]
    pub(crate) events: Vec<String>,
    /// Tell only of tasks of this function, MODULE/FUNCTION or MODULE; may be given again
    #[arg(long = "function", value_name = "FUNCTION")]
    pub(crate) functions: Vec<String>,
}
