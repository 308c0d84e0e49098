//! The one place where an error becomes a gRPC status. Clients get the outside text; causes and paths go to the log.
//!
//! A message may end with a line `hint: …`, which says what to do.

use std::time::Duration;

use tonic::{Code, Status};
use tq_core::quota::Exceeded;
use tq_core::transition::Rejected;

use crate::blobs;
use crate::ledger::{HelloRefused, Refused, Stopped};
use crate::modules::inspect;
use crate::modules::registry::Unknown;
use crate::secrets::VaultError;
use crate::{search, store, tables::row};

/// The request has something that it may not have.
pub(super) fn invalid(text: impl std::fmt::Display) -> Status {
    Status::invalid_argument(text.to_string())
}

fn with_hint(code: Code, text: impl std::fmt::Display, hint: &str) -> Status {
    Status::new(code, format!("{text}\nhint: {hint}"))
}

/// As gRPC's retry design has it (gRFC A6): clients that retry by themselves wait so long.
fn push_back(status: &mut Status, retry_after: Duration) {
    let ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    let pushback = status.metadata_mut();
    pushback.insert(tq_proto::RETRY_PUSHBACK_MS, ms.into());
}

/// What to do about a quota.
fn quota_hint(namespace: &str, exceeded: &Exceeded) -> String {
    let (what, flag) = match exceeded {
        Exceeded::Waiting { .. } => ("let tasks end, or cancel some", "--max-waiting"),
        Exceeded::Stored { .. } => (
            "delete tasks, keys of buckets or versions of modules",
            "--max-stored",
        ),
        Exceeded::SubmitRate { .. } => ("submit less at once", "--submit-rate"),
        Exceeded::Fuel { .. } => ("wait for the next day", "--fuel-per-day"),
        Exceeded::FuelOfTask { .. } => ("give the task less with `--fuel`", "--fuel-per-day"),
    };
    format!(
        "{what}; `tq namespace show {namespace}` shows what is used, and `tq namespace set {namespace} {flag}` raises the quota"
    )
}

impl From<Stopped> for ApiError {
    fn from(error: Stopped) -> Self {
        Self(Status::unavailable(error.to_string()))
    }
}

/// An error on its way out.
pub(crate) struct ApiError(pub(crate) Status);

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        error.0
    }
}

