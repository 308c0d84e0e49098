//! What is sent of an event.

use bytes::Bytes;
use serde_json::{Value, json};
use tq_core::limits::WEBHOOK_BODY_BYTES_MAX;
use tq_core::webhook::Event;
use tq_core::{Task, Timestamp};

use crate::api::TaskJson;
use crate::ledger::DeliveryId;

/// The `webhook-id` of a delivery: the same in every attempt, by whichever start of the broker.
pub(crate) fn id(webhook: u64, of: DeliveryId) -> String {
    let DeliveryId { seq, task } = of;
    format!("msg_{webhook}_{seq}_{task}")
}

/// Writes bodies.
#[derive(Clone, Debug)]
pub(crate) struct Writer(TaskJson);

impl Writer {
    pub(crate) fn new() -> Self {
        Self(TaskJson::new())
    }

    /// The body of an event of a task, within [`WEBHOOK_BODY_BYTES_MAX`].
    pub(crate) fn of_task(&self, event: Event, ended_at: Timestamp, task: &Task) -> Bytes {
        let mut data = self.0.of(task);
        let body = body(event.name(), ended_at, &data);
        if body.len() <= WEBHOOK_BODY_BYTES_MAX {
            return body;
        }
        // What is long is what attempts left behind; everything else has its limits.
        data["attempts"] = Value::Array(Vec::new());
        self::body(event.name(), ended_at, &data)
    }
}

/// The body of an event that someone asked for.
pub(super) fn ping(namespace: &str, webhook: &str, at: Timestamp) -> Bytes {
    let data = json!({ "namespace": namespace, "webhook": webhook });
    body("ping", at, &data)
}

fn body(kind: &str, at: Timestamp, data: &Value) -> Bytes {
    let body = json!({ "type": kind, "timestamp": utc(at), "data": data });
    body.to_string().into()
}

/// A time after RFC 3339, in UTC; none of those that a calendar does not reach.
fn utc(at: Timestamp) -> String {
    let at = i64::try_from(at.0).ok();
    let at = at.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", at.unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_after_rfc_3339() {
        assert_eq!(utc(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            utc(Timestamp(1_795_911_123_045)),
            "2026-11-29T00:12:03.045Z"
        );
    }
}
