//! Tasks: submitting, reading and watching them, and what changes them. Here requests are decoded and answers encoded.

mod apply;
mod cancel;
mod change;
pub(super) mod delete;
mod export;
mod follow;
mod list;
mod logs;
mod scan;
mod submit;
mod times;
mod watch;

use std::pin::Pin;

use futures_core::Stream;
use tonic::{Request, Response, Status};
use tq_core::limits::{LIST_PAGE_MAX, WATCH_IDS_MAX};
use tq_core::{TaskId, Timestamp};
use tq_proto::v1;
use tq_proto::v1::task_service_server::TaskService;
use tracing::Instrument;

use self::logs::Place;
use super::blocking::blocking;
use super::reads::{Reads, Shows, no_task};
use super::request::bounded;
use super::{Context, convert};
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::ledger::{Command, Doomed, Submit, wall};
use crate::search::Asked;

pub(super) struct Tasks(pub(super) Context);

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl TaskService for Tasks {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::SubmitRequest { namespace, tasks } = request.into_inner();
        let shared = self.0.ledger.shared();
        let let_in = async {
            let namespace = caller.namespace(namespace)?;
            // Before all else, so that what is refused for this costs as little as may be.
            let permit = shared.admission.enter(submit::weight(&tasks), wall());
            let permit = permit.map_err(ApiError::from)?;
            let checked = self.checked(&namespace, tasks).await?;
            Ok::<_, Status>((namespace, permit, checked))
        };
        // What comes as far as the ledger is counted there.
        let let_in = let_in.await.inspect_err(|_| {
            shared.metrics.refused.inc();
        });
        let (namespace, permit, (submissions, holds, span)) = let_in?;
        let submit = self.0.ledger.ask(|reply| {
            Command::Submit(Submit {
                namespace,
                tasks: submissions,
                permit: Some(permit),
                reply,
            })
            .holding(holds)
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
        let caller = Caller::of(&request)?;
        let v1::GetTaskRequest {
            namespace,
            id,
            include_result,
            include_payload,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
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
        let caller = Caller::of(&request)?;
        let v1::ListTasksRequest {
            namespace,
            state,
            limit,
            cursor,
            filter,
            preset,
            sort,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let state = convert::state_in(state)?;
        let limit = bounded("limit", limit, 100, LIST_PAGE_MAX)?;
        let asked = Asked {
            filter: &filter,
            preset: &preset,
            sort: &sort,
            action: 0,
        };
        let page = self.list(&namespace, state, asked, &cursor, limit).await?;
        Ok(Response::new(page))
    }

    async fn cancel_task(
        &self,
        request: Request<v1::CancelTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let caller = Caller::of(&request)?;
        let v1::CancelTaskRequest { namespace, id } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        self.change(&caller, namespace, &id, Command::Cancel).await
    }

    async fn cancel_tasks(
        &self,
        request: Request<v1::CancelTasksRequest>,
    ) -> Result<Response<v1::CancelTasksResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.cancel_matching(&caller, request.into_inner()).await
    }

    async fn update_task(
        &self,
        request: Request<v1::UpdateTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let caller = Caller::of(&request)?;
        self.amend(&caller, request.into_inner()).await
    }

    async fn redrive_task(
        &self,
        request: Request<v1::RedriveTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let caller = Caller::of(&request)?;
        let v1::RedriveTaskRequest { namespace, id } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        self.change(&caller, namespace, &id, Command::Redrive).await
    }

    async fn delete_task(
        &self,
        request: Request<v1::DeleteTaskRequest>,
    ) -> Result<Response<v1::DeleteTaskResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteTaskRequest { namespace, id } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("task", &id);
        let id = convert::task_id(&id)?;
        self.delete(namespace, Doomed::One(id)).await?;
        Ok(Response::new(v1::DeleteTaskResponse {}))
    }

    async fn delete_tasks(
        &self,
        request: Request<v1::DeleteTasksRequest>,
    ) -> Result<Response<v1::DeleteTasksResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.delete_matching(&caller, request.into_inner()).await
    }

    async fn apply_to_tasks(
        &self,
        request: Request<v1::ApplyToTasksRequest>,
    ) -> Result<Response<v1::ApplyToTasksResponse>, Status> {
        let caller = Caller::of(&request)?;
        let applied = self.apply(&caller, request.into_inner()).await?;
        Ok(Response::new(applied))
    }

    type ExportTasksStream = Outgoing<v1::ExportTasksResponse>;

    async fn export_tasks(
        &self,
        request: Request<v1::ExportTasksRequest>,
    ) -> Result<Response<Self::ExportTasksStream>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ExportTasksRequest {
            namespace,
            filter,
            preset,
            sort,
            format,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let asked = Asked {
            filter: &filter,
            preset: &preset,
            sort: &sort,
            action: 0,
        };
        Ok(Response::new(self.export(namespace, &asked, format)?))
    }

    type WatchTasksStream = Outgoing<v1::WatchTasksResponse>;

    async fn watch_tasks(
        &self,
        request: Request<v1::WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let caller = Caller::of(&request)?;
        let v1::WatchTasksRequest {
            namespace,
            ids,
            after_seq,
            include_result,
            view,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
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
        let shows = Shows {
            view,
            include_result,
        };
        let ends = watch::ends(self.0.clone(), namespace, ids, after_seq, shows);
        Ok(Response::new(ends))
    }

    type GetTaskLogsStream = Outgoing<v1::LogChunk>;

    async fn get_task_logs(
        &self,
        request: Request<v1::GetTaskLogsRequest>,
    ) -> Result<Response<Self::GetTaskLogsStream>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetTaskLogsRequest { namespace, id } = request.into_inner();
        let (namespace, id) = self.found(&caller, namespace, &id).await?;
        Ok(Response::new(follow::log(self.0.clone(), namespace, id)))
    }

    type FollowTaskStream = Outgoing<v1::FollowTaskResponse>;

    async fn follow_task(
        &self,
        request: Request<v1::FollowTaskRequest>,
    ) -> Result<Response<Self::FollowTaskStream>, Status> {
        let caller = Caller::of(&request)?;
        let v1::FollowTaskRequest {
            namespace,
            id,
            include_log,
            log_cursor,
        } = request.into_inner();
        let place = Place::from_cursor(&log_cursor)?;
        let (namespace, id) = self.found(&caller, namespace, &id).await?;
        let updates = follow::updates(self.0.clone(), namespace, id, include_log.then_some(place));
        Ok(Response::new(updates))
    }
}

impl Tasks {
    /// The time that searches are about.
    fn now(&self) -> Timestamp {
        self.0.ledger.shared().now()
    }

    fn reads(&self, namespace: &str) -> Reads {
        Reads::new(&self.0, namespace)
    }

    /// The task of a request, which is there.
    async fn found(
        &self,
        caller: &Caller,
        namespace: String,
        id: &str,
    ) -> Result<(String, TaskId), Status> {
        let namespace = caller.namespace(namespace)?;
        let id = convert::task_id(id)?;
        let reads = self.reads(&namespace);
        let found = blocking(move || reads.find(id)).await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        match found {
            Some(_) => Ok((namespace, id)),
            None => Err(no_task(namespace, id)),
        }
    }
}
