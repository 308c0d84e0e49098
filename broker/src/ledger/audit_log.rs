//! The audit log in the store: a chain of records, of which the newest are kept.

use tq_core::Timestamp;
use tq_core::limits::AUDIT_RECORDS_MAX;

use super::Error;
use crate::access::audit::{Event, Hash, NONE_BEFORE, Record};
use crate::store::{Batch, Bytes, Direction, Read, Space};
use crate::tables::{key, row};

/// The ends of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AuditLog {
    /// The oldest record that is kept; the next one if there is none.
    first: u64,
    /// The next record.
    next: u64,
    /// When the newest one was written. Times never go back, so that records are found by them.
    at: Timestamp,
    /// Of the newest one.
    hash: Hash,
    /// How many are kept.
    records_max: u64,
}

impl Default for AuditLog {
    fn default() -> Self {
        Self {
            first: 1,
            next: 1,
            at: Timestamp::EPOCH,
            hash: NONE_BEFORE,
            records_max: AUDIT_RECORDS_MAX,
        }
    }
}

impl AuditLog {
    /// The ends of the log that is in a store. It goes on after whichever is the newest of what is there, so that nothing is written over.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read.
    pub(crate) fn recover(store: &dyn Read) -> Result<Self, Error> {
        // Beside the records, there is a copy of the newest, so that records that are gone from the end are noticed.
        let head = store.get(&key::audit_head())?;
        let head = head.map(row::decode_audit).transpose()?;
        let first = end(store, Direction::Ascending)?;
        let last = end(store, Direction::Descending)?;
        let seq = |record: &Option<Record>| record.as_ref().map_or(0, |record| record.seq);
        if seq(&head) != seq(&last) {
            tracing::error!(
                expected = seq(&head),
                found = seq(&last),
                "the newest record of the audit log is not the one that it was: somebody else has written to the store; `tq audit verify` says what is missing"
            );
        }
        let newest = match seq(&last) > seq(&head) {
            true => last,
            false => head,
        };
        let Some(newest) = newest else {
            return Ok(Self::default());
        };
        let next = newest.seq + 1;
        Ok(Self {
            first: first.map_or(next, |first| first.seq),
            next,
            at: newest.at,
            hash: newest.hash,
            ..Self::default()
        })
    }

    /// Adds a record to a batch, and takes the oldest out if there are too many.
    ///
    /// # Errors
    /// [`Error`] if the oldest cannot be read.
    pub(crate) fn append(
        &mut self,
        event: Event,
        now: Timestamp,
        store: &dyn Read,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        if self.next - self.first >= self.records_max {
            let at = key::audit(self.first);
            if let Some(oldest) = store.get(&at)? {
                let Event { namespace, .. } = row::decode_audit(oldest)?.event;
                batch.delete(key::audit_of(&namespace, self.first));
            }
            batch.delete(at);
            self.first += 1;
        }
        let record = Record::new(self.next, now.max(self.at), event, self.hash);
        self.next += 1;
        self.at = record.at;
        self.hash = record.hash;
        if !record.event.namespace.is_empty() {
            let leads_to = key::audit_of(&record.event.namespace, record.seq);
            batch.put(leads_to, Bytes::new());
        }
        let at = key::audit(record.seq);
        let encoded = Bytes::from(row::encode_audit(record));
        batch.put(at, encoded.clone());
        batch.put(key::audit_head(), encoded);
        Ok(())
    }
}

