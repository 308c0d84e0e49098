//! The typed Rust client of tq.
//!
//! A [`Client`] speaks to one broker, for one namespace. It is cheap to clone, and its clones share one connection,
//! which is made again when it was lost: a call that fails with [`Error::Unreachable`] may be made again later.
//!
//! ```no_run
//! use tq_client::{Client, NewTask, Watch};
//!
//! # async fn example() -> Result<(), tq_client::Error> {
//! let client = Client::connect("http://127.0.0.1:7171").await?;
//! let task = NewTask { function: "greet".into(), payload: "\"Ada\"".into(), ..NewTask::default() };
//! let submitted = client.submit(vec![task]).await?;
//! let mut watch = client.watch(Watch::Ids(submitted.into_iter().map(|task| task.id).collect()), true);
//! while let Some(ended) = watch.next().await? {
//!     for task in ended {
//!         println!("{} {}", task.id, task.outcome);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Every method that waits for the broker is safe to drop at any point; what the broker has received by then is done.

mod access;
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
