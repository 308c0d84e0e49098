//! Keys that let callers in, and the audit log.

use std::time::Duration;

use tonic::{Request, Response, Status};
use tq_core::Timestamp;
use tq_core::access::{Role, Scope};
use tq_core::limits::{ACCESS_KEY_EXPIRY_MAX, ACCESS_KEY_GRACE_MAX, ACCESS_KEY_NAMESPACES_MAX};
use tq_core::name;
use tq_proto::v1;
use tq_proto::v1::access_service_server::AccessService;

use super::Context;
use super::audit::WhichRecords;
use super::blocking::blocking;
use crate::access::{Caller, KeyId, KeyOrder, KeyText, StoredKey};
use crate::api::status::{ApiError, invalid};
use crate::ledger::{Command, KeyChange, Refused, wall};

pub(super) struct Access(pub(super) Context);

#[tonic::async_trait]
impl AccessService for Access {
    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::Identity>, Status> {
        let caller = Caller::of(&request)?;
        let Some(principal) = caller.principal() else {
            return Ok(Response::new(v1::Identity::default()));
        };
        Ok(Response::new(v1::Identity {
            name: principal.name.clone(),
            role: role_out(principal.role).into(),
            namespaces: principal.scope.names().map(str::to_owned).collect(),
            expires_ms: caller.expires_at.map_or(0, |at| at.0),
        }))
    }

    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::ApiKeyWithText>, Status> {
        let caller = Caller::of(&request)?;
        let v1::CreateApiKeyRequest {
            name,
            role,
            namespaces,
            expires_after_ms,
        } = request.into_inner();
        name::check("key name", &name).map_err(invalid)?;
        let role = role_in(role)?;
        if namespaces.len() > ACCESS_KEY_NAMESPACES_MAX {
            return Err(invalid(format_args!(
                "key names {} namespaces, over the limit of {ACCESS_KEY_NAMESPACES_MAX}; none of them stands for all",
                namespaces.len()
            )));
        }
        let scope = Scope::of(namespaces).map_err(invalid)?;
        if role == Role::Host && scope != Scope::All {
            return Err(invalid(
                "a host runs the tasks of all namespaces, so that its key is for all; leave the namespaces out",
            ));
        }
        if !caller.has_all_of(&scope) {
            return Err(Status::permission_denied(
                "a key cannot be for more namespaces than the credential that makes it\nhint: name namespaces that `tq whoami` shows",
            ));
        }
        let lasts = span("expires_after_ms", expires_after_ms, ACCESS_KEY_EXPIRY_MAX)?;
        let text = KeyText::draw().map_err(|error| Status::internal(error.to_string()))?;
        let creator = caller.principal().map(|principal| principal.name.clone());
        let now = wall();
        let key = StoredKey {
            id: text.id,
            name,
            role,
            scope,
            created_at: now,
            created_by: creator.unwrap_or_default(),
            expires_at: (!lasts.is_zero()).then(|| now.after(lasts)),
            hash: text.hash(),
            rotated_at: None,
            previous: None,
        };
        caller.is_about_key(&key);
        let key = self.change(KeyOrder::Create(Box::new(key))).await?;
        Ok(Response::new(with_text(&key, &text)))
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        let caller = Caller::of(&request)?;
        let all = self.0.ledger.shared().keys.all();
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        let own = all.iter().filter(|held| caller.has_all_of(&held.key.scope));
        let keys = own.map(|held| v1::ApiKey {
            used_ms: held.used_at().map_or(0, |at| at.0),
            ..key_out(&held.key)
        });
        Ok(Response::new(v1::ListApiKeysResponse {
            keys: keys.collect(),
        }))
    }

    async fn rotate_api_key(
        &self,
        request: Request<v1::RotateApiKeyRequest>,
    ) -> Result<Response<v1::ApiKeyWithText>, Status> {
        let caller = Caller::of(&request)?;
        let v1::RotateApiKeyRequest { id, grace_ms } = request.into_inner();
        let id = self.own(&caller, &id)?;
        let grace = span("grace_ms", grace_ms, ACCESS_KEY_GRACE_MAX)?;
        let text = KeyText::for_key(id).map_err(|error| Status::internal(error.to_string()))?;
        let order = KeyOrder::Rotate {
            id,
            hash: text.hash(),
            previous_until: wall().after(grace),
        };
        let key = self.change(order).await?;
        Ok(Response::new(with_text(&key, &text)))
    }

