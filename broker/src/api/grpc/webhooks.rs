//! Webhooks: what they are set to, and what they did.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use tonic::{Request, Response, Status};
use tq_core::limits::{WEBHOOK_LOG_MAX, WEBHOOK_TESTS_MAX};
use tq_core::name;
use tq_core::webhook::{Endpoint, Event, Filter};
use tq_proto::v1;
use tq_proto::v1::webhook_service_server::WebhookService;

use super::Context;
use super::blocking::blocking;
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::ledger::{
    Command, Delivering, Delivery, DeliveryId, Refused, Tried, Webhook, WebhookChange, WebhookId,
    WebhookOrder, read, wall,
};
use crate::tables::{key, row};
use crate::webhooks::{Secret, Writer, id, open_secret, seal_secret};

/// Attempts that are listed if nobody says how many.
const LISTED: u32 = 50;

pub(super) struct Webhooks(pub(super) Context);

#[tonic::async_trait]
impl WebhookService for Webhooks {
    async fn create_webhook(
        &self,
        request: Request<v1::CreateWebhookRequest>,
    ) -> Result<Response<v1::CreateWebhookResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::CreateWebhookRequest {
            namespace,
            name,
            url,
            events,
            functions,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("webhook", &name);
        name::check("webhook name", &name).map_err(invalid)?;
        let endpoint: Endpoint = url.parse().map_err(invalid)?;
        self.0.hooks.check(&endpoint).map_err(|error| {
            let hint = "`tq broker --webhook-allow-network CIDR` opens a network to webhooks";
            invalid(format_args!("{error}\nhint: {hint}"))
        })?;
        let filter = Filter {
            events: all(&events)?,
            functions: all(&functions)?,
        };
        filter.check().map_err(invalid)?;
        let vault = Arc::clone(&self.0.vault);
        let (of, called) = (namespace.clone(), name.clone());
        let sealing = blocking(move || {
            let secret = Secret::draw().map_err(|error| Status::internal(error.to_string()))?;
            let sealed = seal_secret(&vault, &of, &called, &secret)?;
            Ok((secret, sealed))
        });
        let (secret, sealed) = sealing.await?;
        let order = WebhookOrder::Create {
            endpoint,
            filter,
            secret: sealed,
        };
        let webhook = self.order(namespace, &name, order).await?;
        Ok(Response::new(v1::CreateWebhookResponse {
            webhook: Some(webhook),
            secret: secret.text(),
        }))
    }

    async fn get_webhook(
        &self,
        request: Request<v1::GetWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetWebhookRequest { namespace, name } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let (_, webhook) = self.find(&namespace, &name).await?;
        Ok(Response::new(shown(&name, &webhook)))
    }

    async fn list_webhooks(
        &self,
        request: Request<v1::ListWebhooksRequest>,
    ) -> Result<Response<v1::ListWebhooksResponse>, Status> {
        let caller = Caller::of(&request)?;
        let namespace = caller.namespace(request.into_inner().namespace)?;
        let shared = self.0.ledger.shared();
        let number = read(&shared.namespaces).get(&namespace).copied();
        let webhooks = number.and_then(|number| read(&shared.webhooks).get(&number).cloned());
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        let webhooks = webhooks.iter().flatten();
        Ok(Response::new(v1::ListWebhooksResponse {
            webhooks: webhooks
                .map(|(name, webhook)| shown(name, webhook))
                .collect(),
        }))
    }

    async fn pause_webhook(
        &self,
        request: Request<v1::PauseWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        let caller = Caller::of(&request)?;
        let v1::PauseWebhookRequest { namespace, name } = request.into_inner();
        self.change(&caller, namespace, &name, WebhookOrder::Pause)
            .await
    }

    async fn resume_webhook(
        &self,
        request: Request<v1::ResumeWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ResumeWebhookRequest { namespace, name } = request.into_inner();
        self.change(&caller, namespace, &name, WebhookOrder::Resume)
            .await
    }

    async fn delete_webhook(
        &self,
        request: Request<v1::DeleteWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteWebhookRequest { namespace, name } = request.into_inner();
        self.change(&caller, namespace, &name, WebhookOrder::Delete)
            .await
    }

