//! Who may do what, and what was done.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tq_client::{ApiKey, AuditRecord, Identity, Role};

use super::{known, named};

/// The name of a role; empty if there is none.
pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "",
        Role::Host => "host",
        Role::Viewer => "viewer",
        Role::Submitter => "submitter",
        Role::Deployer => "deployer",
        Role::Admin => "admin",
    }
}

/// Who the broker takes the caller for. Without access control there is no name and no role.
#[derive(Debug, Serialize)]
pub(crate) struct IdentityInfo<'a> {
    access_control: bool,
    name: Option<&'a str>,
    role: Option<&'static str>,
    /// None of them is all.
    namespaces: &'a [String],
    expires_ms: Option<u64>,
}

impl<'a> From<&'a Identity> for IdentityInfo<'a> {
    fn from(identity: &'a Identity) -> Self {
        Self {
            access_control: !identity.name.is_empty(),
            name: named(&identity.name),
            role: named(role(identity.role())),
            namespaces: &identity.namespaces,
            expires_ms: known(identity.expires_ms),
        }
    }
}

#[derive(Debug, Serialize)]
struct KeyInfo<'a> {
    id: &'a str,
    name: &'a str,
    role: &'static str,
    /// None of them is all.
    namespaces: &'a [String],
    created_ms: u64,
    created_by: Option<&'a str>,
    expires_ms: Option<u64>,
    rotated_ms: Option<u64>,
    previous_expires_ms: Option<u64>,
    used_ms: Option<u64>,
}

impl<'a> From<&'a ApiKey> for KeyInfo<'a> {
    fn from(key: &'a ApiKey) -> Self {
        Self {
            id: &key.id,
            name: &key.name,
            role: role(key.role()),
            namespaces: &key.namespaces,
            created_ms: key.created_ms,
            created_by: named(&key.created_by),
            expires_ms: known(key.expires_ms),
            rotated_ms: known(key.rotated_ms),
            previous_expires_ms: known(key.previous_expires_ms),
            used_ms: known(key.used_ms),
        }
    }
}

/// Keys, without their texts.
#[derive(Debug, Serialize)]
pub(crate) struct KeyInfoList<'a> {
    keys: Vec<KeyInfo<'a>>,
}

impl<'a> KeyInfoList<'a> {
    /// In the order given.
    pub(crate) fn new(keys: &'a [ApiKey]) -> Self {
        Self {
            keys: keys.iter().map(KeyInfo::from).collect(),
        }
    }
}

/// A key with its text.
#[derive(Debug, Serialize)]
pub(crate) struct KeyWithText<'a> {
    text: &'a str,
    key: KeyInfo<'a>,
}

impl<'a> KeyWithText<'a> {
    pub(crate) fn new(key: &'a ApiKey, text: &'a str) -> Self {
        Self {
            text,
            key: key.into(),
        }
    }
}

/// A record of the audit log, with everything that its hash is over, as far as the caller may know it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditInfo<'a> {
    seq: Option<u64>,
    at_ms: u64,
    principal: Cow<'a, str>,
    peer: Cow<'a, str>,
    call: Cow<'a, str>,
    namespace: Cow<'a, str>,
    subject: Cow<'a, str>,
    outcome: Cow<'a, str>,
    left_out: u64,
    previous: Option<String>,
    hash: Option<String>,
}

impl<'a> From<&'a AuditRecord> for AuditInfo<'a> {
    fn from(record: &'a AuditRecord) -> Self {
        let AuditRecord {
            seq,
            at_ms,
            principal,
            peer,
            call,
            namespace,
            subject,
            outcome,
            previous,
            hash,
            left_out,
        } = record;
        let text = |hash: &[u8]| (!hash.is_empty()).then(|| hex::encode(hash));
        Self {
            seq: known(*seq),
            at_ms: *at_ms,
            principal: principal.into(),
            peer: peer.into(),
            call: call.into(),
            namespace: namespace.into(),
            subject: subject.into(),
            outcome: outcome.into(),
            left_out: *left_out,
            previous: text(previous),
            hash: text(hash),
        }
    }
}

/// What is no hexadecimal number becomes nothing, which is no hash.
impl From<AuditInfo<'_>> for AuditRecord {
    fn from(info: AuditInfo<'_>) -> Self {
        let AuditInfo {
            seq,
            at_ms,
            principal,
            peer,
            call,
            namespace,
            subject,
            outcome,
            left_out,
            previous,
            hash,
        } = info;
        let bytes = |text: Option<String>| {
            let text = text.unwrap_or_default();
            hex::decode(text).unwrap_or_default().into()
        };
        Self {
            seq: seq.unwrap_or_default(),
            at_ms,
            principal: principal.into_owned(),
            peer: peer.into_owned(),
            call: call.into_owned(),
            namespace: namespace.into_owned(),
            subject: subject.into_owned(),
            outcome: outcome.into_owned(),
            previous: bytes(previous),
            hash: bytes(hash),
            left_out,
        }
    }
}

/// Records of the audit log.
#[derive(Debug, Serialize)]
pub(crate) struct AuditList<'a> {
    records: Vec<AuditInfo<'a>>,
    next: Option<&'a str>,
}

impl<'a> AuditList<'a> {
    /// In the order given. `next` is empty if there are no more.
    pub(crate) fn new(records: &'a [AuditRecord], next: &'a str) -> Self {
        Self {
            records: records.iter().map(AuditInfo::from).collect(),
            next: named(next),
        }
    }
}

/// Whether the audit log is whole.
#[derive(Debug, Serialize)]
pub(crate) struct AuditVerified<'a> {
    pub(crate) records: u64,
    pub(crate) is_whole: bool,
    pub(crate) broken: Option<&'a str>,
    /// Whether it is known which record has to be there as the newest one, or as one of the newest.
    pub(crate) is_end_known: bool,
    pub(crate) first_seq: Option<u64>,
    pub(crate) last_seq: Option<u64>,
    pub(crate) last_hash: Option<String>,
}
