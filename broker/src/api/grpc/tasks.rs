use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tq_core::label::Labels;
use tq_core::limits::{
    ARGUMENTS_BYTES_MAX, ARGUMENTS_MAX, CHUNK_BYTES, CONTENT_TYPE_BYTES_MAX, DELAY_MAX,
    DELETE_BATCH_MAX, IDEMPOTENCY_KEY_BYTES_MAX, INLINE_BYTES_MAX, LIST_PAGE_MAX, LIST_SCAN_MAX,
    PAYLOAD_BYTES_MAX, SUBMIT_BATCH_MAX, WATCH_IDS_MAX,
};
use tq_core::placement::Placement;
use tq_core::task::{DataRef, Spec, State, Task};
use tq_core::transition::Amendment;
use tq_core::{RetryPolicy, TaskId, Timestamp};
use tq_proto::v1;
use tq_proto::v1::task_service_server::TaskService;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::function_filter::FunctionFilter;
use super::{Context, convert};
use crate::api::status::{ApiError, invalid};
use crate::blobs::{Blobs, Upload};
use crate::ledger::{
    Command, Delete, Doomed, Ended, Handle, Refused, Submission, Submit, Target, lock, read, wall,
};
use crate::modules::registry::{Function, Module};
use crate::store::{Direction, Pair, Read, Space};
use crate::tables::row::Record;
use crate::tables::{Namespace, key, row};

/// Tasks of one response of a watch.
const WATCH_BATCH: usize = 256;
/// Results of one response of a watch, in bytes: a further one waits for the next response.
const WATCH_BATCH_BYTES: usize = 1 << 20;
/// Commits of which a watch reads the ends at once.
const SETTLED_PAGE: usize = 64;
/// Pieces of a log that are read at once.
const LOG_PAGE: usize = 64;

pub(super) struct Tasks(pub(super) Context);

