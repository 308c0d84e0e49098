//! `tq audit verify`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::Context as _;
use tq_broker::access::audit::{Chain, Hash, Record};
use tq_client::AuditRecord;
use tq_core::limits::AUDIT_RECORDS_MAX;

use crate::commands::connect;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format, json};

use super::each_page;

pub(crate) async fn run(
    config: &Config,
    file: Option<&Path>,
    head: Option<&str>,
) -> anyhow::Result<Exit> {
    let head = head.map(read_hash).transpose()?;
    let is_end_known = file.is_none() || head.is_some();
    let mut check = Check {
        head,
        ..Check::default()
    };
    match file {
        Some(path) => {
            let file = File::open(path).map_err(|error| {
                let failed = format!("failed to read the export `{}`: {error}", path.display());
                match error.kind() {
                    std::io::ErrorKind::NotFound => Failure::not_found(failed),
                    _ => Failure::usage(failed),
                }
            })?;
            for (index, line) in BufReader::new(file).lines().enumerate() {
                let line = line.context("failed to read the export")?;
                let of_line = || format!("{}:{}", path.display(), index + 1);
                let record: json::AuditInfo<'_> = serde_json::from_str(&line).map_err(|error| {
                    Failure::usage(format!("{}: this is no record: {error}", of_line()))
                })?;
                check.add(record.into());
            }
        }
        None => {
            let client = connect(config).await?;
            each_page(&client, |records, newest| {
                check.newest(newest);
                for record in records {
                    check.add(record);
                }
                Ok(())
            })
            .await?;
            check.is_all_there();
        }
    }
    check.finish();
    let Check {
        chain,
        count,
        broken,
        ..
    } = check;
    let (first, last) = (chain.first(), chain.last());
    match config.output.value {
        Format::Table => match (&broken, first.zip(last)) {
            (Some(broken), _) => output::note(format!("the audit log is broken: {broken}")),
            (None, None) => output::line("there are no records")?,
            (None, Some((first, (seq, hash)))) => {
                output::line(format!(
                    "{count} records follow from each other, from {first} to {seq}, which has the hash\n{}",
                    hex::encode(hash)
                ))?;
                if !is_end_known {
                    output::note(
                        "whether newer ones were removed cannot be told from a file: give a hash that was noted before as --head",
                    );
                }
            }
        },
        Format::Json => json::print(&json::AuditVerified {
            records: count,
            is_whole: broken.is_none(),
            broken: broken.as_deref(),
            is_end_known,
            first_seq: first,
            last_seq: last.map(|(seq, _)| seq),
            last_hash: last.map(|(_, hash)| hex::encode(hash)),
        })?,
    }
    Ok(match broken {
        None => Exit::Succeeded,
        Some(_) => Exit::Ended,
    })
}

fn read_hash(text: &str) -> Result<Hash, Failure> {
    let mut hash = Hash::default();
    hex::decode_to_slice(text, &mut hash).map_err(|_| {
        Failure::usage(format!(
            "--head is `{text}`, and not a hash of 64 hexadecimal digits"
        ))
    })?;
    Ok(hash)
}

/// Follows records.
#[derive(Default)]
struct Check {
    chain: Chain,
    count: u64,
    /// What is wrong, if anything is.
    broken: Option<String>,
    /// A hash that has to come.
    head: Option<Hash>,
    /// What the broker said were its newest records, as far as they have not come yet.
    newest: BTreeMap<u64, Hash>,
    /// The newest one that there was when the first records had just been read.
    newest_at_start: Option<u64>,
    pages: u64,
}

impl Check {
    /// What the broker says is its newest record, before it reads the next ones.
    fn newest(&mut self, newest: Option<AuditRecord>) {
        let Some(newest) = newest else {
            return;
        };
        // The oldest records may go between the reading of its newest one and that of the first page, which the second page knows of.
        if self.pages < 2 {
            self.newest_at_start = Some(newest.seq);
        }
        self.pages += 1;
        match Record::try_from(newest) {
            Err(error) => self.is_broken(error.to_string()),
            Ok(newest) => match self.chain.last() {
                Some((last, hash)) if last == newest.seq => self.is_newest(last, hash, newest.hash),
                _ => {
                    self.newest.insert(newest.seq, newest.hash);
                }
            },
        }
    }

    fn is_newest(&mut self, seq: u64, found: Hash, expected: Hash) {
        if found != expected {
            self.is_broken(format!(
                "record {seq} was altered: the broker had another one as its newest"
            ));
        }
    }

    fn add(&mut self, record: AuditRecord) {
        self.count += 1;
        if self.broken.is_some() {
            return;
        }
        let record = match Record::try_from(record) {
            Ok(record) => record,
            Err(error) => return self.is_broken(error.to_string()),
        };
        if let Err(broken) = self.chain.follow(&record) {
            return self.is_broken(broken.to_string());
        }
        if let Some(expected) = self.newest.remove(&record.seq) {
            self.is_newest(record.seq, record.hash, expected);
        }
        if self.head == Some(record.hash) {
            self.head = None;
        }
    }

