//! Webhooks.

use tq_client::{Delivery, TestWebhookResponse, Webhook};

use super::{dash, print, print_fields, time};

/// Prints webhooks, one a line.
///
/// # Errors
/// As [`output::data`](crate::output::data).
pub(crate) fn print_webhooks(webhooks: &[Webhook]) -> anyhow::Result<()> {
    print(
        [
            "webhook",
            "state",
            "pending",
            "delivered",
            "given up",
            "missed",
            "url",
        ],
        webhooks.iter().map(|webhook| {
            [
                webhook.name.clone(),
                state(webhook).to_owned(),
                webhook.pending.to_string(),
                webhook.delivered.to_string(),
                webhook.given_up.to_string(),
                webhook.missed.to_string(),
                webhook.url.clone(),
            ]
        }),
    )
}

/// Prints all there is to know about a webhook.
///
/// # Errors
/// As [`output::data`](crate::output::data).
pub(crate) fn print_webhook(webhook: &Webhook) -> anyhow::Result<()> {
    print_fields([
        ("webhook", webhook.name.clone()),
        ("url", webhook.url.clone()),
        ("events", all_or(&webhook.events)),
        ("functions", all_or(&webhook.functions)),
        ("created", time(webhook.created_ms)),
        ("state", state(webhook).to_owned()),
        ("paused", time(webhook.paused_ms)),
        ("because", webhook.paused.clone()),
        ("pending", webhook.pending.to_string()),
        ("delivered", webhook.delivered.to_string()),
        ("given up", webhook.given_up.to_string()),
        ("missed", webhook.missed.to_string()),
        ("failing since", time(webhook.failing_since_ms)),
        ("last error", webhook.last_error.clone()),
    ])
}

/// Prints attempts to deliver something, one a line.
///
/// # Errors
/// As [`output::data`](crate::output::data).
pub(crate) fn print_deliveries(deliveries: &[Delivery]) -> anyhow::Result<()> {
    print(
        [
            "at", "event", "attempt", "status", "took", "next", "id", "error",
        ],
        deliveries.iter().map(|delivery| {
            let attempt = match delivery.after_restart {
                true => format!("{} after a restart", delivery.attempt),
                false => delivery.attempt.to_string(),
            };
            let status = match delivery.status {
                0 => String::new(),
                status => status.to_string(),
            };
            [
                time(delivery.at_ms),
                delivery.event.clone(),
                attempt,
                dash(&status),
                format!("{} ms", delivery.took_ms),
                dash(&time(delivery.next_ms)),
                delivery.id.clone(),
                dash(&delivery.error),
            ]
        }),
    )
}

/// Prints what came of a test.
///
/// # Errors
/// As [`output::data`](crate::output::data).
pub(crate) fn print_ping(answer: &TestWebhookResponse) -> anyhow::Result<()> {
    let status = match answer.status {
        0 => String::new(),
        status => status.to_string(),
    };
    print_fields([
        ("status", status),
        ("took", format!("{} ms", answer.took_ms)),
        ("error", answer.error.clone()),
    ])
}

fn state(webhook: &Webhook) -> &'static str {
    if !webhook.paused.is_empty() {
        "paused"
    } else if webhook.failing_since_ms > 0 {
        "failing"
    } else {
        "working"
    }
}

fn all_or(names: &[String]) -> String {
    match names {
        [] => "all".to_owned(),
        names => names.join(", "),
    }
}
