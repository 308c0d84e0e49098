//! Delivering: finds what is to be told, and sends what is due.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tq_core::Timestamp;
use tq_core::limits::{
    WEBHOOK_OPEN_MAX, WEBHOOK_PENDING_MAX, WEBHOOKS_OPEN_MAX, WEBHOOKS_OPEN_NAMESPACE_MAX,
};

use super::event::{Writer, id};
use super::pick::{Picked, pick};
use super::sender::{Answer, Request, Sender};
use super::signing::Secret;
use crate::api::ApiError;
use crate::ledger::{
    Command, Cursor, Delivering, Delivery, DeliveryId, Handle, Stopped, Tried, Webhook, WebhookId,
    read, wall,
};
use crate::secrets::{Sealed, Vault, VaultError};
use crate::store::{Direction, Space};
use crate::tables::{Namespace, key, row};

/// Commits that a webhook may be ahead of its row, so that one which has nothing to tell seldom writes that.
const UNWRITTEN_MAX: u64 = 1_024;
/// How long it waits where the store or the ledger refuses something, before it tries again.
const PAUSE: Duration = Duration::from_secs(1);

/// Seals what a webhook signs with. No secret of a function has such a name. Blocks.
pub(crate) fn seal_secret(
    vault: &Vault,
    namespace: &str,
    webhook: &str,
    secret: &Secret,
) -> Result<Sealed, VaultError> {
    vault.seal(namespace, &place(webhook), secret.as_bytes())
}

/// Opens it again. Blocks.
pub(crate) fn open_secret(
    vault: &Vault,
    namespace: &str,
    webhook: &str,
    sealed: &Sealed,
) -> Result<Secret, VaultError> {
    let opened = vault.open(namespace, &place(webhook), sealed)?;
    Ok(Secret::from_bytes(&opened))
}

fn place(webhook: &str) -> String {
    format!("webhook/{webhook}")
}

/// What a webhook has to deliver, by when it is due.
#[derive(Default)]
struct Queue {
    /// Which of the webhook's changes it has seen; none if it has seen nothing yet.
    seen: Option<u64>,
    due: BTreeSet<(Timestamp, DeliveryId)>,
    under_way: HashSet<DeliveryId>,
    has_failed: bool,
    /// What was under way was left out when it was looked at: it may have become due anew.
    is_partial: bool,
}

/// An attempt that has ended.
struct Ended {
    webhook: WebhookId,
    delivery: DeliveryId,
    is_delivered: bool,
    /// When the next one is due; none if there is none.
    next: Option<Timestamp>,
}

/// What an attempt needs.
#[derive(Clone)]
struct Means {
    ledger: Handle,
    vault: Arc<Vault>,
    sender: Arc<Sender>,
}

/// Delivers for all webhooks.
pub(crate) struct Worker {
    means: Means,
    writer: Writer,
    queues: HashMap<WebhookId, Queue>,
    attempts: JoinSet<Ended>,
    /// Which webhook comes first next time, by its place.
    next: usize,
}

impl Worker {
    pub(crate) fn new(ledger: Handle, vault: Arc<Vault>, sender: Arc<Sender>) -> Self {
        Self {
            means: Means {
                ledger,
                vault,
                sender,
            },
            writer: Writer::new(),
            queues: HashMap::new(),
            attempts: JoinSet::new(),
            next: 0,
        }
    }