    /// What a broker has to have beside records that follow from each other.
    fn is_all_there(&mut self) {
        let last = self.chain.last().map_or(0, |(seq, _)| seq);
        let newest = self.newest.last_key_value().map(|(newest, _)| *newest);
        match newest {
            Some(newest) if newest > last => self.is_broken(format!(
                "the records from {} to {newest} are missing",
                last + 1
            )),
            _ if self.pages == 0 && self.count > 0 => {
                self.is_broken("the broker does not know which record is its newest".to_owned());
            }
            _ => {}
        }
    }

    fn finish(&mut self) {
        if let Some((first, (last, _))) = self.chain.first().zip(self.chain.last()) {
            let newest = self.newest_at_start.unwrap_or(last);
            let oldest = newest.saturating_sub(AUDIT_RECORDS_MAX) + 1;
            if first > oldest {
                self.is_broken(format!(
                    "the records from {oldest} to {} are missing: so many are kept",
                    first - 1
                ));
            }
        }
        if let Some(head) = self.head {
            self.is_broken(format!(
                "there is no record with the hash {}",
                hex::encode(head)
            ));
        }
    }

    /// The first that is wrong is what is told.
    fn is_broken(&mut self, broken: String) {
        self.broken.get_or_insert(broken);
    }
}

#[cfg(test)]
mod tests {
    use tq_broker::access::audit::{Event, NONE_BEFORE};
    use tq_core::Timestamp;

    use super::*;

    fn records(count: u64) -> Vec<Record> {
        let mut previous = NONE_BEFORE;
        let records = (1..=count).map(|seq| {
            let event = Event {
                principal: "a".into(),
                peer: "b".into(),
                call: "c".into(),
                namespace: String::new(),
                subject: String::new(),
                outcome: "ok".into(),
                left_out: 0,
            };
            let record = Record::new(seq, Timestamp(seq), event, previous);
            previous = record.hash;
            record
        });
        records.collect()
    }

    /// What is found wrong with records of a broker that says that `newest` is its newest one.
    fn check(records: &[Record], newest: Option<&Record>) -> Option<String> {
        let mut check = Check::default();
        let middle = records.len() / 2;
        for page in [&records[..middle], &records[middle..], &[]] {
            check.newest(newest.cloned().map(Into::into));
            for record in page {
                check.add(record.clone().into());
            }
        }
        check.is_all_there();
        check.finish();
        check.broken
    }

    /// The record with something else in it, and a hash that fits.
    fn forged(record: &Record) -> Record {
        let mut forged = record.clone();
        forged.event.outcome = "permission_denied".into();
        forged.hash = forged.digest();
        forged
    }

    #[test]
    fn what_is_removed_or_put_in_place_of_another_is_noticed_at_both_ends_too() {
        let all = records(6);
        let newest = all.last();
        let told = |records: &[Record]| check(records, newest).unwrap_or_default();
        assert_eq!(check(&all, newest), None);
        assert_eq!(check(&[], None), None);
        // Some have come since the broker has said which is its newest.
        assert_eq!(check(&all, all.get(3)), None);
        let front = "the records from 1 to 2 are missing: so many are kept";
        assert_eq!(told(&all[2..]), front);
        assert_eq!(told(&all[..4]), "the records from 5 to 6 are missing");
        assert_eq!(told(&[]), "the records from 1 to 6 are missing");
        let mut altered = all.clone();
        altered[5] = forged(&all[5]);
        let text = "record 6 was altered: the broker had another one as its newest";
        assert_eq!(told(&altered), text);
        assert!(check(&all, None).is_some(), "its head is gone");
        let mut first = all[..1].to_vec();
        first[0] = forged(&all[0]);
        assert!(check(&first, all.first()).is_some());
    }

    #[test]
    fn oldest_records_go_when_there_are_too_many() {
        let check = |first: u64, last: u64| {
            let mut check = Check::default();
            let mut of = |seq: u64| {
                let mut record = records(1).remove(0);
                record.seq = seq;
                record.previous = check.chain.last().map_or([1; 32], |(_, hash)| hash);
                record.hash = record.digest();
                check.add(record.into());
            };
            of(first);
            let mut check = Check {
                newest_at_start: Some(last),
                ..check
            };
            check.finish();
            check.broken
        };
        assert_eq!(check(11, AUDIT_RECORDS_MAX + 10), None);
        assert!(check(12, AUDIT_RECORDS_MAX + 10).is_some());
        assert!(check(2, 3).is_some());
        assert_eq!(check(11, AUDIT_RECORDS_MAX + 11), None);
    }
}