/// What was found, and where to go on.
type Page<T> = (Vec<T>, Option<TaskId>);

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl TaskService for Tasks {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let checked = self.checked(request.into_inner()).await;
        // What comes as far as the ledger is counted there.
        let refused = &self.0.ledger.shared().metrics.refused;
        let (namespace, submissions, span) = checked.inspect_err(|_| {
            refused.inc();
        })?;
        let submit = self.0.ledger.ask(|reply| {
            Command::Submit(Submit {
                namespace,
                tasks: submissions,
                reply,
            })
        });
        let submitted = submit.instrument(span).await;
        let submitted = submitted.map_err(ApiError::from)?.map_err(ApiError::from)?;
        let tasks = submitted.into_iter().map(|task| v1::Submitted {
            id: task.id.to_string(),
            existed: task.existed,
        });
        Ok(Response::new(v1::SubmitResponse {
            tasks: tasks.collect(),
        }))
    }

    async fn get_task(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let v1::GetTaskRequest {
            namespace,
            id,
            include_result,
            include_payload,
        } = request.into_inner();
        let namespace = named(namespace)?;
        let id = convert::task_id(&id)?;
        let reads = self.reads(&namespace);
        let task = blocking(move || reads.show(id, include_result, include_payload)).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        task.map(Response::new)
            .ok_or_else(|| no_task(namespace, id))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let v1::ListTasksRequest {
            namespace,
            state,
            limit,
            cursor,
        } = request.into_inner();
        let namespace = named(namespace)?;
        let state = v1::TaskState::try_from(state)
            .map_err(|_| invalid(format_args!("state {state} is not one")))?;
        let limit = match limit as usize {
            0 => 100,
            limit if limit <= LIST_PAGE_MAX => limit,
            limit => {
                return Err(invalid(format_args!(
                    "limit is {limit}; it may be 1 to {LIST_PAGE_MAX}"
                )));
            }
        };
        let before = if cursor.is_empty() {
            None
        } else {
            Some(convert::task_id(&cursor)?)
        };
        let reads = self.reads(&namespace);
        let (tasks, next) = blocking(move || reads.list(state, limit, before)).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        let next = next.map(|id| id.to_string()).unwrap_or_default();
        Ok(Response::new(v1::ListTasksResponse { tasks, next }))
    }

    async fn cancel_task(
        &self,
        request: Request<v1::CancelTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let v1::CancelTaskRequest { namespace, id } = request.into_inner();
        self.change(namespace, &id, Command::Cancel).await
    }

    async fn update_task(
        &self,
        request: Request<v1::UpdateTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let v1::UpdateTaskRequest {
            namespace,
            id,
            priority,
            run_at_ms,
            delay_ms,
            deadline_ms,
            required_labels,
            preferred_labels,
        } = request.into_inner();
        let now = wall();
        let deadline = deadline_ms.map(|at| (at > 0).then_some(Timestamp(at)));
        not_too_far("deadline", deadline.flatten(), now)?;
        let labels = |labels: Option<v1::Labels>| {
            let labels = labels.map(|it| convert::labels(&Labels::default(), &it.labels));
            labels.transpose()
        };
        let amendment = Amendment {
            priority: priority.map(convert::priority).transpose()?,
            run_at: run_at(run_at_ms, delay_ms, now)?,
            deadline,
            required: labels(required_labels)?,
            preferred: labels(preferred_labels)?,
        };
        if amendment == Amendment::default() {
            return Err(invalid(
                "nothing is to be changed; name a priority, a time, a deadline or labels",
            ));
        }
        let command = |target| Command::Amend(Box::new(amendment), target);
        self.change(namespace, &id, command).await
    }

    async fn redrive_task(
        &self,
        request: Request<v1::RedriveTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let v1::RedriveTaskRequest { namespace, id } = request.into_inner();
        self.change(namespace, &id, Command::Redrive).await
    }

    async fn delete_task(
        &self,
        request: Request<v1::DeleteTaskRequest>,
    ) -> Result<Response<v1::DeleteTaskResponse>, Status> {
        let v1::DeleteTaskRequest { namespace, id } = request.into_inner();
        let namespace = named(namespace)?;
        let id = convert::task_id(&id)?;
        self.delete(namespace, Doomed::One(id)).await?;
        Ok(Response::new(v1::DeleteTaskResponse {}))
    }

    async fn delete_tasks(
        &self,
        request: Request<v1::DeleteTasksRequest>,
    ) -> Result<Response<v1::DeleteTasksResponse>, Status> {
        let v1::DeleteTasksRequest {
            namespace,
            state,
            function,
            ended_before_ms,
            dry_run,
            cursor,
        } = request.into_inner();
        let namespace = named(namespace)?;
        let state = v1::TaskState::try_from(state)
            .map_err(|_| invalid(format_args!("state {state} is not one")))?;
        let filter = Filter::new(state, function, ended_before_ms)?;
        let before = match cursor.is_empty() {
            true => None,
            false => Some(convert::task_id(&cursor)?),
        };
        let reads = self.reads(&namespace);
        let (matching, next) = blocking(move || reads.ended_like(&filter, before)).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        let deleted = match dry_run || matching.is_empty() {
            true => matching.len(),
            false => self.delete(namespace, Doomed::As(matching)).await?,
        };
        Ok(Response::new(v1::DeleteTasksResponse {
            deleted: u32::try_from(deleted).unwrap_or(u32::MAX),
            next: next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    type WatchTasksStream = Outgoing<v1::WatchTasksResponse>;

    async fn watch_tasks(
        &self,
        request: Request<v1::WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let v1::WatchTasksRequest {
            namespace,
            ids,
            after_seq,
            include_result,
            view,
        } = request.into_inner();
        let namespace = named(namespace)?;
        let view = v1::TaskView::try_from(view)
            .map_err(|_| invalid(format_args!("view {view} is not one")))?;
        if ids.len() > WATCH_IDS_MAX {
            return Err(invalid(format_args!(
                "watch names {} tasks; it may name {WATCH_IDS_MAX}",
                ids.len()
            )));
        }
        let ids = ids
            .iter()
            .map(|id| convert::task_id(id))
            .collect::<Result<Vec<_>, _>>()?;
        let (sender, receiver) = mpsc::channel(2);
        let out = Out {
            sender,
            ledger: self.0.ledger.clone(),
            shows: Shows {
                view,
                include_result,
            },
        };
        let context = self.0.clone();
        let work: Pin<Box<dyn Future<Output = Result<(), Status>> + Send>> = if ids.is_empty() {
            Box::pin(watch_all(context, namespace, after_seq, out))
        } else {
            Box::pin(watch_ids(context, namespace, ids, out))
        };
        let stop = self.0.stop.clone();
        let work = futures_util::stream::once(async move {
            tokio::select! {
                () = stop.cancelled() => Some(Err(Status::unavailable("the broker is stopping"))),
                ended = work => ended.err().map(Err),
            }
        });
        // The watch works as long as its stream is polled, and ends with it.
        let work = futures_util::StreamExt::filter_map(work, std::future::ready);
        Ok(Response::new(Box::pin(futures_util::stream::select(
            ReceiverStream::new(receiver),
            work,
        ))))
    }

    type GetTaskLogsStream = Outgoing<v1::LogChunk>;

    async fn get_task_logs(
        &self,
        request: Request<v1::GetTaskLogsRequest>,
    ) -> Result<Response<Self::GetTaskLogsStream>, Status> {
        let v1::GetTaskLogsRequest { namespace, id } = request.into_inner();
        let namespace = named(namespace)?;
        let id = convert::task_id(&id)?;
        let reads = Arc::new(self.reads(&namespace));
        let of_task = Arc::clone(&reads);
        let found = blocking(move || of_task.find(id)).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        let task = found.ok_or_else(|| no_task(namespace, id))?.task;
        let chunks = futures_util::stream::try_unfold(Some(Vec::new()), move |from| {
            let (reads, task) = (Arc::clone(&reads), task.clone());
            async move {
                let Some(from) = from else {
                    return Ok::<_, Status>(None);
                };
                let (chunks, next) = blocking(move || reads.logs(&task, &from)).await?;
                Ok(Some((
                    futures_util::stream::iter(chunks.into_iter().map(Ok)),
                    next,
                )))
            }
        });
        Ok(Response::new(Box::pin(
            futures_util::TryStreamExt::try_flatten(chunks),
        )))
    }
}

impl Tasks {
    /// Checks a request and makes what the ledger takes of it, with the namespace and the span of the request.
    async fn checked(
        &self,
        request: v1::SubmitRequest,
    ) -> Result<(String, Vec<Submission>, tracing::Span), Status> {
        let v1::SubmitRequest { namespace, tasks } = request;
        let namespace = named(namespace)?;
        if tasks.is_empty() || tasks.len() > SUBMIT_BATCH_MAX {
            return Err(invalid(format_args!(
                "request has {} tasks; it may have 1 to {SUBMIT_BATCH_MAX}",
                tasks.len()
            )));
        }
        let now = wall();
        let count = tasks.len();
        let span = tracing::debug_span!(
            "submit task",
            rpc.method = "Submit",
            tq.namespace = namespace,
            tq.task.count = count
        );
        // A span has one parent: of a batch, the first task's submitter is taken.
        let traceparent = link(&span, &tasks[0].traceparent);
        let mut submissions = Vec::with_capacity(count);
        for (index, mut task) in tasks.into_iter().enumerate() {
            task.traceparent = traceparent.clone().unwrap_or(task.traceparent);
            let submission = self.submission(&namespace, task, now);
            submissions.push(submission.map_err(|status| {
                if count == 1 {
                    status
                } else {
                    in_batch(&status, index)
                }
            })?);
        }
        // Only when every task of the request is sound, so that a refused one leaves nothing behind.
        self.put_large(&mut submissions).await?;
        Ok((namespace, submissions, span))
    }

    /// Checks one task of a request and makes what the ledger takes of it.
    fn submission(
        &self,
        namespace: &str,
        task: v1::NewTask,
        now: Timestamp,
    ) -> Result<Submission, Status> {
        let registry = read(&self.0.ledger.shared().registry);
        let (module, function) = registry
            .function(namespace, &task.function)
            .map_err(ApiError::from)?;
        over("payload", task.payload.len(), PAYLOAD_BYTES_MAX)?;
        over(
            "idempotency key",
            task.idempotency_key.len(),
            IDEMPOTENCY_KEY_BYTES_MAX,
        )?;
        over(
            "content type",
            task.content_type.len(),
            CONTENT_TYPE_BYTES_MAX,
        )?;
        over(
            "arguments",
            task.arguments
                .iter()
                .map(|argument| argument.len() + 1)
                .sum(),
            ARGUMENTS_BYTES_MAX,
        )?;
        if task.arguments.len() > ARGUMENTS_MAX {
            return Err(invalid(format_args!(
                "there are {} arguments, over the limit of {ARGUMENTS_MAX}",
                task.arguments.len()
            )));
        }
        if task.traceparent.len() > 256 || !task.traceparent.is_ascii() {
            return Err(invalid("traceparent is not a W3C trace context"));
        }
        if !task.arguments.is_empty() && module.entry == crate::modules::Entry::Handler {
            return Err(invalid(format_args!(
                "`{}` takes a payload, not arguments: it is no plain program",
                task.function
            )));
        }
        let priority = task.priority.map(convert::priority).transpose()?;
        let priority = priority.unwrap_or_default();
        let placement = placement(module, function, &task)?;
        let run_at = run_at(task.run_at_ms, task.delay_ms, now)?;
        let deadline = task.deadline_ms.map(Timestamp);
        not_too_far("deadline", deadline, now)?;
        if let (Some(run_at), Some(deadline)) = (run_at, deadline)
            && deadline <= run_at
        {
            return Err(invalid("the deadline is before the task may start"));
        }
        // Nothing else compares requests.
        let request = match task.idempotency_key.is_empty() {
            true => [0; 32],
            false => hash(&task),
        };
        let spec = Spec {
            namespace: namespace.to_owned(),
            module: module.name.clone(),
            version: module.version,
            digest: module.digest,
            function: function.name.clone(),
            payload: DataRef::Row {
                len: task.payload.len() as u64,
            },
            content_type: task.content_type,
            arguments: task.arguments,
            limits: convert::lower(&function.limits, task.limits.as_ref())?,
            retry: convert::retry(task.retry.as_ref())?
                .or(function.retry)
                .or(self.0.ledger.shared().settings(namespace).retry)
                .over(RetryPolicy::DEFAULT),
            priority,
            placement,
            run_at,
            deadline,
            result_ttl: convert::result_ttl(task.result_ttl_ms)?.or(function.result_ttl),
            idempotency_key: task.idempotency_key,
            traceparent: task.traceparent,
            submitted_at: now,
            redriven_from: None,
        };
        Ok(Submission {
            spec,
            payload: (!task.payload.is_empty()).then_some(task.payload),
            request,
        })
    }

    /// Puts payloads that are too large for a row into files; all of them, or none if the disk is too full.
    pub(super) async fn put_large(&self, submissions: &mut [Submission]) -> Result<(), Status> {
        let is_large = |payload: &mut Bytes| payload.len() > INLINE_BYTES_MAX;
        let (data, payloads): (Vec<_>, Vec<_>) = submissions
            .iter_mut()
            .filter_map(|submission| {
                let payload = submission.payload.take_if(is_large)?;
                Some((&mut submission.spec.payload, payload))
            })
            .unzip();
        if payloads.is_empty() {
            return Ok(());
        }
        let blobs = self.0.blobs.clone();
        let digests = blocking(move || Ok(blobs.put_new(&payloads)?)).await?;
        for (data, digest) in data.into_iter().zip(digests) {
            let len = data.len();
            *data = DataRef::Blob { digest, len };
        }
        Ok(())
    }

    async fn change(
        &self,
        namespace: String,
        id: &str,
        command: impl FnOnce(Target) -> Command,
    ) -> Result<Response<v1::Task>, Status> {
        let namespace = named(namespace)?;
        let id = convert::task_id(id)?;
        let task = self
            .0
            .ledger
            .ask(|reply| {
                command(Target {
                    namespace,
                    id,
                    reply,
                })
            })
            .await
            .map_err(ApiError::from)?;
        Ok(Response::new(convert::task_out(
            &task.map_err(ApiError::from)?,
        )))
    }

    /// Removes tasks, and returns how many.
    async fn delete(&self, namespace: String, tasks: Doomed) -> Result<usize, Status> {
        let ask = self.0.ledger.ask(|reply| {
            Command::Delete(Delete {
                namespace,
                tasks,
                reply,
            })
        });
        let deleted = ask.await.map_err(ApiError::from)?;
        Ok(deleted.map_err(ApiError::from)?)
    }

    fn reads(&self, namespace: &str) -> Reads {
        Reads::new(&self.0, namespace)
    }
}

/// Which ended tasks a request is about.
struct Filter {
    state: v1::TaskState,
    function: FunctionFilter,
    ended_before: Option<Timestamp>,
}

impl Filter {
    fn new(
        state: v1::TaskState,
        function: String,
        ended_before_ms: Option<u64>,
    ) -> Result<Self, Status> {
        match state {
            v1::TaskState::Unspecified
            | v1::TaskState::Succeeded
            | v1::TaskState::Dead
            | v1::TaskState::Cancelled
            | v1::TaskState::Expired => {}
            v1::TaskState::Blocked
            | v1::TaskState::Scheduled
            | v1::TaskState::Ready
            | v1::TaskState::Running => {
                return Err(invalid(format_args!(
                    "state is `{}`: only tasks that have ended can be deleted, which are succeeded, dead, cancelled \
                     or expired; cancel the others first",
                    state
                        .as_str_name()
                        .trim_start_matches("TASK_STATE_")
                        .to_lowercase()
                )));
            }
        }
        Ok(Self {
            state,
            function: FunctionFilter::new("ended tasks", &function)?,
            ended_before: ended_before_ms.map(Timestamp),
        })
    }

    fn takes(&self, task: &Task) -> bool {
        let Self {
            state,
            function,
            ended_before,
        } = self;
        task.state.ended_at().is_some_and(|at| {
            (*state == v1::TaskState::Unspecified || *state == convert::state_out(&task.state))
                && function.takes(task)
                && ended_before.is_none_or(|before| at < before)
        })
    }
}

/// Reads of one namespace. They may block on the disk.
pub(super) struct Reads {
    pub(super) store: Arc<dyn Read>,
    blobs: Blobs,
    shared: Arc<crate::ledger::Shared>,
    /// None if the namespace was never used: it has nothing.
    pub(super) namespace: Option<Namespace>,
}

impl Reads {
    pub(super) fn new(context: &Context, namespace: &str) -> Self {
        let shared = context.ledger.shared();
        Self {
            store: Arc::clone(context.ledger.reader()),
            blobs: context.blobs.clone(),
            shared: Arc::clone(shared),
            namespace: read(&shared.namespaces).get(namespace).copied(),
        }
    }

    pub(super) fn find(&self, id: TaskId) -> Result<Option<Record>, ApiError> {
        match self.namespace {
            Some(namespace) => {
                let claim = self.shared.claim(id);
                let found = row::find_task::<ApiError>(&*self.store, namespace, id)?;
                Ok(found.map(|record| record.claimed(claim)))
            }
            None => Ok(None),
        }
    }

    /// Those of some tasks that have ended, or one that is not there.
    fn ended_of(&self, ids: Vec<TaskId>) -> Result<Result<Vec<TaskId>, TaskId>, ApiError> {
        let mut ended = Vec::new();
        for id in ids {
            match self.find(id)? {
                None => return Ok(Err(id)),
                Some(found) if found.task.state.is_terminal() => ended.push(id),
                Some(_) => {}
            }
        }
        Ok(Ok(ended))
    }

    pub(super) fn show(
        &self,
        id: TaskId,
        include_result: bool,
        include_payload: bool,
    ) -> Result<Option<v1::Task>, ApiError> {
        let (Some(record), Some(namespace)) = (self.find(id)?, self.namespace) else {
            return Ok(None);
        };
        let Record {
            task,
            payload,
            result,
            beside,
        } = record;
        let shows = Shows {
            view: v1::TaskView::Unspecified,
            include_result,
        };
        let mut shown = self.shown(namespace, &task, result, beside.result_gone, shows)?;
        if include_payload {
            let at = key::payload(namespace, id);
            shown.payload = self.data(task.spec.payload, payload, at)?;
        }
        let has_result = task.result.is_some() && beside.result_gone.is_none();
        let lacks = include_result && has_result && shown.result.is_none()
            || include_payload && shown.payload.is_none();
        if lacks {
            // It was deleted while it was read, or its result was.
            let Some(found) = self.find(id)? else {
                return Ok(None);
            };
            shown.result_expired_ms = found.beside.result_gone.map_or(0, |at| at.0);
        }
        let progress = lock(&self.shared.progress).get(&id).cloned();
        shown.progress = progress.map(|(fraction, note)| v1::Progress { fraction, note });
        Ok(Some(shown))
    }

    fn shown(
        &self,
        namespace: Namespace,
        task: &Task,
        result: Bytes,
        gone: Option<Timestamp>,
        shows: Shows,
    ) -> Result<v1::Task, ApiError> {
        let mut shown = match shows.view {
            v1::TaskView::Unspecified => convert::task_out(task),
            v1::TaskView::End => convert::end_out(task),
        };
        shown.result_expired_ms = gone.map_or(0, |at| at.0);
        if shows.include_result
            && gone.is_none()
            && let Some(data) = task.result
        {
            let at = key::result(namespace, task.id);
            shown.result = self.data(data, result, at)?;
        }
        Ok(shown)
    }

    /// What a reference stands for: what was in the task's own rows, or else what is elsewhere. None if the task was
    /// deleted since its rows were read.
    fn data(
        &self,
        data: DataRef,
        in_row: Bytes,
        row: crate::store::Key,
    ) -> Result<Option<Bytes>, ApiError> {
        Ok(match data {
            data if row::in_row(data) => Some(in_row),
            DataRef::Row { .. } => self.store.get(&row)?,
            DataRef::Blob { digest, .. } => {
                let bytes = self.blobs.get(digest)?;
                Some(bytes.map(Bytes::from).ok_or_else(|| {
                    Status::data_loss(format!("blob {digest} is missing on the broker's disk"))
                })?)
            }
        })
    }

    /// A page of tasks, the newest first, and where the next one begins. It looks at a bounded number of rows.
    fn list(
        &self,
        state: v1::TaskState,
        limit: usize,
        before: Option<TaskId>,
    ) -> Result<(Vec<v1::Task>, Option<TaskId>), ApiError> {
        let Some(namespace) = self.namespace else {
            return Ok((Vec::new(), None));
        };
        let mut from = match before {
            // The cursor is the last task of the page before, so that this one begins after it.
            Some(id) => match u128::from_be_bytes(id.0).checked_sub(1) {
                Some(id) => key::call(namespace, TaskId(id.to_be_bytes())).bytes,
                None => return Ok((Vec::new(), None)),
            },
            None => key::call(namespace, TaskId([u8::MAX; 16])).bytes,
        };
        let mut tasks = Vec::new();
        let mut last = None;
        let mut looked = 0;
        while looked < LIST_SCAN_MAX {
            let page = (limit - tasks.len()).clamp(16, 1_000);
            let pairs = self.store.scan(
                Space::Calls,
                &key::tasks(namespace),
                &from,
                Direction::Descending,
                page,
            )?;
            let claims: Vec<_> = pairs
                .iter()
                .map(|pair| self.shared.claim(key::task_of(&pair.key)?.1))
                .collect();
            let records = row::with_states::<ApiError>(&*self.store, &pairs)?;
            for (record, claim) in records.into_iter().zip(claims) {
                let record = record.claimed(claim);
                let (task, gone) = (record.task, record.beside.result_gone);
                last = Some(task.id);
                if state == v1::TaskState::Unspecified || state == convert::state_out(&task.state) {
                    tasks.push(v1::Task {
                        result_expired_ms: gone.map_or(0, |at| at.0),
                        ..convert::task_out(&task)
                    });
                    if tasks.len() == limit {
                        return Ok((tasks, last));
                    }
                }
            }
            looked += pairs.len();
            let next = last.and_then(|id| u128::from_be_bytes(id.0).checked_sub(1));
            match next {
                Some(next) if pairs.len() == page => {
                    from = key::call(namespace, TaskId(next.to_be_bytes())).bytes
                }
                Some(_) | None => return Ok((tasks, None)),
            }
        }
        Ok((tasks, last))
    }

    /// Tasks that a filter takes, the newest first, as many as one request may remove; and where to go on. It looks at a
    /// bounded number of rows.
    fn ended_like(
        &self,
        filter: &Filter,
        before: Option<TaskId>,
    ) -> Result<Page<(TaskId, State)>, ApiError> {
        const PAGE: usize = 1_000;
        let Some(namespace) = self.namespace else {
            return Ok((Vec::new(), None));
        };
        // An id begins with the time of its submit, which is before its end. So what is newer than that needs no look.
        let latest = filter.ended_before.map(newest_id);
        let mut last = match (before, latest) {
            (Some(before), Some(latest)) => before.min(latest),
            (Some(id), None) | (None, Some(id)) => id,
            (None, None) => TaskId([u8::MAX; 16]),
        };
        let mut found = Vec::new();
        let mut looked = 0;
        while looked < LIST_SCAN_MAX {
            let Some(from) = u128::from_be_bytes(last.0).checked_sub(1) else {
                return Ok((found, None));
            };
            let pairs = self.store.scan(
                Space::Calls,
                &key::tasks(namespace),
                &key::call(namespace, TaskId(from.to_be_bytes())).bytes,
                Direction::Descending,
                PAGE,
            )?;
            looked += pairs.len();
            let is_last = pairs.len() < PAGE;
            for record in row::with_states::<ApiError>(&*self.store, &pairs)? {
                last = record.task.id;
                if filter.takes(&record.task) {
                    found.push((last, record.task.state));
                    if found.len() == DELETE_BATCH_MAX {
                        return Ok((found, Some(last)));
                    }
                }
            }
            if is_last {
                return Ok((found, None));
            }
        }
        Ok((found, Some(last)))
    }

    /// Pieces of a task's log from a key on, and where to go on.
    fn logs(
        &self,
        task: &Task,
        from: &[u8],
    ) -> Result<(Vec<v1::LogChunk>, Option<Vec<u8>>), ApiError> {
        let Some(namespace) = self.namespace else {
            return Ok((Vec::new(), None));
        };
        let pairs = self.store.scan(
            Space::Payloads,
            &key::logs(namespace, task.id),
            from,
            Direction::Ascending,
            LOG_PAGE,
        )?;
        let next = pairs
            .last()
            .filter(|_| pairs.len() == LOG_PAGE)
            .map(|last| [&last.key[..], &[0]].concat());
        let chunks = pairs.into_iter().map(|pair| {
            let epoch = key::log_epoch_of(&pair.key);
            let attempt = task
                .attempts
                .iter()
                .find(|attempt| Some(attempt.epoch) == epoch)
                .map(|attempt| attempt.number);
            v1::LogChunk {
                attempt: attempt.unwrap_or(task.started),
                text: pair.value,
            }
        });
        Ok((chunks.collect(), next))
    }

    /// Ends as they are shown, up to a bound in bytes; and those that are left.
    fn ended(&self, ends: Vec<End>, shows: Shows) -> Result<(Vec<v1::Task>, Vec<End>), ApiError> {
        let mut shown = Vec::with_capacity(ends.len().min(WATCH_BATCH));
        let mut bytes = 0;
        let mut ends = ends.into_iter();
        while bytes < WATCH_BATCH_BYTES
            && shown.len() < WATCH_BATCH
            && let Some(end) = ends.next()
        {
            let task = match end {
                End::OnDisk(id) => match (self.find(id)?, self.namespace) {
                    (Some(found), Some(namespace)) if found.task.state.is_terminal() => {
                        let gone = found.beside.result_gone;
                        Some(self.shown(namespace, &found.task, found.result, gone, shows)?)
                    }
                    (Some(_) | None, _) => None,
                },
                End::InMemory(ended) => {
                    let Ended {
                        namespace,
                        task,
                        result,
                    } = &*ended;
                    Some(self.shown(*namespace, task, result.clone(), None, shows)?)
                }
            };
            bytes += task
                .as_ref()
                .and_then(|task| task.result.as_ref())
                .map_or(0, Bytes::len);
            shown.extend(task);
        }
        Ok((shown, ends.collect()))
    }

    /// The tasks of the namespace that ended in the next commits after `seq`, and the last of those commits, which is
    /// `seq` if there are none.
    async fn ends_after(self: &Arc<Self>, seq: u64) -> Result<(Vec<End>, u64), Status> {
        let recent = lock(&self.shared.recent).after(seq);
        let Some((ended, last)) = recent else {
            let of_commits = Arc::clone(self);
            return blocking(move || of_commits.ends_on_disk(seq)).await;
        };
        let ours = ended
            .into_iter()
            .filter(|ended| Some(ended.namespace) == self.namespace);
        Ok((ours.map(End::InMemory).collect(), last))
    }

    /// The same from the rows that the ledger writes of each commit's ends.
    fn ends_on_disk(&self, seq: u64) -> Result<(Vec<End>, u64), ApiError> {
        let from = key::settled(seq + 1);
        let pairs = self.store.scan(
            Space::Index,
            &key::settled_all(),
            &from.bytes,
            Direction::Ascending,
            SETTLED_PAGE,
        )?;
        // Looked at after the rows, so that what went while they were read is noticed.
        let forgotten = self.shared.forgotten.load(Ordering::Acquire);
        if seq < forgotten {
            return Err(Status::out_of_range(format!(
                "ends after sequence {seq} were removed, up to {forgotten}: their retention is over\nhint: list tasks to see \
                 what is there, and watch on from {forgotten}, or without a sequence from now on"
            ))
            .into());
        }
        // Commits that are not on disk yet can be read, and must not be told.
        let on_disk = *self.shared.settled.borrow();
        let seq_of = |pair: &Pair| key::settled_of(&pair.key).filter(|seq| *seq <= on_disk);
        let pairs: Vec<_> = pairs
            .into_iter()
            .take_while(|pair| seq_of(pair).is_some())
            .collect();
        let last = pairs.last().and_then(seq_of);
        let ended = pairs
            .iter()
            .flat_map(|pair| row::decode_settled(&pair.value));
        let ours = ended.filter(|(namespace, _)| Some(*namespace) == self.namespace);
        let ends = ours.map(|(_, id)| End::OnDisk(id)).collect();
        Ok((ends, last.unwrap_or(seq)))
    }
}

/// A task that has ended.
enum End {
    /// It has to be read.
    OnDisk(TaskId),
    /// The ledger had it in memory when it ended.
    InMemory(Arc<Ended>),
}

impl End {
    /// Whether showing it may block on the disk.
    fn may_block(&self, include_result: bool) -> bool {
        match self {
            Self::OnDisk(_) => true,
            Self::InMemory(ended) => include_result && !ended.task.result.is_none_or(row::in_row),
        }
    }
}

/// Where a watch sends what ended.
struct Out {
    sender: mpsc::Sender<Result<v1::WatchTasksResponse, Status>>,
    ledger: Handle,
    shows: Shows,
}

/// What a watch shows of each task.
#[derive(Clone, Copy, Debug)]
struct Shows {
    view: v1::TaskView,
    include_result: bool,
}

impl Out {
    /// Sends ends in responses of a bounded size; only the last one has the new sequence. `false` if nobody listens.
    async fn send(
        &self,
        reads: &Arc<Reads>,
        mut ends: Vec<End>,
        before: u64,
        after: u64,
    ) -> Result<bool, Status> {
        loop {
            let (of_ends, shows) = (Arc::clone(reads), self.shows);
            let may_block = |end: &End| end.may_block(shows.include_result);
            let (ended, left) = if ends.iter().any(may_block) {
                let ended = blocking(move || of_ends.ended(ends, shows)).await?;
                // What is read is what has become of the tasks since, too.
                self.ledger.on_disk().await.map_err(ApiError::from)?;
                ended
            } else {
                of_ends.ended(ends, shows)?
            };
            let seq = if left.is_empty() { after } else { before };
            if !ended.is_empty()
                && self
                    .sender
                    .send(Ok(v1::WatchTasksResponse { ended, seq }))
                    .await
                    .is_err()
            {
                return Ok(false);
            }
            if left.is_empty() {
                return Ok(true);
            }
            ends = left;
        }
    }
}

/// Tells the ends of some tasks, and ends with the last of them.
async fn watch_ids(
    context: Context,
    namespace: String,
    ids: Vec<TaskId>,
    out: Out,
) -> Result<(), Status> {
    let watch = context.ledger.watch(namespace.clone(), ids.clone());
    let (mut watching, unknown) = watch.await.map_err(ApiError::from)?;
    let settled = context.ledger.shared().settled.subscribe();
    let seq = || *settled.borrow();
    let reads = Arc::new(Reads::new(&context, &namespace));
    // Registered first and read afterwards, so that no end falls between the two.
    let ended = match unknown.is_empty() {
        // Whoever waits for what it has just submitted needs no look at the disk.
        true => Vec::new(),
        false => {
            let of_tasks = Arc::clone(&reads);
            let found = blocking(move || of_tasks.ended_of(unknown)).await?;
            context.ledger.on_disk().await.map_err(ApiError::from)?;
            found.map_err(|id| no_task(namespace, id))?
        }
    };
    let mut open: HashSet<TaskId> = ids.into_iter().collect();
    for id in &ended {
        open.remove(id);
    }
    let ended = ended.into_iter().map(End::OnDisk).collect();
    if !out.send(&reads, ended, seq(), seq()).await? {
        return Ok(());
    }
    while !open.is_empty() {
        let mut told = Vec::new();
        let received = tokio::select! {
            () = out.sender.closed() => return Ok(()),
            received = watching.ended.recv_many(&mut told, WATCH_BATCH) => received,
        };
        if received == 0 {
            return Err(Status::unavailable("the broker is stopping"));
        }
        told.retain(|ended| open.remove(&ended.task.id));
        let told = told.into_iter().map(End::InMemory).collect();
        if !out.send(&reads, told, seq(), seq()).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Tells all ends of a namespace, from a sequence on. One that falls behind what is in memory reads the rows that the
/// ledger writes of each commit's ends, so that a slow listener costs nothing.
async fn watch_all(
    context: Context,
    namespace: String,
    after_seq: Option<u64>,
    out: Out,
) -> Result<(), Status> {
    let mut settled = context.ledger.shared().settled.subscribe();
    let mut seq = after_seq.unwrap_or_else(|| *settled.borrow());
    let first = v1::WatchTasksResponse {
        ended: Vec::new(),
        seq,
    };
    if out.sender.send(Ok(first)).await.is_err() {
        return Ok(());
    }
    loop {
        let reads = Arc::new(Reads::new(&context, &namespace));
        settled.mark_unchanged();
        match reads.ends_after(seq).await? {
            (ends, last) if last > seq => {
                if !out.send(&reads, ends, seq, last).await? {
                    return Ok(());
                }
                seq = last;
            }
            _ => {
                let changed = tokio::select! {
                    () = out.sender.closed() => return Ok(()),
                    changed = settled.changed() => changed,
                };
                if changed.is_err() {
                    return Err(Status::unavailable("the broker is stopping"));
                }
            }
        }
    }
}

/// Runs what may block on the disk on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, Status> {
    Ok(tokio::task::spawn_blocking(work)
        .await
        .map_err(ApiError::from)??)
}

/// Adds a chunk of a stream to an upload, on a thread for that.
pub(super) async fn write_chunk(mut upload: Upload, chunk: Bytes) -> Result<Upload, Status> {
    over("chunk", chunk.len(), CHUNK_BYTES)?;
    blocking(move || {
        upload.write(&chunk)?;
        Ok(upload)
    })
    .await
}

/// The namespace of a request: `default` if it names none.
pub(super) fn named(namespace: String) -> Result<String, Status> {
    if namespace.is_empty() {
        return Ok(tq_core::name::DEFAULT_NAMESPACE.to_owned());
    }
    tq_core::name::check("namespace", &namespace).map_err(invalid)?;
    Ok(namespace)
}

pub(super) fn over(what: &str, len: usize, max: usize) -> Result<(), Status> {
    if len > max {
        Err(invalid(format_args!(
            "{what} of {len} bytes is over the limit of {max} bytes"
        )))
    } else {
        Ok(())
    }
}

pub(super) fn no_task(namespace: String, id: TaskId) -> Status {
    ApiError::from(Refused::NoTask { namespace, id }).into()
}

/// The same error, saying which task of the request has it.
fn in_batch(status: &Status, index: usize) -> Status {
    Status::new(
        status.code(),
        format!("task {index} of the request: {}", status.message()),
    )
}

/// Makes a span the child of its request's sender, and returns what makes others its children. None if traces are
/// switched off.
fn link(span: &tracing::Span, traceparent: &str) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let mut carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    opentelemetry::global::get_text_map_propagator(|propagator| {
        if let Err(error) = span.set_parent(propagator.extract(&carrier)) {
            tracing::debug!(%error, "submit is not linked to the trace of its client");
        }
        carrier.clear();
        propagator.inject_context(&span.context(), &mut carrier);
    });
    carrier.remove("traceparent")
}

/// The time that a task starts at, if one is named.
fn run_at(
    at_ms: Option<u64>,
    delay_ms: Option<u64>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Status> {
    let at = match (at_ms, delay_ms) {
        (Some(_), Some(_)) => return Err(invalid("run_at and delay are both set; set one")),
        (Some(at), None) => Some(Timestamp(at)),
        (None, Some(delay)) => Some(now.after(Duration::from_millis(delay))),
        (None, None) => None,
    };
    not_too_far("run_at", at, now)?;
    Ok(at)
}

fn not_too_far(what: &str, at: Option<Timestamp>, now: Timestamp) -> Result<(), Status> {
    if at.is_some_and(|at| at > now.after(DELAY_MAX)) {
        return Err(invalid(format_args!(
            "{what} is more than {} days ahead",
            DELAY_MAX.as_secs() / 86_400
        )));
    }
    Ok(())
}

/// Where a task may run: as it says itself, and otherwise as its function says.
fn placement(
    module: &Module,
    function: &Function,
    task: &v1::NewTask,
) -> Result<Placement, Status> {
    let inherited = &function.placement;
    let mut placement = match &task.concurrency {
        Some(concurrency) => Placement {
            queue: inherited.queue.clone(),
            required: inherited.required.clone(),
            preferred: inherited.preferred.clone(),
            concurrency: Some(convert::concurrency(concurrency)?),
        },
        None => {
            let name = format!("{}/{}", module.name, function.name);
            inherited.of_call(&name, &task.payload).map_err(invalid)?
        }
    };
    if !task.queue.is_empty() {
        placement.queue = convert::queue(&task.queue)?;
    }
    if !task.required_labels.is_empty() {
        placement.required = convert::labels(&placement.required, &task.required_labels)?;
    }
    if !task.preferred_labels.is_empty() {
        placement.preferred = convert::labels(&placement.preferred, &task.preferred_labels)?;
    }
    Ok(placement)
}

/// After every id that was given up to a time.
fn newest_id(at: Timestamp) -> TaskId {
    let mut id = [u8::MAX; 16];
    id[..6].copy_from_slice(&at.0.saturating_add(1).to_be_bytes()[2..]);
    TaskId(id)
}

/// Tells one request from another under the same idempotency key. What only says when or who does not count.
fn hash(task: &v1::NewTask) -> [u8; 32] {
    let v1::NewTask {
        function,
        payload,
        content_type,
        arguments,
        priority,
        run_at_ms,
        delay_ms,
        deadline_ms: _,
        idempotency_key: _,
        limits,
        retry,
        traceparent: _,
        queue,
        required_labels,
        preferred_labels,
        concurrency,
        result_ttl_ms,
    } = task;
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        let len = (bytes.len() as u64).to_be_bytes();
        hasher.update(&len).update(bytes);
    };
    field(function.as_bytes());
    field(payload);
    field(content_type.as_bytes());
    field(&(arguments.len() as u64).to_be_bytes());
    arguments
        .iter()
        .for_each(|argument| field(argument.as_bytes()));
    field(format!("{priority:?} {run_at_ms:?} {delay_ms:?} {limits:?} {retry:?}").as_bytes());
    field(queue.as_bytes());
    for labels in [required_labels, preferred_labels] {
        let labels: std::collections::BTreeMap<_, _> = labels.iter().collect();
        field(format!("{labels:?}").as_bytes());
    }
    field(format!("{concurrency:?}").as_bytes());
    // Only if it is there, so that requests of earlier builds are still told to be the same.
    if let Some(ttl) = result_ttl_ms {
        hasher.update(&ttl.to_be_bytes());
    }
    *hasher.finalize().as_bytes()
}
