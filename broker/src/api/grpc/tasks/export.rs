//! Exporting tasks that a search finds, as lines.
//!
//! Pages are made as long as somebody reads them, one after the other, so that an export of any length needs the memory of
//! one page.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tonic::Status;
use tq_core::label::Labels;
use tq_core::limits::{EXPORT_PAGE_TASKS, EXPORT_PART_BYTES};
use tq_core::task::Task;
use tq_proto::v1;

use super::list::{read, shown};
use super::{Outgoing, Tasks};
use crate::api::TaskJson;
use crate::api::grpc::Context;
use crate::api::status::invalid;
use crate::search::{Asked, By, Cursor, Filter, Found, Page, Search};

/// The first line of CSV.
const COLUMNS: [&str; 20] = [
    "id",
    "function",
    "version",
    "state",
    "outcome",
    "queue",
    "priority",
    "labels",
    "submitted_ms",
    "started_ms",
    "ended_ms",
    "attempts",
    "host",
    "duration_ms",
    "fuel",
    "memory_bytes",
    "payload_bytes",
    "result_bytes",
    "idempotency_key",
    "error",
];

/// How tasks become lines.
#[derive(Clone)]
enum Format {
    JsonLines(TaskJson),
    Csv,
}

impl Format {
    fn of(format: i32) -> Result<Self, Status> {
        match v1::ExportFormat::try_from(format) {
            Ok(v1::ExportFormat::Unspecified | v1::ExportFormat::JsonLines) => {
                Ok(Self::JsonLines(TaskJson::new()))
            }
            Ok(v1::ExportFormat::Csv) => Ok(Self::Csv),
            Err(_) => Err(invalid(format_args!("format {format} is not one"))),
        }
    }

    /// The lines of tasks, in parts of [`EXPORT_PART_BYTES`] and one task more.
    fn lines(&self, found: &[Found], is_first: bool) -> Result<Vec<Bytes>, Status> {
        let mut parts = Vec::new();
        let mut lines = match self {
            Self::Csv if is_first => record(COLUMNS)?,
            Self::Csv | Self::JsonLines(_) => Vec::new(),
        };
        for found in found {
            match self {
                Self::JsonLines(json) => {
                    lines.extend_from_slice(json.shown(&shown(found)).to_string().as_bytes());
                    lines.push(b'\n');
                }
                Self::Csv => lines.extend(record(row(&found.task))?),
            }
            if lines.len() >= EXPORT_PART_BYTES {
                parts.push(std::mem::take(&mut lines).into());
            }
        }
        if !lines.is_empty() {
            parts.push(lines.into());
        }
        Ok(parts)
    }
}

/// A line of CSV (RFC 4180).
fn record<T: AsRef<[u8]>>(cells: [T; COLUMNS.len()]) -> Result<Vec<u8>, Status> {
    let failed = || Status::internal("a task could not be written as a line");
    let mut builder = csv::WriterBuilder::new();
    let mut csv = builder
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    csv.write_record(cells).map_err(|_| failed())?;
    csv.into_inner().map_err(|_| failed())
}

/// A task in the columns of CSV. What it has not is empty.
fn row(task: &Task) -> [String; COLUMNS.len()] {
    let spec = &task.spec;
    let last = task.attempts.last();
    let of_last = |number: fn(&tq_core::task::Attempt) -> u64| {
        last.map(|last| number(last).to_string())
            .unwrap_or_default()
    };
    let failure = last.and_then(|last| last.failure.as_ref());
    [
        task.id.to_string(),
        format!("{}/{}", spec.module, spec.function),
        spec.version.to_string(),
        task.state.name().to_owned(),
        task.outcome()
            .map_or("", |outcome| outcome.name())
            .to_owned(),
        spec.placement.queue().to_owned(),
        spec.priority.0.to_string(),
        inert(listed(&spec.labels)),
        spec.submitted_at.0.to_string(),
        of_last(|last| last.started_at.0),
        task.state
            .ended_at()
            .map_or(String::new(), |at| at.0.to_string()),
        task.started.to_string(),
        last.map_or("", |last| &last.host).to_owned(),
        of_last(|last| last.usage.wall_ns / 1_000_000),
        of_last(|last| last.usage.fuel),
        of_last(|last| last.usage.memory_bytes_peak),
        spec.payload.len().to_string(),
        task.result
            .map_or(String::new(), |data| data.len().to_string()),
        inert(spec.idempotency_key.clone()),
        inert(failure.map_or_else(String::new, |failure| failure.message.clone())),
    ]
}

fn listed(labels: &Labels) -> String {
    let labels = labels
        .iter()
        .map(|(label, value)| format!("{label}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

/// A text of somebody else's, so that no spreadsheet takes it for a formula (OWASP, "CSV Injection").
fn inert(text: String) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        true => format!("'{text}"),
        false => text,
    }
}

/// What is left of an export.
struct Export {
    context: Context,
    namespace: String,
    search: Search,
    format: Format,
    cursor: Option<Cursor>,
    is_first: bool,
}

impl Tasks {
    pub(super) fn export(
        &self,
        namespace: String,
        asked: &Asked<'_>,
        format: i32,
    ) -> Result<Outgoing<v1::ExportTasksResponse>, Status> {
        let format = Format::of(format)?;
        // An end to get to, however much ends meanwhile.
        let narrow = Filter::submitted_before;
        let sorted = |sort| read(&Asked { sort, ..*asked }, narrow, "", self.now());
        let (search, cursor) = match asked.sort {
            // Not the preset's, which an export may not have.
            "" => sorted("-ended").or_else(|_| sorted("-submitted"))?,
            sort => sorted(sort)?,
        };
        let sort = search.sort();
        let has_index = match sort.by {
            By::Submitted => !search.has_ended(),
            By::Ended => true,
            By::Duration | By::Fuel | By::Memory | By::Priority | By::Attempts => false,
        };
        if !has_index {
            return Err(invalid(format_args!(
                "an export of these tasks cannot be sorted by `{sort}`; sort by `ended` if all of them have ended, and by `submitted` otherwise"
            )));
        }
        let export = Export {
            context: self.0.clone(),
            namespace,
            search,
            format,
            cursor,
            is_first: true,
        };
        let pages = stream::unfold(Some(export), |export| async {
            let mut export = export?;
            match export.page().await {
                Ok((parts, true)) => Some((Ok(parts), Some(export))),
                Ok((parts, false)) => Some((Ok(parts), None)),
                Err(status) => Some((Err(status), None)),
            }
        });
        let parts = pages.flat_map(|page| {
            let parts = match page {
                Ok(parts) => parts.into_iter().map(Ok).collect(),
                Err(status) => vec![Err(status)],
            };
            stream::iter(parts)
        });
        let parts = parts.map(|part| part.map(|data| v1::ExportTasksResponse { data }));
        Ok(Box::pin(parts))
    }
}

impl Export {
    /// The next lines, and whether there may be more.
    async fn page(&mut self) -> Result<(Vec<Bytes>, bool), Status> {
        if self.context.stop.is_cancelled() {
            return Err(Status::unavailable("the broker is stopping"));
        }
        let (search, cursor) = (self.search.clone(), self.cursor);
        let (format, is_first) = (self.format.clone(), self.is_first);
        let write = move |page: Page| (format.lines(&page.found, is_first), page.next);
        let (context, max) = (&self.context, EXPORT_PAGE_TASKS);
        let written = context.search(&self.namespace, search, cursor, max, write);
        let (lines, next) = written.await?;
        let lines = lines?;
        self.is_first = false;
        self.cursor = next;
        Ok((lines, self.cursor.is_some()))
    }
}
