//! Waiting for tasks to end.

use std::collections::HashSet;
use std::time::Duration;

use tonic::Streaming;
use tq_core::limits::WATCH_IDS_MAX;
use tq_proto::v1::{Task, TaskView, WatchTasksRequest, WatchTasksResponse};

use crate::patience::Patience;
use crate::{Client, Error};

/// How long a broker may take to close a stream that has told all it was asked for.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What to watch.
#[derive(Clone, Debug)]
pub enum Watch {
    /// These tasks, each until it has ended. Those that have ended already come first.
    Ids(Vec<String>),
    /// Every task of the namespace that ends after this sequence, as [`Watching::seq`] of an earlier watch gave it; `None` is
    /// from now on.
    All {
        /// The sequence.
        after_seq: Option<u64>,
    },
}

impl Client {
    /// Watches tasks end. When the connection is lost or the broker restarts, the watch goes on where it was: no end is
    /// missed, and none comes twice. It gives up when the broker was away for a minute.
    ///
    /// Nothing is sent before [`Watching::next`] is called.
    #[must_use]
    pub fn watch(&self, watch: Watch, include_result: bool) -> Watching {
        self.watching(watch, TaskView::Unspecified, include_result)
    }

    /// As [`Client::watch`], but of each task there is only what names it and how it ended: its id, state, outcome, time
    /// and the size of its result; the result itself if it is asked for. That costs a fraction of the whole.
    #[must_use]
    pub fn watch_ends(&self, watch: Watch, include_result: bool) -> Watching {
        self.watching(watch, TaskView::End, include_result)
    }

    fn watching(&self, watch: Watch, view: TaskView, include_result: bool) -> Watching {
        let (ids, seq) = match watch {
            Watch::Ids(ids) => (Some(ids.into_iter().collect()), None),
            Watch::All { after_seq } => (None, after_seq),
        };
        Watching {
            client: self.clone(),
            view,
            include_result,
            open: ids,
            asked: HashSet::new(),
            seq,
            ahead: HashSet::new(),
            stream: None,
        }
    }
}

/// A watch that is going on.
#[derive(Debug)]
pub struct Watching {
    client: Client,
    view: TaskView,
    include_result: bool,
    /// Tasks that have not ended as far as is known; `None` watches all.
    open: Option<HashSet<String>>,
    /// Those of `open` that the stream was opened for: at most [`WATCH_IDS_MAX`].
    asked: HashSet<String>,
    seq: Option<u64>,
    /// Ends that were returned since `seq` has risen, each with its time: they come again after a connection that is lost now.
    ahead: HashSet<(String, u64)>,
    stream: Option<Streaming<WatchTasksResponse>>,
}

impl Watching {
    /// Waits for the next tasks to end. `None` when all that were named have ended; never when all are watched.
    ///
    /// The list may be empty. The first answer of a watch over all tasks is: from then on, no end is missed.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a named task is not there, [`Error::Unreachable`] if the broker was away for a minute.
    ///
    /// # Cancel safety
    /// Dropped before it returns, it loses nothing.
    pub async fn next(&mut self) -> Result<Option<Vec<Task>>, Error> {
        let mut patience = Patience::new();
        loop {
            self.read_to_end().await;
            if self.open.as_ref().is_some_and(HashSet::is_empty) {
                return Ok(None);
            }
            match self.step().await {
                Ok(Some(ended)) => return Ok(Some(ended)),
                // The stream was open until now.
                Ok(None) => patience.renew().await,
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// The durable sequence up to which every end was returned; `None` before the first answer.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// One message of the stream, which is opened if it is not. `Ok(None)` if a stream that was open is so no longer.
    async fn step(&mut self) -> Result<Option<Vec<Task>>, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = self.open().await?;
                self.stream.insert(stream)
            }
        };
        let message = stream.message().await;
        let message = message.map_err(|status| self.client.refusal(&status));
        let (mut ended, seq) = match message {
            Ok(Some(WatchTasksResponse { ended, seq })) => (ended, seq),
            Err(error) if !error.is_retryable() => {
                self.stream = None;
                return Err(error);
            }
            // The broker closed the stream, or the connection was lost.
            Ok(None) | Err(_) => {
                self.stream = None;
                return Ok(None);
            }
        };
        let has_risen = self.seq.replace(seq) != Some(seq);
        if self.open.is_none() {
            let end = |task: &Task| (task.id.clone(), task.ended_ms);
            if !self.ahead.is_empty() {
                ended.retain(|task| !self.ahead.contains(&end(task)));
            }
            match has_risen {
                true => self.ahead.clear(),
                false => self.ahead.extend(ended.iter().map(end)),
            }
        }
        if let Some(open) = &mut self.open {
            // Only what was still open: an end that came just before the connection was lost comes again after it.
            ended.retain(|task| open.remove(&task.id));
            for task in &ended {
                self.asked.remove(&task.id);
            }
        }
        Ok(Some(ended))
    }

