//! Webhooks: what they are set to, how far each has come in the record of ends, what it has to deliver and what it tried.
//!
//! An end costs nothing for this: the row that lists the ends of a commit is there anyway. A webhook has a *cursor* over these
//! rows. Whoever delivers (`crate::webhooks`) reads them from there on, and has the cursor moved and what is to be delivered
//! written in one commit; an attempt is reported afterwards. So nothing is lost by a crash, and what is tried again after one
//! is the same delivery, by the same name.
//!
//! What is to be delivered carries its body: it is the same in each attempt, whatever becomes of the task meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tq_core::limits::{WEBHOOK_FAILING_MAX, WEBHOOK_LOG_MAX, WEBHOOK_PENDING_MAX, WEBHOOKS_MAX};
use tq_core::webhook::{Endpoint, Event, Filter, RETRY};
use tq_core::{TaskId, Timestamp};

use super::{Error, Ledger, Refused, Reply, write};
use crate::secrets::Sealed;
use crate::store::{Batch, Key, Space};
use crate::tables::key::{self, Namespace};
use crate::tables::row;

/// The webhooks of all namespaces, by name.
pub type Webhooks = HashMap<Namespace, BTreeMap<String, Arc<Webhook>>>;

/// A webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// What its rows carry in place of its name; never used twice.
    pub number: u64,
    /// Where it sends.
    pub endpoint: Endpoint,
    /// Which events.
    pub filter: Filter,
    /// What it signs with.
    pub secret: Sealed,
    /// When it was made. What ended before is not told.
    pub created_at: Timestamp,
    /// Why it neither picks up nor sends anything.
    pub paused: Option<Paused>,
    /// Up to where ends are deliveries, or none of its own.
    pub cursor: Cursor,
    /// Ends of commits up to this one were looked at too, and were none of its own. It is not on disk: whoever begins anew looks at
    /// them again.
    pub passed: Arc<AtomicU64>,
    /// Counts what became due in another way than by its time, so that it is looked for.
    pub changes: u64,
    /// Deliveries under way or to be tried again.
    pub pending: u64,
    /// Those that succeeded.
    pub delivered: u64,
    /// Those that did not, with all their attempts.
    pub given_up: u64,
    /// Ends that were removed before they could be told.
    pub missed: u64,
    /// Since when each attempt has failed.
    pub failing_since: Option<Timestamp>,
    /// Why the last one failed; empty if it did not.
    pub last_error: String,
    /// Attempts so far.
    pub tried: u64,
}

/// Why a webhook does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// How far a webhook has come in the record of ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The last commit of which all ends were picked up.
    pub seq: u64,
    /// How many were of the next one that has any.
    pub offset: u32,
}

impl Webhook {
    /// Up to where it has looked.
    pub fn position(&self) -> Cursor {
        let seq = self.passed.load(Ordering::Acquire);
        self.cursor.max(Cursor { seq, offset: 0 })
    }

    /// One that has told nothing yet, and begins behind the commit `seq`.
    fn new(
        number: u64,
        (endpoint, filter, secret): (Endpoint, Filter, Sealed),
        created_at: Timestamp,
        seq: u64,
    ) -> Self {
        Self {
            number,
            endpoint,
            filter,
            secret,
            created_at,
            paused: None,
            cursor: Cursor { seq, offset: 0 },
            passed: Arc::default(),
            changes: 0,
            pending: 0,
            delivered: 0,
            given_up: 0,
            missed: 0,
            failing_since: None,
            last_error: String::new(),
            tried: 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(number: u64) -> Self {
        let endpoint = "https://a.example".parse().expect("it is one");
        let secret = Sealed {
            key_id: [1; 8],
            nonce: [2; 12],
            bytes: Bytes::from_static(b"sealed"),
        };
        let settings = (endpoint, Filter::default(), secret);
        Self::new(number, settings, Timestamp(1), 0)
    }
}

/// Which webhook is meant, by whoever has read it: another one may have its name by now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebhookId {
    /// Its tenant.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u64,
}

/// Names a delivery of a webhook: an end of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The commit in which the task ended.
    pub seq: u64,
    /// The task.
    pub task: TaskId,
}

