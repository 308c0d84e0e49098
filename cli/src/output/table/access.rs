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
                number(record.seq),
                time(record.at_ms),
                escaped(&record.principal),
                record.peer.clone(),
                record.call.clone(),
                record.namespace.clone(),
                escaped(&record.subject),
                outcome(record),
            ]
        }),
    )
}

/// The number of a record; nothing for who may not know it.
fn number(seq: u64) -> String {
    match seq {
        0 => String::new(),
        seq => seq.to_string(),
    }
}

fn outcome(record: &AuditRecord) -> String {
    let AuditRecord {
        outcome, left_out, ..
    } = record;
    match left_out {
        0 => outcome.clone(),
        left_out => format!("{outcome} (before it, {left_out} left out)"),
    }
}

fn scope(namespaces: &[String]) -> String {
    match namespaces.is_empty() {
        true => "all".to_owned(),
        false => namespaces.join(", "),
    }
}
