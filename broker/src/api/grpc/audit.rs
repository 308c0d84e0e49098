//! Pages of the audit log.

use tonic::Status;
use tq_core::Timestamp;
use tq_core::limits::{LIST_PAGE_MAX, NAME_BYTES_MAX};
use tq_proto::v1;

use super::request::{bounded, over};
use crate::access::audit::Record;
use crate::api::status::{ApiError, invalid};
use crate::store::{Direction, Key, Read, Space};
use crate::tables::{key, row};

/// Records that one request looks at: it goes on from there if few of them are what it asked for.
const SCANNED_MAX: usize = 10_000;
/// Records that are read at once.
const PAGE: usize = 500;

/// Which records a request is about.
pub(super) struct WhichRecords {
    /// Empty is all.
    namespace: String,
    /// Whether whoever asks may know how much others do.
    shows_chain: bool,
    request: v1::ListAuditRecordsRequest,
    limit: usize,
    direction: Direction,
    /// Where the page before ended, if there was one.
    after: Option<Place>,
}

/// How far a caller has come, without the numbers of records, which say how many others have: a time, and how many of that time it has
/// been through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    at: Timestamp,
    passed: usize,
}

impl Place {
    fn pass(&mut self, at: Timestamp) {
        if self.at != at {
            *self = Self { at, passed: 0 };
        }
        self.passed += 1;
    }

    fn encode(self) -> String {
        format!("{}.{}", self.at.0, self.passed)
    }

    fn decode(cursor: &str) -> Option<Self> {
        let (at, passed) = cursor.split_once('.')?;
        Some(Self {
            at: Timestamp(at.parse().ok()?),
            passed: passed.parse().ok()?,
        })
    }
}

impl WhichRecords {
    pub(super) fn new(
        namespace: String,
        shows_chain: bool,
        request: v1::ListAuditRecordsRequest,
    ) -> Result<Self, Status> {
        over("principal", request.principal.len(), NAME_BYTES_MAX)?;
        over("call", request.call.len(), NAME_BYTES_MAX)?;
        let limit = bounded("limit", request.limit, 100, LIST_PAGE_MAX)?;
        let after = match request.cursor.as_str() {
            "" => None,
            cursor => Some(Place::decode(cursor).ok_or_else(|| {
                invalid("cursor is none that this call has given; leave it out to begin anew")
            })?),
        };
        Ok(Self {
            namespace,
            shows_chain,
            limit,
            direction: match request.ascending {
                true => Direction::Ascending,
                false => Direction::Descending,
            },
            after,
            request,
        })
    }

    fn takes(&self, record: &Record) -> bool {
        let v1::ListAuditRecordsRequest {
            principal, call, ..
        } = &self.request;
        record.event.principal.contains(principal) && record.event.call.contains(call)
    }

    pub(super) fn find(&self, reader: &dyn Read) -> Result<v1::ListAuditRecordsResponse, ApiError> {
        // Before the records, which are at least as new then.
        let head = reader.get(&key::audit_head())?;
        let head = head.map(row::decode_audit).transpose()?;
        // What is of everybody is not for those who see one namespace.
        let head = head.filter(|_| self.namespace.is_empty());
        let mut found = v1::ListAuditRecordsResponse {
            head: head.map(|head| self.shown(head)),
            ..v1::ListAuditRecordsResponse::default()
        };
        let low = match self.request.from_ms {
            0 => 0,
            from => seq_at(reader, Timestamp(from))?,
        };
        let high = match self.request.until_ms {
            0 => u64::MAX,
            until => seq_at(reader, Timestamp(until))?,
        };
        let after = self.after.unwrap_or_default();
        let mut from = match (self.direction, self.after) {
            (Direction::Ascending, None) => Some(low),
            (Direction::Ascending, Some(place)) => Some(low.max(seq_at(reader, place.at)?)),
            (Direction::Descending, None) => high.checked_sub(1),
            (Direction::Descending, Some(place)) => {
                let next = Timestamp(place.at.0.saturating_add(1));
                high.min(seq_at(reader, next)?).checked_sub(1)
            }
        };
        let (mut place, mut skipped, mut scanned) = (after, 0, 0);
        while let Some(begin) = from {
            let (records, next) = self.page(reader, begin)?;
            for record in records {
                if record.seq < low || record.seq >= high {
                    return Ok(found);
                }
                if record.at == after.at && skipped < after.passed {
                    skipped += 1;
                    continue;
                }
                if found.records.len() == self.limit || scanned == SCANNED_MAX {
                    found.next = place.encode();
                    return Ok(found);
                }
                scanned += 1;
                place.pass(record.at);
                if self.takes(&record) {
                    found.records.push(self.shown(record));
                }
            }
            from = next;
        }
        Ok(found)
    }