/// What is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What has happened.
    pub event: Event,
    /// When the task ended.
    pub ended_at: Timestamp,
    /// What is sent.
    pub body: Bytes,
    /// Attempts that have begun.
    pub attempts: u32,
    /// When the next one is due.
    pub due: Timestamp,
    /// Nobody has said yet what came of the last one.
    pub is_under_way: bool,
}

/// An attempt to deliver, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The commit in which the task ended.
    pub seq: u64,
    /// The task.
    pub task: TaskId,
    /// What has happened to it.
    pub event: Event,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// The broker ended while the one before it was under way, and nobody knows what came of that.
    pub is_after_restart: bool,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took_ms: u64,
    /// What was answered; 0 if nothing was.
    pub status: u16,
    /// Why it failed; empty if it did not.
    pub error: String,
    /// When the next one is due; none if it succeeded, or was the last one.
    pub next: Option<Timestamp>,
}

impl Tried {
    /// What was to be delivered.
    pub fn delivery(&self) -> DeliveryId {
        DeliveryId {
            seq: self.seq,
            task: self.task,
        }
    }
}

/// What is wanted of a webhook.
pub enum WebhookOrder {
    /// To be there, if there is none of its name.
    Create {
        /// Where it sends.
        endpoint: Endpoint,
        /// Which events.
        filter: Filter,
        /// What it signs with.
        secret: Sealed,
    },
    /// To do nothing.
    Pause,
    /// To go on, with everything that is to be delivered due at once.
    Resume,
    /// To be gone, with all its rows.
    Delete,
}

/// A change of a webhook.
pub struct WebhookChange {
    /// The namespace's name. It is made if it is new, and a webhook is to be made.
    pub namespace: String,
    /// The webhook's name.
    pub name: String,
    /// What is wanted.
    pub order: WebhookOrder,
    /// The webhook as it is from now on, or was.
    pub reply: Reply<Result<Arc<Webhook>, Refused>>,
}

/// What whoever delivers has to say.
pub enum Delivering {
    /// Ends were picked up.
    Taken {
        /// Whose.
        webhook: WebhookId,
        /// Where it stands now.
        cursor: Cursor,
        /// Those of its own. Those that are there already stay as they are.
        deliveries: Vec<(DeliveryId, Delivery)>,
        /// Ends of tasks that are gone, or live again.
        missed: u64,
        /// It is written.
        reply: Reply<()>,
    },
    /// An attempt is about to be made. It is counted first, so that none has the number of another one, whatever happens.
    Begun {
        /// Whose.
        webhook: WebhookId,
        /// Of what.
        delivery: DeliveryId,
        /// What is to be sent, as it was before; none if it is gone.
        reply: Reply<Option<Delivery>>,
    },
    /// An attempt was made. `next` of it is what the ledger says.
    Tried {
        /// Whose.
        webhook: WebhookId,
        /// The attempt.
        tried: Tried,
        /// The endpoint says that it wants no more.
        is_gone: bool,
        /// When the next one is due; none if there is none.
        reply: Reply<Option<Timestamp>>,
    },
    /// Whether all that was said before is written.
    Written {
        /// It is.
        reply: Reply<()>,
    },
    /// Someone wants it to be delivered again.
    Again {
        /// Whose.
        webhook: WebhookId,
        /// What. Its attempts begin anew.
        delivery: (DeliveryId, Delivery),
        /// It is written.
        reply: Reply<Result<(), Refused>>,
    },
}

impl Delivering {
    /// How many deliveries it is about.
    pub(super) fn deliveries(&self) -> usize {
        match self {
            Self::Taken { deliveries, .. } => deliveries.len(),
            Self::Begun { .. } | Self::Tried { .. } | Self::Written { .. } | Self::Again { .. } => {
                1
            }
        }
    }
}

