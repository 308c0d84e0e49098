//! The node that remembers and decides: it owns tasks and their durability, and hands them to hosts.

pub mod access;
pub mod admin;
mod api;
pub mod blobs;
mod broker;
mod config;
pub mod dispatch;
pub mod ledger;
pub mod modules;
pub mod observe;
mod outbound;
pub mod search;
pub mod secrets;
pub mod store;
pub mod tables;
mod webhooks;

#[cfg(feature = "simulation")]
pub use api::simulation;

pub use api::{CorsOrigin, NoOrigin};
pub use broker::{Broker, Error};
pub use config::Config;
pub use tq_tls::{KeyPair, ServerFiles};
