//! Calls about secrets.

use bytes::Bytes;
use tq_proto::v1::{DeleteSecretRequest, ListSecretsRequest, Secret, SetSecretRequest};

use crate::{Client, Error};

impl Client {
    /// Sets a secret of the namespace, from [`SECRET_BYTES_MIN`](tq_core::limits::SECRET_BYTES_MIN) to
    /// [`SECRET_BYTES_MAX`](tq_core::limits::SECRET_BYTES_MAX) bytes. Attempts that ask for it from then on get this value. It is on
    /// disk, sealed, when this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no name or no value, or if there are too many, [`Error::Unreachable`].
    pub async fn set_secret(&self, name: &str, value: Bytes) -> Result<Secret, Error> {
        let request = SetSecretRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
            value,
        };
        let answer = self.secret_service().set_secret(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// The secrets of the namespace, by name. Nobody is told their values.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn secrets(&self) -> Result<Vec<Secret>, Error> {
        let request = ListSecretsRequest {
            namespace: self.namespace.to_string(),
        };
        let answer = self.secret_service().list_secrets(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner().secrets)
    }

    /// Removes a secret of the namespace, and returns what it was. Attempts that have it keep it to their end.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn delete_secret(&self, name: &str) -> Result<Secret, Error> {
        let request = DeleteSecretRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.secret_service().delete_secret(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }
}