/// Rows of webhooks that a step writes. One may change several times in it.
#[derive(Default)]
pub(super) struct Written(BTreeMap<Key, Option<Bytes>>);

impl Written {
    pub(super) fn write(self, batch: &mut Batch) {
        for (key, row) in self.0 {
            match row {
                Some(row) => batch.put(key, row),
                None => batch.delete(key),
            }
        }
    }
}

impl Ledger {
    pub(super) fn change_webhook(&mut self, change: WebhookChange) -> Result<(), Error> {
        let WebhookChange {
            namespace,
            name,
            order,
            reply,
        } = change;
        let changed = match order {
            WebhookOrder::Create {
                endpoint,
                filter,
                secret,
            } => self.create_webhook(&namespace, name, endpoint, filter, secret),
            order => {
                let number = self.namespace(&namespace);
                let found = number.and_then(|number| Some((number, self.webhook(number, &name)?)));
                match found {
                    None => Err(Refused::NoWebhook { namespace, name }),
                    Some((number, webhook)) => {
                        Ok(self.order_webhook(number, &name, webhook, &order)?)
                    }
                }
            }
        };
        self.answer(reply, changed);
        Ok(())
    }

    fn create_webhook(
        &mut self,
        namespace: &str,
        name: String,
        endpoint: Endpoint,
        filter: Filter,
        secret: Sealed,
    ) -> Result<Arc<Webhook>, Refused> {
        let of = self.namespace_or_new(namespace);
        let there = write(&self.shared.webhooks)
            .get(&of)
            .map_or(0, BTreeMap::len);
        if self.webhook(of, &name).is_some() {
            return Err(Refused::WebhookExists(name));
        }
        if there >= WEBHOOKS_MAX {
            return Err(Refused::TooManyWebhooks);
        }
        self.last_webhook += 1;
        let number = self.last_webhook;
        let row = Bytes::copy_from_slice(&number.to_be_bytes());
        self.step.webhooks.0.insert(key::last_webhook(), Some(row));
        let settings = (endpoint, filter, secret);
        let webhook = Webhook::new(number, settings, self.time, self.store.seq());
        self.step.durable = true;
        Ok(self.put_webhook(of, &name, webhook))
    }

    fn order_webhook(
        &mut self,
        namespace: Namespace,
        name: &str,
        webhook: Arc<Webhook>,
        order: &WebhookOrder,
    ) -> Result<Arc<Webhook>, Error> {
        self.step.durable = true;
        let mut changed = Webhook::clone(&webhook);
        match order {
            WebhookOrder::Pause => {
                changed.paused.get_or_insert(Paused {
                    reason: "someone paused it".to_owned(),
                    at: self.time,
                });
            }
            WebhookOrder::Resume => {
                changed.paused = None;
                changed.failing_since = None;
                changed.changes += 1;
                for (at, mut delivery) in self.deliveries_of(webhook.number)? {
                    // Whatever clock it is compared with.
                    delivery.due = Timestamp::EPOCH;
                    let row = row::encode_delivery(&delivery);
                    self.step.webhooks.0.insert(at, Some(row.into()));
                }
            }
            WebhookOrder::Delete => {
                self.remove_webhook(namespace, name, &webhook)?;
                return Ok(webhook);
            }
            WebhookOrder::Create { .. } => {}
        }
        Ok(self.put_webhook(namespace, name, changed))
    }