    async fn test_webhook(
        &self,
        request: Request<v1::TestWebhookRequest>,
    ) -> Result<Response<v1::TestWebhookResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::TestWebhookRequest { namespace, name } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("webhook", &name);
        let (_, webhook) = self.find(&namespace, &name).await?;
        let (sender, vault) = (Arc::clone(&self.0.hooks), Arc::clone(&self.0.vault));
        let permit = Arc::clone(&sender.tests).try_acquire_owned();
        let permit = permit.map_err(|_| {
            Status::resource_exhausted(format!(
                "{WEBHOOK_TESTS_MAX} webhooks are being tested already; try again in some seconds"
            ))
        })?;
        let sending = blocking(move || {
            let _permit = permit;
            let secret = open_secret(&vault, &namespace, &name, &webhook.secret)?;
            Ok(sender.ping(&webhook.endpoint, &secret, (&namespace, &name), wall()))
        });
        let answer = sending.await?;
        Ok(Response::new(v1::TestWebhookResponse {
            status: answer.status.into(),
            error: answer.error,
            took_ms: u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX),
        }))
    }

    async fn list_deliveries(
        &self,
        request: Request<v1::ListDeliveriesRequest>,
    ) -> Result<Response<v1::ListDeliveriesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListDeliveriesRequest {
            namespace,
            name,
            failed,
            limit,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let (of, _) = self.find(&namespace, &name).await?;
        let limit = if limit == 0 { LISTED } else { limit };
        let tries = self.tries(of.number).await?.into_iter();
        let wanted = tries.filter(|tried| !failed || !tried.error.is_empty());
        let wanted = wanted.take(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Response::new(v1::ListDeliveriesResponse {
            deliveries: wanted.map(|tried| attempt(of.number, tried)).collect(),
        }))
    }

    async fn redeliver(
        &self,
        request: Request<v1::RedeliverRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        let caller = Caller::of(&request)?;
        let v1::RedeliverRequest {
            namespace,
            name,
            id: wanted,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("webhook", &name);
        let (webhook, _) = self.find(&namespace, &name).await?;
        let tries = self.tries(webhook.number).await?.into_iter();
        let mut tries = tries.map(|tried| (tried.delivery(), tried));
        let found = tries.find(|(of, _)| id(webhook.number, *of) == wanted);
        let (of, tried) = found.ok_or_else(|| {
            Status::not_found(format!(
                "the log of webhook `{name}` has no event `{}`\nhint: `tq webhook deliveries {name}` shows it",
                wanted.chars().take(120).collect::<String>().escape_debug()
            ))
        })?;
        let delivery = self.again(&webhook, of, tried).await?;
        let asked = self.0.ledger.ask(|reply| {
            Command::Deliver(Box::new(Delivering::Again {
                webhook,
                delivery: (of, delivery),
                reply,
            }))
        });
        let asked = asked.await.map_err(ApiError::from)?;
        asked.map_err(ApiError::from)?;
        let (_, webhook) = self.find(&namespace, &name).await?;
        Ok(Response::new(shown(&name, &webhook)))
    }
}

impl Webhooks {
    async fn change(
        &self,
        caller: &Caller,
        namespace: String,
        name: &str,
        order: WebhookOrder,
    ) -> Result<Response<v1::Webhook>, Status> {
        let namespace = caller.namespace(namespace)?;
        caller.is_about("webhook", name);
        Ok(Response::new(self.order(namespace, name, order).await?))
    }

    async fn order(
        &self,
        namespace: String,
        name: &str,
        order: WebhookOrder,
    ) -> Result<v1::Webhook, Status> {
        let ordered = self.0.ledger.ask(|reply| {
            Command::Webhook(Box::new(WebhookChange {
                namespace,
                name: name.to_owned(),
                order,
                reply,
            }))
        });
        let ordered = ordered.await.map_err(ApiError::from)?;
        Ok(shown(name, &*ordered.map_err(ApiError::from)?))
    }

