//! Reads of one namespace, for those services that look at tasks.

use std::sync::Arc;

use bytes::Bytes;
use tonic::Status;
use tq_core::task::{DataRef, Task};
use tq_core::{TaskId, Timestamp};
use tq_proto::v1;

use super::{Context, convert};
use crate::api::status::ApiError;
use crate::blobs::Blobs;
use crate::ledger::{Refused, Shared, lock, read};
use crate::store::Read;
use crate::tables::row::Record;
use crate::tables::{Namespace, key, row};

/// Reads of one namespace. They may block on the disk.
pub(super) struct Reads {
    pub(super) store: Arc<dyn Read>,
    blobs: Blobs,
    pub(super) shared: Arc<Shared>,
    /// None if the namespace was never used: it has nothing.
    pub(super) namespace: Option<Namespace>,
}

/// What is shown of each task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shows {
    pub(super) view: v1::TaskView,
    pub(super) include_result: bool,
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
        let lacks_result = include_result && has_result && shown.result.is_none();
        let lacks_payload = include_payload && shown.payload.is_none();
        if lacks_result || lacks_payload {
            // It was deleted while it was read, or its result was.
            let Some(found) = self.find(id)? else {
                return Ok(None);
            };
            shown.result_expired_ms = found.beside.result_gone.map_or(0, |at| at.0);
            if lacks_payload
                || found.beside.result_gone.is_none() && found.task.result == task.result
            {
                return Err(lost(id));
            }
        }
        shown.progress = self.progress(id);
        Ok(Some(shown))
    }

    /// How far a task that runs says it is.
    pub(super) fn progress(&self, id: TaskId) -> Option<v1::Progress> {
        let progress = lock(&self.shared.progress).get(&id).cloned();
        progress.map(|(fraction, note)| v1::Progress { fraction, note })
    }

    pub(super) fn shown(
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
            DataRef::Blob { digest, .. } => self.blobs.get(digest)?.map(Bytes::from),
        })
    }
}

/// A row names what is not there.
fn lost(id: TaskId) -> ApiError {
    let text = format!("data of task {id} is missing on the broker's disk");
    Status::data_loss(text).into()
}

pub(super) fn no_task(namespace: String, id: TaskId) -> Status {
    ApiError::from(Refused::NoTask { namespace, id }).into()
}
