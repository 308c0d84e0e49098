//! Secrets: what goes in sealed, and comes out for attempts that were granted it.

use bytes::Bytes;
use tonic::{Request, Response, Status};
use tq_core::grant::SecretName;
use tq_core::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};
use tq_proto::v1;
use tq_proto::v1::secret_service_server::SecretService;

use super::blocking::blocking;
use super::{Context, convert};
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::ledger::{Command, Refused, SecretChange, StoredSecret};
use crate::secrets::Sealed;

pub(super) struct Secrets(pub(super) Context);

#[tonic::async_trait]
impl SecretService for Secrets {
    async fn set_secret(
        &self,
        request: Request<v1::SetSecretRequest>,
    ) -> Result<Response<v1::Secret>, Status> {
        let caller = Caller::of(&request)?;
        let v1::SetSecretRequest {
            namespace,
            name,
            value,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("secret", &name);
        let name: SecretName = name.parse().map_err(invalid)?;
        if value.len() < SECRET_BYTES_MIN {
            return Err(invalid(format_args!(
                "secret `{name}` has {} bytes; it needs {SECRET_BYTES_MIN} or more, since a shorter one could not be kept out of logs",
                value.len()
            )));
        }
        if value.len() > SECRET_BYTES_MAX {
            return Err(invalid(format_args!(
                "secret `{name}` has {} bytes, over the limit of {SECRET_BYTES_MAX} bytes",
                value.len()
            )));
        }
        let vault = self.0.vault.clone();
        let (of, called) = (namespace.clone(), name.clone());
        let sealed = blocking(move || Ok(vault.seal(&of, called.as_str(), &value)?)).await?;
        self.change(namespace, &name, Some(sealed)).await
    }

    async fn list_secrets(
        &self,
        request: Request<v1::ListSecretsRequest>,
    ) -> Result<Response<v1::ListSecretsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let namespace = caller.namespace(request.into_inner().namespace)?;
        let secrets = self.0.ledger.shared().secrets(&namespace);
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        let secrets = secrets.iter();
        Ok(Response::new(v1::ListSecretsResponse {
            secrets: secrets.map(|(name, secret)| shown(name, secret)).collect(),
        }))
    }

    async fn delete_secret(
        &self,
        request: Request<v1::DeleteSecretRequest>,
    ) -> Result<Response<v1::Secret>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteSecretRequest { namespace, name } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("secret", &name);
        let name = name.parse().map_err(invalid)?;
        self.change(namespace, &name, None).await
    }
}

impl Secrets {
    async fn change(
        &self,
        namespace: String,
        name: &SecretName,
        sealed: Option<Sealed>,
    ) -> Result<Response<v1::Secret>, Status> {
        let change = self.0.ledger.ask(|reply| {
            Command::Secret(SecretChange {
                namespace,
                name: name.to_string(),
                sealed,
                reply,
            })
        });
        let changed = change.await.map_err(ApiError::from)?;
        let secret = changed.map_err(ApiError::from)?;
        Ok(Response::new(shown(name.as_str(), &secret)))
    }
}

fn shown(name: &str, secret: &StoredSecret) -> v1::Secret {
    v1::Secret {
        name: name.to_owned(),
        version: secret.version,
        updated_ms: secret.updated_at.0,
    }
}

/// A secret for an attempt that runs, and was granted it.
pub(super) async fn secret_for(
    context: &Context,
    request: v1::GetSecretRequest,
) -> Result<Bytes, Status> {
    let v1::GetSecretRequest { attempt, name } = request;
    let attempt = convert::held_in(attempt.unwrap_or_default())?;
    let name: SecretName = name.parse().map_err(invalid)?;
    let namespace = attempt.namespace.clone();
    let granted = context.granted(attempt).await?;
    if !granted.secrets.iter().any(|grant| grant.name == name) {
        return Err(Status::permission_denied(format!(
            "secret `{name}` is not granted to the function"
        )));
    }
    let secret = context.ledger.shared().secret(&namespace, name.as_str());
    let secret = secret.ok_or_else(|| Refused::NoSecret {
        namespace: namespace.clone(),
        name: name.to_string(),
    });
    let secret = secret.map_err(ApiError::from)?;
    let vault = context.vault.clone();
    blocking(move || Ok(vault.open(&namespace, name.as_str(), &secret.sealed)?)).await
}
