//! Dead letters: what died, why, and another chance for it.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status};
use tq_core::limits::{
    CONTENT_TYPE_BYTES_MAX, IDEMPOTENCY_WINDOW, LIST_PAGE_MAX, LIST_SCAN_MAX, LOG_TAIL_BYTES,
    LOG_TAIL_LINES, PAYLOAD_BYTES_MAX, REDRIVE_BATCH_MAX, SIGNATURE_COUNT_MAX, SIGNATURES_PAGE_MAX,
};
use tq_core::name::DEFAULT_NAMESPACE;
use tq_core::task::{DataRef, Spec, State, Task};
use tq_core::tripped::Tripped;
use tq_core::{Outcome, Signature, TaskId, Timestamp};
use tq_proto::v1;
use tq_proto::v1::dead_letter_service_server::DeadLetterService;

use super::blocking::blocking;
use super::function_filter::FunctionFilter;
use super::payloads::put_large;
use super::reads::{Reads, no_task};
use super::request::{bounded, over};
use super::typed::Calls;
use super::{Context, convert};
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::ledger::{Command, Delete, Doomed, RedriveDead, Submission, Submit, read, wall};
use crate::store::{Direction, Space};
use crate::tables::dead::{self, Death};
use crate::tables::{Namespace, key, row};

/// Bytes of a failure's message in a listing.
const MESSAGE_BYTES: usize = 256;
/// Tasks that are read at once for a listing that has to look into them.
const PAGE: usize = 100;
/// Pieces of a log that are read for its end.
const TAIL_PIECES: usize = 64;

/// After every death.
const NEWEST: Death = (Timestamp(u64::MAX), TaskId([u8::MAX; 16]));

/// Which dead letters a request is about.
struct Which {
    /// What is to be done to them, for messages.
    what: &'static str,
    id: String,
    filter: Option<v1::DeadLetterFilter>,
    all: bool,
    limit: u32,
    cursor: String,
}

impl Which {
    /// Finds them, a bounded number of them, with what they are now. Also says where to go on.
    async fn of(
        self,
        reads: Reads,
        namespace: &str,
    ) -> Result<(Vec<(TaskId, State)>, Option<Death>), Status> {
        let Self {
            what,
            id,
            filter,
            all,
            limit,
            cursor,
        } = self;
        if id.is_empty() {
            let filter = filter.unwrap_or_default();
            match (is_empty(&filter), all) {
                (true, false) => {
                    return Err(invalid(format_args!(
                        "{what} names no dead letters; name one, a filter, or all of them"
                    )));
                }
                (false, true) => {
                    return Err(invalid(format_args!(
                        "{what} has a filter and `all`; leave one of them out"
                    )));
                }
                (true, true) | (false, false) => {}
            }
            let filter = Filter::new(filter)?;
            let limit = bounded("limit", limit, REDRIVE_BATCH_MAX, REDRIVE_BATCH_MAX)?;
            let before = filter.before(&cursor)?;
            let shown = |task: &Task| Some((task.id, task.state.clone()));
            return blocking(move || matching(&reads, &filter, limit, before, shown)).await;
        }
        if filter.is_some() || all || limit != 0 || !cursor.is_empty() {
            return Err(invalid(format_args!(
                "{what} names one dead letter; leave out filter, all, limit and cursor"
            )));
        }
        let id = convert::task_id(&id)?;
        let namespace = namespace.to_owned();
        let dead = blocking(move || find_dead(&reads, &namespace, id)).await?;
        Ok((vec![(id, dead.state)], None))
    }
}

pub(super) struct DeadLetters(pub(super) Context);

#[tonic::async_trait]
impl DeadLetterService for DeadLetters {
    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListDeadLettersRequest {
            namespace,
            filter,
            limit,
            cursor,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let filter = Filter::new(filter.unwrap_or_default())?;
        let limit = bounded("limit", limit, 100, LIST_PAGE_MAX)?;
        let before = filter.before(&cursor)?;
        let reads = self.reads(&namespace);
        let found = move || matching(&reads, &filter, limit, before, dead_letter_out);
        let (found, next) = blocking(found).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        Ok(Response::new(v1::ListDeadLettersResponse {
            dead_letters: found,
            next: next.map(cursor_out).unwrap_or_default(),
        }))
    }

