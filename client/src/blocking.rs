//! The same client for programs that are not asynchronous: every call of [`crate::Client`], which returns when it is done.
//!
//! ```no_run
//! use tq_client::NewTask;
//! use tq_client::blocking::Client;
//!
//! # fn example() -> Result<(), tq_client::Error> {
//! let client = Client::connect("http://127.0.0.1:7171")?;
//! let task = NewTask { function: "greet".into(), payload: "\"Ada\"".into(), ..NewTask::default() };
//! let ended = client.run(task)?;
//! println!("{} {}", ended.id, ended.outcome);
//! # Ok(())
//! # }
//! ```
//!
//! A client has a thread of its own, which looks after the connection, until the last of its clones is dropped.
//!
//! # In asynchronous code
//! It works there, and does not panic; but it blocks the thread that calls it, and with that whatever else was to run there. Use
//! [`crate::Client`] instead.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::*;

/// A connection to one broker, for one namespace. Cheap to clone; the clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    client: crate::Client,
    engine: Engine,
}

impl Client {
    /// Connects to the broker at `url`.
    ///
    /// # Errors
    /// Those of [`crate::Client::connect`], and [`Error::Thread`].
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_to(url.into())
    }

    /// Connects to a broker.
    ///
    /// # Errors
    /// Those of [`crate::Client::connect_to`], and [`Error::Thread`].
    pub fn connect_to(remote: Remote) -> Result<Self, Error> {
        let engine = Engine::start().map_err(|source| Error::Thread { source })?;
        let client = engine.wait(crate::Client::connect_to(remote))?;
        Ok(Self { client, engine })
    }

    /// The same connection, with a credential that says who calls.
    ///
    /// # Errors
    /// Those of [`crate::Client::with_credential`].
    pub fn with_credential(self, bearer: Bearer) -> Result<Self, Error> {
        let Self { client, engine } = self;
        let client = client.with_credential(bearer)?;
        Ok(Self { client, engine })
    }

    /// The same connection, for another namespace.
    #[must_use]
    pub fn with_namespace(self, namespace: &str) -> Self {
        let Self { client, engine } = self;
        let client = client.with_namespace(namespace);
        Self { client, engine }
    }

    /// The broker's address, as it was given.
    #[must_use]
    pub fn url(&self) -> &str {
        self.client.url()
    }

    /// The namespace that calls are made in; empty leaves it to the credential.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.client.namespace()
    }

    /// As [`crate::Client::watch`].
    #[must_use]
    pub fn watch(&self, watch: Watch, include_result: bool) -> Watching {
        Watching {
            watching: self.client.watch(watch, include_result),
            engine: self.engine.clone(),
        }
    }

    /// As [`crate::Client::watch_ends`].
    #[must_use]
    pub fn watch_ends(&self, watch: Watch, include_result: bool) -> Watching {
        Watching {
            watching: self.client.watch_ends(watch, include_result),
            engine: self.engine.clone(),
        }
    }

    /// As [`crate::Client::follow`]: the changes of a task, until its end.
    pub fn follow(
        &self,
        id: &str,
        include_log: bool,
    ) -> impl Iterator<Item = Result<FollowTaskResponse, Error>> + use<> {
        let mut following = self.client.follow(id, include_log);
        let engine = self.engine.clone();
        std::iter::from_fn(move || engine.wait(following.next()).transpose())
    }

    /// As [`crate::Client::list_tasks`].
    pub fn list_tasks(
        &self,
        state: Option<TaskState>,
    ) -> impl Iterator<Item = Result<Task, Error>> + use<> {
        let mut tasks = Box::pin(self.client.list_tasks(state));
        let engine = self.engine.clone();
        std::iter::from_fn(move || engine.wait(tasks.next()))
    }

    /// As [`crate::Client::export_tasks`].
    ///
    /// # Errors
    /// Those of that; later ones come from the iterator.
    pub fn export_tasks(
        &self,
        search: &TaskSearch,
        format: ExportFormat,
    ) -> Result<impl Iterator<Item = Result<Bytes, Error>> + use<>, Error> {
        let exporting = self.client.export_tasks(search, format);
        let mut lines = Box::pin(self.engine.wait(exporting)?);
        let engine = self.engine.clone();
        Ok(std::iter::from_fn(move || engine.wait(lines.next())))
    }

    /// As [`crate::Client::task_logs`].
    ///
    /// # Errors
    /// Those of that; later ones come from the iterator.
    pub fn task_logs(
        &self,
        id: &str,
    ) -> Result<impl Iterator<Item = Result<LogChunk, Error>> + use<>, Error> {
        let mut chunks = Box::pin(self.engine.wait(self.client.task_logs(id))?);
        let engine = self.engine.clone();
        Ok(std::iter::from_fn(move || engine.wait(chunks.next())))
    }
}

