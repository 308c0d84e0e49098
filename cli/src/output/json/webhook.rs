//! Webhooks.

use serde::Serialize;
use tq_client::{Delivery, TestWebhookResponse, Webhook};

/// Webhooks.
#[derive(Debug, Serialize)]
pub(crate) struct WebhookList<'a> {
    webhooks: Vec<WebhookInfo<'a>>,
}

/// A webhook.
#[derive(Debug, Serialize)]
pub(crate) struct WebhookInfo<'a> {
    name: &'a str,
    url: &'a str,
    events: &'a [String],
    functions: &'a [String],
    created_ms: u64,
    paused: &'a str,
    paused_ms: u64,
    pending: u64,
    delivered: u64,
    given_up: u64,
    missed: u64,
    failing_since_ms: u64,
    last_error: &'a str,
}

/// A new webhook.
#[derive(Debug, Serialize)]
pub(crate) struct WebhookWithSecret<'a> {
    webhook: WebhookInfo<'a>,
    secret: &'a str,
}

/// Attempts to deliver something.
#[derive(Debug, Serialize)]
pub(crate) struct DeliveryList<'a> {
    deliveries: Vec<DeliveryInfo<'a>>,
}

#[derive(Debug, Serialize)]
struct DeliveryInfo<'a> {
    id: &'a str,
    event: &'a str,
    task_id: &'a str,
    attempt: u32,
    after_restart: bool,
    at_ms: u64,
    took_ms: u64,
    status: u32,
    error: &'a str,
    next_ms: u64,
}

/// What came of a test.
#[derive(Debug, Serialize)]
pub(crate) struct Ping<'a> {
    status: u32,
    error: &'a str,
    took_ms: u64,
}

impl<'a> WebhookList<'a> {
    /// In the order given.
    pub(crate) fn new(webhooks: &'a [Webhook]) -> Self {
        Self {
            webhooks: webhooks.iter().map(WebhookInfo::new).collect(),
        }
    }
}

impl<'a> WebhookInfo<'a> {
    pub(crate) fn new(webhook: &'a Webhook) -> Self {
        let Webhook {
            name,
            url,
            events,
            functions,
            created_ms,
            paused,
            paused_ms,
            pending,
            delivered,
            given_up,
            missed,
            failing_since_ms,
            last_error,
        } = webhook;
        Self {
            name,
            url,
            events,
            functions,
            created_ms: *created_ms,
            paused,
            paused_ms: *paused_ms,
            pending: *pending,
            delivered: *delivered,
            given_up: *given_up,
            missed: *missed,
            failing_since_ms: *failing_since_ms,
            last_error,
        }
    }
}

impl<'a> WebhookWithSecret<'a> {
    pub(crate) fn new(webhook: &'a Webhook, secret: &'a str) -> Self {
        Self {
            webhook: WebhookInfo::new(webhook),
            secret,
        }
    }
}

impl<'a> DeliveryList<'a> {
    /// In the order given.
    pub(crate) fn new(deliveries: &'a [Delivery]) -> Self {
        let deliveries = deliveries.iter().map(|delivery| {
            let Delivery {
                id,
                event,
                task_id,
                attempt,
                after_restart,
                at_ms,
                took_ms,
                status,
                error,
                next_ms,
            } = delivery;
            DeliveryInfo {
                id,
                event,
                task_id,
                attempt: *attempt,
                after_restart: *after_restart,
                at_ms: *at_ms,
                took_ms: *took_ms,
                status: *status,
                error,
                next_ms: *next_ms,
            }
        });
        Self {
            deliveries: deliveries.collect(),
        }
    }
}

impl<'a> Ping<'a> {
    pub(crate) fn new(answer: &'a TestWebhookResponse) -> Self {
        let TestWebhookResponse {
            status,
            error,
            took_ms,
        } = answer;
        Self {
            status: *status,
            error,
            took_ms: *took_ms,
        }
    }
}
