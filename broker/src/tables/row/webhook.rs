//! Rows of webhooks, of what is to be delivered and of what was tried.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use tq_core::Timestamp;
use tq_core::webhook::{Endpoint, Event, Filter};

use super::Error;
use crate::ledger::{Cursor, Delivery, Paused, Tried, Webhook};
use crate::secrets::Sealed;
use crate::store::{self, Direction, Read, Space};
use crate::tables::key;

#[derive(Clone, PartialEq, Eq, Message)]
struct WebhookRow {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(string, tag = "2")]
    url: String,
    #[prost(string, repeated, tag = "3")]
    events: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    functions: Vec<String>,
    #[prost(bytes = "vec", tag = "5")]
    key_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    nonce: Vec<u8>,
    #[prost(bytes = "bytes", tag = "7")]
    sealed: Bytes,
    #[prost(uint64, tag = "8")]
    created_ms: u64,
    #[prost(message, optional, tag = "9")]
    paused: Option<PausedRow>,
    #[prost(uint64, tag = "10")]
    seq: u64,
    #[prost(uint32, tag = "11")]
    offset: u32,
    #[prost(uint64, tag = "12")]
    pending: u64,
    #[prost(uint64, tag = "13")]
    delivered: u64,
    #[prost(uint64, tag = "14")]
    given_up: u64,
    #[prost(uint64, tag = "15")]
    missed: u64,
    #[prost(uint64, tag = "16")]
    failing_since_ms: u64,
    #[prost(string, tag = "17")]
    last_error: String,
    #[prost(uint64, tag = "18")]
    tried: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct PausedRow {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(uint64, tag = "2")]
    at_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct DeliveryRow {
    #[prost(string, tag = "1")]
    event: String,
    #[prost(uint64, tag = "2")]
    ended_ms: u64,
    #[prost(bytes = "bytes", tag = "3")]
    body: Bytes,
    #[prost(uint32, tag = "4")]
    attempts: u32,
    #[prost(uint64, tag = "5")]
    due_ms: u64,
    #[prost(bool, tag = "6")]
    is_under_way: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct TriedRow {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(bytes = "vec", tag = "2")]
    task: Vec<u8>,
    #[prost(string, tag = "3")]
    event: String,
    #[prost(uint64, tag = "4")]
    ended_ms: u64,
    #[prost(uint32, tag = "5")]
    attempt: u32,
    #[prost(bool, tag = "6")]
    is_after_restart: bool,
    #[prost(uint64, tag = "7")]
    at_ms: u64,
    #[prost(uint64, tag = "8")]
    took_ms: u64,
    #[prost(uint32, tag = "9")]
    status: u32,
    #[prost(string, tag = "10")]
    error: String,
    #[prost(uint64, tag = "11")]
    next_ms: u64,
}

fn time(ms: u64) -> Option<Timestamp> {
    (ms > 0).then_some(Timestamp(ms))
}

fn ms(time: Option<Timestamp>) -> u64 {
    time.map_or(0, |at| at.0)
}

/// Encodes a webhook.
pub fn encode_webhook(webhook: &Webhook) -> Vec<u8> {
    let Webhook {
        number,
        endpoint,
        filter: Filter { events, functions },
        secret: Sealed {
            key_id,
            nonce,
            bytes,
        },
        created_at,
        paused,
        cursor: Cursor { seq, offset },
        passed: _,
        changes: _,
        pending,
        delivered,
        given_up,
        missed,
        failing_since,
        last_error,
        tried,
    } = webhook;
    WebhookRow {
        number: *number,
        url: endpoint.url().to_owned(),
        events: events.iter().map(|event| event.name().to_owned()).collect(),
        functions: functions.iter().map(ToString::to_string).collect(),
        key_id: key_id.to_vec(),
        nonce: nonce.to_vec(),
        sealed: bytes.clone(),
        created_ms: created_at.0,
        paused: paused.as_ref().map(|paused| PausedRow {
            reason: paused.reason.clone(),
            at_ms: paused.at.0,
        }),
        seq: *seq,
        offset: *offset,
        pending: *pending,
        delivered: *delivered,
        given_up: *given_up,
        missed: *missed,
        failing_since_ms: ms(*failing_since),
        last_error: last_error.clone(),
        tried: *tried,
    }
    .encode_to_vec()
}

/// Decodes a webhook.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_webhook(bytes: Bytes) -> Result<Webhook, Error> {
    let kind = "webhook";
    let row = WebhookRow::decode(bytes).map_err(|source| Error::Decode { kind, source })?;
    let WebhookRow {
        number,
        url,
        events,
        functions,
        key_id,
        nonce,
        sealed,
        created_ms,
        paused,
        seq,
        offset,
        pending,
        delivered,
        given_up,
        missed,
        failing_since_ms,
        last_error,
        tried,
    } = row;
    let wrong = |field| Error::Field { kind, field };
    let endpoint: Endpoint = url.parse().map_err(|_| wrong("url"))?;
    let events = events.iter().map(|event| event.parse());
    let events: Result<BTreeSet<Event>, _> = events.collect();
    let functions = functions.iter().map(|functions| functions.parse());
    let functions: Result<BTreeSet<_>, _> = functions.collect();
    Ok(Webhook {
        number,
        endpoint,
        filter: Filter {
            events: events.map_err(|_| wrong("events"))?,
            functions: functions.map_err(|_| wrong("functions"))?,
        },
        secret: Sealed {
            key_id: key_id.try_into().map_err(|_| wrong("key_id"))?,
            nonce: nonce.try_into().map_err(|_| wrong("nonce"))?,
            bytes: sealed,
        },
        created_at: Timestamp(created_ms),
        paused: paused.map(|PausedRow { reason, at_ms }| Paused {
            reason,
            at: Timestamp(at_ms),
        }),
        cursor: Cursor { seq, offset },
        passed: std::sync::Arc::default(),
        changes: 0,
        pending,
        delivered,
        given_up,
        missed,
        failing_since: time(failing_since_ms),
        last_error,
        tried,
    })
}