/// Writes the calls that only have to be waited for. The compiler holds each against that of [`crate::Client`].
macro_rules! calls {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Client {$(
            #[doc = concat!("As [`crate::Client::", stringify!($name), "`].")]
            ///
            /// # Errors
            /// Those of that.
            pub fn $name(&self, $($argument: $type),*) -> Result<$answer, Error> {
                self.engine.wait(self.client.$name($($argument),*))
            }
        )*}
    };
}

calls! {
    fn run(task: NewTask) -> Task;
    fn wait(id: &str) -> Task;
    fn submit(tasks: Vec<NewTask>) -> Vec<Submitted>;
    fn submit_many(tasks: impl IntoIterator<Item = NewTask>, submitted: impl FnMut(Vec<Submitted>)) -> ();
    fn task(id: &str, include_result: bool, include_payload: bool) -> Task;
    fn task_page(state: Option<TaskState>, limit: u32, cursor: &str) -> ListTasksResponse;
    fn search_page(search: &TaskSearch, limit: u32, cursor: &str) -> ListTasksResponse;
    fn apply_to_tasks(search: &TaskSearch, bulk: Bulk, dry_run: bool, as_of_ms: Option<u64>, cursor: &str) -> ApplyToTasksResponse;
    fn cancel_task(id: &str) -> Task;
    fn cancel_tasks(which: &WhichLive, dry_run: bool, cursor: &str) -> CancelTasksResponse;
    fn update_task(id: &str, update: TaskUpdate) -> Task;
    fn redrive_task(id: &str) -> Task;
    fn delete_task(id: &str) -> ();
    fn delete_tasks(which: &Which, dry_run: bool, cursor: &str) -> DeleteTasksResponse;

    fn dead_letter_page(filter: DeadLetterFilter, limit: u32, cursor: &str) -> ListDeadLettersResponse;
    fn signature_page(cursor: &str) -> ListSignaturesResponse;
    fn crash_card(id: &str) -> CrashCard;
    fn redrive_dead_letters(which: DeadLetters, options: RedriveOptions, cursor: &str) -> RedriveDeadLettersResponse;
    fn discard_dead_letters(which: DeadLetters, dry_run: bool, cursor: &str) -> DiscardDeadLettersResponse;
    fn redrive_with_payload(id: &str, payload: Bytes, content_type: &str, same_version: bool) -> Task;

    fn upload_module(component: Component, upload: Upload, progress: impl FnMut(u64) + Clone + Send + 'static) -> UploadModuleResponse;
    fn module(name: &str) -> Module;
    fn modules() -> Vec<Module>;
    fn rollback_module(name: &str, version: u32) -> Module;
    fn delete_module(name: &str, version: u32) -> u32;

    fn queues() -> Vec<Queue>;
    fn queue(name: &str) -> Queue;
    fn set_queue(name: &str, settings: QueueSettings) -> Queue;
    fn pause_queue(name: &str) -> Queue;
    fn resume_queue(name: &str) -> Queue;
    fn delete_queue(name: &str) -> Queue;

    fn breakers() -> Vec<Breaker>;
    fn breaker(function: &str) -> Breaker;
    fn force_breaker(function: &str, forced: Forced, reason: &str) -> Breaker;
    fn release_breaker(function: &str) -> Breaker;
    fn overload() -> Overload;

    fn buckets() -> ListBucketsResponse;
    fn keys(bucket: &str, after: Option<String>) -> ListKeysResponse;
    fn value(bucket: &str, key: &str) -> GetValueResponse;
    fn set_value(bucket: &str, key: &str, value: Bytes) -> ();
    fn delete_value(bucket: &str, key: &str) -> ();
    fn delete_bucket(bucket: &str) -> u64;

    fn secrets() -> Vec<Secret>;
    fn set_secret(name: &str, value: Bytes) -> Secret;
    fn delete_secret(name: &str) -> Secret;

    fn webhooks() -> Vec<Webhook>;
    fn webhook(name: &str) -> Webhook;
    fn create_webhook(new: NewWebhook) -> (Webhook, String);
    fn pause_webhook(name: &str) -> Webhook;
    fn resume_webhook(name: &str) -> Webhook;
    fn delete_webhook(name: &str) -> Webhook;
    fn test_webhook(name: &str) -> TestWebhookResponse;
    fn deliveries(name: &str, failed: bool, limit: u32) -> Vec<Delivery>;
    fn redeliver(name: &str, id: &str) -> Webhook;

    fn hosts() -> Vec<Host>;
    fn host(name: &str) -> Host;
    fn pause_host(name: &str) -> Host;
    fn resume_host(name: &str) -> Host;
    fn drain_host(name: &str, deadline: Duration) -> Host;
    fn remove_host(name: &str) -> u32;

    fn namespace_settings(name: &str) -> NamespaceSettings;
    fn set_namespace(name: &str, retry: RetryOverrides, ceilings: LimitOverrides, quotas: Quotas, reset: Vec<String>) -> NamespaceSettings;
    fn cost_page(from: &str, to: &str, cursor: &str) -> GetCostResponse;
    fn retention() -> Retention;
    fn set_retention(change: RetentionChange) -> Retention;

    fn who_am_i() -> Identity;
    fn api_keys() -> Vec<ApiKey>;
    fn create_api_key(key: NewApiKey) -> (ApiKey, String);
    fn rotate_api_key(id: &str, grace: Duration) -> (ApiKey, String);
    fn revoke_api_key(id: &str) -> ApiKey;
    fn audit_records(which: ListAuditRecordsRequest) -> ListAuditRecordsResponse;
}

/// A watch that is going on: an iterator over the tasks that have ended since the one before.
#[derive(Debug)]
pub struct Watching {
    watching: crate::Watching,
    engine: Engine,
}

impl Watching {
    /// As [`crate::Watching::seq`].
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        self.watching.seq()
    }
}

