//! The node that runs guests: it holds a session with its broker, and runs each attempt that the broker assigns in a
//! sandbox of its own.
//!
//! ```no_run
//! # async fn run() -> Result<(), tq_host::Error> {
//! let host = tq_host::Host::start(tq_host::Config::new("http://127.0.0.1:7171", "h1", 4, "./host")).await?;
//! host.ready().await;
//! // …until a signal says otherwise:
//! host.shutdown().await;
//! # Ok(())
//! # }
//! ```

pub mod agent;
mod clock;
pub mod component;
mod config;
pub mod confine;
pub mod egress;
mod exposition;
pub mod floor;
mod host;
mod imports;
mod metrics;
pub mod processes;
pub mod runner;
pub mod sandbox;
pub mod services;

pub use config::{Config, Isolation, Rehearsal};
pub use host::{Error, Host};
pub use tq_tls::{ClientFiles, KeyPair};