    /// Everything of it goes, which is bounded.
    fn remove_webhook(
        &mut self,
        namespace: Namespace,
        name: &str,
        webhook: &Webhook,
    ) -> Result<(), Error> {
        let of_it = [
            (Space::Payloads, key::deliveries_of(webhook.number)),
            (Space::Index, key::tries_of(webhook.number)),
        ];
        let written = self.step.webhooks.0.iter_mut();
        for (at, row) in written {
            if of_it
                .iter()
                .any(|(space, of)| at.space == *space && at.bytes.starts_with(of))
            {
                *row = None;
            }
        }
        for (space, of) in of_it {
            for (at, _) in self.read_all(space, &of)? {
                self.step
                    .webhooks
                    .0
                    .insert(Key::new(space, at.to_vec()), None);
            }
        }
        self.step
            .webhooks
            .0
            .insert(key::webhook(namespace, name), None);
        if let Some(of_namespace) = write(&self.shared.webhooks).get_mut(&namespace) {
            of_namespace.remove(name);
        }
        self.shared.webhooks_changed.send_replace(());
        Ok(())
    }

    pub(super) fn deliver(&mut self, said: Delivering) -> Result<(), Error> {
        match said {
            Delivering::Taken {
                webhook,
                cursor,
                deliveries,
                missed,
                reply,
            } => {
                self.take_ends_for(&webhook, cursor, deliveries, missed)?;
                self.answer(reply, ());
            }
            Delivering::Begun {
                webhook,
                delivery,
                reply,
            } => {
                let before = self.begin_delivery(&webhook, delivery)?;
                self.answer(reply, before);
            }
            Delivering::Tried {
                webhook,
                tried,
                is_gone,
                reply,
            } => {
                let next = self.note_tried(&webhook, tried, is_gone)?;
                self.answer(reply, next);
            }
            // Answered when the commit is done, which is behind those of all commands before it.
            Delivering::Written { reply } => self.answer(reply, ()),
            Delivering::Again {
                webhook,
                delivery,
                reply,
            } => {
                let again = self.deliver_again(&webhook, delivery)?;
                self.answer(reply, again);
            }
        }
        Ok(())
    }

    fn take_ends_for(
        &mut self,
        id: &WebhookId,
        cursor: Cursor,
        deliveries: Vec<(DeliveryId, Delivery)>,
        missed: u64,
    ) -> Result<(), Error> {
        let Some(webhook) = self.meant(id) else {
            return Ok(());
        };
        let mut changed = Webhook::clone(&webhook);
        changed.missed += missed;
        for (of, delivery) in deliveries {
            let at = key::delivery(id.number, of);
            // The end may have been counted as missed meanwhile. It is told all the same.
            if self.delivery(&at)?.is_none() {
                changed.pending += 1;
                let row = row::encode_delivery(&delivery);
                self.step.webhooks.0.insert(at, Some(row.into()));
            }
        }
        changed.cursor = changed.cursor.max(cursor);
        self.put_webhook(id.namespace, &id.name, changed);
        Ok(())
    }

    fn begin_delivery(
        &mut self,
        id: &WebhookId,
        of: DeliveryId,
    ) -> Result<Option<Delivery>, Error> {
        let at = key::delivery(id.number, of);
        let before = match self.meant(id) {
            Some(_) => self.delivery(&at)?,
            None => None,
        };
        if let Some(before) = &before {
            let begun = Delivery {
                attempts: before.attempts + 1,
                is_under_way: true,
                ..before.clone()
            };
            let row = row::encode_delivery(&begun);
            self.step.webhooks.0.insert(at, Some(row.into()));
        }
        Ok(before)
    }

