//! Keys that let callers in, and the audit log.

use std::time::Duration;

use bytes::Bytes;
use tonic::{Request, Response, Status};
use tq_core::Timestamp;
use tq_core::access::{Role, Scope};
use tq_core::limits::{
    ACCESS_KEY_EXPIRY_MAX, ACCESS_KEY_GRACE_MAX, ACCESS_KEY_NAMESPACES_MAX, LIST_PAGE_MAX,
    NAME_BYTES_MAX,
};
use tq_core::name;
use tq_proto::v1;
use tq_proto::v1::access_service_server::AccessService;

use super::Context;
use super::blocking::blocking;
use super::request::over;
use crate::access::audit::{Event, Hash, Record};
use crate::access::{Caller, KeyId, KeyOrder, KeyText, StoredKey};
use crate::api::status::{ApiError, invalid};
use crate::ledger::{Command, KeyChange, Refused, wall};
use crate::store::{Direction, Read, Space};
use crate::tables::{key, row};

/// Records of the audit log that one request looks at: it goes on from there if few of them are what it asked for.
const SCANNED_MAX: usize = 10_000;
/// Records that are read at once.
const PAGE: usize = 500;

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
        let which = WhichRecords::new(namespace, request)?;
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

/// Which records of the audit log a request is about.
struct WhichRecords {
    namespace: String,
    request: v1::ListAuditRecordsRequest,
    limit: usize,
    direction: Direction,
    /// Where it goes on.
    from: Option<u64>,
}

impl WhichRecords {
    fn new(namespace: String, request: v1::ListAuditRecordsRequest) -> Result<Self, Status> {
        over("principal", request.principal.len(), NAME_BYTES_MAX)?;
        over("call", request.call.len(), NAME_BYTES_MAX)?;
        let limit = match request.limit as usize {
            0 => 100,
            limit if limit <= LIST_PAGE_MAX => limit,
            limit => {
                return Err(invalid(format_args!(
                    "limit is {limit}; it may be 1 to {LIST_PAGE_MAX}"
                )));
            }
        };
        let from = match request.cursor.as_str() {
            "" => None,
            cursor => Some(cursor.parse().map_err(|_| {
                invalid("cursor is none that this call has given; leave it out to begin anew")
            })?),
        };
        Ok(Self {
            namespace,
            limit,
            direction: match request.ascending {
                true => Direction::Ascending,
                false => Direction::Descending,
            },
            from,
            request,
        })
    }

    fn takes(&self, record: &Record) -> bool {
        let Record { at, event, .. } = record;
        let v1::ListAuditRecordsRequest {
            from_ms,
            until_ms,
            principal,
            call,
            ..
        } = &self.request;
        (self.namespace.is_empty() || self.namespace == event.namespace)
            && at.0 >= *from_ms
            && (*until_ms == 0 || at.0 < *until_ms)
            && event.principal.contains(principal)
            && event.call.contains(call)
    }

    /// Whether no record that comes after this one can be meant.
    fn is_past(&self, at: Timestamp) -> bool {
        match self.direction {
            Direction::Ascending => self.request.until_ms > 0 && at.0 >= self.request.until_ms,
            Direction::Descending => at.0 < self.request.from_ms,
        }
    }

    fn find(&self, reader: &dyn Read) -> Result<v1::ListAuditRecordsResponse, ApiError> {
        let head = reader.get(&key::audit_head())?;
        let head = head.map(row::decode_audit).transpose()?;
        // What is of everybody is not for those who see one namespace.
        let head = head.filter(|_| self.namespace.is_empty());
        let mut records = Vec::new();
        let (mut from, mut scanned) = (self.from, 0);
        let next = loop {
            let at = from.map(|seq| key::audit(seq).bytes).unwrap_or_default();
            let page = reader.scan(Space::Index, &key::audits(), &at, self.direction, PAGE)?;
            let is_last = page.len() < PAGE;
            for pair in page {
                let (record, hash) = row::decode_audit(pair.value)?;
                if records.len() == self.limit || scanned == SCANNED_MAX {
                    return Ok(found(records, Some(record.seq), head));
                }
                if self.is_past(record.at) {
                    return Ok(found(records, None, head));
                }
                scanned += 1;
                from = match self.direction {
                    Direction::Ascending => record.seq.checked_add(1),
                    Direction::Descending => record.seq.checked_sub(1),
                };
                if self.takes(&record) {
                    records.push(record_out(record, hash));
                }
            }
            if is_last || from.is_none() {
                break None;
            }
        };
        Ok(found(records, next, head))
    }
}

fn found(
    records: Vec<v1::AuditRecord>,
    next: Option<u64>,
    head: Option<(Record, Hash)>,
) -> v1::ListAuditRecordsResponse {
    v1::ListAuditRecordsResponse {
        records,
        next: next.map(|seq| seq.to_string()).unwrap_or_default(),
        head: head.map(|(record, hash)| record_out(record, hash)),
    }
}

fn record_out(record: Record, hash: Hash) -> v1::AuditRecord {
    let Record {
        seq,
        at,
        event,
        previous,
    } = record;
    let Event {
        principal,
        peer,
        call,
        namespace,
        subject,
        outcome,
    } = event;
    v1::AuditRecord {
        seq,
        at_ms: at.0,
        principal,
        peer,
        call,
        namespace,
        subject,
        outcome,
        previous: Bytes::copy_from_slice(&previous),
        hash: Bytes::copy_from_slice(&hash),
    }
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