    async fn find(&self, namespace: &str, name: &str) -> Result<(WebhookId, Arc<Webhook>), Status> {
        let shared = self.0.ledger.shared();
        let number = read(&shared.namespaces).get(namespace).copied();
        let found = number.and_then(|number| {
            let webhook = read(&shared.webhooks).get(&number)?.get(name).cloned()?;
            let id = WebhookId {
                namespace: number,
                name: name.to_owned(),
                number: webhook.number,
            };
            Some((id, webhook))
        });
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        let found = found.ok_or_else(|| Refused::NoWebhook {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
        Ok(found.map_err(ApiError::from)?)
    }

    /// The log of a webhook, the newest attempt first.
    async fn tries(&self, number: u64) -> Result<Vec<Tried>, Status> {
        let store = Arc::clone(self.0.ledger.reader());
        let limit = usize::try_from(WEBHOOK_LOG_MAX).unwrap_or(usize::MAX);
        blocking(move || row::list_tries::<ApiError>(&*store, number, limit)).await
    }

    /// An event that is to be delivered again: as it was, or else as its task shows it still.
    async fn again(
        &self,
        webhook: &WebhookId,
        of: DeliveryId,
        tried: Tried,
    ) -> Result<Delivery, Status> {
        let store = Arc::clone(self.0.ledger.reader());
        let (number, namespace) = (webhook.number, webhook.namespace);
        blocking(move || {
            let (attempts, due, is_under_way) = (0, wall(), false);
            if let Some(pending) = store.get(&key::delivery(number, of))? {
                let pending = row::decode_delivery(pending)?;
                return Ok(Delivery {
                    attempts,
                    due,
                    is_under_way,
                    ..pending
                });
            }
            let found = row::find_task::<ApiError>(&*store, namespace, of.task)?;
            let task = found.map(|record| record.task);
            let is_that_end = |state: &tq_core::State| {
                Event::of(state) == Some(tried.event) && state.ended_at() <= Some(tried.ended_at)
            };
            let Some(task) = task.filter(|task| is_that_end(&task.state)) else {
                let why = format!(
                    "task {} is not there any more as it ended then: it was removed, or redriven",
                    of.task
                );
                return Err(Status::failed_precondition(why).into());
            };
            Ok(Delivery {
                event: tried.event,
                ended_at: tried.ended_at,
                body: Writer::new().of_task(tried.event, tried.ended_at, &task),
                attempts,
                due,
                is_under_way,
            })
        })
        .await
    }
}

fn all<T: FromStr<Err: std::fmt::Display> + Ord>(texts: &[String]) -> Result<BTreeSet<T>, Status> {
    let all = texts.iter().map(|text| text.parse().map_err(invalid));
    all.collect()
}

fn shown(name: &str, webhook: &Webhook) -> v1::Webhook {
    let Filter { events, functions } = &webhook.filter;
    let paused = webhook.paused.as_ref();
    v1::Webhook {
        name: name.to_owned(),
        url: webhook.endpoint.url().to_owned(),
        events: events.iter().map(|event| event.name().to_owned()).collect(),
        functions: functions.iter().map(ToString::to_string).collect(),
        created_ms: webhook.created_at.0,
        paused: paused.map_or_else(String::new, |paused| paused.reason.clone()),
        paused_ms: paused.map_or(0, |paused| paused.at.0),
        pending: webhook.pending,
        delivered: webhook.delivered,
        given_up: webhook.given_up,
        missed: webhook.missed,
        failing_since_ms: webhook.failing_since.map_or(0, |at| at.0),
        last_error: webhook.last_error.clone(),
    }
}

fn attempt(number: u64, tried: Tried) -> v1::Delivery {
    let id = id(number, tried.delivery());
    v1::Delivery {
        id,
        event: tried.event.name().to_owned(),
        task_id: tried.task.to_string(),
        attempt: tried.attempt,
        after_restart: tried.is_after_restart,
        at_ms: tried.at.0,
        took_ms: tried.took_ms,
        status: tried.status.into(),
        error: tried.error,
        next_ms: tried.next.map_or(0, |at| at.0),
    }
}