impl Iterator for Watching {
    type Item = Result<Vec<Task>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.engine.wait(self.watching.next()).transpose()
    }
}

/// Looks after connections on a thread of its own, until its last clone is dropped: they are kept up between calls, and a call can be
/// waited for anywhere.
#[derive(Clone, Debug)]
struct Engine {
    handle: Handle,
    _stop: Arc<oneshot::Sender<()>>,
}

impl Engine {
    fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        // The run time is dropped there as well, which must not be done in asynchronous code.
        let run = move || drop(runtime.block_on(stopped));
        thread::Builder::new()
            .name("tq-client".to_owned())
            .spawn(run)?;
        Ok(Self {
            handle,
            _stop: Arc::new(stop),
        })
    }

    /// Waits on this thread, where `Handle::block_on` would panic if it is one of another run time.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let _context = self.handle.enter();
        // A task of another run time has a budget, and once that is used up, nothing is ready before it has yielded: which it cannot.
        let mut future = pin!(tokio::task::unconstrained(future));
        let waker = Arc::new(Unpark(thread::current())).into();
        let mut context = Context::from_waker(&waker);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(value) => return value,
                Poll::Pending => thread::park(),
            }
        }
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_there() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let files = std::fs::read_dir(folder).expect("the crate has a source");
        let own = include_str!("blocking.rs");
        let mut found = 0;
        for file in files {
            let source = std::fs::read_to_string(file.expect("it can be read").path());
            let source = source.expect("it is text");
            for call in source.split("\n    pub async fn ").skip(1) {
                let name = call.split('(').next().expect("there is a first part");
                // Of watches, which are iterators here.
                if name == "next" {
                    continue;
                }
                found += 1;
                assert!(
                    own.contains(&format!("fn {name}(")),
                    "`{name}` is to be in the list of calls too"
                );
            }
        }
        assert!(found > 40, "only {found} calls were found");
    }

    #[test]
    fn it_can_be_waited_for_inside_of_another_run_time_as_often_as_one_likes() {
        let outer = Builder::new_current_thread().enable_all().build();
        outer.expect("a run time can be made").block_on(async {
            let engine = Engine::start().expect("a thread can be started");
            // More than the budget of a task.
            for _ in 0..1_000 {
                let (sender, receiver) = oneshot::channel();
                let sent = async {
                    tokio::time::sleep(Duration::from_micros(1)).await;
                    sender.send(7)
                };
                let (sent, received) = engine.wait(async { tokio::join!(sent, receiver) });
                assert_eq!((sent, received), (Ok(()), Ok(7)));
            }
        });
    }
}
