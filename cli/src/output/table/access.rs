//! Who may do what, and what was done.

use tq_client::{ApiKey, AuditRecord, Identity};

use super::{print, time};
use crate::output::{escaped, json};

/// Prints who the broker takes the caller for.
///
/// # Errors
/// As [`output::data`](crate::output::data).
pub(crate) fn print_identity(identity: &Identity) -> anyhow::Result<()> {
    let row = [
        identity.name.clone(),
        json::role(identity.role()).to_owned(),
        scope(&identity.namespaces),
        time(identity.expires_ms),
    ];
    print(["who", "role", "namespaces", "expires"], [row])
}

/// Prints keys, one a line.
///
/// # Errors
/// As [`output::data`](crate::output::data).
pub(crate) fn print_access_keys(keys: &[ApiKey]) -> anyhow::Result<()> {
    print(
        [
            "id",
            "name",
            "role",
            "namespaces",
            "created",
            "by",
            "expires",
            "used",
            "previous text until",
        ],
        keys.iter().map(|key| {
            [
                key.id.clone(),
                key.name.clone(),
                json::role(key.role()).to_owned(),
                scope(&key.namespaces),
                time(key.created_ms),
                escaped(&key.created_by),
                time(key.expires_ms),
                time(key.used_ms),
                time(key.previous_expires_ms),
            ]
        }),
    )
}

/// Prints records of the audit log, one a line.
///
/// # Errors
/// As [`output::data`](crate::output::data).
pub(crate) fn print_audit(records: &[AuditRecord]) -> anyhow::Result<()> {
    print(
        [
            "seq",
            "time",
            "who",
            "from",
            "call",
            "namespace",
            "about",
            "outcome",
        ],
        records.iter().map(|record| {
            [
                record.seq.to_string(),
                time(record.at_ms),
                escaped(&record.principal),
                record.peer.clone(),
                record.call.clone(),
                record.namespace.clone(),
                escaped(&record.subject),
                record.outcome.clone(),
            ]
        }),
    )
}

fn scope(namespaces: &[String]) -> String {
    match namespaces.is_empty() {
        true => "all".to_owned(),
        false => namespaces.join(", "),
    }
}