    async fn list_signatures(
        &self,
        request: Request<v1::ListSignaturesRequest>,
    ) -> Result<Response<v1::ListSignaturesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListSignaturesRequest {
            namespace,
            limit,
            cursor,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let limit = bounded("limit", limit, SIGNATURES_PAGE_MAX, SIGNATURES_PAGE_MAX)?;
        let from = match cursor.is_empty() {
            true => Signature([0; 16]),
            false => cursor.parse().map_err(invalid)?,
        };
        let reads = self.reads(&namespace);
        let (signatures, next) = blocking(move || kinds(&reads, from, limit)).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        Ok(Response::new(v1::ListSignaturesResponse {
            signatures,
            next: next.map(|next| next.to_string()).unwrap_or_default(),
        }))
    }

    async fn get_dead_letter(
        &self,
        request: Request<v1::GetDeadLetterRequest>,
    ) -> Result<Response<v1::CrashCard>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetDeadLetterRequest { namespace, id } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let id = convert::task_id(&id)?;
        let reads = self.reads(&namespace);
        let shared = Arc::clone(self.0.ledger.shared());
        let card = blocking(move || {
            let task = find_dead(&reads, &namespace, id)?;
            let version = read(&shared.registry)
                .on_current_version(&task.spec)
                .version;
            crash_card(&reads, &task, version)
        });
        let card = card.await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        Ok(Response::new(card))
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<v1::RedriveDeadLettersRequest>,
    ) -> Result<Response<v1::RedriveDeadLettersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::RedriveDeadLettersRequest {
            namespace,
            id,
            filter,
            all,
            dry_run,
            same_version,
            limit,
            cursor,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("task", &id);
        let reads = self.reads(&namespace);
        let which = Which {
            what: "redrive",
            id,
            filter,
            all,
            limit,
            cursor,
        };
        let (chosen, next) = which.of(reads, &namespace).await?;
        let ids: Vec<TaskId> = chosen.into_iter().map(|(id, _)| id).collect();
        let found = ids.len();
        let redriven = if dry_run || ids.is_empty() {
            self.0.ledger.on_disk().await.map_err(ApiError::from)?;
            ids
        } else {
            let redrive = self.0.ledger.ask(|reply| {
                Command::RedriveDead(RedriveDead {
                    namespace,
                    ids,
                    same_version,
                    reply,
                })
            });
            let redriven = redrive.await.map_err(ApiError::from)?;
            redriven.map_err(ApiError::from)?
        };
        Ok(Response::new(v1::RedriveDeadLettersResponse {
            skipped: u32::try_from(found - redriven.len()).unwrap_or(u32::MAX),
            ids: redriven.iter().map(TaskId::to_string).collect(),
            next: next.map(cursor_out).unwrap_or_default(),
        }))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<v1::DiscardDeadLettersRequest>,
    ) -> Result<Response<v1::DiscardDeadLettersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DiscardDeadLettersRequest {
            namespace,
            id,
            filter,
            all,
            dry_run,
            limit,
            cursor,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("task", &id);
        let reads = self.reads(&namespace);
        let which = Which {
            what: "discard",
            id,
            filter,
            all,
            limit,
            cursor,
        };
        let (chosen, next) = which.of(reads, &namespace).await?;
        let found = chosen.len();
        let discarded = if dry_run || chosen.is_empty() {
            self.0.ledger.on_disk().await.map_err(ApiError::from)?;
            found
        } else {
            let delete = self.0.ledger.ask(|reply| {
                Command::Delete(Delete {
                    namespace,
                    tasks: Doomed::As(chosen),
                    reply,
                })
            });
            let deleted = delete.await.map_err(ApiError::from)?;
            deleted.map_err(ApiError::from)?
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Response::new(v1::DiscardDeadLettersResponse {
            discarded: count(discarded),
            skipped: count(found.saturating_sub(discarded)),
            next: next.map(cursor_out).unwrap_or_default(),
        }))
    }

    async fn redrive_with_payload(
        &self,
        request: Request<v1::RedriveWithPayloadRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let caller = Caller::of(&request)?;
        let v1::RedriveWithPayloadRequest {
            namespace,
            id,
            payload,
            content_type,
            same_version,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("task", &id);
        let id = convert::task_id(&id)?;
        over("payload", payload.len(), PAYLOAD_BYTES_MAX)?;
        over("content type", content_type.len(), CONTENT_TYPE_BYTES_MAX)?;
        let reads = Arc::new(self.reads(&namespace));
        let (of_task, of_namespace) = (Arc::clone(&reads), namespace.clone());
        let dead = blocking(move || find_dead(&of_task, &of_namespace, id)).await?;
        let spec = match same_version {
            true => (*dead.spec).clone(),
            false => self.0.ledger.shared().on_current_version(&dead.spec),
        };
        let mut calls = Calls::default();
        {
            let registry = read(&self.0.ledger.shared().registry);
            if let Some((module, function)) = registry.of_call(&spec) {
                calls.add(module, function, &payload);
            }
        }
        calls.check().await.map_err(|(_, status)| status)?;
        let now = wall();
        let spec = Spec {
            payload: DataRef::Row {
                len: payload.len() as u64,
            },
            content_type,
            run_at: None,
            // It would end the task before it began.
            deadline: spec.deadline.filter(|deadline| *deadline > now),
            // It stands for the dead task.
            idempotency_key: String::new(),
            unique_key: String::new(),
            submitted_at: now,
            redriven_from: Some(id),
            ..spec
        };
        let mut submissions = vec![Submission {
            spec,
            payload: (!payload.is_empty()).then_some(payload),
            request: [0; 32],
            key_window: IDEMPOTENCY_WINDOW,
        }];
        let holds = put_large(&self.0.blobs, &mut submissions).await?;
        let submit = self.0.ledger.ask(|reply| {
            Command::Submit(Submit {
                namespace: namespace.clone(),
                tasks: submissions,
                permit: None,
                reply,
            })
            .holding(holds)
        });
        let submitted = submit.await.map_err(ApiError::from)?;
        let submitted = submitted.map_err(ApiError::from)?;
        let Some(id) = submitted.first().map(|task| task.id) else {
            return Err(Status::internal("the broker gave the task no id"));
        };
        let task = blocking(move || reads.show(id, false, false)).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        task.map(Response::new)
            .ok_or_else(|| no_task(namespace, id))
    }
}

