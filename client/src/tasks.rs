//! Calls about tasks.

use std::collections::{BTreeMap, VecDeque};

use futures_util::stream::{self, Stream, StreamExt as _};
use tq_core::limits::{MESSAGE_BYTES_MAX, SUBMIT_BATCH_MAX};
use tq_proto::v1::{
    CancelTaskRequest, CancelTasksRequest, CancelTasksResponse, DeleteTaskRequest,
    DeleteTasksRequest, DeleteTasksResponse, GetTaskLogsRequest, GetTaskRequest, Labels,
    ListTasksResponse, LogChunk, NewTask, RedriveTaskRequest, SubmitRequest, Submitted, Task,
    TaskState, UpdateTaskRequest,
};

use crate::patience::Patience;
use crate::{Client, Error, TaskSearch, Watch};

/// Payload bytes of one request, so that a message stays well under its limit whatever else the tasks carry.
const BATCH_PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;

/// What of a task is to be another. What is none stays.
#[derive(Clone, Debug, Default)]
pub struct TaskUpdate {
    /// How urgent it is.
    pub priority: Option<u8>,
    /// Not before this time, in milliseconds since the Unix epoch.
    pub run_at_ms: Option<u64>,
    /// Not before so long from now. Not together with `run_at_ms`.
    pub delay_ms: Option<u64>,
    /// When it expires, in milliseconds since the Unix epoch; 0 takes the deadline away.
    pub deadline_ms: Option<u64>,
    /// Labels that its host has to have, instead of all that it asks for.
    pub required_labels: Option<BTreeMap<String, String>>,
    /// Labels of hosts that are taken first, likewise.
    pub preferred_labels: Option<BTreeMap<String, String>>,
}

impl Client {
    /// Submits at most 1,000 tasks, all of them or none, and returns their ids in the same order. They are on disk when this
    /// returns.
    ///
    /// If the connection is lost, the tasks may have been submitted or not. Only when *every* task has an idempotency key
    /// does this try again, for up to a minute: then a second submit finds the tasks of the first. Without keys it returns
    /// [`Error::Unreachable`] at once, because trying again could make the tasks twice. [`Error::Overloaded`] says when to try
    /// again, which is the caller's to do.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown function, [`Error::Refused`] for what a task may not have, [`Error::Overloaded`],
    /// [`Error::Unreachable`].
    pub async fn submit(&self, tasks: Vec<NewTask>) -> Result<Vec<Submitted>, Error> {
        self.send(tasks, false).await
    }

    async fn send(
        &self,
        tasks: Vec<NewTask>,
        waits_for_room: bool,
    ) -> Result<Vec<Submitted>, Error> {
        let is_repeatable = tasks.iter().all(|task| !task.idempotency_key.is_empty());
        let count = tasks.len();
        let mut request = SubmitRequest {
            namespace: self.namespace.to_string(),
            tasks,
        };
        let mut patience = Patience::new();
        loop {
            let this_time = match is_repeatable || waits_for_room {
                true => request.clone(),
                // There is no second time.
                false => std::mem::take(&mut request),
            };
            let answer = self.tasks().submit(this_time).await;
            match answer.map_err(|status| self.refusal(&status)) {
                Ok(answer) => {
                    let submitted = answer.into_inner().tasks;
                    if submitted.len() != count {
                        return Err(self.lacking("id for every task"));
                    }
                    return Ok(submitted);
                }
                Err(error) => match error {
                    // Nothing was submitted: it cannot come twice.
                    Error::Overloaded { .. } if waits_for_room => patience.after(error).await?,
                    Error::Overloaded { .. } => return Err(error),
                    _ if is_repeatable => patience.after(error).await?,
                    _ => return Err(error),
                },
            }
        }
    }