    fn note_tried(
        &mut self,
        id: &WebhookId,
        mut tried: Tried,
        is_gone: bool,
    ) -> Result<Option<Timestamp>, Error> {
        let Some(webhook) = self.meant(id) else {
            return Ok(None);
        };
        let mut changed = Webhook::clone(&webhook);
        let at = key::delivery(id.number, tried.delivery());
        let is_delivered = tried.error.is_empty();
        tried.next = match is_delivered {
            true => None,
            // While nothing goes through at all, nothing is given up: the webhook is paused when that lasts.
            false if webhook.failing_since.is_some() => {
                let next = RETRY.retry_at(tried.task, tried.attempt, None, self.time);
                next.or(Some(self.time.after(RETRY.cap)))
            }
            false => RETRY.retry_at(tried.task, tried.attempt, None, self.time),
        };
        if let Some(mut delivery) = self.delivery(&at)? {
            let row = tried.next.map(|next| {
                delivery.attempts = tried.attempt;
                delivery.due = next;
                delivery.is_under_way = false;
                Bytes::from(row::encode_delivery(&delivery))
            });
            if row.is_none() {
                changed.pending = changed.pending.saturating_sub(1);
                let count = match is_delivered {
                    true => &mut changed.delivered,
                    false => &mut changed.given_up,
                };
                *count += 1;
            }
            self.step.webhooks.0.insert(at, row);
        }
        changed.last_error.clone_from(&tried.error);
        if is_delivered {
            changed.failing_since = None;
        } else {
            let since = *changed.failing_since.get_or_insert(tried.at);
            let reason = if is_gone {
                Some("the endpoint answered 410, which says that it wants no more".to_owned())
            } else if self.time.since(since) >= WEBHOOK_FAILING_MAX {
                let hours = WEBHOOK_FAILING_MAX.as_secs() / 3600;
                Some(format!(
                    "every attempt has failed for {hours} hours, the last one so: {}",
                    tried.error
                ))
            } else {
                None
            };
            if let Some(reason) = reason
                && changed.paused.is_none()
            {
                let at = self.time;
                changed.paused = Some(Paused { reason, at });
                self.shared.metrics.webhooks_paused.inc();
            }
        }
        let row = row::encode_tried(&tried);
        let oldest = changed.tried.checked_sub(WEBHOOK_LOG_MAX);
        let written = &mut self.step.webhooks.0;
        written.insert(key::tried(id.number, changed.tried), Some(row.into()));
        written.extend(oldest.map(|oldest| (key::tried(id.number, oldest), None)));
        changed.tried += 1;
        self.put_webhook(id.namespace, &id.name, changed);
        Ok(tried.next)
    }

    fn deliver_again(
        &mut self,
        id: &WebhookId,
        (of, delivery): (DeliveryId, Delivery),
    ) -> Result<Result<(), Refused>, Error> {
        let Some(webhook) = self.meant(id) else {
            return Ok(Err(Refused::NoWebhook {
                namespace: self.name_of(id.namespace),
                name: id.name.clone(),
            }));
        };
        let mut changed = Webhook::clone(&webhook);
        let at = key::delivery(id.number, of);
        if self.delivery(&at)?.is_none() {
            if changed.pending >= WEBHOOK_PENDING_MAX {
                return Ok(Err(Refused::WebhookFull));
            }
            changed.pending += 1;
        }
        changed.changes += 1;
        let row = row::encode_delivery(&delivery);
        self.step.webhooks.0.insert(at, Some(row.into()));
        self.step.durable = true;
        self.put_webhook(id.namespace, &id.name, changed);
        Ok(Ok(()))
    }

    /// Counts the ends of a commit that are about to be removed for those webhooks that have not come so far.
    pub(super) fn miss_ends(&mut self, seq: u64, ended: &[u8]) -> Result<(), Error> {
        let mut behind = Vec::new();
        for (namespace, of_namespace) in &*super::read(&self.shared.webhooks) {
            let of_it = of_namespace.iter();
            let late = of_it.filter(|(_, webhook)| webhook.position().seq < seq);
            behind.extend(
                late.map(|(name, webhook)| (*namespace, name.clone(), Arc::clone(webhook))),
            );
        }
        for (namespace, name, webhook) in behind {
            // An offset is into the first row after the cursor, and the walk goes from row to row.
            let position = webhook.position();
            let ended = row::decode_settled(ended).skip(position.offset as usize);
            let ours: Vec<TaskId> = ended
                .filter(|(of, _)| *of == namespace)
                .map(|(_, id)| id)
                .collect();
            self.load_all(namespace, &ours)?;
            let is_missed = |id: &&TaskId| {
                let task = self.open.get(*id).map(|open| &open.task);
                let event = task.and_then(|task| Some((task, Event::of(&task.state)?)));
                // Of one that is gone or live again, nobody knows what it was.
                event.is_none_or(|(task, event)| webhook.filter.takes(event, &task.spec))
            };
            let missed = ours.iter().filter(is_missed).count() as u64;
            let mut changed = Webhook::clone(&webhook);
            changed.missed += missed;
            changed.cursor = Cursor { seq, offset: 0 };
            self.shared.metrics.webhook_events_missed.inc_by(missed);
            self.put_webhook(namespace, &name, changed);
        }
        Ok(())
    }