impl DeadLetters {
    fn reads(&self, namespace: &str) -> Reads {
        Reads::new(&self.0, namespace)
    }
}

/// What dead letters have to be.
pub(super) struct Filter {
    function: FunctionFilter,
    outcome: Option<Outcome>,
    /// All that begin with some digits.
    signature: Option<(Signature, Signature)>,
    since: Timestamp,
    until: Option<Timestamp>,
}

fn is_empty(filter: &v1::DeadLetterFilter) -> bool {
    *filter == v1::DeadLetterFilter::default()
}

impl Filter {
    pub(super) fn new(filter: v1::DeadLetterFilter) -> Result<Self, Status> {
        let v1::DeadLetterFilter {
            function,
            outcome,
            signature,
            since_ms,
            until_ms,
        } = filter;
        let function = FunctionFilter::new("dead letters", &function)?;
        let outcome = match outcome.is_empty() {
            true => None,
            false => Some(outcome_in(&outcome)?),
        };
        let signature = match signature.is_empty() {
            true => None,
            false => Some(Signature::range(&signature).map_err(invalid)?),
        };
        if let (Some(since), Some(until)) = (since_ms, until_ms)
            && since >= until
        {
            return Err(invalid(format_args!(
                "since_ms is {since} and until_ms is {until}; since has to be before until"
            )));
        }
        Ok(Self {
            function,
            outcome,
            signature,
            since: Timestamp(since_ms.unwrap_or(0)),
            until: until_ms.map(Timestamp),
        })
    }

    /// Where a listing begins: at its cursor, or at the end of the time that is asked for.
    fn before(&self, cursor: &str) -> Result<Death, Status> {
        if !cursor.is_empty() {
            return cursor_in(cursor);
        }
        Ok(self.until.map_or(NEWEST, |until| (until, TaskId([0; 16]))))
    }

    /// Whether the tasks have to be read to be known to match.
    fn looks_inside(&self) -> bool {
        !self.function.is_open() || self.outcome.is_some()
    }