impl From<search::Error> for ApiError {
    fn from(error: search::Error) -> Self {
        Self(invalid(error))
    }
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl From<Unknown> for ApiError {
    fn from(error: Unknown) -> Self {
        Self(match &error {
            Unknown::Module { .. } => with_hint(
                Code::NotFound,
                &error,
                "`tq module list` shows what is deployed; `tq deploy` adds to it",
            ),
            Unknown::Version { .. } | Unknown::Function { .. } => {
                Status::not_found(error.to_string())
            }
            Unknown::Uncallable { .. } => Status::failed_precondition(error.to_string()),
            Unknown::Ambiguous { .. } => Status::invalid_argument(error.to_string()),
        })
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let text = refused.to_string();
        Self(match refused {
            Refused::Unknown(unknown) => return unknown.into(),
            Refused::NoTask { .. } | Refused::NoNamespace(_) => Status::not_found(text),
            Refused::Rejected(rejected) => match rejected {
                Rejected::DeadlinePassed { .. } => Status::invalid_argument(text),
                Rejected::Fenced { .. }
                | Rejected::WrongState { .. }
                | Rejected::Ended { .. }
                | Rejected::TooEarly { .. } => Status::failed_precondition(text),
            },
            Refused::NotEnded { id, .. } => with_hint(
                Code::FailedPrecondition,
                text,
                &format!("`tq task cancel {id}` ends it"),
            ),
            Refused::NewGrants { .. } => with_hint(
                Code::FailedPrecondition,
                &text,
                "deploy it without `--deny-new-capabilities` if it is to have that",
            ),
            Refused::KeyConflict { .. } => Status::already_exists(text),
            Refused::Overloaded { retry_after, .. } => {
                let mut status = with_hint(
                    Code::ResourceExhausted,
                    text,
                    "`tq overload` shows what is short; tasks of a higher priority may still be taken in",
                );
                push_back(&mut status, retry_after);
                status
            }
            Refused::OverQuota {
                namespace,
                exceeded,
                retry_after,
            } => {
                let mut status = with_hint(
                    Code::ResourceExhausted,
                    text,
                    &quota_hint(&namespace, &exceeded),
                );
                // Nobody is to wait for another day by itself.
                if let (Exceeded::SubmitRate { .. }, Some(retry_after)) = (exceeded, retry_after) {
                    push_back(&mut status, retry_after);
                }
                status
            }
            Refused::DiskFull { .. } => with_hint(
                Code::ResourceExhausted,
                text,
                "free some space on the broker's disk, then try again",
            ),
            Refused::NoEarlierVersion { .. } | Refused::Replaced(_) => {
                Status::failed_precondition(text)
            }
            Refused::CurrentVersion { name, .. } => with_hint(
                Code::FailedPrecondition,
                text,
                &format!(
                    "`tq module rollback {name}` makes another one current; `tq module delete {name}` deletes all of them"
                ),
            ),
            Refused::ModuleInUse { name, .. } => with_hint(
                Code::FailedPrecondition,
                text,
                &format!(
                    "cancel those that have not ended; `tq task delete --function {}` deletes those that have",
                    name.split('@').next().unwrap_or(&name)
                ),
            ),
            Refused::OutOfRange(_) | Refused::Settings(_) => Status::invalid_argument(text),
            Refused::NoQueue { .. } => Status::not_found(text),
            Refused::OrderInUse { .. } | Refused::QueueInUse { .. } | Refused::DefaultQueue => {
                Status::failed_precondition(text)
            }
            Refused::TooManyQueues
            | Refused::TooManyBreakers
            | Refused::TooManySecrets
            | Refused::TooManyWebhooks
            | Refused::WebhookFull
            | Refused::TooManyKeys
            | Refused::TooManyKeysOfNamespace(_)
            | Refused::TooManyBuckets
            | Refused::BucketsFull { .. } => Status::resource_exhausted(text),
            Refused::BucketNotGranted(_) => Status::permission_denied(text),
            Refused::NoKey { bucket, .. } => with_hint(
                Code::NotFound,
                text,
                &format!("`tq kv list {bucket}` shows those that there are"),
            ),
            Refused::NoNumber { .. } => Status::failed_precondition(text),
            Refused::AccessKeyExpired(_) => with_hint(
                Code::FailedPrecondition,
                text,
                "`tq key create` makes another key",
            ),
            Refused::NoAccessKey(_) => with_hint(
                Code::NotFound,
                text,
                "`tq key list` shows those that there are",
            ),
            Refused::WebhookExists(_) => with_hint(
                Code::AlreadyExists,
                text,
                "`tq webhook delete` removes it with its deliveries; its secret cannot be shown again",
            ),
            Refused::NoWebhook { .. } => with_hint(
                Code::NotFound,
                text,
                "`tq webhook list` shows those that there are",
            ),
            Refused::NoSecret { .. } => with_hint(
                Code::NotFound,
                text,
                "`tq secret list` shows those that there are",
            ),
            Refused::NotHeld { .. } => Status::aborted(text),
            Refused::NoHost(_) => with_hint(
                Code::NotFound,
                text,
                "`tq host list` shows those that the broker knows",
            ),
            Refused::HostDrains(_) => with_hint(
                Code::FailedPrecondition,
                text,
                "`tq host resume` ends the drain; pause the host then",
            ),
        })
    }
}

impl From<inspect::Error> for ApiError {
    fn from(error: inspect::Error) -> Self {
        Self(invalid(error))
    }
}

impl From<blobs::Error> for ApiError {
    fn from(error: blobs::Error) -> Self {
        // To whoever brings new work it is one and the same refusal, whether the ledger or the blobs come upon it.
        if let blobs::Error::UnderFloor { free, floor } = error {
            return Refused::DiskFull { free, floor }.into();
        }
        let text = error.to_string();
        if error.is_disk_full() {
            return Self(with_hint(
                Code::ResourceExhausted,
                text,
                "free some space on the broker's disk, then try again",
            ));
        }
        Self(match &error {
            blobs::Error::Size { .. } | blobs::Error::Digest { .. } => {
                Status::invalid_argument(text)
            }
            blobs::Error::Io { .. } => disk_failed(&error),
            blobs::Error::UnderFloor { .. } | blobs::Error::Damaged { .. } => internal(&error),
        })
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        Self(match &error {
            // It stops, or is about to.
            store::Error::Closed | store::Error::Poisoned { .. } => return Stopped.into(),
            store::Error::Io { .. } | store::Error::Engine { .. } => disk_failed(&error),
            store::Error::KeyLength { .. }
            | store::Error::ValueTooLarge { .. }
            | store::Error::Locked { .. }
            | store::Error::OtherFormat { .. }
            | store::Error::RolledBack { .. }
            | store::Error::Damaged { .. }
            | store::Error::Mixed { .. }
            | store::Error::Corrupt { .. }
            | store::Error::Missing { .. } => internal(&error),
        })
    }
}

impl From<row::Error> for ApiError {
    fn from(error: row::Error) -> Self {
        Self(internal(&error))
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        log(&error);
        Self(match &error {
            VaultError::OtherKey { .. } | VaultError::Damaged { .. } => {
                Status::failed_precondition(error.to_string())
            }
            VaultError::Io { .. } | VaultError::NoKey(_) | VaultError::Random => {
                Status::failed_precondition("the broker has no key for secrets; its log says more")
            }
        })
    }
}

impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self(internal(&error))
    }
}

impl From<HelloRefused> for ApiError {
    fn from(refused: HelloRefused) -> Self {
        Self(match refused {
            HelloRefused::NameTaken(_) => Status::already_exists(refused.to_string()),
            HelloRefused::RolledBack { .. } => Status::data_loss(refused.to_string()),
        })
    }
}

/// The disk could not be read. The next commit may find that it is gone, and end the broker: what is there after its next start
/// can answer.
fn disk_failed(error: &dyn std::error::Error) -> Status {
    log(error);
    Status::unavailable("the broker could not read its disk; its log says more")
}

/// Something of ours went wrong.
fn internal(error: &dyn std::error::Error) -> Status {
    log(error);
    Status::internal(
        "the broker could not do this because of an error of its own; its log says more",
    )
}

/// The cause is for the log, not for the client.
fn log(error: &dyn std::error::Error) {
    let mut causes = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        causes = format!("{causes}: {cause}");
        source = cause.source();
    }
    tracing::error!(error = causes, "request failed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restart_cures_can_be_tried_again() {
        let failed = store::Error::Io {
            doing: "read",
            path: "journal".into(),
            source: std::io::ErrorKind::Other.into(),
        };
        let poisoned = store::Error::Poisoned {
            cause: "the disk is gone".to_owned(),
        };
        let corrupt = store::Error::Corrupt {
            path: "tables".into(),
            what: "a table".to_owned(),
        };
        for (error, expected) in [
            (store::Error::Closed, Code::Unavailable),
            (poisoned, Code::Unavailable),
            (failed, Code::Unavailable),
            (corrupt, Code::Internal),
        ] {
            let status = Status::from(ApiError::from(error));
            assert_eq!(status.code(), expected, "{status}");
        }
    }
}