    /// The records from one on, and where the next ones begin, if there may be any.
    fn page(&self, reader: &dyn Read, from: u64) -> Result<(Vec<Record>, Option<u64>), ApiError> {
        let scan = |prefix: &[u8], from: Key| {
            reader.scan(Space::Index, prefix, &from.bytes, self.direction, PAGE)
        };
        let pairs = match self.namespace.is_empty() {
            true => scan(&key::audits(), key::audit(from))?,
            false => scan(
                &key::audits_of(&self.namespace),
                key::audit_of(&self.namespace, from),
            )?,
        };
        let last = pairs.last().filter(|_| pairs.len() == PAGE);
        let next = last.and_then(|pair| {
            let last = key::audit_seq(&pair.key)?;
            match self.direction {
                Direction::Ascending => last.checked_add(1),
                Direction::Descending => last.checked_sub(1),
            }
        });
        let rows: Vec<_> = match self.namespace.is_empty() {
            true => pairs.into_iter().map(|pair| pair.value).collect(),
            false => {
                let seqs = pairs.iter().filter_map(|pair| key::audit_seq(&pair.key));
                let keys: Vec<_> = seqs.map(key::audit).collect();
                // The oldest may be gone since the index was read.
                reader.get_many(&keys)?.into_iter().flatten().collect()
            }
        };
        let records = rows.into_iter().map(row::decode_audit);
        Ok((records.collect::<Result<_, _>>()?, next))
    }

    fn shown(&self, record: Record) -> v1::AuditRecord {
        let mut shown = v1::AuditRecord::from(record);
        if !self.shows_chain {
            shown.seq = 0;
            shown.previous.clear();
            shown.hash.clear();
        }
        shown
    }
}

