//! The audit log: who did what, when, from where, and how it ended. No payloads.
//!
//! A record is hashed together with the hash of the one before it, so that none can be altered, removed or put in between without the
//! rest of the chain telling. The ledger numbers and writes them; a call is answered when its record is on disk.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tonic::{Code, Status};
use tq_core::Timestamp;
use tq_core::access::Action;
use tq_proto::v1;

use super::Caller;
use super::budget::Budgets;
use super::caller::About;
use super::calls::Call;
use crate::api::{ApiError, Peer};
use crate::ledger::{Command, Handle};

/// SHA-256.
pub type Hash = [u8; 32];

/// What stands in place of the hash of a record before the first.
pub const NONE_BEFORE: Hash = [0; 32];

/// A record, but for its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who; empty if nobody was known.
    pub principal: String,
    /// From where.
    pub peer: String,
    /// The call.
    pub call: String,
    /// Empty if it concerned no namespace.
    pub namespace: String,
    /// What it was about; empty if that was not known.
    pub subject: String,
    /// `ok`, or the name of a gRPC status.
    pub outcome: String,
    /// Calls of the principal since its record before that have none.
    pub left_out: u64,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// From 1, without gaps.
    pub seq: u64,
    /// When, by the ledger's time. Later ones have the same or a later one.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// The hash of the record before.
    pub previous: Hash,
    /// The hash that it was written with, which is another one than [`Record::digest`] if it was altered.
    pub hash: Hash,
}

impl Record {
    /// The record that comes after one with the hash `previous`.
    #[must_use]
    pub fn new(seq: u64, at: Timestamp, event: Event, previous: Hash) -> Self {
        let mut record = Self {
            seq,
            at,
            event,
            previous,
            hash: NONE_BEFORE,
        };
        record.hash = record.digest();
        record
    }

    /// What its hash has to be: SHA-256 over the hash of the record before; `seq`, the milliseconds and the number of those left out as
    /// eight bytes each, the highest first; and the texts in their order, each after its length in bytes as four bytes, the highest
    /// first.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let Self {
            seq,
            at,
            event,
            previous,
            hash: _,
        } = self;
        let Event {
            principal,
            peer,
            call,
            namespace,
            subject,
            outcome,
            left_out,
        } = event;
        let mut hasher = Sha256::new();
        hasher.update(previous);
        for number in [*seq, at.0, *left_out] {
            hasher.update(number.to_be_bytes());
        }
        for text in [principal, peer, call, namespace, subject, outcome] {
            let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
            hasher.update(len.to_be_bytes());
            hasher.update(text);
        }
        hasher.finalize().into()
    }
}

/// What is written to disk, and shown.
impl From<Record> for v1::AuditRecord {
    fn from(record: Record) -> Self {
        let Record {
            seq,
            at,
            event,
            previous,
            hash,
        } = record;
        let Event {
            principal,
            peer,
            call,
            namespace,
            subject,
            outcome,
            left_out,
        } = event;
        Self {
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
            left_out,
        }
    }
}

/// A record without a hash, or with one that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {0} has no hashes of 32 bytes")]
pub struct NoHash(u64);

impl TryFrom<v1::AuditRecord> for Record {
    type Error = NoHash;

    fn try_from(record: v1::AuditRecord) -> Result<Self, NoHash> {
        let v1::AuditRecord {
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
        let read = |bytes: Bytes| Hash::try_from(&*bytes).map_err(|_| NoHash(seq));
        Ok(Self {
            seq,
            at: Timestamp(at_ms),
            event: Event {
                principal,
                peer,
                call,
                namespace,
                subject,
                outcome,
                left_out,
            },
            previous: read(previous)?,
            hash: read(hash)?,
        })
    }
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A record has another hash than what is in it.
    #[error("record {seq} was altered: its hash is not that of what is in it")]
    Altered {
        /// Which.
        seq: u64,
    },
    /// A record is not the one that comes next.
    #[error("record {expected} is missing: record {found} comes in its place")]
    Missing {
        /// Which should come.
        expected: u64,
        /// Which comes.
        found: u64,
    },
    /// A record does not follow from the one before.
    #[error(
        "record {seq} does not follow from the one before: one of them was put in place of another"
    )]
    Unlinked {
        /// Which.
        seq: u64,
    },
}