    fn matches(&self, task: &Task) -> bool {
        let is_outcome = |wanted| task.outcome() == Some(wanted);
        self.function.takes(task) && self.outcome.is_none_or(is_outcome)
    }
}

fn outcome_in(name: &str) -> Result<Outcome, Status> {
    name.parse().map_err(|error| {
        let names: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        invalid(format_args!(
            "{error}\nhint: it is one of {}",
            names.join(", ")
        ))
    })
}

fn cursor_out((at, id): Death) -> String {
    format!("{}.{id}", at.0)
}

pub(super) fn cursor_in(cursor: &str) -> Result<Death, Status> {
    let parsed = cursor
        .split_once('.')
        .and_then(|(at, id)| Some((Timestamp(at.parse().ok()?), id.parse::<TaskId>().ok()?)));
    parsed.ok_or_else(|| {
        invalid(format_args!(
            "cursor `{}` is none; give the `next` of the page before",
            cursor.chars().take(80).collect::<String>().escape_debug()
        ))
    })
}

/// The signature that some digits stand for. None if nothing died so.
fn resolve(
    reads: &Reads,
    namespace: Namespace,
    (first, last): (Signature, Signature),
) -> Result<Option<Signature>, ApiError> {
    let kind = |from| dead::first_kind(&*reads.store, namespace, from, 1);
    let Some(found) = kind(first)?.filter(|found| found.signature <= last) else {
        return Ok(None);
    };
    let another = match dead::next(found.signature) {
        Some(next) => kind(next)?.filter(|another| another.signature <= last),
        None => None,
    };
    match another {
        None => Ok(Some(found.signature)),
        Some(another) => Err(invalid(format_args!(
            "signature is ambiguous: {} and {} begin so\nhint: give more digits",
            found.signature, another.signature
        ))
        .into()),
    }
}

/// What `shows` makes of the dead letters that match, those that died last first, and where to go on. It looks at a bounded
/// number of rows, and holds no more tasks than it reads at once: each may have many backtraces.
fn matching<T>(
    reads: &Reads,
    filter: &Filter,
    limit: usize,
    mut before: Death,
    shows: impl Fn(&Task) -> Option<T>,
) -> Result<(Vec<T>, Option<Death>), ApiError> {
    let Some(namespace) = reads.namespace else {
        return Ok((Vec::new(), None));
    };
    let signature = match filter.signature {
        None => None,
        Some(range) => match resolve(reads, namespace, range)? {
            Some(signature) => Some(signature),
            None => return Ok((Vec::new(), None)),
        },
    };
    let mut found = Vec::new();
    let mut looked = 0;
    while looked < LIST_SCAN_MAX {
        let page = match filter.looks_inside() {
            true => PAGE,
            false => (limit - found.len()).min(PAGE),
        };
        let deaths = dead::newest(
            &*reads.store,
            namespace,
            signature,
            filter.since,
            before,
            page,
        )?;
        let ids: Vec<_> = deaths.iter().map(|(_, id)| *id).collect();
        let records = row::find_tasks::<ApiError>(&*reads.store, namespace, &ids)?;
        for (death, record) in deaths.iter().zip(records) {
            before = *death;
            // One that was redriven since the index was read is no dead letter any more.
            let task = record
                .map(|record| record.task)
                .filter(|task| matches!(task.state, State::Dead { .. }) && filter.matches(task));
            if let Some(shown) = task.as_ref().and_then(&shows) {
                found.push(shown);
                if found.len() == limit {
                    return Ok((found, Some(before)));
                }
            }
        }
        looked += deaths.len();
        if deaths.len() < page {
            return Ok((found, None));
        }
    }
    Ok((found, Some(before)))
}