/// The number of the first record that was written then or later; the next one's if there is none. Found by halving: times never go back.
fn seq_at(reader: &dyn Read, at: Timestamp) -> Result<u64, ApiError> {
    let read = |from: &[u8], direction| {
        let found = reader.scan(Space::Index, &key::audits(), from, direction, 1)?;
        let pair = found.into_iter().next();
        let record = pair.map(|pair| row::decode_audit(pair.value)).transpose()?;
        Ok::<_, ApiError>(record)
    };
    let first = read(&[], Direction::Ascending)?;
    let last = read(&[], Direction::Descending)?;
    let (Some(first), Some(last)) = (first, last) else {
        return Ok(1);
    };
    let (mut low, mut high) = (first.seq, last.seq.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let record = read(&key::audit(middle).bytes, Direction::Ascending)?;
        match record {
            Some(record) if record.at < at => low = record.seq.saturating_add(1),
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::audit::Event;
    use crate::ledger::AuditLog;
    use crate::store::memory::{Disk, Memory};
    use crate::store::{Batch, Committed, Level, Store as _};

    const NAMESPACES: [&str; 2] = ["acme", "beta"];

    /// A log with records of these times, which alternate between two namespaces.
    fn log(times: impl IntoIterator<Item = u64>) -> Memory {
        let times = times.into_iter().enumerate();
        log_of(times.map(|(number, at)| (at, NAMESPACES[number % 2])))
    }

    fn log_of(records: impl IntoIterator<Item = (u64, &'static str)>) -> Memory {
        let mut store = Disk::new().open().unwrap();
        let mut log = AuditLog::default();
        let mut batch = Batch::new();
        for (number, (at, namespace)) in records.into_iter().enumerate() {
            let event = Event {
                principal: format!("key {number}"),
                peer: "192.0.2.1".into(),
                call: "QueueService/SetQueue".into(),
                namespace: namespace.into(),
                subject: String::new(),
                outcome: "ok".into(),
                left_out: 0,
            };
            log.append(event, Timestamp(at), &store, &mut batch)
                .unwrap();
        }
        let committed = store.commit(batch, Level::Disk).unwrap();
        assert!(matches!(committed, Committed::Yes(_)));
        store
    }

    /// Who is in all pages of what a request is about, and how many pages there are.
    fn all(store: &Memory, request: v1::ListAuditRecordsRequest) -> (Vec<usize>, usize) {
        let (mut cursor, mut who, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let request = v1::ListAuditRecordsRequest {
                cursor,
                ..request.clone()
            };
            let namespace = request.namespace.clone();
            let shows_chain = namespace.is_empty();
            let which = WhichRecords::new(namespace, shows_chain, request).unwrap();
            let found = which.find(store).map_err(Status::from).unwrap();
            for record in &found.records {
                who.push(record.principal["key ".len()..].parse().unwrap());
                assert_eq!(record.seq > 0, shows_chain);
                assert_eq!(record.hash.len() == 32, shows_chain);
                assert_eq!(record.previous.len() == 32, shows_chain);
            }
            assert_eq!(found.head.is_some(), shows_chain);
            pages += 1;
            assert!(pages < 100, "it has no end");
            cursor = found.next;
            if cursor.is_empty() {
                return (who, pages);
            }
        }
    }

    #[test]
    fn pages_have_every_record_once_however_many_have_the_same_time() {
        let times = || (0..40_u64).map(|number| 100 + number / 7);
        let store = log(times());
        for namespace in ["", "acme", "beta"] {
            for ascending in [false, true] {
                for (limit, from_ms, until_ms) in [
                    (1, 0, 0),
                    (3, 0, 0),
                    (3, 102, 104),
                    (100, 0, 103),
                    (3, 200, 0),
                    (3, 0, 1),
                ] {
                    let mut expected: Vec<usize> = times()
                        .enumerate()
                        .filter(|(number, at)| {
                            (namespace.is_empty() || namespace == NAMESPACES[number % 2])
                                && *at >= from_ms
                                && (until_ms == 0 || *at < until_ms)
                        })
                        .map(|(number, _)| number)
                        .collect();
                    if !ascending {
                        expected.reverse();
                    }
                    let request = v1::ListAuditRecordsRequest {
                        namespace: namespace.into(),
                        from_ms,
                        until_ms,
                        limit,
                        ascending,
                        ..v1::ListAuditRecordsRequest::default()
                    };
                    assert_eq!(all(&store, request.clone()).0, expected, "{request:?}");
                }
            }
        }
    }

    #[test]
    fn what_few_records_are_is_found_a_part_of_the_log_at_a_time() {
        let count = 2 * SCANNED_MAX + 10;
        let store = log((0..count as u64).map(|number| number / 3));
        let request = v1::ListAuditRecordsRequest {
            principal: format!("key {}", SCANNED_MAX + 5),
            ..v1::ListAuditRecordsRequest::default()
        };
        let (who, pages) = all(&store, request.clone());
        assert_eq!((who, pages), (vec![SCANNED_MAX + 5], 3));
        // Where a time begins is not looked for record by record.
        let request = v1::ListAuditRecordsRequest {
            ascending: true,
            from_ms: (SCANNED_MAX as u64 + 5) / 3,
            until_ms: (SCANNED_MAX as u64 + 5) / 3 + 1,
            ..request
        };
        assert_eq!(all(&store, request), (vec![SCANNED_MAX + 5], 1));
    }

    #[test]
    fn cursor_says_nothing_of_what_others_have() {
        let of = |others: usize| {
            let records = (0..20).flat_map(|at| {
                let others = std::iter::repeat_n((at, "beta"), others);
                std::iter::once((at, "acme")).chain(others)
            });
            let store = log_of(records);
            let request = v1::ListAuditRecordsRequest {
                limit: 5,
                ..v1::ListAuditRecordsRequest::default()
            };
            let which = WhichRecords::new("acme".into(), false, request).unwrap();
            let found = which.find(&store).map_err(Status::from);
            found.unwrap().next
        };
        assert_eq!((of(0), of(3)), ("15.1".into(), "15.1".into()));
        assert!(Place::decode("1").is_none() && Place::decode("a.1").is_none());
    }
}