    async fn revoke_api_key(
        &self,
        request: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::ApiKey>, Status> {
        let caller = Caller::of(&request)?;
        let id = self.own(&caller, &request.into_inner().id)?;
        let key = self.change(KeyOrder::Revoke(id)).await?;
        Ok(Response::new(key_out(&key)))
    }

    async fn list_audit_records(
        &self,
        request: Request<v1::ListAuditRecordsRequest>,
    ) -> Result<Response<v1::ListAuditRecordsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let namespace = match request.namespace.is_empty() {
            // Only who has all namespaces sees what concerns none.
            true => {
                caller.cluster()?;
                String::new()
            }
            false => caller.namespace(request.namespace.clone())?,
        };
        let which = WhichRecords::new(namespace, caller.has_all_of(&Scope::All), request)?;
        let reader = self.0.ledger.reader().clone();
        let found = blocking(move || which.find(&*reader)).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        Ok(Response::new(found))
    }
}

impl Access {
    async fn change(&self, order: KeyOrder) -> Result<StoredKey, Status> {
        let change = self
            .0
            .ledger
            .ask(|reply| Command::AccessKey(KeyChange { order, reply }));
        let changed = change.await.map_err(ApiError::from)?;
        Ok(changed.map_err(ApiError::from)?)
    }

    /// A key of a request, which is for nothing that is not the caller's. Of any other it is not said whether it is there.
    fn own(&self, caller: &Caller, id: &str) -> Result<KeyId, Status> {
        let id: KeyId = id.parse().map_err(invalid)?;
        let held = self.0.ledger.shared().keys.get(id);
        match held.filter(|held| caller.has_all_of(&held.key.scope)) {
            Some(held) => {
                caller.is_about_key(&held.key);
                Ok(id)
            }
            None => {
                caller.is_about("key", &id.to_string());
                Err(ApiError::from(Refused::NoAccessKey(id)).into())
            }
        }
    }
}

/// A span of time of a request, in milliseconds.
fn span(field: &str, ms: u64, most: Duration) -> Result<Duration, Status> {
    let span = Duration::from_millis(ms);
    if span > most {
        return Err(invalid(format_args!(
            "{field} is {ms} ms, over the limit of {} days",
            most.as_secs() / (24 * 3600)
        )));
    }
    Ok(span)
}

fn with_text(key: &StoredKey, text: &KeyText) -> v1::ApiKeyWithText {
    v1::ApiKeyWithText {
        key: Some(key_out(key)),
        text: text.to_string(),
    }
}

fn key_out(key: &StoredKey) -> v1::ApiKey {
    let StoredKey {
        id,
        name,
        role,
        scope,
        created_at,
        created_by,
        expires_at,
        hash: _,
        rotated_at,
        previous,
    } = key;
    let ms = |at: Option<Timestamp>| at.map_or(0, |at| at.0);
    v1::ApiKey {
        id: id.to_string(),
        name: name.clone(),
        role: role_out(*role).into(),
        namespaces: scope.names().map(str::to_owned).collect(),
        created_ms: created_at.0,
        created_by: created_by.clone(),
        expires_ms: ms(*expires_at),
        rotated_ms: ms(*rotated_at),
        previous_expires_ms: ms(previous.map(|previous| previous.expires_at)),
        used_ms: 0,
    }
}

fn role_out(role: Role) -> v1::Role {
    match role {
        Role::Host => v1::Role::Host,
        Role::Viewer => v1::Role::Viewer,
        Role::Submitter => v1::Role::Submitter,
        Role::Deployer => v1::Role::Deployer,
        Role::Admin => v1::Role::Admin,
    }
}

fn role_in(role: i32) -> Result<Role, Status> {
    match v1::Role::try_from(role) {
        Ok(v1::Role::Host) => Ok(Role::Host),
        Ok(v1::Role::Viewer) => Ok(Role::Viewer),
        Ok(v1::Role::Submitter) => Ok(Role::Submitter),
        Ok(v1::Role::Deployer) => Ok(Role::Deployer),
        Ok(v1::Role::Admin) => Ok(Role::Admin),
        Ok(v1::Role::Unspecified) => Err(invalid(
            "role is missing; name `host`, `viewer`, `submitter`, `deployer` or `admin`",
        )),
        Err(_) => Err(invalid(format_args!("role {role} is not one"))),
    }
}
