//! Calls about webhooks.

use tq_proto::v1::{
    CreateWebhookRequest, DeleteWebhookRequest, Delivery, GetWebhookRequest, ListDeliveriesRequest,
    ListWebhooksRequest, PauseWebhookRequest, RedeliverRequest, ResumeWebhookRequest,
    TestWebhookRequest, TestWebhookResponse, Webhook,
};

use crate::{Client, Error};

/// A webhook to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewWebhook {
    /// Its name.
    pub name: String,
    /// Where it sends.
    pub url: String,
    /// Which events, such as `task.dead`; none of them is all.
    pub events: Vec<String>,
    /// Whose, by MODULE/FUNCTION or MODULE; none of them is all.
    pub functions: Vec<String>,
}

impl Client {
    /// Makes a webhook of the namespace, and returns it with the secret that it signs with, which nobody is told again.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no name or URL, or if there is one or are too many, [`Error::Unreachable`].
    pub async fn create_webhook(&self, new: NewWebhook) -> Result<(Webhook, String), Error> {
        let NewWebhook {
            name,
            url,
            events,
            functions,
        } = new;
        let request = CreateWebhookRequest {
            namespace: self.namespace.to_string(),
            name,
            url,
            events,
            functions,
        };
        let answer = self.webhook_service().create_webhook(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?.into_inner();
        Ok((answer.webhook.unwrap_or_default(), answer.secret))
    }

    /// The webhooks of the namespace, by name.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn webhooks(&self) -> Result<Vec<Webhook>, Error> {
        let request = ListWebhooksRequest {
            namespace: self.namespace.to_string(),
        };
        let answer = self.webhook_service().list_webhooks(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner().webhooks)
    }

    /// A webhook of the namespace.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn webhook(&self, name: &str) -> Result<Webhook, Error> {
        let request = GetWebhookRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.webhook_service().get_webhook(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Lets a webhook do nothing until it is resumed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn pause_webhook(&self, name: &str) -> Result<Webhook, Error> {
        let request = PauseWebhookRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.webhook_service().pause_webhook(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Lets a webhook go on, with all its deliveries due at once.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn resume_webhook(&self, name: &str) -> Result<Webhook, Error> {
        let request = ResumeWebhookRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.webhook_service().resume_webhook(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Removes a webhook, with what it has to deliver and its log, and returns what it was.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn delete_webhook(&self, name: &str) -> Result<Webhook, Error> {
        let request = DeleteWebhookRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.webhook_service().delete_webhook(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Sends an event `ping` to the endpoint of a webhook, and says what came of it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn test_webhook(&self, name: &str) -> Result<TestWebhookResponse, Error> {
        let request = TestWebhookRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.webhook_service().test_webhook(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// The newest attempts of a webhook to deliver something, the newest first: at most `limit`, or 50 if that is 0; only those that
    /// failed if `failed`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn deliveries(
        &self,
        name: &str,
        failed: bool,
        limit: u32,
    ) -> Result<Vec<Delivery>, Error> {
        let request = ListDeliveriesRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
            failed,
            limit,
        };
        let answer = self.webhook_service().list_deliveries(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner().deliveries)
    }

    /// Has an event of a webhook's log delivered again, under the id that it had.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] if its task is not there any more, [`Error::Unreachable`].
    pub async fn redeliver(&self, name: &str, id: &str) -> Result<Webhook, Error> {
        let request = RedeliverRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
            id: id.to_owned(),
        };
        let answer = self.webhook_service().redeliver(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }
}