/// Kinds of death from a signature on, and the first that is left.
fn kinds(
    reads: &Reads,
    from: Signature,
    limit: usize,
) -> Result<(Vec<v1::SignatureSummary>, Option<Signature>), ApiError> {
    let Some(namespace) = reads.namespace else {
        return Ok((Vec::new(), None));
    };
    let mut kinds = Vec::new();
    let mut looked = 0;
    let mut from = Some(from);
    while let Some(at) = from {
        if kinds.len() == limit || looked >= LIST_SCAN_MAX {
            // Only if there is one more is there a next page.
            let left = dead::first_kind(&*reads.store, namespace, at, 1)?;
            from = left.map(|left| left.signature);
            break;
        }
        let found = dead::first_kind(&*reads.store, namespace, at, SIGNATURE_COUNT_MAX)?;
        let Some(kind) = found else {
            from = None;
            break;
        };
        looked += kind.count;
        from = dead::next(kind.signature);
        kinds.push(kind);
    }
    let examples: Vec<_> = kinds.iter().map(|kind| kind.last.1).collect();
    let examples = row::find_tasks::<ApiError>(&*reads.store, namespace, &examples)?;
    let summaries = kinds.into_iter().zip(examples).map(|(kind, example)| {
        let dead::Kind {
            signature,
            count,
            at_least,
            first,
            last,
        } = kind;
        v1::SignatureSummary {
            signature: signature.to_string(),
            count: count as u64,
            at_least,
            example: example.and_then(|record| dead_letter_out(&record.task)),
            first_ms: first.0.0,
            last_ms: last.0.0,
        }
    });
    Ok((summaries.collect(), from))
}

/// A task, if it is dead.
fn find_dead(reads: &Reads, namespace: &str, id: TaskId) -> Result<Task, ApiError> {
    let task = reads.find(id)?.map(|record| record.task);
    let task = task.ok_or_else(|| no_task(namespace.to_owned(), id))?;
    match task.state {
        State::Dead { .. } => Ok(task),
        State::Cancelled { .. } | State::Expired { .. } => {
            Err(Status::failed_precondition(format!(
                "task {id} is {}, not dead\nhint: `tq task redrive {id}` gives it another round",
                task.state.name()
            ))
            .into())
        }
        State::Blocked { .. }
        | State::Scheduled { .. }
        | State::Ready { .. }
        | State::Running { .. }
        | State::Succeeded { .. } => Err(Status::failed_precondition(format!(
            "task {id} is {}, not dead\nhint: `tq task show {id}` shows it",
            task.state.name()
        ))
        .into()),
    }
}

/// A dead letter as it is listed. None if the task is not dead.
fn dead_letter_out(task: &Task) -> Option<v1::DeadLetter> {
    let signature = Signature::of(task)?;
    let failure = task
        .attempts
        .last()
        .and_then(|attempt| attempt.failure.as_ref());
    let message = failure.map_or("", |failure| &failure.message);
    Some(v1::DeadLetter {
        id: task.id.to_string(),
        function: format!("{}/{}", task.spec.module, task.spec.function),
        module_version: task.spec.version,
        outcome: task.outcome().map_or("", Outcome::name).to_owned(),
        message: message[..message.floor_char_boundary(MESSAGE_BYTES)].to_owned(),
        signature: signature.to_string(),
        died_ms: task.state.ended_at().map_or(0, |at| at.0),
        failures: task.failures,
        losses: task.losses,
        round: task.round,
    })
}

fn crash_card(reads: &Reads, task: &Task, version: u32) -> Result<v1::CrashCard, ApiError> {
    let (Some(namespace), Some(signature)) = (reads.namespace, Signature::of(task)) else {
        return Err(no_task(task.spec.namespace.clone(), task.id).into());
    };
    let (count, at_least) = dead::count(&*reads.store, namespace, signature, SIGNATURE_COUNT_MAX)?;
    let (log_tail, log_is_cut) = log_tail(reads, namespace, task)?;
    let tripped = Tripped::all(task).into_iter().map(|tripped| {
        let Tripped { limit, used, cap } = tripped;
        v1::Tripped {
            limit: limit.name().to_owned(),
            used,
            cap,
            unit: limit.unit().to_owned(),
        }
    });
    let shown = convert::task_out(task);
    let of_namespace = match task.spec.namespace == DEFAULT_NAMESPACE {
        true => String::new(),
        false => format!(" --namespace {}", task.spec.namespace),
    };
    Ok(v1::CrashCard {
        signature: signature.to_string(),
        tripped: tripped.collect(),
        failure: shown.attempts.last().and_then(|last| last.failure.clone()),
        task: Some(shown),
        log_tail,
        log_is_cut,
        others: count.saturating_sub(1) as u64,
        others_at_least: at_least,
        redrive_version: version,
        redrive_command: format!("tq dead redrive {}{of_namespace}", task.id),
    })
}

