//! The domain of tq: what a task is, which states it has and what may change them.
//!
//! Everything here is pure and synchronous. Time is a parameter, and so is everything that would be random, so that a
//! simulated run replays exactly from its seed.

pub mod access;
pub mod breaker;
pub mod cost;
pub mod day;
pub mod grant;
pub mod history;
pub mod id;
pub mod invariants;
pub mod label;
pub mod limits;
pub mod name;
pub mod network;
pub mod outcome;
pub mod overload;
pub mod placement;
pub mod planted;
pub mod priority;
pub mod quantity;
pub mod queue;
pub mod quota;
pub mod retention;
pub mod retry;
pub mod signature;
pub mod task;
pub mod time;
pub mod transition;
pub mod tripped;
pub mod webhook;

pub use cost::Cost;
pub use day::Day;
pub use grant::Grants;
pub use id::{Digest, Epoch, TaskId};
pub use limits::Limits;
pub use outcome::Outcome;
pub use placement::Placement;
pub use priority::{Priority, Tier};
pub use quota::Quotas;
pub use retention::Retention;
pub use retry::RetryPolicy;
pub use signature::Signature;
pub use task::{State, Task};
pub use time::Timestamp;