/// Follows a chain from its first record that is kept.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    first: Option<u64>,
    last: Option<(u64, Hash)>,
}

impl Chain {
    /// The number of the first record.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.first
    }

    /// The number and hash of the last record.
    #[must_use]
    pub fn last(&self) -> Option<(u64, Hash)> {
        self.last
    }

    /// Goes on to the next record.
    ///
    /// # Errors
    /// [`Broken`] if it is not what came next when it was written.
    pub fn follow(&mut self, record: &Record) -> Result<(), Broken> {
        let Record {
            seq,
            previous,
            hash,
            ..
        } = record;
        let seq = *seq;
        if record.digest() != *hash {
            return Err(Broken::Altered { seq });
        }
        let before = match self.last {
            Some((last, _)) if seq != last + 1 => {
                return Err(Broken::Missing {
                    expected: last + 1,
                    found: seq,
                });
            }
            Some((_, hash)) => Some(hash),
            None if seq == 1 => Some(NONE_BEFORE),
            // Those before may be too old to be kept.
            None => None,
        };
        if before.is_some_and(|before| before != *previous) {
            return Err(Broken::Unlinked { seq });
        }
        self.first.get_or_insert(seq);
        self.last = Some((seq, *hash));
        Ok(())
    }
}

/// Writes records.
#[derive(Clone)]
pub(crate) struct Auditor {
    ledger: Handle,
    budgets: Arc<Budgets>,
    started: Instant,
}

/// Whether a call is worth a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    Nothing,
    /// If its principal has few.
    Affordable,
    Always,
}

impl Worth {
    fn of(call: Call, outcome: Code) -> Self {
        match call.action {
            _ if outcome == Code::PermissionDenied => Self::Affordable,
            Some(Action::Deploy | Action::Administer) if call.is_audited => Self::Always,
            Some(Action::Submit) if call.is_audited && outcome == Code::Ok => Self::Affordable,
            Some(Action::Work | Action::Identify | Action::Read) if call.is_audited => {
                Self::Affordable
            }
            Some(_) | None => Self::Nothing,
        }
    }
}

impl Auditor {
    pub(super) fn new(ledger: Handle) -> Self {
        Self {
            ledger,
            budgets: Arc::default(),
            started: Instant::now(),
        }
    }

    /// Writes the record of a call, if it is worth one. It is on disk when this returns.
    pub(super) async fn record(
        &self,
        call: Call,
        peer: &Peer,
        caller: &Caller,
        outcome: Code,
    ) -> Result<(), Status> {
        let worth = Worth::of(call, outcome);
        if worth == Worth::Nothing {
            return Ok(());
        }
        let principal = caller.principal().map(|principal| principal.name.clone());
        let principal = principal.unwrap_or_default();
        let is_free = worth == Worth::Always;
        let now = self.started.elapsed();
        let Some(left_out) = self.budgets.spend(&principal, is_free, now) else {
            return Ok(());
        };
        let About { namespace, subject } = caller.about();
        let event = Event {
            principal,
            // Without the port, which says nothing of who it is.
            peer: peer.address.ip().to_canonical().to_string(),
            call: call.name.to_owned(),
            namespace,
            subject,
            outcome: name_of(outcome).to_owned(),
            left_out,
        };
        let recorded = self.ledger.ask(|reply| Command::Audit(event, reply)).await;
        recorded.map_err(|stopped| ApiError::from(stopped).into())
    }
}

fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::calls;

    fn chain(len: u64) -> Vec<Record> {
        let mut previous = NONE_BEFORE;
        let records = (1..=len).map(|seq| {
            let event = Event {
                principal: format!("key {seq}"),
                peer: "192.0.2.1".into(),
                call: "ModuleService/UploadModule".into(),
                namespace: "acme".into(),
                subject: "module greet".into(),
                outcome: "ok".into(),
                left_out: 2,
            };
            let record = Record::new(seq, Timestamp(1_000 + seq), event, previous);
            previous = record.hash;
            record
        });
        records.collect()
    }

    fn follow(records: &[Record]) -> Result<Option<(u64, Hash)>, Broken> {
        let mut chain = Chain::default();
        for record in records {
            chain.follow(record)?;
        }
        Ok(chain.last())
    }

    #[test]
    fn whole_chain_is_followed_also_from_its_middle() {
        let records = chain(5);
        let last = Some((5, records[4].hash));
        assert_eq!(follow(&records), Ok(last));
        assert_eq!(follow(&records[2..]), Ok(last));
    }

    #[test]
    fn whatever_is_done_to_a_record_is_noticed() {
        let alter: [fn(&mut Record); 9] = [
            |record| record.at = Timestamp(0),
            |record| record.event.principal.push('x'),
            |record| record.event.peer.push('x'),
            |record| record.event.call.push('x'),
            |record| record.event.namespace.push('x'),
            |record| record.event.subject.push('x'),
            |record| record.event.outcome.push('x'),
            |record| record.event.left_out = 0,
            |record| {
                // What moves from one text to the next.
                let letter = record.event.peer.pop().unwrap();
                record.event.call.insert(0, letter);
            },
        ];
        for alter in alter {
            let mut records = chain(5);
            alter(&mut records[2]);
            assert_eq!(follow(&records), Err(Broken::Altered { seq: 3 }));
            // With a hash that fits, the next one tells.
            records[2].hash = records[2].digest();
            assert_eq!(follow(&records), Err(Broken::Unlinked { seq: 4 }));
        }
        let mut records = chain(5);
        records.remove(2);
        let missing = Broken::Missing {
            expected: 3,
            found: 4,
        };
        assert_eq!(follow(&records), Err(missing));
        let mut records = chain(5);
        records.insert(2, records[2].clone());
        let missing = Broken::Missing {
            expected: 4,
            found: 3,
        };
        assert_eq!(follow(&records), Err(missing));
        // A first one that follows from something is not the first there was.
        let mut record = chain(1).remove(0);
        record.previous = [1; 32];
        record.hash = record.digest();
        assert_eq!(follow(&[record]), Err(Broken::Unlinked { seq: 1 }));
    }

    #[test]
    fn hash_is_what_the_guide_says() {
        let record = &chain(1)[0];
        let mut bytes = vec![0; 32];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0, 0, 0, 0, 0, 0, 3, 233]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 2]);
        for text in [
            "key 1",
            "192.0.2.1",
            "ModuleService/UploadModule",
            "acme",
            "module greet",
            "ok",
        ] {
            bytes.extend([0, 0, 0, u8::try_from(text.len()).unwrap()]);
            bytes.extend(text.as_bytes());
        }
        let expected: Hash = Sha256::digest(&bytes).into();
        assert_eq!(record.hash, expected);
    }

    #[test]
    fn changes_of_settings_always_have_a_record_and_other_calls_a_budget() {
        let check = |call: &str, outcome, expected| {
            let call = calls::at(&format!("/tq.v1.{call}")).unwrap();
            assert_eq!(Worth::of(call, outcome), expected, "{call:?} {outcome:?}");
        };
        let (deploy, cancel) = ("ModuleService/UploadModule", "TaskService/CancelTask");
        check(deploy, Code::Ok, Worth::Always);
        check(deploy, Code::InvalidArgument, Worth::Always);
        check(deploy, Code::PermissionDenied, Worth::Affordable);
        check("AccessService/RevokeApiKey", Code::NotFound, Worth::Always);
        check(cancel, Code::Ok, Worth::Affordable);
        check(cancel, Code::NotFound, Worth::Nothing);
        check(cancel, Code::PermissionDenied, Worth::Affordable);
        check("HostLink/Session", Code::Ok, Worth::Affordable);
        check("TaskService/GetTask", Code::Ok, Worth::Nothing);
        check(
            "TaskService/GetTask",
            Code::PermissionDenied,
            Worth::Affordable,
        );
        check("TaskService/Submit", Code::Ok, Worth::Nothing);
    }
}