/// The last lines that the last attempt of a task wrote to its log, and whether there are more before them.
fn log_tail(reads: &Reads, namespace: Namespace, task: &Task) -> Result<(Bytes, bool), ApiError> {
    let Some(last) = task.attempts.last() else {
        return Ok((Bytes::new(), false));
    };
    let prefix = [
        &key::logs(namespace, task.id)[..],
        &last.epoch.0.to_be_bytes(),
    ]
    .concat();
    let pieces = reads.store.scan(
        Space::Payloads,
        &prefix,
        &[],
        Direction::Descending,
        TAIL_PIECES,
    )?;
    let all = pieces.len() < TAIL_PIECES;
    let text: Vec<u8> = pieces
        .into_iter()
        .rev()
        .flat_map(|piece| piece.value)
        .collect();
    let start = tail_of(&text);
    Ok((Bytes::copy_from_slice(&text[start..]), start > 0 || !all))
}

/// Where the last lines of a log begin, bounded in number and in bytes.
fn tail_of(log: &[u8]) -> usize {
    let body = log.strip_suffix(b"\n").unwrap_or(log);
    let mut ends = (0..body.len()).rev().filter(|at| body[*at] == b'\n');
    let line = ends.nth(LOG_TAIL_LINES - 1).map_or(0, |end| end + 1);
    let bound = log.len().saturating_sub(LOG_TAIL_BYTES);
    // A character that is cut in two would be shown as damage.
    let is_inside = |at: &usize| log.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let bound = (bound..log.len())
        .take(4)
        .find(|at| !is_inside(at))
        .unwrap_or(bound);
    line.max(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_of_a_log_is_its_last_lines() {
        let lines = |range: std::ops::Range<usize>| -> Vec<u8> {
            range
                .flat_map(|n| format!("line {n}\n").into_bytes())
                .collect()
        };
        for (log, expected) in [
            (Vec::new(), Vec::new()),
            (b"no end".to_vec(), b"no end".to_vec()),
            (lines(0..LOG_TAIL_LINES), lines(0..LOG_TAIL_LINES)),
            (lines(0..100), lines(100 - LOG_TAIL_LINES..100)),
        ] {
            assert_eq!(&log[tail_of(&log)..], expected);
        }
        let long = "ä".repeat(LOG_TAIL_BYTES);
        let tail = &long.as_bytes()[tail_of(long.as_bytes())..];
        assert!((LOG_TAIL_BYTES - 4..=LOG_TAIL_BYTES).contains(&tail.len()));
        assert!(std::str::from_utf8(tail).is_ok());
    }

    #[test]
    fn cursors_survive_their_text() {
        let death = (Timestamp(17), TaskId([9; 16]));
        let read = cursor_in(&cursor_out(death)).map_err(|status| status.to_string());
        assert_eq!(read, Ok(death));
        for text in [
            "17",
            "x.y",
            "17.1",
            "-1.00000000-0000-0000-0000-000000000000",
        ] {
            let refused = cursor_in(text).expect_err("it is no cursor");
            assert!(refused.message().contains("`next`"), "{refused}");
        }
    }

    #[test]
    fn filters_say_what_is_wrong_with_them() {
        let filter = v1::DeadLetterFilter::default;
        for (filter, said) in [
            (
                v1::DeadLetterFilter {
                    outcome: "boom".to_owned(),
                    ..filter()
                },
                "`boom` is not an outcome",
            ),
            (
                v1::DeadLetterFilter {
                    signature: "3fa9".to_owned(),
                    ..filter()
                },
                "expected 12 to 32 hexadecimal digits",
            ),
            (
                v1::DeadLetterFilter {
                    function: "mail@2/send".to_owned(),
                    ..filter()
                },
                "names a version",
            ),
            (
                v1::DeadLetterFilter {
                    since_ms: Some(2),
                    until_ms: Some(1),
                    ..filter()
                },
                "since has to be before until",
            ),
        ] {
            let refused = Filter::new(filter).err().expect("it is refused");
            assert!(refused.message().contains(said), "{refused}");
        }
    }
}