    /// Submits any number of tasks in as many requests as that takes, one after the other, and hands the ids of each
    /// request to `submitted` as they come. Each request is all or none; what was handed over stays submitted if a later
    /// one fails. While the broker is overloaded, or the namespace's rate is used up, each is tried again when
    /// that says that there may be room, for up to a minute; what may take longer, such as the next day's budget, is not waited
    /// for.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub async fn submit_many(
        &self,
        tasks: impl IntoIterator<Item = NewTask>,
        mut submitted: impl FnMut(Vec<Submitted>),
    ) -> Result<(), Error> {
        for batch in Batches(tasks.into_iter().peekable()) {
            submitted(self.send(batch, true).await?);
        }
        Ok(())
    }

    /// Submits one task and waits until it has ended, however it did: [`Client::submit`] and [`Client::wait`].
    ///
    /// # Errors
    /// Theirs.
    pub async fn run(&self, task: NewTask) -> Result<Task, Error> {
        let submitted = self.submit(vec![task]).await?;
        let submitted = submitted.first().ok_or_else(|| self.lacking("id"))?;
        self.wait(&submitted.id).await
    }

    /// Waits until a task has ended, however it did, and returns it with its result. Goes on when the connection is lost or the
    /// broker restarts, as [`Client::watch`] does.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`] if the broker was away for a minute.
    pub async fn wait(&self, id: &str) -> Result<Task, Error> {
        let mut watch = self.watch(Watch::Ids(vec![id.to_owned()]), true);
        let mut found = None;
        // To its end, which is when the stream is closed on both sides.
        while let Some(ended) = watch.next().await? {
            found = ended.into_iter().next().or(found);
        }
        found.ok_or_else(|| self.lacking("end of the task"))
    }

    /// One task; its result and payload only when asked for.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn task(
        &self,
        id: &str,
        include_result: bool,
        include_payload: bool,
    ) -> Result<Task, Error> {
        let request = GetTaskRequest {
            namespace: self.namespace.to_string(),
            id: id.to_owned(),
            include_result,
            include_payload,
        };
        let answer = self.tasks().get_task(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// One page of tasks, or of those in `state`, the newest first, without results. `limit` is at most 1,000; `cursor` is the `next` of the page
    /// before, or empty. A page may have fewer tasks than asked for, or none, and yet a next one.
    ///
    /// # Errors
    /// [`Error::Refused`] for a cursor that is none, [`Error::Unreachable`].
    pub async fn task_page(
        &self,
        state: Option<TaskState>,
        limit: u32,
        cursor: &str,
    ) -> Result<ListTasksResponse, Error> {
        let search = TaskSearch {
            state,
            ..TaskSearch::default()
        };
        self.search_page(&search, limit, cursor).await
    }

    /// All tasks, or those in `state`, the newest first, without results. Fetches a page when the one before was read.
    pub fn list_tasks(
        &self,
        state: Option<TaskState>,
    ) -> impl Stream<Item = Result<Task, Error>> + use<> {
        struct Position {
            client: Client,
            page: VecDeque<Task>,
            /// `None` when there is no further page.
            cursor: Option<String>,
        }
        let start = Position {
            client: self.clone(),
            page: VecDeque::new(),
            cursor: Some(String::new()),
        };
        stream::try_unfold(start, move |mut at| async move {
            loop {
                if let Some(task) = at.page.pop_front() {
                    return Ok(Some((task, at)));
                }
                let Some(cursor) = at.cursor.take() else {
                    return Ok(None);
                };
                let ListTasksResponse { tasks, next } =
                    at.client.task_page(state, 0, &cursor).await?;
                at.page = tasks.into();
                at.cursor = (!next.is_empty()).then_some(next);
            }
        })
    }

    /// Cancels a task: one that waits has ended when this returns, one that runs was told to stop.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] if it has ended otherwise, [`Error::Unreachable`].
    pub async fn cancel_task(&self, id: &str) -> Result<Task, Error> {
        let request = CancelTaskRequest {
            namespace: self.namespace.to_string(),
            id: id.to_owned(),
        };
        let answer = self.tasks().cancel_task(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Changes what was asked for of a task that has not ended. It is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] if it ended, or for a new time to start at while it runs;
    /// [`Error::Unreachable`].
    pub async fn update_task(&self, id: &str, update: TaskUpdate) -> Result<Task, Error> {
        let TaskUpdate {
            priority,
            run_at_ms,
            delay_ms,
            deadline_ms,
            required_labels,
            preferred_labels,
        } = update;
        let request = UpdateTaskRequest {
            namespace: self.namespace.to_string(),
            id: id.to_owned(),
            priority: priority.map(u32::from),
            run_at_ms,
            delay_ms,
            deadline_ms,
            required_labels: required_labels.map(|labels| Labels { labels }),
            preferred_labels: preferred_labels.map(|labels| Labels { labels }),
        };
        let answer = self.tasks().update_task(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Gives a task that ended without success another round of attempts.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] if it has not ended or has succeeded, [`Error::Unreachable`].
    pub async fn redrive_task(&self, id: &str) -> Result<Task, Error> {
        let request = RedriveTaskRequest {
            namespace: self.namespace.to_string(),
            id: id.to_owned(),
        };
        let answer = self.tasks().redrive_task(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Removes a task that has ended, with its payload, result and logs. It is off the disk when this returns, and its
    /// idempotency key can be used again.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] if it has not ended, [`Error::Unreachable`].
    pub async fn delete_task(&self, id: &str) -> Result<(), Error> {
        let request = DeleteTaskRequest {
            namespace: self.namespace.to_string(),
            id: id.to_owned(),
        };
        let answer = self.tasks().delete_task(request).await;
        answer.map_err(|status| self.refusal(&status))?;
        Ok(())
    }

    /// Removes ended tasks that match, or counts them if `dry_run` says so: a bounded number of them, the newest first.
    /// `cursor` is the `next` of the answer before, or empty; there is more to look at as long as `next` is not empty.
    ///
    /// # Errors
    /// [`Error::Refused`] for a state that is no end, and a cursor that is none, [`Error::Unreachable`].
    pub async fn delete_tasks(
        &self,
        which: &Which,
        dry_run: bool,
        cursor: &str,
    ) -> Result<DeleteTasksResponse, Error> {
        let Which {
            state,
            function,
            ended_before_ms,
        } = which;
        let request = DeleteTasksRequest {
            namespace: self.namespace.to_string(),
            state: state.unwrap_or_default().into(),
            function: function.clone().unwrap_or_default(),
            ended_before_ms: *ended_before_ms,
            dry_run,
            cursor: cursor.to_owned(),
        };
        let answer = self.tasks().delete_tasks(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Cancels tasks that have not ended and match, as many as one request may; or, in a dry run, counts them. An answer with a
    /// `next` is to be followed by another call, with that as its cursor.
    ///
    /// # Errors
    /// [`Error::Refused`] for a state that is an end, [`Error::Unreachable`].
    pub async fn cancel_tasks(
        &self,
        which: &WhichLive,
        dry_run: bool,
        cursor: &str,
    ) -> Result<CancelTasksResponse, Error> {
        let WhichLive {
            state,
            function,
            queue,
            submitted_before_ms,
        } = which;
        let request = CancelTasksRequest {
            namespace: self.namespace.to_string(),
            state: state.unwrap_or_default().into(),
            function: function.clone().unwrap_or_default(),
            queue: queue.clone().unwrap_or_default(),
            submitted_before_ms: *submitted_before_ms,
            dry_run,
            cursor: cursor.to_owned(),
        };
        let answer = self.tasks().cancel_tasks(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// What the attempts of a task have logged so far, oldest first. Logs are kept as well as may be, and promised to nobody.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`]; later ones come in the stream.
    pub async fn task_logs(
        &self,
        id: &str,
    ) -> Result<impl Stream<Item = Result<LogChunk, Error>> + use<>, Error> {
        let request = GetTaskLogsRequest {
            namespace: self.namespace.to_string(),
            id: id.to_owned(),
        };
        let answer = self.tasks().get_task_logs(request).await;
        let chunks = answer.map_err(|status| self.refusal(&status))?.into_inner();
        let client = self.clone();
        Ok(chunks.map(move |chunk| chunk.map_err(|status| client.refusal(&status))))
    }
}

/// Which ended tasks are meant: those to which all of this applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// How they ended; in whatever way if it is none.
    pub state: Option<TaskState>,
    /// `MODULE` or `MODULE/FUNCTION`; every one if it is none.
    pub function: Option<String>,
    /// They ended before this time, in milliseconds since the Unix epoch.
    pub ended_before_ms: Option<u64>,
}

/// Which tasks are meant that have not ended: those to which all of this applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhichLive {
    /// The state that they are in; every one if it is none.
    pub state: Option<TaskState>,
    /// `MODULE` or `MODULE/FUNCTION`; every one if it is none.
    pub function: Option<String>,
    /// Where they wait; every queue if it is none.
    pub queue: Option<String>,
    /// They were submitted before this time, in milliseconds since the Unix epoch.
    pub submitted_before_ms: Option<u64>,
}

/// Cuts tasks into requests: at most 1,000 each, and no more payload than a message may carry.
struct Batches<I: Iterator<Item = NewTask>>(std::iter::Peekable<I>);

impl<I: Iterator<Item = NewTask>> Iterator for Batches<I> {
    type Item = Vec<NewTask>;

    fn next(&mut self) -> Option<Vec<NewTask>> {
        let mut batch = vec![self.0.next()?];
        let mut payload_bytes = batch.iter().map(|task| task.payload.len()).sum::<usize>();
        while batch.len() < SUBMIT_BATCH_MAX
            && let Some(task) = self
                .0
                .next_if(|task| payload_bytes + task.payload.len() <= BATCH_PAYLOAD_BYTES_MAX)
        {
            payload_bytes += task.payload.len();
            batch.push(task);
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(payload_bytes: &[usize], expected: &[usize]) {
        let tasks = payload_bytes.iter().map(|len| NewTask {
            payload: vec![0; *len].into(),
            ..NewTask::default()
        });
        let sizes: Vec<usize> = Batches(tasks.peekable()).map(|batch| batch.len()).collect();
        assert_eq!(sizes, expected);
    }

    #[test]
    fn batches_are_bounded_in_tasks_and_in_bytes() {
        check(&[], &[]);
        check(&[1; 2_500], &[1_000, 1_000, 500]);
        check(&[BATCH_PAYLOAD_BYTES_MAX, 0, 1], &[2, 1]);
        let over = BATCH_PAYLOAD_BYTES_MAX + 1;
        check(&[over, over, 1], &[1, 1, 1]);
    }
}