fn end(store: &dyn Read, direction: Direction) -> Result<Option<Record>, Error> {
    let found = store.scan(Space::Index, &key::audits(), &[], direction, 1)?;
    let pair = found.into_iter().next();
    Ok(pair.map(|pair| row::decode_audit(pair.value)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Disk;
    use crate::store::memory::Memory;
    use crate::store::{Committed, Level, Store as _};

    fn event(namespace: &str) -> Event {
        Event {
            principal: "a".into(),
            peer: "b".into(),
            call: "c".into(),
            namespace: namespace.into(),
            subject: String::new(),
            outcome: "ok".into(),
            left_out: 0,
        }
    }

    fn append(log: &mut AuditLog, store: &mut Memory, namespace: &str, now: u64) {
        let mut batch = Batch::new();
        log.append(event(namespace), Timestamp(now), store, &mut batch)
            .unwrap();
        let committed = store.commit(batch, Level::Disk).unwrap();
        assert!(matches!(committed, Committed::Yes(_)));
    }

    fn records(store: &Memory) -> Vec<Record> {
        let all = store.scan(
            Space::Index,
            &key::audits(),
            &[],
            Direction::Ascending,
            1_000,
        );
        let records = all.unwrap().into_iter();
        records
            .map(|pair| row::decode_audit(pair.value).unwrap())
            .collect()
    }

    fn index(store: &Memory, namespace: &str) -> Vec<u64> {
        let all = store.scan(
            Space::Index,
            &key::audits_of(namespace),
            &[],
            Direction::Ascending,
            1_000,
        );
        let keys = all.unwrap().into_iter();
        keys.filter_map(|pair| key::audit_seq(&pair.key)).collect()
    }

    #[test]
    fn newest_records_are_kept_and_the_index_has_no_others() {
        let mut store = Disk::new().open().unwrap();
        let mut log = AuditLog {
            records_max: 4,
            ..AuditLog::default()
        };
        for number in 0..5 {
            append(&mut log, &mut store, "acme", number);
            append(&mut log, &mut store, "", number);
        }
        let seqs: Vec<u64> = records(&store).iter().map(|record| record.seq).collect();
        assert_eq!(seqs, [7, 8, 9, 10]);
        assert_eq!(index(&store, "acme"), [7, 9]);
        let recovered = AuditLog::recover(&store).unwrap();
        let log = AuditLog {
            records_max: AUDIT_RECORDS_MAX,
            ..log
        };
        assert_eq!(recovered, log);
    }

    #[test]
    fn times_never_go_back() {
        let mut store = Disk::new().open().unwrap();
        let mut log = AuditLog::default();
        append(&mut log, &mut store, "", 7);
        append(&mut log, &mut store, "", 3);
        let mut log = AuditLog::recover(&store).unwrap();
        append(&mut log, &mut store, "", 5);
        let times: Vec<u64> = records(&store).iter().map(|record| record.at.0).collect();
        assert_eq!(times, [7, 7, 7]);
    }

    #[test]
    fn log_without_its_head_or_with_an_old_one_goes_on_after_its_last_record() {
        for is_old in [false, true] {
            let mut store = Disk::new().open().unwrap();
            let mut log = AuditLog::default();
            append(&mut log, &mut store, "", 1);
            let old = store.get(&key::audit_head()).unwrap().unwrap();
            append(&mut log, &mut store, "", 2);
            let before = records(&store);
            let mut batch = Batch::new();
            match is_old {
                true => batch.put(key::audit_head(), old),
                false => batch.delete(key::audit_head()),
            }
            let committed = store.commit(batch, Level::Disk).unwrap();
            assert!(matches!(committed, Committed::Yes(_)));
            let mut recovered = AuditLog::recover(&store).unwrap();
            assert_eq!(recovered, log);
            append(&mut recovered, &mut store, "", 3);
            let after = records(&store);
            assert_eq!(after[..2], before);
            assert_eq!((after[2].seq, after[2].previous), (3, before[1].hash));
        }
    }

    #[test]
    fn log_whose_last_record_is_gone_does_not_give_its_number_again() {
        let mut store = Disk::new().open().unwrap();
        let mut log = AuditLog::default();
        append(&mut log, &mut store, "", 1);
        append(&mut log, &mut store, "", 2);
        let mut batch = Batch::new();
        batch.delete(key::audit(2));
        let committed = store.commit(batch, Level::Disk).unwrap();
        assert!(matches!(committed, Committed::Yes(_)));
        assert_eq!(AuditLog::recover(&store).unwrap(), log);
    }
}
