//! Calls about who may do what.

use std::time::Duration;

use tq_proto::v1::{
    ApiKey, CreateApiKeyRequest, Identity, ListApiKeysRequest, ListAuditRecordsRequest,
    ListAuditRecordsResponse, RevokeApiKeyRequest, Role, RotateApiKeyRequest, WhoAmIRequest,
};

use crate::{Client, Error};

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiKey {
    /// For people.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Which namespaces it is for; none of them stands for all.
    pub namespaces: Vec<String>,
    /// How long it holds; none is until it is revoked.
    pub expires_after: Option<Duration>,
}

impl Client {
    /// Who the broker takes this client for.
    ///
    /// # Errors
    /// [`Error::Refused`] if the credential is none, [`Error::Unreachable`].
    pub async fn who_am_i(&self) -> Result<Identity, Error> {
        let answer = self.access_service().who_am_i(WhoAmIRequest {}).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Makes a key, and returns it with its text, which nobody can ask for again.
    ///
    /// # Errors
    /// [`Error::Refused`] if this client may not, or not for so much, [`Error::Unreachable`].
    pub async fn create_api_key(&self, key: NewApiKey) -> Result<(ApiKey, String), Error> {
        let NewApiKey {
            name,
            role,
            namespaces,
            expires_after,
        } = key;
        let request = CreateApiKeyRequest {
            name,
            role: role.into(),
            namespaces,
            expires_after_ms: expires_after.map_or(0, ms),
        };
        let answer = self.access_service().create_api_key(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?.into_inner();
        let key = answer.key.ok_or_else(|| self.lacking("key"))?;
        Ok((key, answer.text))
    }

    /// The keys for namespaces that are all among the client's own, by name.
    ///
    /// # Errors
    /// [`Error::Refused`] if this client may not, [`Error::Unreachable`].
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, Error> {
        let request = ListApiKeysRequest {};
        let answer = self.access_service().list_api_keys(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner().keys)
    }

    /// Gives a key another text, which is returned; the one before holds on for `grace`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] if this client may not, [`Error::Unreachable`].
    pub async fn rotate_api_key(
        &self,
        id: &str,
        grace: Duration,
    ) -> Result<(ApiKey, String), Error> {
        let request = RotateApiKeyRequest {
            id: id.to_owned(),
            grace_ms: ms(grace),
        };
        let answer = self.access_service().rotate_api_key(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?.into_inner();
        let key = answer.key.ok_or_else(|| self.lacking("key"))?;
        Ok((key, answer.text))
    }

    /// Ends a key for good, and returns what it was. What goes on with it ends within seconds.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] if this client may not, [`Error::Unreachable`].
    pub async fn revoke_api_key(&self, id: &str) -> Result<ApiKey, Error> {
        let request = RevokeApiKeyRequest { id: id.to_owned() };
        let answer = self.access_service().revoke_api_key(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// One page of the audit log.
    ///
    /// # Errors
    /// [`Error::Refused`] if this client may not, [`Error::Unreachable`].
    pub async fn audit_records(
        &self,
        which: ListAuditRecordsRequest,
    ) -> Result<ListAuditRecordsResponse, Error> {
        let answer = self.access_service().list_audit_records(which).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