    /// Works until it is stopped. What is under way then has so long to end.
    pub(crate) async fn run(mut self, stop: CancellationToken, drain_timeout: Duration) {
        let shared = Arc::clone(self.means.ledger.shared());
        let mut changed = shared.webhooks_changed.subscribe();
        while !stop.is_cancelled() {
            changed.mark_unchanged();
            let webhooks = self.working();
            // While there is no webhook, the ledger keeps no ends in memory for one.
            let mut settled = (!webhooks.is_empty()).then(|| shared.settled.subscribe());
            let worked = self.work(&webhooks).await;
            let wait = match worked {
                Ok(true) => Some(Duration::ZERO),
                Ok(false) => self.next_due(&webhooks),
                Err(error) => {
                    tracing::warn!(%error, "webhooks cannot be looked after; they are tried again");
                    Some(PAUSE)
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                _ = changed.changed() => {}
                () = ended(&mut settled) => {}
                Some(ended) = self.attempts.join_next() => self.note(ended.ok()),
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
            while let Some(ended) = self.attempts.try_join_next() {
                self.note(ended.ok());
            }
        }
        let ending = async { while self.attempts.join_next().await.is_some() {} };
        if timeout(drain_timeout, ending).await.is_err() {
            tracing::warn!("deliveries of webhooks were cut; they are tried again after the start");
        }
    }

    /// Those that are not paused.
    fn working(&self) -> Vec<(WebhookId, String, Arc<Webhook>)> {
        let shared = self.means.ledger.shared();
        let names = read(&shared.namespaces);
        let webhooks = read(&shared.webhooks);
        let mut working = Vec::new();
        for (of, number) in &*names {
            for (name, webhook) in webhooks.get(number).into_iter().flatten() {
                let id = WebhookId {
                    namespace: *number,
                    name: name.clone(),
                    number: webhook.number,
                };
                if webhook.paused.is_none() {
                    working.push((id, of.clone(), Arc::clone(webhook)));
                }
            }
        }
        working
    }

    /// Picks up what has ended, and sends what is due. Returns whether there is more to be picked up.
    async fn work(
        &mut self,
        webhooks: &[(WebhookId, String, Arc<Webhook>)],
    ) -> Result<bool, String> {
        self.queues.retain(|id, queue| {
            !queue.under_way.is_empty() || webhooks.iter().any(|(of, ..)| of == id)
        });
        // What one of them cannot do is no reason for the others to wait.
        let mut failed = None;
        for (id, _, webhook) in webhooks {
            if let Err(error) = self.look(id, webhook).await {
                failed = Some(error);
            }
        }
        let picked = self.pick_up(webhooks).await;
        self.start(webhooks);
        match failed {
            Some(error) => Err(error),
            None => picked,
        }
    }

    /// Looks at what a webhook has to deliver, if something became due there.
    async fn look(&mut self, id: &WebhookId, webhook: &Webhook) -> Result<(), String> {
        let queue = self.queues.entry(id.clone()).or_default();
        if queue.seen == Some(webhook.changes) {
            return Ok(());
        }
        // What has changed is known before it is in the store.
        let written = self
            .means
            .ledger
            .ask(|reply| Command::Deliver(Box::new(Delivering::Written { reply })));
        written.await.map_err(|error| error.to_string())?;
        let (store, number) = (Arc::clone(self.means.ledger.reader()), id.number);
        let reading = tokio::task::spawn_blocking(move || {
            let of_it = key::deliveries_of(number);
            let all = store.scan(
                Space::Payloads,
                &of_it,
                &[],
                Direction::Ascending,
                usize::MAX,
            )?;
            let all = all.into_iter().filter_map(|pair| {
                let (_, of) = key::delivery_of(&pair.key)?;
                Some(row::decode_delivery(pair.value).map(|delivery| (delivery.due, of)))
            });
            Ok::<BTreeSet<_>, ApiError>(all.collect::<Result<_, _>>()?)
        });
        let due = reading.await.map_err(|error| error.to_string())?;
        let due = due.map_err(|error| error.0.message().to_owned())?;
        queue.seen = Some(webhook.changes);
        queue.due = due;
        let found = queue.due.len();
        queue.due.retain(|(_, of)| !queue.under_way.contains(of));
        queue.is_partial = queue.due.len() < found;
        Ok(())
    }

    /// Picks up what has ended since the last time.
    async fn pick_up(
        &mut self,
        webhooks: &[(WebhookId, String, Arc<Webhook>)],
    ) -> Result<bool, String> {
        let shared = Arc::clone(self.means.ledger.shared());
        let on_disk = *shared.settled.borrow();
        let behind: Vec<_> = webhooks
            .iter()
            .filter(|(_, _, webhook)| {
                webhook.pending < WEBHOOK_PENDING_MAX && webhook.position().seq < on_disk
            })
            .map(|(id, _, webhook)| (id.clone(), Arc::clone(webhook)))
            .collect();
        if behind.is_empty() {
            return Ok(false);
        }
        let (store, writer) = (Arc::clone(self.means.ledger.reader()), self.writer.clone());
        let now = shared.now();
        let picking = tokio::task::spawn_blocking(move || {
            let picked = behind.into_iter().map(|(id, webhook)| {
                let picked = pick(&store, on_disk, (id.namespace, &webhook), &writer, now);
                (id, webhook, picked)
            });
            picked.collect::<Vec<_>>()
        });
        let all = picking.await.map_err(|error| error.to_string())?;
        let (mut is_more, mut failed) = (false, None);
        for (id, webhook, picked) in all {
            let picked = match picked {
                Ok(picked) => picked,
                Err(error) => {
                    let error: ApiError = error;
                    failed = Some(format!("{}: {}", id.name, error.0.message()));
                    continue;
                }
            };
            is_more |= picked.is_cut;
            self.take(id, &webhook, picked)
                .await
                .map_err(|error| error.to_string())?;
        }
        failed.map_or(Ok(is_more), Err)
    }

    /// Has the ledger write what was picked up.
    async fn take(
        &mut self,
        id: WebhookId,
        webhook: &Webhook,
        picked: Picked,
    ) -> Result<(), Stopped> {
        let Picked {
            cursor,
            deliveries,
            missed,
            is_cut: _,
        } = picked;
        let is_far = cursor.seq.saturating_sub(webhook.cursor.seq) >= UNWRITTEN_MAX;
        if deliveries.is_empty() && missed == 0 && !is_far {
            let Cursor { seq, offset: _ } = cursor;
            webhook.passed.fetch_max(seq, Ordering::AcqRel);
            return Ok(());
        }
        let due: Vec<_> = deliveries
            .iter()
            .map(|(of, delivery)| (delivery.due, *of))
            .collect();
        self.means
            .ledger
            .shared()
            .metrics
            .webhook_events_missed
            .inc_by(missed);
        let webhook = id.clone();
        let taken = self.means.ledger.ask(|reply| {
            Command::Deliver(Box::new(Delivering::Taken {
                webhook,
                cursor,
                deliveries,
                missed,
                reply,
            }))
        });
        taken.await?;
        let queue = self.queues.entry(id).or_default();
        queue.due.extend(due);
        Ok(())
    }

    /// Sends what is due, as much as may be under way: of each webhook in turn, beginning where the last time ended, and no more
    /// of a namespace than its part, so that none holds up another.
    fn start(&mut self, webhooks: &[(WebhookId, String, Arc<Webhook>)]) {
        let now = self.means.ledger.shared().now();
        let mut of_namespace: HashMap<Namespace, usize> = HashMap::new();
        for (id, queue) in &self.queues {
            *of_namespace.entry(id.namespace).or_default() += queue.under_way.len();
        }
        loop {
            let mut has_begun = false;
            let begin = self.next % webhooks.len().max(1);
            let (before, behind) = webhooks.split_at_checked(begin).unwrap_or_default();
            for (id, namespace, webhook) in behind.iter().chain(before) {
                if self.attempts.len() >= WEBHOOKS_OPEN_MAX {
                    return;
                }
                self.next = self.next.wrapping_add(1);
                let of_namespace = of_namespace.entry(id.namespace).or_default();
                if *of_namespace >= WEBHOOKS_OPEN_NAMESPACE_MAX {
                    continue;
                }
                let Some(queue) = self.queues.get_mut(id) else {
                    continue;
                };
                let open_max = if queue.has_failed {
                    1
                } else {
                    WEBHOOK_OPEN_MAX
                };
                if queue.under_way.len() >= open_max {
                    continue;
                }
                let first = queue.due.first().copied();
                let Some((at, of)) = first.filter(|(at, _)| *at <= now) else {
                    continue;
                };
                queue.due.remove(&(at, of));
                queue.under_way.insert(of);
                *of_namespace += 1;
                let attempt = Attempt {
                    webhook: id.clone(),
                    namespace: namespace.clone(),
                    settings: Arc::clone(webhook),
                    delivery: of,
                };
                self.attempts.spawn(attempt.make(self.means.clone()));
                has_begun = true;
            }
            if !has_begun {
                return;
            }
        }
    }

    fn note(&mut self, ended: Option<Ended>) {
        // One that panicked stays under way until the next start, which is better than to be sent without end.
        let Some(Ended {
            webhook,
            delivery,
            is_delivered,
            next,
        }) = ended
        else {
            return;
        };
        if let Some(queue) = self.queues.get_mut(&webhook) {
            queue.under_way.remove(&delivery);
            queue.has_failed = !is_delivered;
            if let Some(next) = next {
                queue.due.insert((next, delivery));
            } else if queue.is_partial {
                queue.seen = None;
            }
        }
    }

    /// When something is due that can be sent then.
    fn next_due(&self, webhooks: &[(WebhookId, String, Arc<Webhook>)]) -> Option<Duration> {
        let now = self.means.ledger.shared().now();
        let due = webhooks.iter().filter_map(|(id, ..)| {
            let queue = self.queues.get(id)?;
            let (at, _) = queue.due.first()?;
            // What is due by now waits for an attempt to end.
            (*at > now).then(|| at.since(now))
        });
        due.min()
    }
}

/// Waits for the end of a task; for ever if nobody wants to know.
async fn ended(settled: &mut Option<tokio::sync::watch::Receiver<u64>>) {
    if let Some(settled) = settled
        && settled.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// One attempt to deliver.
struct Attempt {
    webhook: WebhookId,
    namespace: String,
    settings: Arc<Webhook>,
    delivery: DeliveryId,
}

impl Attempt {
    async fn make(self, means: Means) -> Ended {
        let (webhook, of) = (self.webhook.clone(), self.delivery);
        let mut ended = Ended {
            webhook: webhook.clone(),
            delivery: of,
            is_delivered: true,
            next: None,
        };
        let begun = means.ledger.ask(|reply| {
            Command::Deliver(Box::new(Delivering::Begun {
                webhook: webhook.clone(),
                delivery: of,
                reply,
            }))
        });
        // One that is gone went with its webhook, or was delivered.
        let Ok(Some(delivery)) = begun.await else {
            return ended;
        };
        let at = wall();
        let of_attempt = means.clone();
        let sending = move || self.send(&delivery, at, &of_attempt);
        let (tried, took) = match tokio::task::spawn_blocking(sending).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::error!(%error, "an attempt of a webhook panicked, which is a bug in tq");
                return ended;
            }
        };
        ended.is_delivered = tried.error.is_empty();
        let metrics = &means.ledger.shared().metrics;
        metrics.webhook_attempt(ended.is_delivered, took);
        // RFC 9110, 15.5.11: what was there is gone for good, on purpose.
        let is_gone = tried.status == 410;
        let noted = means.ledger.ask(|reply| {
            Command::Deliver(Box::new(Delivering::Tried {
                webhook,
                tried,
                is_gone,
                reply,
            }))
        });
        // A ledger that has stopped knows nothing of it, and the next start sends it again.
        ended.next = noted.await.ok().flatten();
        ended
    }

    /// Sends it. Blocks.
    fn send(self, delivery: &Delivery, at: Timestamp, means: &Means) -> (Tried, Duration) {
        let Self {
            webhook,
            namespace,
            settings,
            delivery: of,
        } = self;
        let attempt = delivery.attempts + 1;
        let answer = match open_secret(&means.vault, &namespace, &webhook.name, &settings.secret) {
            Ok(secret) => means.sender.send(&Request {
                endpoint: &settings.endpoint,
                secret: &secret,
                id: &id(webhook.number, of),
                attempt,
                at,
                body: &delivery.body,
            }),
            Err(error) => {
                tracing::error!(%error, "what a webhook signs with cannot be had");
                Answer {
                    status: 0,
                    error: "the broker cannot open the webhook's secret; its log says more".into(),
                    took: Duration::ZERO,
                }
            }
        };
        let tried = Tried {
            seq: of.seq,
            task: of.task,
            event: delivery.event,
            ended_at: delivery.ended_at,
            attempt,
            is_after_restart: delivery.is_under_way,
            at,
            took_ms: u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX),
            status: answer.status,
            error: answer.error,
            next: None,
        };
        (tried, answer.took)
    }
}
