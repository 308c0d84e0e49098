//! Which ready task goes to which host next. Plain data, in the hands of the ledger: no I/O and no clock.

pub mod breakers;
pub mod duty;
pub mod health;
pub mod hosts;
pub mod lanes;
pub mod message;
pub mod needs;
pub mod queues;
pub mod shares;
pub mod turns;

pub use hosts::{Hosts, Session, SessionId};
pub use lanes::Lanes;
