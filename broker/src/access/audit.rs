//! The audit log: who did what, when, from where, and how it ended. No payloads.
//!
//! A record is hashed together with the hash of the one before it, so that none can be altered, removed or put in between without the
//! rest of the chain telling. The ledger numbers and writes them; a call is answered when its record is on disk.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};
use tq_core::Timestamp;

use super::Caller;
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
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// From 1, without gaps.
    pub seq: u64,
    /// When, by the ledger's time.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// The hash of the record before.
    pub previous: Hash,
}

impl Event {
    pub(super) fn new(call: Call, peer: &Peer, caller: &Caller, outcome: Code) -> Self {
        let About { namespace, subject } = caller.about();
        let principal = caller.principal().map(|principal| principal.name.clone());
        Self {
            principal: principal.unwrap_or_default(),
            peer: shown(peer.address),
            call: call.name.to_owned(),
            namespace,
            subject,
            outcome: name_of(outcome).to_owned(),
        }
    }
}

impl Record {
    /// Its hash: SHA-256 over the hash of the record before, `seq` and the milliseconds as eight bytes each, the highest first, and the
    /// texts in their order, each after its length in bytes as four bytes, the highest first.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let Self {
            seq,
            at,
            event,
            previous,
        } = self;
        let Event {
            principal,
            peer,
            call,
            namespace,
            subject,
            outcome,
        } = event;
        let mut hasher = Sha256::new();
        hasher.update(previous);
        hasher.update(seq.to_be_bytes());
        hasher.update(at.0.to_be_bytes());
        for text in [principal, peer, call, namespace, subject, outcome] {
            let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
            hasher.update(len.to_be_bytes());
            hasher.update(text);
        }
        hasher.finalize().into()
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
    last: Option<(u64, Hash)>,
}

impl Chain {
    /// The number and hash of the last record.
    #[must_use]
    pub fn last(&self) -> Option<(u64, Hash)> {
        self.last
    }

    /// Goes on to the next record, which says that it has this hash.
    ///
    /// # Errors
    /// [`Broken`] if it is not what came next when it was written.
    pub fn follow(&mut self, record: &Record, hash: &[u8]) -> Result<(), Broken> {
        let seq = record.seq;
        let own = record.hash();
        if own != hash {
            return Err(Broken::Altered { seq });
        }
        if let Some((last, hash)) = self.last {
            if seq != last + 1 {
                return Err(Broken::Missing {
                    expected: last + 1,
                    found: seq,
                });
            }
            if record.previous != hash {
                return Err(Broken::Unlinked { seq });
            }
        }
        self.last = Some((seq, own));
        Ok(())
    }
}

/// Writes records.
#[derive(Clone)]
pub(crate) struct Auditor {
    ledger: Handle,
}

impl Auditor {
    pub(super) fn new(ledger: Handle) -> Self {
        Self { ledger }
    }

    /// Writes a record. It is on disk when this returns.
    pub(super) async fn record(&self, event: Event) -> Result<(), Status> {
        let recorded = self.ledger.ask(|reply| Command::Audit(event, reply)).await;
        recorded.map_err(|stopped| ApiError::from(stopped).into())
    }
}

/// Without the port, which says nothing of who it is.
fn shown(address: SocketAddr) -> String {
    address.ip().to_canonical().to_string()
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

    fn chain(len: u64) -> Vec<(Record, Hash)> {
        let mut previous = NONE_BEFORE;
        let records = (1..=len).map(|seq| {
            let record = Record {
                seq,
                at: Timestamp(1_000 + seq),
                event: Event {
                    principal: format!("key {seq}"),
                    peer: "192.0.2.1".into(),
                    call: "ModuleService/UploadModule".into(),
                    namespace: "acme".into(),
                    subject: "module greet".into(),
                    outcome: "ok".into(),
                },
                previous,
            };
            previous = record.hash();
            (record, previous)
        });
        records.collect()
    }

    fn follow(records: &[(Record, Hash)]) -> Result<Option<(u64, Hash)>, Broken> {
        let mut chain = Chain::default();
        for (record, hash) in records {
            chain.follow(record, hash)?;
        }
        Ok(chain.last())
    }

    #[test]
    fn whole_chain_is_followed_also_from_its_middle() {
        let records = chain(5);
        let last = Some((5, records[4].1));
        assert_eq!(follow(&records), Ok(last));
        assert_eq!(follow(&records[2..]), Ok(last));
    }

    #[test]
    fn whatever_is_done_to_a_record_is_noticed() {
        let alter: [fn(&mut Record); 8] = [
            |record| record.at = Timestamp(0),
            |record| record.event.principal.push('x'),
            |record| record.event.peer.push('x'),
            |record| record.event.call.push('x'),
            |record| record.event.namespace.push('x'),
            |record| record.event.subject.push('x'),
            |record| record.event.outcome.push('x'),
            |record| {
                // What moves from one text to the next.
                let letter = record.event.peer.pop().unwrap();
                record.event.call.insert(0, letter);
            },
        ];
        for alter in alter {
            let mut records = chain(5);
            alter(&mut records[2].0);
            assert_eq!(follow(&records), Err(Broken::Altered { seq: 3 }));
            // With a hash that fits, the next one tells.
            records[2].1 = records[2].0.hash();
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
        records.swap(1, 2);
        assert!(follow(&records).is_err());
    }

    #[test]
    fn hash_is_what_the_guide_says() {
        let record = &chain(1)[0].0;
        let mut bytes = vec![0; 32];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0, 0, 0, 0, 0, 0, 3, 233]);
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
        assert_eq!(record.hash(), expected);
    }
}
