//! Dead letters.

use serde::Serialize;
use tq_client::{CrashCard, DeadLetter, SignatureSummary, Tripped};

use super::attempt::Failure;
use super::{Bytes, Task, named};

/// Dead letters, and where the next page begins.
#[derive(Debug, Serialize)]
pub(crate) struct DeadLetterList<'a> {
    dead_letters: Vec<DeadLetterInfo<'a>>,
    next: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct DeadLetterInfo<'a> {
    id: &'a str,
    function: &'a str,
    module_version: u32,
    outcome: Option<&'a str>,
    message: &'a str,
    signature: &'a str,
    died_ms: u64,
    failures: u32,
    losses: u32,
    round: u32,
}

impl<'a> DeadLetterList<'a> {
    /// `next` is empty when there is no further page.
    pub(crate) fn new(dead_letters: &'a [DeadLetter], next: &'a str) -> Self {
        Self {
            dead_letters: dead_letters.iter().map(DeadLetterInfo::from).collect(),
            next: named(next),
        }
    }
}

impl<'a> From<&'a DeadLetter> for DeadLetterInfo<'a> {
    fn from(dead: &'a DeadLetter) -> Self {
        let DeadLetter {
            id,
            function,
            module_version,
            outcome,
            message,
            signature,
            died_ms,
            failures,
            losses,
            round,
        } = dead;
        Self {
            id,
            function,
            module_version: *module_version,
            outcome: named(outcome),
            message,
            signature,
            died_ms: *died_ms,
            failures: *failures,
            losses: *losses,
            round: *round,
        }
    }
}

/// The ways in which tasks died.
#[derive(Debug, Serialize)]
pub(crate) struct SignatureList<'a> {
    signatures: Vec<SignatureInfo<'a>>,
    /// Further ones that are not listed.
    more: usize,
}

#[derive(Debug, Serialize)]
struct SignatureInfo<'a> {
    signature: &'a str,
    count: u64,
    at_least: bool,
    first_ms: u64,
    last_ms: u64,
    example: Option<DeadLetterInfo<'a>>,
}

impl<'a> SignatureList<'a> {
    /// In the order given; `more` were left out.
    pub(crate) fn new(signatures: &'a [SignatureSummary], more: usize) -> Self {
        let info = |summary: &'a SignatureSummary| {
            let SignatureSummary {
                signature,
                count,
                at_least,
                example,
                first_ms,
                last_ms,
            } = summary;
            SignatureInfo {
                signature,
                count: *count,
                at_least: *at_least,
                first_ms: *first_ms,
                last_ms: *last_ms,
                example: example.as_ref().map(DeadLetterInfo::from),
            }
        };
        Self {
            signatures: signatures.iter().map(info).collect(),
            more,
        }
    }
}

/// Why a task died.
#[derive(Debug, Serialize)]
pub(crate) struct Card<'a> {
    task: Option<Task<'a>>,
    signature: &'a str,
    tripped: Vec<TrippedInfo<'a>>,
    failure: Option<Failure<'a>>,
    log_tail: Bytes<'a>,
    log_is_cut: bool,
    others: u64,
    others_at_least: bool,
    redrive_version: u32,
    redrive_command: &'a str,
}

#[derive(Debug, Serialize)]
struct TrippedInfo<'a> {
    limit: &'a str,
    used: Option<u64>,
    cap: u64,
    unit: Option<&'a str>,
}

impl<'a> From<&'a CrashCard> for Card<'a> {
    fn from(card: &'a CrashCard) -> Self {
        let CrashCard {
            task,
            signature,
            tripped,
            failure,
            log_tail,
            log_is_cut,
            others,
            others_at_least,
            redrive_version,
            redrive_command,
        } = card;
        let tripped = tripped.iter().map(|tripped| {
            let Tripped {
                limit,
                used,
                cap,
                unit,
            } = tripped;
            TrippedInfo {
                limit,
                used: *used,
                cap: *cap,
                unit: named(unit),
            }
        });
        Self {
            task: task.as_ref().map(Task::from),
            signature,
            tripped: tripped.collect(),
            failure: failure.as_ref().map(|failure| Failure {
                message: &failure.message,
                backtrace: &failure.backtrace,
            }),
            log_tail: Bytes(log_tail),
            log_is_cut: *log_is_cut,
            others: *others,
            others_at_least: *others_at_least,
            redrive_version: *redrive_version,
            redrive_command,
        }
    }
}

/// How many dead letters were removed.
#[derive(Debug, Serialize)]
pub(crate) struct Discarded {
    /// They only would be.
    pub(crate) dry_run: bool,
    pub(crate) discarded: u64,
    /// Those that were not dead any more.
    pub(crate) skipped: u64,
}

/// What a redrive of dead letters did, or would do.
#[derive(Debug, Serialize)]
pub(crate) struct Redriven {
    /// Nothing was changed.
    pub(crate) dry_run: bool,
    /// Those that were redriven, or would be.
    pub(crate) ids: Vec<String>,
    /// Those that were not dead any more when their turn came.
    pub(crate) skipped: u64,
}
