//! The test harness of tq and its process-level tests.
//!
//! The tests run the `tq` binary as a user does: a broker, hosts and commands are processes of their own, on a data
//! directory and a port of their own, so that tests do not disturb each other. A process ends with the value that stands
//! for it. Every wait has a condition and an upper bound, [`PATIENCE`]; nothing waits for a span of time to pass.
//!
//! What goes wrong in here is a failed test, so that the harness panics instead of returning errors. What the processes
//! wrote to standard error is printed then.

mod authority;
pub mod clients;
mod command;
mod disk;
mod everywhere;
mod flag;
mod guarded;
pub mod guest;
pub mod help;
pub mod history;
mod http_server;
mod kill_run;
pub mod load;
pub mod metrics;
mod node;
pub mod plot;
mod process;
mod random;
pub mod requirement;
pub mod toolchains;
pub mod trace;
pub mod usage;
mod wait;

pub use authority::{Authority, replace};
pub use command::{Ran, Tq, failure};
pub use disk::Disk;
pub use flag::only_number;
pub use guarded::{Guarded, id as access_key_id, turn_on as turn_access_on};
pub use http_server::HttpServer;
pub use kill_run::{Faults, Plan, Report, kill_run};
pub use node::{Broker, Dev, Host, free_port};
pub use process::{Process, Subprocess, binary};
pub use random::Random;
pub use wait::{PATIENCE, eventually, within};
