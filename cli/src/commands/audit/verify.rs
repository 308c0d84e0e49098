//! `tq audit verify`

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::Context as _;
use tq_broker::access::audit::{Broken, Chain, Event, Hash, Record};
use tq_client::AuditRecord;
use tq_core::Timestamp;

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
                check.add(&record.into());
            }
        }
        None => {
            let client = connect(config).await?;
            let newest = each_page(&client, |records| {
                for record in &records {
                    check.add(record);
                }
                Ok(())
            });
            check.newest = newest.await?;
        }
    }
    let (last, broken) = (check.chain.last(), check.finish());
    match config.output.value {
        Format::Table => match (&broken, last) {
            (Some(broken), _) => output::note(format!("the audit log is broken: {broken}")),
            (None, None) => output::line("there are no records")?,
            (None, Some((seq, hash))) => output::line(format!(
                "{} records follow from each other; the newest is {seq}, with the hash\n{}",
                check.count,
                hex::encode(hash)
            ))?,
        },
        Format::Json => json::print(&json::AuditVerified::new(check.count, last, &broken))?,
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
    broken: Option<String>,
    /// A hash that has to come.
    head: Option<Hash>,
    /// What the broker says is its newest record.
    newest: Option<AuditRecord>,
}

impl Check {
    fn add(&mut self, record: &AuditRecord) {
        self.count += 1;
        if self.broken.is_some() {
            return;
        }
        let followed = follow(&mut self.chain, record);
        self.broken = followed.err().map(|broken| broken.to_string());
        if self.head.is_some_and(|head| head[..] == record.hash[..]) {
            self.head = None;
        }
    }

    /// What is wrong, if anything is.
    fn finish(&self) -> Option<String> {
        if self.broken.is_some() {
            return self.broken.clone();
        }
        if let Some(head) = self.head {
            return Some(format!(
                "there is no record with the hash {}",
                hex::encode(head)
            ));
        }
        let newest = self.newest.as_ref().map(|newest| newest.seq)?;
        let last = self.chain.last().map_or(0, |(seq, _)| seq);
        // More may have come meanwhile, and not less.
        (last < newest).then(|| format!("the records from {} to {newest} are missing", last + 1))
    }
}

fn follow(chain: &mut Chain, record: &AuditRecord) -> Result<(), Broken> {
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
    } = record;
    let own = Record {
        seq: *seq,
        at: Timestamp(*at_ms),
        event: Event {
            principal: principal.clone(),
            peer: peer.clone(),
            call: call.clone(),
            namespace: namespace.clone(),
            subject: subject.clone(),
            outcome: outcome.clone(),
        },
        // What is no hash is none that a record follows from.
        previous: previous.as_ref().try_into().unwrap_or_default(),
    };
    chain.follow(&own, hash)
}