/// Encodes what is to be delivered. Its key says which it is.
pub fn encode_delivery(delivery: &Delivery) -> Vec<u8> {
    let Delivery {
        event,
        ended_at,
        body,
        attempts,
        due,
        is_under_way,
    } = delivery;
    DeliveryRow {
        event: event.name().to_owned(),
        ended_ms: ended_at.0,
        body: body.clone(),
        attempts: *attempts,
        due_ms: due.0,
        is_under_way: *is_under_way,
    }
    .encode_to_vec()
}

/// Decodes what is to be delivered.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_delivery(bytes: Bytes) -> Result<Delivery, Error> {
    let kind = "delivery";
    let row = DeliveryRow::decode(bytes).map_err(|source| Error::Decode { kind, source })?;
    let DeliveryRow {
        event,
        ended_ms,
        body,
        attempts,
        due_ms,
        is_under_way,
    } = row;
    let field = "event";
    Ok(Delivery {
        event: event.parse().map_err(|_| Error::Field { kind, field })?,
        ended_at: Timestamp(ended_ms),
        body,
        attempts,
        due: Timestamp(due_ms),
        is_under_way,
    })
}

/// Encodes an attempt to deliver.
pub fn encode_tried(tried: &Tried) -> Vec<u8> {
    let Tried {
        seq,
        task,
        event,
        ended_at,
        attempt,
        is_after_restart,
        at,
        took_ms,
        status,
        error,
        next,
    } = tried;
    TriedRow {
        seq: *seq,
        task: task.0.to_vec(),
        event: event.name().to_owned(),
        ended_ms: ended_at.0,
        attempt: *attempt,
        is_after_restart: *is_after_restart,
        at_ms: at.0,
        took_ms: *took_ms,
        status: u32::from(*status),
        error: error.clone(),
        next_ms: ms(*next),
    }
    .encode_to_vec()
}

/// Decodes an attempt to deliver.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_tried(bytes: Bytes) -> Result<Tried, Error> {
    let kind = "attempt of a delivery";
    let row = TriedRow::decode(bytes).map_err(|source| Error::Decode { kind, source })?;
    let TriedRow {
        seq,
        task,
        event,
        ended_ms,
        attempt,
        is_after_restart,
        at_ms,
        took_ms,
        status,
        error,
        next_ms,
    } = row;
    let wrong = |field| Error::Field { kind, field };
    let task = task.try_into().map_err(|_| wrong("task"))?;
    Ok(Tried {
        seq,
        task: tq_core::TaskId(task),
        event: event.parse().map_err(|_| wrong("event"))?,
        ended_at: Timestamp(ended_ms),
        attempt,
        is_after_restart,
        at: Timestamp(at_ms),
        took_ms,
        status: u16::try_from(status).map_err(|_| wrong("status"))?,
        error,
        next: time(next_ms),
    })
}

/// The newest attempts of a webhook to deliver something, the newest first.
///
/// # Errors
/// What keeps them from being read.
pub fn list_tries<E: From<store::Error> + From<Error>>(
    store: &(impl Read + ?Sized),
    webhook: u64,
    limit: usize,
) -> Result<Vec<Tried>, E> {
    let of_it = key::tries_of(webhook);
    let pairs = store.scan(Space::Index, &of_it, &[], Direction::Descending, limit)?;
    let tries = pairs.into_iter().map(|pair| decode_tried(pair.value));
    Ok(tries.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use tq_core::TaskId;

    use super::*;

    #[test]
    fn webhooks_are_read_as_they_were_written() {
        let webhook = Webhook {
            endpoint: "https://a.example/x".parse().unwrap(),
            filter: Filter {
                events: [Event::Dead].into(),
                functions: ["a/b".parse().unwrap()].into(),
            },
            paused: Some(Paused {
                reason: "why".into(),
                at: Timestamp(1),
            }),
            cursor: Cursor { seq: 2, offset: 3 },
            pending: 4,
            delivered: 5,
            given_up: 6,
            missed: 7,
            failing_since: Some(Timestamp(8)),
            last_error: "503".into(),
            tried: 9,
            ..Webhook::for_tests(10)
        };
        let encoded = encode_webhook(&webhook);
        let decoded = decode_webhook(encoded.clone().into()).unwrap();
        assert_eq!(encode_webhook(&decoded), encoded);
        assert_eq!(decoded.filter, webhook.filter);
        assert_eq!(decoded.cursor, webhook.cursor);
    }

    #[test]
    fn deliveries_are_read_as_they_were_written() {
        let delivery = Delivery {
            event: Event::Expired,
            ended_at: Timestamp(1),
            body: Bytes::from_static(b"{}"),
            attempts: 2,
            due: Timestamp(3),
            is_under_way: true,
        };
        let encoded = encode_delivery(&delivery);
        assert_eq!(decode_delivery(encoded.into()).unwrap(), delivery);
        let tried = Tried {
            seq: 1,
            task: TaskId([2; 16]),
            event: Event::Dead,
            ended_at: Timestamp(3),
            attempt: 4,
            is_after_restart: true,
            at: Timestamp(5),
            took_ms: 6,
            status: 503,
            error: "no".into(),
            next: Some(Timestamp(7)),
        };
        let encoded = encode_tried(&tried);
        assert_eq!(decode_tried(encoded.into()).unwrap(), tried);
    }
}