    /// Lets the broker close a stream that has told all it was asked for. To drop it before that resets it, and HTTP/2
    /// gives up a connection on which too many streams were reset, with all that is under way on it.
    async fn read_to_end(&mut self) {
        if self.open.is_none() || !self.asked.is_empty() {
            return;
        }
        if let Some(stream) = &mut self.stream {
            let closed = async { while let Ok(Some(_)) = stream.message().await {} };
            // One that is not closed in time is reset after all.
            tokio::time::timeout(LAST_WORDS, closed).await.ok();
            self.stream = None;
        }
    }

    async fn open(&mut self) -> Result<Streaming<WatchTasksResponse>, Error> {
        let ids: Vec<String> = match &self.open {
            Some(open) => open.iter().take(WATCH_IDS_MAX).cloned().collect(),
            None => Vec::new(),
        };
        let request = WatchTasksRequest {
            namespace: self.client.namespace().to_owned(),
            ids: ids.clone(),
            after_seq: if ids.is_empty() { self.seq } else { None },
            include_result: self.include_result,
            view: self.view.into(),
        };
        let answer = self.client.tasks().watch_tasks(request).await;
        let stream = answer.map_err(|status| self.client.refusal(&status))?;
        self.asked = ids.into_iter().collect();
        Ok(stream.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use futures_util::{Stream, StreamExt as _, stream};
    use tokio::sync::oneshot;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response, Status};
    use tq_proto::v1::task_service_server::{TaskService, TaskServiceServer};
    use tq_proto::v1::{
        CancelTaskRequest, CancelTasksRequest, CancelTasksResponse, DeleteTaskRequest,
        DeleteTaskResponse, DeleteTasksRequest, DeleteTasksResponse, FollowTaskRequest,
        FollowTaskResponse, GetTaskLogsRequest, GetTaskRequest, ListTasksRequest,
        ListTasksResponse, LogChunk, RedriveTaskRequest, SubmitRequest, SubmitResponse,
    };

    use super::*;

    type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

    /// What one watch says before it breaks off.
    type Script = Vec<Result<WatchTasksResponse, Status>>;

    /// A broker whose watches each say what the next script says, and then break off. Keeps the requests.
    #[derive(Clone, Default)]
    struct Scripted {
        scripts: Arc<Mutex<Vec<Script>>>,
        requests: Arc<Mutex<Vec<WatchTasksRequest>>>,
        /// What a watch waits for when it has said everything.
        gate: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
        /// A watch got past the gate before its stream was dropped.
        was_read_to_end: Arc<AtomicBool>,
    }

    #[tonic::async_trait]
    impl TaskService for Scripted {
        type WatchTasksStream = Answers<WatchTasksResponse>;
        type GetTaskLogsStream = Answers<LogChunk>;
        type FollowTaskStream = Answers<FollowTaskResponse>;
        type ExportTasksStream = Answers<tq_proto::v1::ExportTasksResponse>;

        async fn watch_tasks(
            &self,
            request: Request<WatchTasksRequest>,
        ) -> Result<Response<Self::WatchTasksStream>, Status> {
            let mut request = request.into_inner();
            request.ids.sort();
            self.requests
                .lock()
                .expect("no test panics with it")
                .push(request);
            let script = self
                .scripts
                .lock()
                .expect("no test panics with it")
                .remove(0);
            let gate = self.gate.lock().expect("no test panics with it").take();
            let was_read_to_end = Arc::clone(&self.was_read_to_end);
            let tail = stream::once(async move {
                if let Some(gate) = gate {
                    gate.await.ok();
                    was_read_to_end.store(true, Ordering::SeqCst);
                }
            });
            let tail = tail.filter_map(|()| std::future::ready(None));
            Ok(Response::new(Box::pin(stream::iter(script).chain(tail))))
        }
        async fn submit(
            &self,
            _: Request<SubmitRequest>,
        ) -> Result<Response<SubmitResponse>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn get_task(&self, _: Request<GetTaskRequest>) -> Result<Response<Task>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn list_tasks(
            &self,
            _: Request<ListTasksRequest>,
        ) -> Result<Response<ListTasksResponse>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn cancel_task(
            &self,
            _: Request<CancelTaskRequest>,
        ) -> Result<Response<Task>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn cancel_tasks(
            &self,
            _: Request<CancelTasksRequest>,
        ) -> Result<Response<CancelTasksResponse>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn update_task(
            &self,
            _: Request<tq_proto::v1::UpdateTaskRequest>,
        ) -> Result<Response<Task>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn redrive_task(
            &self,
            _: Request<RedriveTaskRequest>,
        ) -> Result<Response<Task>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn delete_task(
            &self,
            _: Request<DeleteTaskRequest>,
        ) -> Result<Response<DeleteTaskResponse>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn delete_tasks(
            &self,
            _: Request<DeleteTasksRequest>,
        ) -> Result<Response<DeleteTasksResponse>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn get_task_logs(
            &self,
            _: Request<GetTaskLogsRequest>,
        ) -> Result<Response<Self::GetTaskLogsStream>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn apply_to_tasks(
            &self,
            _: Request<tq_proto::v1::ApplyToTasksRequest>,
        ) -> Result<Response<tq_proto::v1::ApplyToTasksResponse>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn export_tasks(
            &self,
            _: Request<tq_proto::v1::ExportTasksRequest>,
        ) -> Result<Response<Self::ExportTasksStream>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
        async fn follow_task(
            &self,
            _: Request<FollowTaskRequest>,
        ) -> Result<Response<Self::FollowTaskStream>, Status> {
            Err(Status::unimplemented("not scripted"))
        }
    }

    fn answer(ids: &[&str], seq: u64) -> Result<WatchTasksResponse, Status> {
        let ended = ids
            .iter()
            .map(|id| Task {
                id: (*id).to_owned(),
                ..Task::default()
            })
            .collect();
        Ok(WatchTasksResponse { ended, seq })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the broker lives as long as the run time of its test"
    )]
    /// A client of a broker that follows `scripts`, one for each watch, and that broker.
    async fn scripted(scripts: Vec<Script>) -> (Client, Scripted) {
        let broker = Scripted::default();
        *broker.scripts.lock().expect("no test panics with it") = scripts;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback can be bound");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let server = tonic::transport::Server::builder()
            .add_service(TaskServiceServer::new(broker.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let client = Client::connect(&address.to_string())
            .await
            .expect("the broker listens");
        (client, broker)
    }

    async fn all(watching: &mut Watching) -> Vec<String> {
        let mut ids = Vec::new();
        while let Some(ended) = watching.next().await.expect("the script has no refusal") {
            ids.extend(ended.into_iter().map(|task| task.id));
        }
        ids
    }

    #[tokio::test]
    async fn watch_of_ids_asks_again_for_those_still_open_and_returns_none_twice() {
        let (client, broker) = scripted(vec![
            vec![
                answer(&[], 1),
                answer(&["a"], 2),
                Err(Status::unavailable("restarting")),
            ],
            vec![answer(&["a", "b"], 3)],
            vec![answer(&["c"], 4)],
        ])
        .await;
        let mut watching =
            client.watch(Watch::Ids(["a", "b", "c"].map(String::from).into()), false);
        assert_eq!(all(&mut watching).await, ["a", "b", "c"]);
        let asked: Vec<_> = broker
            .requests
            .lock()
            .expect("no test panics with it")
            .iter()
            .map(|r| r.ids.clone())
            .collect();
        assert_eq!(asked, [vec!["a", "b", "c"], vec!["b", "c"], vec!["c"]]);
    }

    #[tokio::test]
    async fn watch_of_all_goes_on_after_the_last_sequence() {
        let (client, broker) = scripted(vec![
            vec![answer(&[], 7), answer(&["a"], 9)],
            vec![answer(&["b"], 12)],
        ])
        .await;
        let mut watching = client.watch(Watch::All { after_seq: None }, false);
        for expected in [vec![], vec!["a"], vec!["b"]] {
            let ended = watching
                .next()
                .await
                .expect("the script has no refusal")
                .expect("it never ends");
            assert_eq!(
                ended.into_iter().map(|task| task.id).collect::<Vec<_>>(),
                expected
            );
        }
        let after: Vec<_> = broker
            .requests
            .lock()
            .expect("no test panics with it")
            .iter()
            .map(|r| r.after_seq)
            .collect();
        assert_eq!(after, [None, Some(9)]);
        assert_eq!(watching.seq(), Some(12));
    }

    #[tokio::test]
    async fn ends_that_a_broken_stream_told_without_their_sequence_come_once() {
        let (client, broker) = scripted(vec![
            vec![answer(&[], 7), answer(&["a", "b"], 7), answer(&["c"], 7)],
            vec![answer(&[], 7), answer(&["a", "b", "c", "d"], 7)],
            vec![
                answer(&[], 7),
                answer(&["a", "b"], 7),
                answer(&["c", "d", "e"], 9),
            ],
            vec![answer(&["a"], 12)],
        ])
        .await;
        let mut watching = client.watch(Watch::All { after_seq: None }, false);
        let mut told = Vec::new();
        while watching.seq() != Some(12) {
            let ended = watching.next().await.expect("the script has no refusal");
            told.extend(
                ended
                    .expect("it never ends")
                    .into_iter()
                    .map(|task| task.id),
            );
        }
        // `a` has ended again after the others.
        assert_eq!(told, ["a", "b", "c", "d", "e", "a"]);
        let requests = broker.requests.lock().expect("no test panics with it");
        let after: Vec<_> = requests.iter().map(|request| request.after_seq).collect();
        assert_eq!(after, [None, Some(7), Some(7), Some(9)]);
    }

    #[tokio::test]
    async fn stream_that_has_told_everything_is_read_to_its_end() {
        let (client, broker) = scripted(vec![vec![answer(&["a"], 1)]]).await;
        let (open, gate) = oneshot::channel();
        *broker.gate.lock().expect("no test panics with it") = Some(gate);
        let mut watching = client.watch(Watch::Ids(vec!["a".into()]), false);
        let ended = watching.next().await.expect("the script has no refusal");
        assert_eq!(ended.map(|ended| ended.len()), Some(1));
        open.send(()).expect("the watch waits at the gate");
        let last = watching.next().await.expect("the script has no refusal");
        assert_eq!(last, None);
        assert!(broker.was_read_to_end.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn refusal_inside_the_stream_ends_the_watch() {
        let (client, _broker) = scripted(vec![vec![Err(Status::not_found("no task `a`"))]]).await;
        let refused = client
            .watch(Watch::Ids(vec!["a".into()]), false)
            .next()
            .await;
        assert!(
            matches!(refused, Err(Error::NotFound { .. })),
            "{refused:?}"
        );
    }
}