    fn webhook(&self, namespace: Namespace, name: &str) -> Option<Arc<Webhook>> {
        let webhooks = super::read(&self.shared.webhooks);
        webhooks.get(&namespace)?.get(name).cloned()
    }

    /// The webhook that is meant, if it is there still.
    fn meant(&self, id: &WebhookId) -> Option<Arc<Webhook>> {
        let found = self.webhook(id.namespace, &id.name);
        found.filter(|webhook| webhook.number == id.number)
    }

    fn put_webhook(&mut self, namespace: Namespace, name: &str, webhook: Webhook) -> Arc<Webhook> {
        let webhook = Arc::new(webhook);
        let row = row::encode_webhook(&webhook);
        let at = key::webhook(namespace, name);
        self.step.webhooks.0.insert(at, Some(row.into()));
        write(&self.shared.webhooks)
            .entry(namespace)
            .or_default()
            .insert(name.to_owned(), Arc::clone(&webhook));
        self.shared.webhooks_changed.send_replace(());
        webhook
    }

    fn delivery(&self, at: &Key) -> Result<Option<Delivery>, Error> {
        let row = match self.step.webhooks.0.get(at) {
            Some(row) => row.clone(),
            None => self.store.get(at)?,
        };
        Ok(row.map(row::decode_delivery).transpose()?)
    }

    /// Everything that a webhook has to deliver.
    pub(super) fn deliveries_of(&self, number: u64) -> Result<BTreeMap<Key, Delivery>, Error> {
        let of_it = key::deliveries_of(number);
        let stored = self.read_all(Space::Payloads, &of_it)?.into_iter();
        let stored = stored.map(|(at, row)| (Key::new(Space::Payloads, at.to_vec()), Some(row)));
        let mut rows: BTreeMap<Key, Option<Bytes>> = stored.collect();
        let written = self.step.webhooks.0.iter();
        let written =
            written.filter(|(at, _)| at.space == Space::Payloads && at.bytes.starts_with(&of_it));
        rows.extend(written.map(|(at, row)| (at.clone(), row.clone())));
        let rows = rows.into_iter().filter_map(|(at, row)| Some((at, row?)));
        let rows = rows.map(|(at, row)| Ok((at, row::decode_delivery(row)?)));
        rows.collect()
    }

    pub(super) fn recover_webhooks(&mut self) -> Result<(), Error> {
        if let Some(bytes) = self.store.get(&key::last_webhook())? {
            let number = bytes[..].try_into().map(u64::from_be_bytes);
            self.last_webhook = number.map_err(|_| row::Error::Field {
                kind: "webhook",
                field: "number",
            })?;
        }
        let rows = self.read_all(Space::Meta, &key::webhooks())?;
        let mut webhooks = write(&self.shared.webhooks);
        for (at, bytes) in rows {
            if let Some((namespace, name)) = key::webhook_of(&at) {
                let webhook = Arc::new(row::decode_webhook(bytes)?);
                let of_namespace = webhooks.entry(namespace).or_default();
                of_namespace.insert(name.to_owned(), webhook);
            }
        }
        Ok(())
    }
}
