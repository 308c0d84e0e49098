//! The typed Rust client of tq.
//!
//! A [`Client`] speaks to one broker, for one namespace. It is cheap to clone, and its clones share one connection,
//! which is made again when it was lost: a call that fails with [`Error::Unreachable`] may be made again later. [`blocking`] has the same
//! client for programs that are not asynchronous.
//!
//! ```no_run
//! use tq_client::{Bearer, Client, Component, NewTask, Upload};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("http://127.0.0.1:7171")
//!     .await?
//!     .with_credential(Bearer::new("tq_…")?)? // where there is access control
//!     .with_namespace("acme");
//!
//! // Deploy: the next version of the module is on disk when this returns.
//! let component = Component::read("greet.wasm".as_ref())?;
//! let upload = Upload { name: "greet".into(), ..Upload::default() };
//! client.upload_module(component, upload, |_sent| {}).await?;
//!
//! // Submit and wait, in one: however the task ends, it is returned.
//! let task = NewTask { function: "greet".into(), payload: r#"{"name": "Ada"}"#.into(), ..NewTask::default() };
//! let ended = client.run(task).await?;
//! println!("{} {:?}", ended.outcome, ended.result);
//! # Ok(())
//! # }
//! ```
//!
//! Many tasks are submitted by [`Client::submit_many`], and their ends told by one [`Client::watch`], which goes on when the broker
//! restarts. What belongs to a namespace stays there:
//!
//! | | |
//! |---|---|
//! | tasks | [`run`](Client::run), [`submit`](Client::submit), [`wait`](Client::wait), [`task`](Client::task), [`list_tasks`](Client::list_tasks), [`follow`](Client::follow), [`task_logs`](Client::task_logs), [`update_task`](Client::update_task), [`cancel_task`](Client::cancel_task), [`redrive_task`](Client::redrive_task), [`delete_task`](Client::delete_task) |
//! | dead letters | [`dead_letter_page`](Client::dead_letter_page), [`signature_page`](Client::signature_page), [`crash_card`](Client::crash_card), [`redrive_dead_letters`](Client::redrive_dead_letters), [`discard_dead_letters`](Client::discard_dead_letters) |
//! | modules | [`upload_module`](Client::upload_module), [`modules`](Client::modules), [`rollback_module`](Client::rollback_module), [`delete_module`](Client::delete_module) |
//! | queues, breakers | [`set_queue`](Client::set_queue), [`pause_queue`](Client::pause_queue), [`breakers`](Client::breakers), [`force_breaker`](Client::force_breaker), [`overload`](Client::overload) |
//! | state of guests | [`set_secret`](Client::set_secret), [`buckets`](Client::buckets), [`value`](Client::value), [`set_value`](Client::set_value) |
//! | the whole | [`set_namespace`](Client::set_namespace), [`cost_page`](Client::cost_page), [`set_retention`](Client::set_retention), [`hosts`](Client::hosts), [`create_api_key`](Client::create_api_key), [`audit_records`](Client::audit_records) |
//!
//! Every method that waits for the broker is safe to drop at any point; what the broker has received by then is done.

mod access;
pub mod blocking;
mod breakers;
mod connection;
mod dead_letters;
mod error;
mod follow;
mod hosts;
mod keyvalue;
mod modules;
mod namespaces;
mod overload;
mod patience;
mod queues;
mod retention;
mod search;
mod secrets;
mod tasks;
mod watch;
mod webhooks;

pub use access::NewApiKey;
pub use breakers::Forced;
pub use connection::{Client, Remote};
pub use dead_letters::{DeadLetters, RedriveOptions};
pub use error::{Code, Error};
pub use follow::Following;
pub use modules::{Component, Upload};
pub use queues::QueueSettings;
pub use retention::RetentionChange;
pub use search::{Bulk, TaskSearch};
pub use tasks::{TaskUpdate, Which, WhichLive};
pub use watch::{Watch, Watching};
pub use webhooks::NewWebhook;

pub use tq_proto::{Bearer, InTheClear, is_loopback};
pub use tq_tls::{ClientFiles, KeyPair};

pub use tq_proto::v1::{
    ApiKey, ApplyToTasksResponse, Attempt, AuditRecord, Breaker, BreakerChange, BreakerState,
    Bucket, CancelTasksResponse, Concurrency, ConcurrencyRule, Cost, CrashCard, DeadLetter,
    DeadLetterFilter, DeleteTasksResponse, Delivery, DiscardDeadLettersResponse, Entry,
    Environment, ExportFormat, Failure, FollowTaskResponse, Function, FunctionSettings,
    GetCostResponse, GetValueResponse, GrantList, Grants, Host, HostChange, HostHealth, HostState,
    Identity, KeyInfo, LimitOverrides, Limits, ListAuditRecordsRequest, ListAuditRecordsResponse,
    ListBucketsResponse, ListDeadLettersResponse, ListKeysResponse, ListSignaturesResponse,
    ListTasksResponse, LogChunk, Module, NamespaceSettings, NewTask, Overload, OverloadChange,
    OverloadGauge, PlacementSettings, Progress, Queue, QueueOrder, QuotaUse, Quotas, Rate,
    RedriveDeadLettersResponse, Retention, RetryOverrides, RetryPolicy, RetypedFunction, Role,
    Secret, SignatureSummary, Submitted, Task, TaskState, TestWebhookResponse, Tier, Tripped,
    TypedFunction, UncallableFunction, UploadModuleResponse, Usage, Webhook,
};
