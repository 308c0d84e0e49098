//! Finding what a webhook has to tell, in the rows that the ledger writes of each commit's ends.

use std::sync::Arc;

use tq_core::Timestamp;
use tq_core::limits::{WEBHOOK_PENDING_MAX, WEBHOOK_TAKE_MAX};
use tq_core::webhook::Event;

use super::event::Writer;
use crate::api::ApiError;
use crate::ledger::{Cursor, Delivery, DeliveryId, Webhook};
use crate::store::{Direction, Read, Space};
use crate::tables::{Namespace, key, row};

/// Commits of which the ends are read at once.
const PAGE: usize = 64;

/// What was found.
#[derive(Debug)]
pub(super) struct Picked {
    /// Up to where.
    pub(super) cursor: Cursor,
    pub(super) deliveries: Vec<(DeliveryId, Delivery)>,
    /// Ends of tasks that are gone, or live again.
    pub(super) missed: u64,
    /// There may be more.
    pub(super) is_cut: bool,
}

/// Reads the next ends, up to the commit `on_disk`. It may block on the disk.
pub(super) fn pick(
    store: &Arc<dyn Read>,
    on_disk: u64,
    (namespace, webhook): (Namespace, &Webhook),
    writer: &Writer,
    now: Timestamp,
) -> Result<Picked, ApiError> {
    let from = webhook.position();
    let room = WEBHOOK_PENDING_MAX.saturating_sub(webhook.pending);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let room = room.min(WEBHOOK_TAKE_MAX);
    let first = key::settled(from.seq + 1);
    let all = key::settled_all();
    let rows = store.scan(Space::Index, &all, &first.bytes, Direction::Ascending, PAGE)?;
    let mut picked = Picked {
        cursor: from,
        deliveries: Vec::new(),
        missed: 0,
        is_cut: rows.len() == PAGE,
    };
    for pair in rows {
        // Commits that are not on disk yet can be read, and must not be told.
        let Some(seq) = key::settled_of(&pair.key).filter(|seq| *seq <= on_disk) else {
            picked.is_cut = false;
            break;
        };
        let ended_at = row::settled_at(&pair.value);
        let looked_at = picked.cursor.offset as usize;
        let ended = row::decode_settled(&pair.value).enumerate().skip(looked_at);
        let ours: Vec<_> = ended
            .filter(|(_, (of, _))| *of == namespace)
            .map(|(index, (_, id))| (index, id))
            .collect();
        let ids: Vec<_> = ours.iter().map(|(_, id)| *id).collect();
        let found = row::find_tasks::<ApiError>(&**store, namespace, &ids)?;
        for ((index, id), record) in ours.into_iter().zip(found) {
            if picked.deliveries.len() >= room {
                picked.cursor.offset = u32::try_from(index).unwrap_or(u32::MAX);
                picked.is_cut = true;
                return Ok(picked);
            }
            let task = record.map(|record| record.task);
            // One that was redriven and ended again is told by its later end.
            let ended = task.filter(|task| task.state.ended_at() <= Some(ended_at));
            let Some((task, event)) =
                ended.and_then(|task| Event::of(&task.state).map(|event| (task, event)))
            else {
                picked.missed += 1;
                continue;
            };
            if webhook.filter.takes(event, &task.spec) {
                let delivery = Delivery {
                    event,
                    ended_at,
                    body: writer.of_task(event, ended_at, &task),
                    attempts: 0,
                    due: now,
                    is_under_way: false,
                };
                picked
                    .deliveries
                    .push((DeliveryId { seq, task: id }, delivery));
            }
        }
        picked.cursor = Cursor { seq, offset: 0 };
    }
    Ok(picked)
}
